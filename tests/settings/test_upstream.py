"""Upstream's flags: what they come to, and what is said of them."""

from __future__ import annotations

import pytest

from extproc.settings.commands import BbrSettings, EppSettings
from extproc.settings.picker import EndpointPickerConfig
from extproc.settings.upstream import FLAGS, REFUSED, Kind, flags_of, translate, variable_warnings


def test_nothing_given_nothing_said() -> None:
    told = translate("epp", {})
    assert (told.values, told.parameters, told.warnings, told.problems) == ({}, {}, [], [])


def test_every_flag_is_said_once_and_is_none_of_ours() -> None:
    for command, model in (("bbr", BbrSettings), ("epp", EppSettings)):
        known = [flag.flag for flag in flags_of(command)]
        assert len(known) == len(set(known))
        ours = {field.replace("_", "-") for field in model.model_fields}
        assert not ours & {*known, *REFUSED.get(command, {})}


def test_a_renamed_flag_does_something() -> None:
    for flag in FLAGS:
        assert (flag.kind is Kind.RENAMED) == (flag.rename is not None or flag.parameter is not None), flag.flag
        assert flag.instead or flag.kind is not Kind.RENAMED, flag.flag


@pytest.mark.parametrize(
    ("flag", "text", "warning"),
    [
        ("tracing", "true", "--tracing has no effect: this version makes no traces; use /debug/decisions"),
        ("tracing", "false", None),
        ("tracing", "F", None),
        ("enable-pprof", "true", "--enable-pprof has no effect: "),
        ("health-checking", "true", None),
        ("health-checking", "false", "--health-checking has no effect: the ExtProc port always serves gRPC health too"),
        ("zap-encoder", "json", None),
        ("zap-encoder", "console", "--zap-encoder has no effect: logs are JSON lines"),
        ("allow-experimental-plugins", "true", "--allow-experimental-plugins has no effect: "),
        ("destination-endpoint-hint-key", "x-other", "--destination-endpoint-hint-key has no effect: "),
        ("destination-endpoint-hint-key", "x-gateway-destination-endpoint", None),
    ],
)
def test_one_line_unless_it_is_so_anyway(flag: str, text: str, warning: str | None) -> None:
    told = translate("epp", {flag: text})
    assert told.problems == []
    assert told.values == {}
    assert len(told.warnings) == (warning is not None)
    if warning is not None:
        assert told.warnings[0].startswith(warning)


@pytest.mark.parametrize(("text", "v"), [("debug", "4"), ("info", "2"), ("error", "0"), ("panic", "0"), ("5", "5")])
def test_zap_s_levels_are_verbosities(text: str, v: str) -> None:
    told = translate("bbr", {"zap-log-level": text})
    assert told.values == {"v": v}
    assert told.warnings == ["--zap-log-level still works: there is one verbosity; use --v"]


@pytest.mark.parametrize(
    ("text", "values"),
    [("8Mi", {}), ("128Mi", {"max_body_bytes": str(2**27)}), ("128MiB", {"max_body_bytes": str(2**27)}), ("4194304", {})],
)
def test_message_sizes_only_raise_the_limit_of_bodies(text: str, values: dict[str, str]) -> None:
    assert translate("epp", {"grpc-max-recv-msg-size": text}).values == values


@pytest.mark.parametrize(
    ("flag", "text", "problem"),
    [
        ("zap-log-level", "loud", "--zap-log-level: expected debug, info, error, panic or a number above 0 (got 'loud')"),
        ("grpc-max-recv-msg-size", "big", "--grpc-max-recv-msg-size: expected a size such as 64Mi, 4M or 4194304 (got 'big')"),
        ("model-server-metrics-scheme", "ftp", "--model-server-metrics-scheme: input should be 'http' or 'https' (got 'ftp')"),
        ("model-server-metrics-port", "0", "--model-server-metrics-port: input should be greater than or equal to 1 (got '0')"),
        (
            "lora-info-metric",
            "1x",
            "--lora-info-metric: expected a metric such as name or name{label=value,other=value}",
        ),
    ],
)
def test_bad_values(flag: str, text: str, problem: str) -> None:
    (found,) = translate("epp", {flag: text}).problems
    assert found.startswith(problem)


def test_metrics_flags_become_plugins() -> None:
    from extproc.app.upstream import with_parameters

    given = {
        "model-server-metrics-path": "/m",
        "model-server-metrics-port": "9",
        "model-server-metrics-https-insecure-skip-verify": "false",
        "total-queued-requests-metric": "q{a=b}",
        "engine-label-key": "engine",
    }
    told = translate("epp", given)
    assert told.problems == []
    assert len(told.warnings) == 5
    config, warnings = with_parameters(EndpointPickerConfig.model_validate({}), told.parameters)
    assert warnings == []
    source, core = config.plugins
    assert (source.type, source.parameters) == (
        "metrics-data-source",
        {"path": "/m", "port": "9", "insecureSkipVerify": "false"},
    )
    assert core.parameters is not None
    assert core.parameters["engineLabelKey"] == "engine"
    (engine,) = core.parameters["engineConfigs"]
    assert engine["name"] == "vllm"
    assert engine["queuedRequestsSpec"] == "q{a=b}"
    assert engine["runningRequestsSpec"] == "vllm:num_requests_running"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {
                "total-queued-requests-metric": '"sglang:num_queue_reqs"',
                "total-running-requests-metric": '"sglang:num_running_reqs"',
                "kv-cache-usage-percentage-metric": '"sglang:token_usage"',
                "cache-info-metric": '"sglang:cache_config_info"',
            },
            {"queuedRequestsSpec": "sglang:num_queue_reqs", "loraSpec": "vllm:lora_requests_info"},
        ),
        (
            {
                "total-queued-requests-metric": "nv_trt_llm_request_metrics{request_type=waiting}",
                "total-running-requests-metric": "nv_trt_llm_request_metrics{request_type=scheduled}",
                "kv-cache-usage-percentage-metric": "nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=fraction}",
                "lora-info-metric": "",
            },
            {"queuedRequestsSpec": "nv_trt_llm_request_metrics{request_type=waiting}", "loraSpec": None},
        ),
    ],
    ids=["sglang", "triton"],
)
def test_what_upstream_s_chart_says_of_engines(given: dict[str, str], said: dict[str, str | None]) -> None:
    """As the chart of v1.5 renders it, quotes and all."""
    from extproc.app.upstream import with_parameters
    from extproc.settings.engines import CoreMetricsSettings

    told = translate("epp", given)
    assert told.problems == []
    config, _ = with_parameters(EndpointPickerConfig.model_validate({}), told.parameters)
    (engine,) = CoreMetricsSettings.model_validate(config.plugins[0].parameters).engine_configs
    specs = {"queuedRequestsSpec": engine.queued_requests_spec, "loraSpec": engine.lora_spec}
    assert {key: None if spec is None else str(spec) for key, spec in specs.items()} == said


def test_a_plugin_in_the_config_goes_before_flags() -> None:
    from extproc.app.upstream import with_parameters

    config = EndpointPickerConfig.model_validate({"plugins": [{"type": "metrics-data-source", "parameters": {"path": "/x"}}]})
    found, warnings = with_parameters(config, {"metrics-data-source": {"path": "/y"}})
    assert found == config
    assert warnings == [
        "plugins: metrics-data-source is in the config, so the flags that set its parameters have no effect",
    ]


def test_variables() -> None:
    environ = {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_SERVICE_NAME": "x", "SD_X": "", "GRPC_PORT": "1", "PATH": "/"}
    both = "OTEL_SERVICE_NAME, OTEL_TRACES_EXPORTER (environment) have no effect: this version makes no traces; use "
    first, second = variable_warnings("epp", environ)
    assert first.startswith(both)
    assert second.startswith("GRPC_PORT (environment) has no effect: ")
    assert len(variable_warnings("bbr", environ)) == 1
    assert variable_warnings("gateway", environ) == []
