"""`EndpointPickerConfig`, upstream's YAML for an endpoint picker.

Read once, strictly: an unknown key is an error. What upstream defines and this version does not do yet is refused by name,
because a picker that silently ignores a plugin makes other choices than its owner asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic import Field

from extproc.settings.base import Duration, Section, SettingsError, Size, shown, validate
from extproc.settings.document import Document, load_document

KIND: Final = "EndpointPickerConfig"
API_VERSIONS: Final = ("llm-d.ai/v1alpha1", "llm-d.ai/v1")
DEPRECATED_API_VERSIONS: Final = (
    "inference.networking.x-k8s.io/v1alpha1",
    "config.apix.gateway-api-inference-extension.sigs.k8s.io/v1alpha1",
)


class PluginSpec(Section):
    """A plugin instance: a type, a name to refer to, and the type's own parameters."""

    type: str
    name: str = ""
    parameters: dict[str, Any] | None = None

    @property
    def ref(self) -> str:
        """How other parts of the file name it: the type when it has no name."""
        return self.name or self.type


class ProfilePluginSpec(Section):
    """A plugin's place in a profile. `weight` counts for scorers only."""

    plugin_ref: str = Field(alias="pluginRef")
    weight: float = Field(1.0, ge=0, allow_inf_nan=False)


class ProfileSpec(Section):
    """A scheduling profile: filters in order, scorers with weights, one picker."""

    name: str
    plugins: list[ProfilePluginSpec] = []


class PluginRef(Section):
    """A reference to a plugin by its name."""

    plugin_ref: str = Field(alias="pluginRef")


class SourceSpec(Section):
    """A data source and what reads it."""

    plugin_ref: str = Field(alias="pluginRef")
    interval: Duration | None = Field(None, gt=0)
    """From one request to the next, of each endpoint; as the source's own parameters say when unset."""
    extractors: list[PluginRef] = []


class DiscoverySpec(Section):
    """Where endpoints come from; `endpoints` is the newer spelling of `pluginRef`."""

    plugin_ref: str | None = Field(None, alias="pluginRef")
    endpoints: PluginRef | None = None

    @property
    def ref(self) -> str | None:
        return self.plugin_ref or (self.endpoints.plugin_ref if self.endpoints else None)


class DataLayerSpec(Section):
    """Where endpoints and their signals come from."""

    inject_defaults: bool = Field(True, alias="injectDefaults")
    sources: list[SourceSpec] = []
    discovery: DiscoverySpec | None = None


class RequestHandlerSpec(Section):
    """Parsers of request bodies."""

    parsers: list[PluginRef] = []


class BandSpec(Section):
    """What a band of requests that wait may hold, and by which policies it goes. 0 is as unset, as upstream has it."""

    max_bytes: Size | None = Field(None, alias="maxBytes")
    max_requests: Size | None = Field(None, alias="maxRequests")
    fairness_policy_ref: str | None = Field(None, alias="fairnessPolicyRef")
    ordering_policy_ref: str | None = Field(None, alias="orderingPolicyRef")


class PriorityBandSpec(BandSpec):
    """The band of one priority."""

    priority: int = Field(ge=-(2**31), lt=2**31)


class FlowControlSpec(Section):
    """Requests that wait until their pool has room, with the feature gate flowControl; and how full that is, also without."""

    max_bytes: Size | None = Field(None, alias="maxBytes")
    """Of all that wait together; 0 is no bound, as is nothing."""
    max_requests: Size | None = Field(None, alias="maxRequests")
    default_request_ttl: Duration | None = Field(None, alias="defaultRequestTTL")
    """How long a request may wait; 0 is for ever."""
    no_endpoint_request_ttl: Duration | None = Field(None, alias="noEndpointRequestTTL")
    """The same while the pool has no endpoints; as the other one when unset."""
    priority_bands: list[PriorityBandSpec] = Field([], alias="priorityBands")
    default_priority_band: BandSpec = Field(default_factory=lambda: BandSpec.model_validate({}), alias="defaultPriorityBand")
    default_negative_priority_band: BandSpec | None = Field(None, alias="defaultNegativePriorityBand")
    """As defaultPriorityBand when unset."""
    usage_limit_policy_plugin_ref: str | None = Field(None, alias="usageLimitPolicyPluginRef")
    enable_eviction: bool = Field(False, alias="enableEviction")
    saturation_detector: PluginRef | None = Field(None, alias="saturationDetector")


class OldSaturationDetectorSpec(Section):
    """What stood at the top of the file before `flowControl`: a plugin, or the thresholds of the only one there was."""

    plugin_ref: str | None = Field(None, alias="pluginRef")
    queue_depth_threshold: int | None = Field(None, alias="queueDepthThreshold")
    kv_cache_util_threshold: float | None = Field(None, alias="kvCacheUtilThreshold")
    metrics_staleness_threshold: str | None = Field(None, alias="metricsStalenessThreshold")

    def thresholds(self) -> dict[str, Any]:
        """Those that are given, by their keys in YAML."""
        return self.model_dump(by_alias=True, exclude={"plugin_ref"}, exclude_none=True)


class EndpointPickerConfig(Section):
    """The whole file."""

    api_version: str = Field(API_VERSIONS[0], alias="apiVersion")
    kind: str = KIND
    metadata: dict[str, Any] | None = None
    """As objects of Kubernetes have it. Nothing here reads it."""
    feature_gates: list[str] = Field([], alias="featureGates")
    plugins: list[PluginSpec] = []
    scheduling_profiles: list[ProfileSpec] = Field([], alias="schedulingProfiles")
    data_layer: DataLayerSpec = Field(default_factory=lambda: DataLayerSpec.model_validate({}), alias="dataLayer")
    request_handler: RequestHandlerSpec = Field(RequestHandlerSpec(), alias="requestHandler")
    parser: PluginRef | None = None
    """What stood at the top of the file before `requestHandler`, which has it too once the file is read."""
    flow_control: FlowControlSpec = Field(default_factory=lambda: FlowControlSpec.model_validate({}), alias="flowControl")
    saturation_detector: OldSaturationDetectorSpec | None = Field(None, alias="saturationDetector")

    @property
    def parser_refs(self) -> list[tuple[str, str]]:
        """The parsers' names, each with its path in the file."""
        if self.parser is not None:
            return [("parser.pluginRef", self.parser.plugin_ref)]
        return [
            (f"requestHandler.parsers[{i}].pluginRef", each.plugin_ref) for i, each in enumerate(self.request_handler.parsers)
        ]

    def is_on(self, gate: str) -> bool:
        """Whether the feature gate is on; of one that is set more than once the last counts. None is by itself."""
        on = False
        for each in self.feature_gates:
            name, _, value = each.partition("=")
            if name == gate:
                on = value.lower() != "false"
        return on

    @property
    def detector_ref(self) -> str | None:
        """The plugin that says how full the pool is, None for the default."""
        new, old = self.flow_control.saturation_detector, self.saturation_detector
        return new.plugin_ref if new else old.plugin_ref if old else None

    @property
    def detector_path(self) -> str:
        """Where it is named."""
        return ("flowControl." if self.flow_control.saturation_detector else "") + "saturationDetector.pluginRef"


DEFAULT_WEIGHTS: Final[Mapping[str, float]] = {
    "queue-scorer": 2,
    "kv-cache-utilization-scorer": 1,
    "prefix-cache-scorer": 3,
    "active-request-scorer": 0.55,
    "no-hit-lru-scorer": 1,
}
"""Upstream's default is the first three, the second of them × 2. By them alone a prompt that all have in common stays with
whoever had it first, and prompts that nobody has seen go where another is still computed (docs/evaluation.md).

The last two read no page, and give points to who hangs, too: together with the tolerance they must be less than the first,
which who is known and waits least always has (tests/app/test_hanging.py)."""

DEFAULT_TOLERANCE: Final = 0.2
"""Of max-score-picker, in points."""
_PICKER: Final = "max-score-picker"

DEFAULT_PICKER: Final = EndpointPickerConfig.model_validate(
    {
        "plugins": [
            *({"type": name} for name in DEFAULT_WEIGHTS),
            {"type": _PICKER, "parameters": {"tolerance": DEFAULT_TOLERANCE}},
        ],
        "schedulingProfiles": [
            {
                "name": "default",
                "plugins": [
                    *({"pluginRef": name, "weight": weight} for name, weight in DEFAULT_WEIGHTS.items()),
                    {"pluginRef": _PICKER},
                ],
            }
        ],
    }
)
"""Of a picker without a config."""


_ON_BY_DEFAULT: Final = "haPopulateNonLeaderDatastore"
"""Who is not the leader knows the pool all the same. Upstream has it on, so nobody is told that it is."""

FLOW_CONTROL: Final = "flowControl"
"""Requests wait until their pool has room. Off unless it is set."""

ALWAYS_ON: Final = (_ON_BY_DEFAULT, "dataLayer", "prepareDataPlugins", "enableLegacyMetrics")
"""Feature gates, of upstream's v1.2 to v1.5 and later, whose features we always have: pages are read by the data layer's
plugins, plugins get what they need, and flags that name metrics are taken."""


def check_gates(gates: Sequence[str]) -> list[tuple[int, str]]:
    """What is wrong with feature gates, each with its place: one that is on and neither ours nor always on."""
    problems = []
    for index, gate in enumerate(gates):
        name, _, value = gate.partition("=")
        if value.lower() != "false" and name not in (*ALWAYS_ON, FLOW_CONTROL):
            problems.append((index, f"{name!r} is not available in this version"))
    return problems


def gate_warnings(gates: Sequence[str]) -> list[tuple[int, str]]:
    """What to tell who sets gates that change nothing, each with its place."""
    warnings = []
    for index, gate in enumerate(gates):
        name, _, value = gate.partition("=")
        if name in ALWAYS_ON and (name != _ON_BY_DEFAULT or value.lower() == "false"):
            warnings.append((index, f"{name} has no effect, what it stands for is always on"))
    return warnings


def load_picker_config(source: str | Document) -> tuple[EndpointPickerConfig, list[str]]:
    """The config, the default when nothing is written, and warnings for its owner. Raises SettingsError with every problem."""
    document = source if isinstance(source, Document) else load_document(source)
    if document.value in (None, {}):
        return DEFAULT_PICKER, ["there is nothing in it, so the default config applies"]
    if not isinstance(document.value, dict):
        raise SettingsError([f"expected a mapping with apiVersion and kind: {KIND} (got {shown(document.value)})"])
    return picker_config(document.value)


def picker_config(document: dict[str, Any], prefix: str = "") -> tuple[EndpointPickerConfig, list[str]]:
    """As load_picker_config, for a document that is part of another."""
    problems: list[str] = []
    warnings: list[str] = []
    try:
        config = validate(EndpointPickerConfig, document, prefix=prefix)
    except SettingsError as error:
        config = EndpointPickerConfig.model_validate({})
        problems += error.problems
    version = document.get("apiVersion") or API_VERSIONS[0]
    if version in DEPRECATED_API_VERSIONS:
        warnings.append(f"{prefix}apiVersion: {version} is deprecated, use {API_VERSIONS[0]}")
    elif version not in API_VERSIONS:
        problems.append(f"{prefix}apiVersion: expected one of {', '.join(API_VERSIONS)} (got {shown(version)})")
    if (document.get("kind") or KIND) != KIND:
        problems.append(f"{prefix}kind: expected {KIND} (got {shown(document['kind'])})")
    old = config.saturation_detector
    if old is not None:
        warnings.append(f"{prefix}saturationDetector: deprecated, use flowControl.saturationDetector.pluginRef and a plugin")
        if old.plugin_ref is not None and old.thresholds():
            problems.append(f"{prefix}saturationDetector: pluginRef and thresholds exclude each other")
        if config.flow_control.saturation_detector is not None:
            problems.append(f"{prefix}saturationDetector: excludes flowControl.saturationDetector")
    if config.parser is not None:
        warnings.append(f"{prefix}parser: deprecated, use requestHandler.parsers")
        if config.request_handler.parsers:
            problems.append(f"{prefix}parser: excludes requestHandler.parsers")
        config = config.model_copy(update={"request_handler": RequestHandlerSpec(parsers=[config.parser])})
    problems += [f"{prefix}featureGates[{index}]: {problem}" for index, problem in check_gates(config.feature_gates)]
    warnings += [f"{prefix}featureGates[{index}]: {warning}" for index, warning in gate_warnings(config.feature_gates)]
    if problems:
        raise SettingsError(problems)
    return config, warnings
