"""The approximate prefix cache: what was sent where is likely to be there still. The index itself is `extproc.prefix`.

A request's prompt is read once (`token-producer`), hashed in blocks, and matched against what each endpoint was sent
(`approx-prefix-cache-producer`); `prefix-cache-scorer` makes points of it. A match counts as soon as its request goes out,
so a burst of equal prompts stays together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from extproc.candidates import Candidates, Column
from extproc.domain import Endpoint, Load
from extproc.prefix.hashing import APART_BYTES, HASH_BYTES, block_bytes_of, chain, chain_of, seed_of
from extproc.prefix.index import PrefixIndex
from extproc.prefix.prompt import BYTES_PER_TOKEN
from extproc.prefix.snapshot import SnapshotError, SnapshotWriter, read_snapshot
from extproc.scheduling import columns
from extproc.scheduling.cycle import Cycle
from extproc.scheduling.facts import CLUSTER_MATCH, PREFIX_MATCH, PROMPT, PrefixMatch, Prompt
from extproc.scheduling.plugins.base import PRODUCER, SCORER, Figure, Kit, Need, PluginType, Run, Scheduled, UnusableSnapshot
from extproc.scheduling.plugins.parameters_prefix import (
    LEAST_BLOCK_TOKENS,
    ApproximateParameters,
    BurstParameters,
    ClusterPrefixScorerParameters,
    PreciseParameters,
    PreciseScorerParameters,
    PrefixScorerParameters,
)

MAX_SNAPSHOT_AGE_S: Final = 3600.0
"""A snapshot that is older is not used: engines have other blocks by then."""
PREFILL: Final = "prefill"
"""The profile whose endpoint computes the prompt as well, beside the one that serves: upstream's name for it."""


class ApproximatePrefixes:
    """`approx-prefix-cache-producer`."""

    def __init__(
        self,
        kit: Kit,
        *,
        tuned: bool,
        block_tokens: int,
        most_tokens: int,
        capacity: int,
    ) -> None:
        """`tuned`: the size of blocks and how many there are is taken from pages that say it. `capacity` is in blocks, of an
        endpoint, `most_tokens` how much of a prompt is looked at."""
        self._name = kit.name
        self._prompt = kit.source()
        self._tuned = tuned
        self._block_tokens = block_tokens
        self._most_tokens = most_tokens
        self._capacity = capacity
        self._index = PrefixIndex(default_capacity=capacity)
        self._seeds: dict[str, int] = {}
        """By model, without a salt."""
        self._endpoints: Sequence[Endpoint] = ()
        self._learned = 0
        """Tokens in a block, as the pages say; 0 when none did."""
        self._queried_tokens = 0
        self._matched_tokens = 0
        """Of the endpoints that were chosen."""
        self._reused: dict[str, list[int]] = {}
        """The same two, by endpoint."""

    def produce(self, cycle: Cycle, candidates: Candidates) -> object:
        prompt = cycle.facts[self._prompt]
        assert isinstance(prompt, Prompt)
        block_tokens = self._tokens_of_a_block(candidates)
        endpoints = candidates.endpoints
        if not prompt.prompts:
            return PrefixMatch(columns.zeros_like(candidates.in_flight), 0, float(block_tokens))
        seed = self._seed_of(cycle.asked.model or "", prompt.salt)
        most = max(1, self._most_tokens // block_tokens)
        chains = []
        for each in prompt.prompts:
            size = block_bytes_of(block_tokens, each.bytes_per_token)
            if each.length_bytes < APART_BYTES:
                made = chain(each.data, seed, size, most)
            else:
                made = chain_of(each.pieces, seed, size, most)
            if made:
                chains.append(made)
        if len(chains) == 1:
            matched = self._index.match(chains[0], endpoints)
        else:
            matched = columns.zeros_like(candidates.in_flight)
            for made in chains:
                matched = columns.add_weighted(matched, self._index.match(made, endpoints), 1.0)
        total = sum([len(made) for made in chains]) // HASH_BYTES
        return PrefixMatch(matched, total, block_tokens * prompt.scale, tuple(chains))

    def picked(self, cycle: Cycle, scheduled: Scheduled) -> None:
        match = cycle.facts.get(self._name)
        if not isinstance(match, PrefixMatch) or not match.chains:
            return
        run = scheduled.run
        queried = round(match.total * match.block_tokens)
        matched = round(float(match.matched[run.place]) * match.block_tokens)
        self._queried_tokens += queried
        self._matched_tokens += matched
        self._insert(run, match)
        key = run.candidates.endpoints[run.pick.positions[0]].key
        reused = self._reused.get(key)
        if reused is None:
            self._reused[key] = [queried, matched]
        else:
            reused[0] += queried
            reused[1] += matched
        prefill = scheduled.runs.get(PREFILL)
        if prefill is not None and scheduled.primary != PREFILL:
            self._insert(prefill, match)

    def forget(self, endpoint: str) -> None:
        self._index.forget(endpoint)
        self._reused.pop(endpoint, None)

    def reuse(self) -> Mapping[str, Sequence[int]]:
        return self._reused

    def began(self, endpoint: str, started_s: float) -> None:
        """What a snapshot says of a process that is not there any more is forgotten."""
        self._index.began(endpoint, started_s)

    def snapshot(self, now_s: float) -> Iterator[bytes]:
        writer = SnapshotWriter()
        yield writer.head(self._label(), now_s)
        for endpoint in list(self._index.endpoints):
            yield writer.held(self._index.held(endpoint))
        yield writer.end()

    def restore(self, data: bytes, now_s: float) -> Iterator[None]:
        try:
            for held in read_snapshot(data, self._label(), now_s, max_age_s=MAX_SNAPSHOT_AGE_S):
                self._index.restore(held)
                yield
        except SnapshotError as error:
            raise UnusableSnapshot(str(error)) from None

    def _label(self) -> str:
        """What hashes depend on, but for the size of blocks where that is learned: those of another size never match."""
        return f"{BYTES_PER_TOKEN} bytes a token, {'learned' if self._tuned else self._block_tokens} tokens a block"

    def dump(self) -> object:
        told = self._index.dump()
        told["block_tokens"] = self._learned or self._block_tokens
        told["queried_tokens"] = self._queried_tokens
        told["matched_tokens"] = self._matched_tokens
        return told

    def _seed_of(self, model: str, salt: str) -> int:
        if salt:
            return seed_of(model, salt=salt)
        seed = self._seeds.get(model, -1)
        if seed < 0:
            if len(self._seeds) >= _MOST_SEEDS:
                self._seeds.clear()
            seed = self._seeds[model] = seed_of(model)
        return seed

    def figures(self) -> Sequence[Figure]:
        return (
            Figure(
                "inference_extension_prefix_indexer_size",
                "Blocks of prompts that endpoints are known to hold, each counted for every endpoint that holds it.",
                float(self._index.size),
            ),
            Figure("extproc_prefix_index_bytes", "Memory that the prefix index takes.", float(self._index.bytes_used)),
            Figure(
                "extproc_prefix_queried_tokens_total",
                "Tokens of prompts that went out, as far as they were looked at.",
                float(self._queried_tokens),
                counts=True,
            ),
            Figure(
                "extproc_prefix_matched_tokens_total",
                "Tokens of these that the endpoint that was picked is likely to have in its cache.",
                float(self._matched_tokens),
                counts=True,
            ),
        )

    def _insert(self, run: Run, match: PrefixMatch) -> None:
        position = run.pick.positions[0]
        candidates = run.candidates
        key = candidates.endpoints[position].key
        index = self._index
        if self._tuned and candidates.loads:
            capacity = _blocks_of(candidates.loads[position], self._block_size) or self._capacity
            if capacity != index.capacity(key):
                index.set_capacity(key, capacity)
        for made in match.chains:
            index.insert(key, made)

    def _tokens_of_a_block(self, candidates: Candidates) -> int:
        """One size for the pool: the largest that its pages say, as soon as one does; looked for again when endpoints
        change."""
        if not self._tuned:
            return self._block_tokens
        if not self._learned or candidates.endpoints is not self._endpoints:
            sizes = [load.kv_block_size for load in candidates.loads if load.kv_block_size is not None]
            if sizes:
                self._learned = max(LEAST_BLOCK_TOKENS, *sizes)
                self._endpoints = candidates.endpoints
        return self._block_size

    @property
    def _block_size(self) -> int:
        """Where it is tuned, and as a tokenizer of four bytes a token would count."""
        return self._learned or max(LEAST_BLOCK_TOKENS, self._block_tokens)


_MOST_SEEDS: Final = 1000
"""Models whose seed is kept: clients may name any."""


def _blocks_of(load: Load, block_tokens: int) -> int:
    """How many blocks of so many tokens the endpoint's KV cache has room for; 0 when its page does not say."""
    if load.kv_blocks is None or load.kv_block_size is None:
        return 0
    return max(1, load.kv_blocks * load.kv_block_size // block_tokens)


class PrefixScorer:
    """`prefix-cache-scorer`."""

    per_snapshot = False

    def __init__(self, source: str, length_weight: float = 0.0, scale_tokens: int = 8192) -> None:
        """`source` is the producer's name. A match of `scale_tokens` counts wholly for its length, of which `length_weight` is
        the share."""
        self._source = source
        self._length_weight = length_weight
        self._scale_tokens = float(scale_tokens)
        self.is_share = not length_weight
        """Its points are the share of the prompt that matches."""

    def score(self, cycle: Cycle, candidates: Candidates) -> Column:
        match = cycle.facts[self._source]
        assert isinstance(match, PrefixMatch)
        if not match.total:
            return columns.zeros_like(candidates.in_flight)
        matched = candidates.of(match.matched)
        weight = self._length_weight
        shares = columns.scaled(matched, (1.0 - weight) / match.total)
        if not weight:
            return shares
        lengths = columns.squared_share(matched, match.block_tokens / self._scale_tokens)
        return columns.add_weighted(shares, lengths, weight)


def _approximate(parameters: ApproximateParameters, kit: Kit) -> ApproximatePrefixes:
    return ApproximatePrefixes(
        kit,
        tuned=parameters.auto_tune,
        block_tokens=parameters.block_tokens,
        most_tokens=parameters.most_tokens,
        capacity=parameters.lru_capacity_per_server,
    )


def _burst(parameters: BurstParameters, kit: Kit) -> ApproximatePrefixes:
    given = {"blockSizeTokens": parameters.block_size_tokens, "maxPrefixTokensToMatch": parameters.max_prefix_tokens_to_match}
    return _approximate(ApproximateParameters.model_validate({"autoTune": False, **given}), kit)


def _precise(parameters: PreciseParameters, kit: Kit) -> ApproximatePrefixes:
    return _approximate(ApproximateParameters.model_validate(parameters.approximate()), kit)


def _scorer(parameters: PrefixScorerParameters, kit: Kit) -> PrefixScorer:
    return PrefixScorer(kit.source(), parameters.match_length_weight, parameters.match_length_scale_tokens)


def _scorer_needs(parameters: PrefixScorerParameters) -> Sequence[Need]:
    named = parameters.prefix_match_info_producer_name
    return (Need(PREFIX_MATCH, named, "prefixMatchInfoProducerName", parameters=parameters.own),)


def _precise_scorer(parameters: PreciseScorerParameters, kit: Kit) -> PrefixScorer:
    return PrefixScorer(kit.source())


def _own_precise(parameters: PreciseScorerParameters) -> Sequence[Need]:
    given = parameters.model_dump(by_alias=True, exclude_unset=True)
    return (Need(PREFIX_MATCH, made="precise-prefix-cache-producer", parameters=given),)


def _scorer_note(parameters: PrefixScorerParameters) -> str:
    if not parameters.own:
        return ""
    return (
        "what is about the index (" + ", ".join(parameters.own) + ") belongs to an approx-prefix-cache-producer of its own now"
    )


_BY_EVENTS: Final = (
    "stands on the approximate index, of what was sent where: events of KV caches are not read, so what engines evict early, "
    "or got from elsewhere, is not known"
)

_BY_OURS: Final = (
    "stands on what was sent to each cluster from here: what clusters say of their own prefix caches is not read, so what "
    "others sent them is not known"
)

_FORMULA: Final = "w · min(1, matched tokens / `matchLengthScaleTokens`)² + (1 − w) · matched / all, w = `matchLengthWeight`"

_PROMPT_NEEDS: Final = (Need(PROMPT),)

TYPES: Final = (
    PluginType(
        "approx-prefix-cache-producer",
        PRODUCER,
        "how many of the prompt's blocks each endpoint was sent before, and is likely to have still",
        ApproximateParameters,
        _approximate,
        needs=lambda parameters: _PROMPT_NEEDS,
        provides=PREFIX_MATCH,
    ),
    PluginType(
        "precise-prefix-cache-producer",
        PRODUCER,
        "as `approx-prefix-cache-producer`, until events of KV caches are read",
        PreciseParameters,
        _precise,
        needs=lambda parameters: _PROMPT_NEEDS,
        provides=PREFIX_MATCH,
        note=lambda parameters: _BY_EVENTS,
    ),
    PluginType(
        "burst-prefix-cache-producer",
        PRODUCER,
        "as `approx-prefix-cache-producer`: what is sent counts at once, so equal prompts of a burst stay together",
        BurstParameters,
        _burst,
        needs=lambda parameters: _PROMPT_NEEDS,
        provides=PREFIX_MATCH,
        note=lambda parameters: "requests are not held back for windowDurationMs; each is placed as it comes",
    ),
    PluginType(
        "prefix-cache-scorer",
        SCORER,
        _FORMULA,
        PrefixScorerParameters,
        _scorer,
        needs=_scorer_needs,
        note=_scorer_note,
    ),
    PluginType(
        "multicluster-approx-prefix-cache-producer",
        PRODUCER,
        "as `approx-prefix-cache-producer`, of clusters: how many of the prompt's blocks each was sent before",
        ApproximateParameters,
        _approximate,
        needs=lambda parameters: _PROMPT_NEEDS,
        provides=CLUSTER_MATCH,
        note=lambda parameters: _BY_OURS,
    ),
    PluginType(
        "multicluster-prefix-cache-scorer",
        SCORER,
        "as prefix-cache-scorer, by a `multicluster-approx-prefix-cache-producer`",
        ClusterPrefixScorerParameters,
        lambda parameters, kit: PrefixScorer(kit.source()),
        needs=lambda parameters: (
            Need(CLUSTER_MATCH, parameters.prefix_match_info_producer_name, "prefixMatchInfoProducerName"),
        ),
    ),
    PluginType(
        "precise-prefix-cache-scorer",
        SCORER,
        "deprecated: `prefix-cache-scorer` over a `precise-prefix-cache-producer` of its own",
        PreciseScorerParameters,
        _precise_scorer,
        needs=lambda parameters: (
            Need(
                PREFIX_MATCH,
                made="precise-prefix-cache-producer",
                parameters=parameters.model_dump(by_alias=True, exclude_unset=True),
            ),
        ),
        note=lambda parameters: "deprecated, use prefix-cache-scorer with a precise-prefix-cache-producer",
    ),
)
