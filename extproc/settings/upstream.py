"""Flags and variables of upstream's `bbr` and `epp` that are no settings of ours: accepted, so that a manifest keeps working.

Each is a row: what becomes of it here, why, and what to use instead. The warnings at start, the end of `--help` and the tables
in the docs are made of these rows. Sources: GIE v1.0 to v1.5 (`cmd/bbr`, `cmd/epp`), llm-d router v0.10.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from extproc.settings.base import SettingsError, parse_size_bytes, validate
from extproc.settings.engines import CoreMetricsSettings, EngineConfig, MetricsSourceSettings

BBR: Final = ("bbr",)
EPP: Final = ("epp",)
BOTH: Final = ("bbr", "epp")

METRICS_SOURCE: Final = "metrics-data-source"
CORE_METRICS: Final = "core-metrics-extractor"

_DEFAULT_BODY_BYTES: Final = 64 * 2**20
_TRUE: Final = frozenset({"true", "t", "1"})
_FALSE: Final = frozenset({"false", "f", "0"})


class Kind(StrEnum):
    """What becomes of a flag."""

    NO_EFFECT = "no effect"
    RENAMED = "renamed"
    """It works, under another name."""
    REMOVED = "removed upstream"
    """It has no effect, and newer upstreams don't know it or refuse it."""


Renaming = Callable[[str], tuple[str, str] | None]
"""A flag's text to a field of the settings and its text; None when there is nothing to do. Raises ValueError."""


@dataclass(frozen=True, slots=True)
class UpstreamFlag:
    """A flag of upstream's. `flag` is without dashes."""

    flag: str
    commands: tuple[str, ...]
    kind: Kind
    why: str
    instead: str = ""
    boolean: bool = False
    """It may stand without a value, and is then true."""
    quiet: tuple[str, ...] = ()
    """Values that ask for what is so anyway; nothing is said then."""
    rename: Renaming | None = None
    parameter: tuple[str, str] | None = None
    """A plugin type of EndpointPickerConfig, and its parameter that the flag sets."""

    @property
    def advice(self) -> str:
        """Why, and what instead."""
        return f"{self.why}; use {self.instead}" if self.instead else self.why

    def warning(self) -> str:
        """The one line at start."""
        told = {Kind.RENAMED: "still works", Kind.NO_EFFECT: "has no effect", Kind.REMOVED: "has no effect"}[self.kind]
        return f"--{self.flag} {told}: {self.advice}"

    def is_quiet(self, text: str) -> bool:
        if self.boolean:
            value = text.strip().lower()
            text = "true" if value in _TRUE else "false" if value in _FALSE else text
        return text in self.quiet


@dataclass(frozen=True, slots=True)
class UpstreamVariable:
    """An environment variable of upstream's, or all that begin with what is before a `*`."""

    name: str
    commands: tuple[str, ...]
    why: str
    instead: str = ""

    def matches(self, name: str) -> bool:
        return name.startswith(self.name[:-1]) if self.name.endswith("*") else name == self.name


@dataclass
class Translated:
    """What upstream's flags come to."""

    values: dict[str, str] = field(default_factory=dict)
    """Texts by the field of our settings."""
    parameters: dict[str, dict[str, str]] = field(default_factory=dict)
    """Parameters by plugin type."""
    warnings: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def _zap_level(text: str) -> tuple[str, str]:
    named = {"debug": "4", "info": "2", "warn": "0", "error": "0", "dpanic": "0", "panic": "0", "fatal": "0"}
    if text in named:
        return "v", named[text]
    if re.fullmatch(r"[1-9]\d{0,2}", text):
        return "v", text
    raise ValueError("expected debug, info, error, panic or a number above 0")


def _message_size(text: str) -> tuple[str, str] | None:
    """A message holds a piece of body, or all of it: messages of any size up to the largest body are taken."""
    wanted = parse_size_bytes(text.strip().removesuffix("B").removesuffix("b"))
    return ("max_body_bytes", str(wanted)) if wanted > _DEFAULT_BODY_BYTES else None


def _source(flag: str, parameter: str, *, boolean: bool = False) -> UpstreamFlag:
    return UpstreamFlag(
        flag,
        EPP,
        Kind.RENAMED,
        "newer pickers take it from the config",
        f"{parameter} of the plugin {METRICS_SOURCE}",
        boolean=boolean,
        parameter=(METRICS_SOURCE, parameter),
    )


def _spec(flag: str, parameter: str) -> UpstreamFlag:
    return UpstreamFlag(
        flag,
        EPP,
        Kind.RENAMED,
        "newer pickers refuse it and take it from the config",
        f"engineConfigs[].{parameter} of the plugin {CORE_METRICS}",
        parameter=(CORE_METRICS, parameter),
    )


_STDERR: Final = "logs are JSON lines on standard error, with times in RFC 3339"

FLAGS: Final[tuple[UpstreamFlag, ...]] = (
    UpstreamFlag("zap-log-level", BOTH, Kind.RENAMED, "there is one verbosity", "--v", rename=_zap_level),
    UpstreamFlag("log-level", BBR, Kind.RENAMED, "the charts before v1.0 set it", "--v", rename=_zap_level),
    UpstreamFlag("zap-encoder", BOTH, Kind.NO_EFFECT, _STDERR, quiet=("json",)),
    UpstreamFlag("zap-time-encoding", BOTH, Kind.NO_EFFECT, _STDERR, quiet=("rfc3339", "rfc3339nano", "iso8601")),
    UpstreamFlag("zap-devel", BOTH, Kind.NO_EFFECT, _STDERR, boolean=True, quiet=("false",)),
    UpstreamFlag("zap-stacktrace-level", BOTH, Kind.NO_EFFECT, "a stack is logged only with what should never happen"),
    UpstreamFlag(
        "tracing",
        BOTH,
        Kind.NO_EFFECT,
        "this version makes no traces",
        "/debug/decisions on the metrics port; false says the same without this line",
        boolean=True,
        quiet=("false",),
    ),
    UpstreamFlag(
        "enable-pprof",
        BOTH,
        Kind.NO_EFFECT,
        "profiles of Go's runtime have no counterpart",
        "py-spy on the process; false says the same without this line",
        boolean=True,
        quiet=("false",),
    ),
    UpstreamFlag(
        "health-checking",
        BOTH,
        Kind.NO_EFFECT,
        "the ExtProc port always serves gRPC health too",
        boolean=True,
        quiet=("true",),
    ),
    UpstreamFlag(
        "grpc-max-recv-msg-size",
        EPP,
        Kind.RENAMED,
        "messages are taken up to the largest body; a value above its default raises it, a smaller one does nothing",
        "--max-body-bytes",
        rename=_message_size,
    ),
    UpstreamFlag(
        "grpc-max-send-msg-size", EPP, Kind.NO_EFFECT, "an answer is as long as it must be, and bodies are sent in pieces"
    ),
    UpstreamFlag(
        "refresh-prometheus-metrics-interval",
        EPP,
        Kind.NO_EFFECT,
        "the pool's gauges are computed when they are read, so they are never older than the pages",
    ),
    UpstreamFlag(
        "enable-grpc-stream-metrics",
        EPP,
        Kind.NO_EFFECT,
        "streams are always counted (extproc_streams_*), which costs nothing to speak of",
        boolean=True,
        quiet=("true",),
    ),
    UpstreamFlag(
        "allow-experimental-plugins",
        EPP,
        Kind.NO_EFFECT,
        "plugins have no grades of maturity here: one that exists may be used",
        boolean=True,
    ),
    UpstreamFlag(
        "plugin-state-staleness-threshold",
        EPP,
        Kind.NO_EFFECT,
        "a request counts as in flight until its stream ends, however long that is",
    ),
    UpstreamFlag(
        "fairness-id-metric-label-limit",
        EPP,
        Kind.NO_EFFECT,
        "fairness ids are on no metric; model names are bounded by --metrics-max-models",
    ),
    UpstreamFlag(
        "enable-multi-engine",
        EPP,
        Kind.REMOVED,
        "endpoints' labels always tell the engine",
        boolean=True,
        quiet=("true",),
    ),
    UpstreamFlag(
        "engine-label-key",
        EPP,
        Kind.RENAMED,
        "newer pickers take it from the config",
        f"engineLabelKey of the plugin {CORE_METRICS}",
        parameter=(CORE_METRICS, "engineLabelKey"),
    ),
    _source("model-server-metrics-scheme", "scheme"),
    _source("model-server-metrics-path", "path"),
    _source("model-server-metrics-port", "port"),
    _source("model-server-metrics-https-insecure-skip-verify", "insecureSkipVerify", boolean=True),
    _spec("total-queued-requests-metric", "queuedRequestsSpec"),
    _spec("total-running-requests-metric", "runningRequestsSpec"),
    _spec("kv-cache-usage-percentage-metric", "kvUsageSpec"),
    _spec("lora-info-metric", "loraSpec"),
    _spec("cache-info-metric", "cacheInfoSpec"),
    UpstreamFlag(
        "destination-endpoint-hint-key",
        EPP,
        Kind.REMOVED,
        "the endpoint picker protocol fixes the name",
        "x-gateway-destination-endpoint",
        quiet=("x-gateway-destination-endpoint",),
    ),
    UpstreamFlag(
        "destination-endpoint-hint-metadata-namespace",
        EPP,
        Kind.REMOVED,
        "the endpoint picker protocol fixes the namespace",
        "envoy.lb",
        quiet=("envoy.lb",),
    ),
    UpstreamFlag("fairness-id-header-key", EPP, Kind.REMOVED, "requests are not queued by fairness id in this version"),
)
"""In the order in which docs show them."""

REFUSED: Final[Mapping[str, Mapping[str, str]]] = {
    "bbr": {
        "config-file": "PayloadProcessorConfig is not read; use --plugin for headers and --adapters-file for adapters",
        "config-text": "PayloadProcessorConfig is not read; use --plugin for headers and --adapters-file for adapters",
    },
}
"""Flags of upstream's successors that ask for something else than we do, by command: to go on would be wrong."""

_BOUND: Final = "only pickers up to v1.0 read it"

VARIABLES: Final[tuple[UpstreamVariable, ...]] = (
    UpstreamVariable("OTEL_*", BOTH, "this version makes no traces", "/debug/decisions on the metrics port"),
    UpstreamVariable("TRAINING_SERVER_URL", EPP, "there is no latency predictor in this version"),
    UpstreamVariable("PREDICTION_SERVER_URL", EPP, "there is no latency predictor in this version"),
    UpstreamVariable("LATENCY_*", EPP, "there is no latency predictor in this version"),
    UpstreamVariable("SD_*", EPP, "upstream's saturation detector took it, and takes plugin parameters now"),
    UpstreamVariable("GRPC_PORT", EPP, _BOUND, "--grpc-port or EXTPROC_GRPC_PORT"),
    UpstreamVariable("GRPC_HEALTH_PORT", EPP, _BOUND, "--grpc-health-port or EXTPROC_GRPC_HEALTH_PORT"),
    UpstreamVariable("POOL_NAME", EPP, _BOUND, "--pool-name or EXTPROC_POOL_NAME"),
    UpstreamVariable("POOL_NAMESPACE", EPP, _BOUND, "--pool-namespace or NAMESPACE"),
    UpstreamVariable("MODEL_SERVER_METRICS_*", EPP, _BOUND, f"the plugin {METRICS_SOURCE}"),
    UpstreamVariable("DESTINATION_ENDPOINT_HINT_KEY", EPP, _BOUND, "x-gateway-destination-endpoint, which is fixed"),
    UpstreamVariable("REFRESH_METRICS_INTERVAL", EPP, _BOUND, "--refresh-metrics-interval"),
    UpstreamVariable("SECURE_SERVING", EPP, _BOUND, "--secure-serving or EXTPROC_SECURE_SERVING"),
)
"""NAMESPACE, POD_NAME, and the KUBERNETES_SERVICE_* of every pod are read."""


def flags_of(command: str) -> tuple[UpstreamFlag, ...]:
    """Upstream's flags of a command."""
    return tuple(each for each in FLAGS if command in each.commands)


def translate(command: str, given: Mapping[str, str]) -> Translated:
    """What these flags (without dashes) with their texts come to. Nothing is raised: problems are part of the answer."""
    translated = Translated()
    for each in flags_of(command):
        text = given.get(each.flag)
        if text is None:
            continue
        if len(text) > 1 and text[0] == text[-1] == '"':
            text = text[1:-1]  # upstream's chart (v1.5) writes --flag="value" in YAML, so the quotes are part of it
        try:
            renamed = each.rename(text) if each.rename is not None else None
        except ValueError as error:
            translated.problems.append(f"--{each.flag}: {error} (got {text!r})")
            continue
        if renamed is not None:
            translated.values[renamed[0]] = renamed[1]
        if each.parameter is not None:
            translated.problems += _problems(each, text)
            translated.parameters.setdefault(each.parameter[0], {})[each.parameter[1]] = text
        if not each.is_quiet(text):
            translated.warnings.append(each.warning())
    return translated


def _problems(flag: UpstreamFlag, text: str) -> list[str]:
    assert flag.parameter is not None
    kind, parameter = flag.parameter
    labels = {parameter: f"--{flag.flag}"}
    try:
        if kind == METRICS_SOURCE:
            validate(MetricsSourceSettings, {parameter: text}, labels=labels)
        elif parameter.endswith("Spec"):
            validate(EngineConfig, {"name": "vllm", "customMetrics": (), parameter: text or "none"}, labels=labels)
        else:
            validate(CoreMetricsSettings, {parameter: text}, labels=labels)
    except SettingsError as error:
        return error.problems
    return []


def variable_warnings(command: str, environ: Mapping[str, str]) -> list[str]:
    """One line for each row of `VARIABLES` of which one is set."""
    lines = []
    for row in VARIABLES:
        variables = sorted(name for name, value in environ.items() if value and row.matches(name))
        if command in row.commands and variables:
            advice = f"{row.why}; use {row.instead}" if row.instead else row.why
            lines.append(f"{', '.join(variables)} (environment) {'has' if len(variables) == 1 else 'have'} no effect: {advice}")
    return lines


def plugins_for(parameters: Mapping[str, Mapping[str, str]], builtin: EngineConfig) -> list[dict[str, object]]:
    """Entries of EndpointPickerConfig's `plugins` that say what these flags did. `builtin` is what upstream calls the default
    engine: a spec that no flag sets stays as it is there.
    """
    entries: list[dict[str, object]] = []
    if METRICS_SOURCE in parameters:
        entries.append({"type": METRICS_SOURCE, "parameters": dict(parameters[METRICS_SOURCE])})
    core = dict(parameters.get(CORE_METRICS, {}))
    if core:
        label = {key: core.pop(key) for key in ("engineLabelKey",) if key in core}
        words = {EngineConfig.model_fields[name].alias or name: value for name, value in builtin}
        engine = {**{key: str(value) if isinstance(value, tuple) and value else value for key, value in words.items()}, **core}
        entries.append({"type": CORE_METRICS, "parameters": {**label, **({"engineConfigs": [engine]} if core else {})}})
    return entries
