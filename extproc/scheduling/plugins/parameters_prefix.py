"""Parameters of the prefix-cache family, as upstream's files have them, older keys included."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import AliasChoices, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from extproc.prefix.index import DEFAULT_CAPACITY
from extproc.scheduling.plugins.parameters import Parameters
from extproc.settings.base import Duration

DEFAULT_BLOCK_TOKENS: Final = 16
LEAST_BLOCK_TOKENS: Final = 64
"""Blocks that are tuned by pages are not smaller: a prompt of 100,000 tokens has 1,600 of these."""
DEFAULT_MOST_TOKENS: Final = 131_072


class _Camel(Parameters):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=False)


Number = Annotated[int, Field(gt=0)]


def _older_keys(schema: dict[str, Any], keys: dict[str, Any]) -> None:
    """The schema takes what the reader takes."""
    schema.setdefault("properties", {}).update({key: {**each, "deprecated": True} for key, each in keys.items()})


class ImageEstimate(_Camel):
    """How many tokens an image is taken for. Accepted: here an image counts as one block of 64 tokens, whatever its size."""

    mode: Literal["dynamic", "static"] = "dynamic"
    default_resolution: dict[str, Number] | str | None = None
    dynamic: dict[str, Any] | None = None
    static: dict[str, Any] | None = None


class Estimate(_Camel):
    """How tokens are estimated."""

    image: ImageEstimate | None = None
    video: dict[str, Any] | None = None


class RenderService(_Camel):
    """Where a vLLM server renders prompts."""

    model_config = ConfigDict(json_schema_extra=lambda schema: _older_keys(schema, {"http": {"type": "string"}}))

    url: str = Field("http://localhost:8000", validation_alias=AliasChoices("url", "http"))
    timeout: Duration = 5.0
    mm_timeout: Duration = 30.0


class TokenParameters(_Camel):
    """Parameters of `token-producer`."""

    model_name: str = ""
    """Of the tokenizer; accepted."""
    vllm: RenderService | None = None
    """A server that tokenizes; accepted, tokens are estimated."""
    estimate: Estimate | None = None
    """How that is done."""
    uds_tokenizer_config: dict[str, Any] | None = None
    """As `vllm`, of older files."""


class ApproximateParameters(_Camel):
    """Parameters of `approx-prefix-cache-producer`."""

    auto_tune: bool = True
    """Take the size of blocks, and how many an endpoint has, from the endpoints' pages where they say it."""
    block_size_tokens: int = Field(DEFAULT_BLOCK_TOKENS, gt=0)
    """Tokens in a block, where that is not tuned."""
    max_prefix_tokens_to_match: int = Field(DEFAULT_MOST_TOKENS, ge=0)
    """Of a longer prompt the beginning is looked at; 0 is the default, as upstream reads it."""
    lru_capacity_per_server: int = Field(DEFAULT_CAPACITY, gt=0)
    """Blocks of an endpoint, where that is not tuned."""
    block_size: int | None = Field(None, gt=0)
    """Older: `blockSizeTokens`."""
    hash_block_size: int | None = Field(None, gt=0)
    """Older still, in characters: a quarter of it in tokens."""
    max_prefix_blocks_to_match: int | None = Field(None, gt=0)
    """Older: `maxPrefixTokensToMatch` in blocks."""

    @property
    def block_tokens(self) -> int:
        """Tokens in a block that is not tuned."""
        if self.block_size is not None:
            return self.block_size
        if self.hash_block_size is not None:
            return max(1, self.hash_block_size // 4)
        return self.block_size_tokens

    @property
    def most_tokens(self) -> int:
        """Of a prompt that are looked at."""
        if self.max_prefix_blocks_to_match is not None:
            return self.max_prefix_blocks_to_match * self.block_tokens
        return self.max_prefix_tokens_to_match or DEFAULT_MOST_TOKENS


class TokenProcessor(_Camel):
    """Of a precise index: its blocks."""

    block_size_tokens: int = Field(DEFAULT_BLOCK_TOKENS, gt=0)
    block_size: int | None = Field(None, gt=0)
    hash_seed: str = ""
    hash_algorithm: Literal["cbor-fnv", "xxh64", ""] = ""


class PreciseParameters(_Camel):
    """Parameters of `precise-prefix-cache-producer`. What is about events of KV caches is accepted, and waits for them."""

    token_processor_config: TokenProcessor = TokenProcessor.model_validate({})
    """The index's blocks; `blockSizeTokens` counts."""
    indexer_config: dict[str, Any] | None = None
    """Where the index is kept; accepted."""
    kv_events_config: dict[str, Any] | None = None
    """Where events come from; accepted."""
    speculative_indexing: bool = False
    """Accepted: what is sent counts as there at once."""
    speculative_ttl: Duration | None = Field(None, alias="speculativeTTL")
    """Accepted."""

    def approximate(self) -> dict[str, Any]:
        """What these come to for an approximate index, by its keys."""
        within = (self.indexer_config or {}).get("tokenProcessorConfig")
        processor = self.token_processor_config
        if isinstance(within, dict) and "token_processor_config" not in self.model_fields_set:
            processor = TokenProcessor.model_validate(within)
        return {"autoTune": False, "blockSizeTokens": processor.block_size or processor.block_size_tokens}


class PreciseScorerParameters(PreciseParameters):
    """Parameters of `precise-prefix-cache-scorer`: its producer's."""


_Window = Annotated[int, Field(ge=1, le=10_000)]


class BurstParameters(_Camel):
    """Parameters of `burst-prefix-cache-producer`."""

    window_duration_ms: _Window = 100
    """Accepted: a request is not held back to be placed together with others."""
    max_per_replica: int = Field(-1, ge=-1)
    """Accepted."""
    block_size_tokens: int = Field(64, gt=0)
    """Tokens in a block."""
    max_prefix_tokens_to_match: int = Field(0, ge=0)
    """As of `approx-prefix-cache-producer`."""
    min_colocate_blocks: int = Field(0, ge=0)
    """Accepted."""
    max_batch_size: int = Field(1000, gt=0)
    """Accepted."""
    balance_by: Literal["requests", "tokens"] = "requests"
    """Accepted."""


def _null_is_absent(value: object) -> object:
    return None if value == "" else value


class ClusterPrefixScorerParameters(_Camel):
    """Parameters of `multicluster-prefix-cache-scorer`."""

    prefix_match_info_producer_name: Annotated[str | None, BeforeValidator(_null_is_absent)] = None
    """Which producer's matches."""


class PrefixScorerParameters(_Camel):
    """Parameters of `prefix-cache-scorer`."""

    model_config = ConfigDict(json_schema_extra=lambda schema: _older_keys(schema, _older_of_scorer()))

    prefix_match_info_producer_name: Annotated[str | None, BeforeValidator(_null_is_absent)] = None
    """Which producer's matches."""
    match_length_weight: float = Field(0.0, ge=0, le=1)
    """How much the length of the match counts, beside its share of the prompt."""
    match_length_scale_tokens: int = Field(8192, gt=0)
    """A match this long counts wholly."""
    own: dict[str, Any] = Field({}, exclude=True, validation_alias="")
    """Older: the parameters of its producer, by their keys, when it had none beside it."""

    @model_validator(mode="before")
    @classmethod
    def _older(cls, values: object) -> object:
        if not isinstance(values, dict):
            return values
        own = {key: value for key, value in values.items() if key in _OWN}
        left = {key: value for key, value in values.items() if key not in _OWN and key not in _OLDER_STILL}
        if own or len(left) < len(values):
            ApproximateParameters.model_validate(own)
            left[""] = own
        return left


_OWN: Final = frozenset(
    {
        *("autoTune", "blockSizeTokens", "maxPrefixTokensToMatch", "lruCapacityPerServer"),
        *("blockSize", "hashBlockSize", "maxPrefixBlocksToMatch"),
    }
)


def _older_of_scorer() -> dict[str, Any]:
    producer = ApproximateParameters.model_json_schema(by_alias=True)["properties"]
    return {**{key: producer[key] for key in sorted(_OWN)}, **{key: {} for key in sorted(_OLDER_STILL)}}


_OLDER_STILL: Final = frozenset({"mode", "indexerConfig", "kvEventsConfig"})
"""Of files that had one type for both kinds of index: they asked for events."""
