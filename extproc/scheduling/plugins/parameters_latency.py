"""Parameters of what goes by latency, predicted or hoped for, and of who may refuse requests."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from extproc.scheduling.plugins.parameters import Parameters
from extproc.settings.base import Duration

_NO_INF = False


class PredictedLatencyParameters(Parameters):
    """Parameters of `predicted-latency-producer`."""

    slo_buffer_factor: float = Field(1.0, alias="sloBufferFactor", gt=0, le=1000, allow_inf_nan=_NO_INF)
    """What a request asks for is taken times this."""
    streaming_mode: bool = Field(False, alias="streamingMode")
    """Answers come as streams: the first token and the time between tokens count. Else the whole time does, as the first."""
    endpoint_role_label: str | None = Field(None, alias="endpointRoleLabel")
    """The label whose value `prefill` says that an endpoint gives no tokens but the first."""
    predict_in_produce: bool = Field(True, alias="predictInProduce")
    """Predict; else only measure."""
    half_life_seconds: float = Field(60.0, alias="halfLifeSeconds", gt=0, le=86_400, allow_inf_nan=_NO_INF)
    """After so long a measurement counts half. Ours."""
    context_ttl: Duration = Field(300.0, alias="contextTTL", gt=0)
    """Accepted for upstream's sake: nothing is kept of a request beyond its end."""
    use_encoder_cache_features: bool = Field(False, alias="useEncoderCacheFeatures")
    """Accepted for upstream's sake: an average knows no such features."""
    sampling_mean: float | None = Field(None, alias="samplingMean")
    """Accepted, and ignored as upstream does."""
    max_decode_token_samples: int | None = Field(None, alias="maxDecodeTokenSamplesForPrediction")
    """Accepted, and ignored as upstream does."""
    prefix_match_info_producer_name: str | None = Field(None, alias="prefixMatchInfoProducerName")
    in_flight_load_producer_name: str | None = Field(None, alias="inFlightLoadProducerName")
    """Accepted for upstream's sake: the queue and the prompt are what counts here."""


class _Choosing(Parameters):
    """How a latency scorer chooses, under its name of today and its older one."""

    headroom_selection_strategy: Literal["least", "most"] = Field("least", alias="headroomSelectionStrategy")
    """Of those that do as asked: the one that only just does, so that others stay free; or the one that does most."""
    composite_kv_weight: float = Field(1.0, alias="compositeKVWeight", ge=0, allow_inf_nan=_NO_INF)
    """This and the next two count while nothing is predicted."""
    composite_queue_weight: float = Field(1.0, alias="compositeQueueWeight", ge=0, allow_inf_nan=_NO_INF)
    composite_prefix_weight: float = Field(1.0, alias="compositePrefixWeight", ge=0, allow_inf_nan=_NO_INF)

    @property
    def composite(self) -> tuple[float, float, float]:
        """The last three."""
        return self.composite_kv_weight, self.composite_queue_weight, self.composite_prefix_weight


class LatencyScorerParameters(_Choosing):
    """Parameters of `latency-scorer`."""

    ttft_weight: float = Field(0.8, alias="ttftWeight", ge=0, allow_inf_nan=_NO_INF)
    tpot_weight: float = Field(0.2, alias="tpotWeight", ge=0, allow_inf_nan=_NO_INF)
    latency_prediction_info_producer_name: str | None = Field(None, alias="latencyPredictionInfoProducerName")
    prefix_match_info_producer_name: str | None = Field(None, alias="prefixMatchInfoProducerName")


class OldLatencyScorerParameters(_Choosing):
    """Parameters of `predicted-latency-scorer`, which was the scorer and all around it in one."""

    headroom_ttft_weight: float = Field(0.8, alias="headroomTTFTWeight", ge=0, allow_inf_nan=_NO_INF)
    headroom_tpot_weight: float = Field(0.2, alias="headroomTPOTWeight", ge=0, allow_inf_nan=_NO_INF)
    neg_headroom_ttft_weight: float | None = Field(None, alias="negHeadroomTTFTWeight")
    """Accepted: this and what follows are of parts that have types of their own now."""
    neg_headroom_tpot_weight: float | None = Field(None, alias="negHeadroomTPOTWeight")
    sampling_mean: float | None = Field(None, alias="samplingMean")
    max_sampled_tokens: int | None = Field(None, alias="maxSampledTokens")
    slo_buffer_factor: float | None = Field(None, alias="sloBufferFactor")
    epsilon_explore_sticky: float | None = Field(None, alias="epsilonExploreSticky")
    epsilon_explore_neg: float | None = Field(None, alias="epsilonExploreNeg")
    affinity_gate_tau: float | None = Field(None, alias="affinityGateTau")
    affinity_gate_tau_global: float | None = Field(None, alias="affinityGateTauGlobal")
    affinity_max_ttft_penalty_ms: float | None = Field(None, alias="affinityMaxTTFTPenaltyMs")
    selection_mode: str | None = Field(None, alias="selectionMode")
    context_ttl: Duration | None = Field(None, alias="contextTTL")
    streaming_mode: bool | None = Field(None, alias="streamingMode")
    endpoint_role_label: str | None = Field(None, alias="endpointRoleLabel")


class HeadroomTierParameters(Parameters):
    """Parameters of `slo-headroom-tier-filter`."""

    epsilon_explore_neg: float = Field(0.01, alias="epsilonExploreNeg", ge=0, le=1)
    """How often those that would miss what is asked for are kept instead, so that something is learned of them."""
    latency_prediction_info_producer_name: str | None = Field(None, alias="latencyPredictionInfoProducerName")


class LatencyAdmitterParameters(Parameters):
    """Parameters of `latency-slo-admitter`."""

    latency_prediction_info_producer_name: str | None = Field(None, alias="latencyPredictionInfoProducerName")


class ProbabilisticAdmitterParameters(Parameters):
    """Parameters of `probabilistic-admitter`."""

    queue_depth_threshold: int = Field(5, alias="queueDepthThreshold", ge=1)
    """Waiting requests at which an endpoint is full."""
    kv_cache_util_threshold: float = Field(0.8, alias="kvCacheUtilThreshold", gt=0, le=1)
    """Used share of the KV cache at which an endpoint is full."""
    power: float = Field(5.0, ge=0, le=100, allow_inf_nan=_NO_INF)
    """How late and how steeply the chance to be refused rises."""
    k: float = Field(300.0, ge=0, allow_inf_nan=_NO_INF)
    """And how high."""
