"""The parameters of the plugins `metrics-data-source` and `core-metrics-extractor`."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.settings.base import SettingsError, validate
from extproc.settings.engines import (
    CoreMetricsSettings,
    EngineConfig,
    MetricSpec,
    MetricsSourceSettings,
    parse_metric_spec,
)


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("name", MetricSpec("name")),
        ("  vllm:name_1 ", MetricSpec("vllm:name_1")),
        ("name{}", MetricSpec("name")),
        ("name { }", MetricSpec("name")),
        ("name{a=b}", MetricSpec("name", (("a", "b"),))),
        ("name{a=b,c=d e}", MetricSpec("name", (("a", "b"), ("c", "d e")))),
        ("name{ a = b , c = d }", MetricSpec("name", (("a", "b"), ("c", "d")))),
        ('name{a="b"}', MetricSpec("name", (("a", "b"),))),
        ('name{a="b,c}=d",e=f}', MetricSpec("name", (("a", "b,c}=d"), ("e", "f")))),
        (r'name{a="say \"hi\" \\"}', MetricSpec("name", (("a", 'say "hi" \\'),))),
        ("name{a=b,}", MetricSpec("name", (("a", "b"),))),
        ("", None),
        (None, None),
    ],
)
def test_specs(text: str | None, spec: MetricSpec | None) -> None:
    assert parse_metric_spec(text) == spec


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1name", "expected a metric such as name or name{label=value,other=value}"),
        ("name{", "expected a metric"),
        ("name}", "expected a metric"),
        ("two words", "expected a metric"),
        ("{a=b}", "expected a metric"),
        (7, "expected a metric"),
        ("name{a}", "expected label=value at 'a'"),
        ("name{a=b,1c=d}", "expected label=value at '1c=d'"),
        ("name{a=b;c=d}", None),
        ("name{a!=b}", "expected label=value at 'a!=b'"),
        ('name{a="b}', "expected label=value"),
        ("name{a=b,,c=d}", "expected label=value at ',c=d'"),
        ("name{a=b,a=c}", "label a is named twice"),
    ],
)
def test_specs_that_cannot_be(text: object, expected: str | None) -> None:
    if expected is None:
        assert parse_metric_spec(text) == MetricSpec("name", (("a", "b;c=d"),))
        return
    with pytest.raises(ValueError) as caught:
        parse_metric_spec(text)
    assert expected in str(caught.value)


NAMES = st.from_regex(r"[a-zA-Z_:][a-zA-Z0-9_:]{0,8}", fullmatch=True)
LABELS = st.dictionaries(
    st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_]{0,8}", fullmatch=True),
    st.from_regex(r"[a-zA-Z0-9._/-]{1,8}", fullmatch=True),
    max_size=3,
)


@given(NAMES, LABELS)
def test_a_spec_is_read_as_it_is_shown(name: str, labels: dict[str, str]) -> None:
    spec = MetricSpec(name, tuple(labels.items()))

    assert parse_metric_spec(str(spec)) == spec
    assert parse_metric_spec(spec) is spec


@given(st.text('name{}="\\, 1', max_size=30))
def test_any_text_is_a_spec_or_a_value_error(text: str) -> None:
    try:
        spec = parse_metric_spec(text)
    except ValueError:
        return
    assert spec is None or spec.name


def problems(model: type[Any], values: dict[str, Any]) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        validate(model, values, prefix="parameters.")
    return caught.value.problems


def test_all_problems_of_engines_at_once() -> None:
    found = problems(
        CoreMetricsSettings,
        {
            "engineConfigs": [
                {"name": "", "queuedRequestsSpec": "a b"},
                {"name": "x", "queuedRequestsSpec": "a", "kvUsageSpek": "b"},
            ],
            "default_engine": "vllm",
        },
    )

    assert found == [
        "parameters.engineConfigs[0].name: field required",
        "parameters.engineConfigs[0].queuedRequestsSpec: "
        "expected a metric such as name or name{label=value,other=value} (got 'a b')",
        "parameters.engineConfigs[1].kvUsageSpek: unknown key",
        "parameters.default_engine: unknown key",
    ]


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"name": "default", "queuedRequestsSpec": "a"}, "the name 'default' is reserved"),
        ({"name": "x"}, "engine 'x' has no spec"),
        ({"name": "x", "queuedRequestsSpec": ""}, "engine 'x' has no spec"),
        ({"name": "x", "customMetrics": [{"attributeKey": "k"}]}, "metricSpec: field required"),
        ({"name": "x", "customMetrics": [{"attributeKey": "k", "metricSpec": ""}]}, "metricSpec"),
        ({"name": "x", "customMetrics": [{"attributeKey": "k", "metricSpec": "a b"}]}, "expected a metric such as name"),
        ({"name": "x", "customMetrics": [{"metricSpec": "m"}]}, "attributeKey: field required"),
        (
            {"name": "x", "customMetrics": [{"attributeKey": "k", "metricSpec": m} for m in ("a", "b")]},
            "customMetrics name k more than once",
        ),
    ],
)
def test_engines_that_cannot_be(config: dict[str, Any], expected: str) -> None:
    assert expected in problems(EngineConfig, config)[0]


def test_engines_named_twice() -> None:
    config = {"name": "x", "queuedRequestsSpec": "a"}

    assert "engineConfigs names x more than once" in problems(CoreMetricsSettings, {"engineConfigs": [config, config]})[0]


def test_empty_is_the_default_as_upstream_has_it() -> None:
    some = CoreMetricsSettings.model_validate({"engineLabelKey": "", "defaultEngine": ""})
    config = EngineConfig.model_validate(
        {
            "name": "x",
            "cacheInfoSpec": "i",
            "cacheBlockSizeLabelName": "",
            "cacheNumBlocksLabelName": "",
            "customMetrics": [],
        }
    )

    assert some == CoreMetricsSettings()
    assert (config.cache_block_size_label_name, config.cache_num_blocks_label_name) == ("block_size", "num_gpu_blocks")


def test_the_source_as_upstream_writes_it() -> None:
    source = validate(
        MetricsSourceSettings,
        {
            "scheme": "https",
            "path": "/metrics?all=1",
            "port": 9400,
            "insecureSkipVerify": False,
            "caCertPath": "/ca.pem",
            "clientCertPath": "/c.pem",
            "clientKeyPath": "/k.pem",
            "interval": "200ms",
        },
    )

    assert (source.scheme, source.path, source.port, source.interval) == ("https", "/metrics?all=1", 9400, 0.2)


@pytest.mark.parametrize(
    ("values", "verify"),
    [
        ({}, False),
        ({"insecureSkipVerify": True}, False),
        ({"insecureSkipVerify": False}, True),
        ({"caCertPath": "/ca.pem"}, True),
        ({"caCertPath": "/ca.pem", "insecureSkipVerify": True}, False),
    ],
)
def test_whether_certificates_are_checked(values: dict[str, Any], verify: bool) -> None:
    assert validate(MetricsSourceSettings, values).verify is verify


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"scheme": "ftp"}, "parameters.scheme: input should be 'http' or 'https' (got 'ftp')"),
        ({"path": "metrics"}, "parameters.path: "),
        ({"path": "/a b"}, "parameters.path: "),
        ({"port": 0}, "parameters.port: "),
        ({"port": 65536}, "parameters.port: "),
        ({"interval": 0}, "parameters.interval: "),
        ({"interval": "fast"}, "parameters.interval: expected a duration such as 50ms, 2s or 1m30s (got 'fast')"),
        ({"clientKeyPath": "/k.pem"}, "clientCertPath and clientKeyPath need each other"),
        ({"ca_cert_path": "/ca.pem"}, "parameters.ca_cert_path: unknown key"),
        ({"maxBytes": 1}, "parameters.maxBytes: unknown key"),
    ],
)
def test_sources_that_cannot_be(values: dict[str, Any], problem: str) -> None:
    (found,) = problems(MetricsSourceSettings, values)

    assert problem in found
