"""Parameters of what goes by images that encoders have seen, and of who fetches a prompt's cache from whom."""

from __future__ import annotations

from pydantic import Field

from extproc.scheduling.plugins.parameters import Parameters

MB_AN_ITEM = 2
"""What upstream takes an encoded item to be."""


class EncoderCacheParameters(Parameters):
    """Parameters of `mm-embeddings-cache-producer`."""

    cache_size_in_mb_per_server: int = Field(4096, alias="cacheSizeInMBPerServer", ge=1, le=1_000_000)
    """Of each endpoint's cache of encoded items, at 2 MB an item, as upstream counts them."""

    @property
    def items(self) -> int:
        """How many that are; 1 or more."""
        return max(1, self.cache_size_in_mb_per_server // MB_AN_ITEM)


class EncoderCacheScorerParameters(Parameters):
    """Parameters of `mm-embeddings-cache-scorer`."""

    producer_name: str | None = Field(None, alias="producerName")
    """Who knows of the items; unset: the one that is listed, else a default one."""


class PeerSourceParameters(Parameters):
    """Parameters of `p2p-source-producer`."""

    prefix_match_info_producer_name: str | None = Field(None, alias="prefixMatchInfoProducerName")
    """Whose word on prefixes counts; unset: the one that is listed, else the default one."""
    min_cached_token_delta: int = Field(1, alias="minCachedTokenDelta", ge=1)
    """So many cached tokens more the other has to have, or it is not named."""
    prefill_profile_name: str = Field("prefill", alias="prefillProfileName", min_length=1)
    """The profile whose endpoint computes the prompt, where it runs; else the one that serves does."""
