"""Parameters of what counts our own requests and their tokens, and of what goes by prefixes and by that."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from extproc.scheduling.plugins.parameters import Parameters


class InFlightLoadParameters(Parameters):
    """Parameters of `inflight-load-producer`."""

    add_estimated_output_tokens: bool = Field(False, alias="addEstimatedOutputTokens")
    """Count the answer too, as long as it is expected to be, until it has ended."""
    output_ratio: float = Field(1.5, alias="outputRatio", ge=0, le=1000, allow_inf_nan=False)
    """Tokens of an answer for each token of its prompt; never more than what the client asks for at most."""
    max_estimated_output_tokens: int | None = Field(None, alias="maxEstimatedOutputTokens", ge=1)
    """No answer counts for more."""
    prefix_match_info_producer_name: str | None = Field(None, alias="prefixMatchInfoProducerName")
    """Whose word on prefixes counts; unset: the one that is listed, else the default one."""
    sync_cross_replica_state: bool = Field(True, alias="syncCrossReplicaState")
    """Accepted for upstream's sake: each replica counts its own requests, as upstream's do without a syncer."""


class TokenLoadParameters(Parameters):
    """Parameters of `token-load-scorer`."""

    queue_threshold_tokens: int = Field(4_194_304, alias="queueThresholdTokens", ge=1)
    """So many tokens in flight are no points. 128 requests of 32,768."""
    in_flight_load_producer_name: str | None = Field(None, alias="inFlightLoadProducerName")


class NoHitLruParameters(Parameters):
    """Parameters of `no-hit-lru-scorer`."""

    lru_size: int = Field(1024, alias="lruSize", ge=1)
    """Endpoints that are remembered."""
    prefix_match_info_producer_name: str | None = Field(None, alias="prefixMatchInfoProducerName")
    prefix_plugin_name: str | None = Field(None, alias="prefixPluginName")
    """The older name of prefixMatchInfoProducerName, which named a scorer; accepted, and changes nothing."""
    prefix_plugin_type: str | None = Field(None, alias="prefixPluginType")
    """As prefixPluginName."""


class PrefixAffinityParameters(Parameters):
    """Parameters of `prefix-cache-affinity-filter`."""

    affinity_threshold: float = Field(0.8, alias="affinityThreshold", ge=0, le=1)
    """Share of the prompt that is cached from which on an endpoint is stuck to."""
    exploration_probability: float = Field(0.0, alias="explorationProbability", ge=0, le=1)
    """How often all are left all the same."""
    max_ttft_penalty_ms: float = Field(18_000.0, alias="maxTTFTPenaltyMs", ge=0, allow_inf_nan=False)
    """How much later the first token may come for that; 0: any time."""
    ttft_source: Literal["prefillThroughput", "latencyPredictor"] = Field("prefillThroughput", alias="ttftSource")
    """Where that is from: tokens in flight, at `peakPrefillThroughput`; or who predicts latencies."""
    peak_prefill_throughput: float = Field(15_928.0, alias="peakPrefillThroughput", gt=0, allow_inf_nan=False)
    """Tokens a second."""
    prefix_match_info_producer_name: str | None = Field(None, alias="prefixMatchInfoProducerName")
    latency_prediction_info_producer_name: str | None = Field(None, alias="latencyPredictionInfoProducerName")
    in_flight_load_producer_name: str | None = Field(None, alias="inFlightLoadProducerName")
