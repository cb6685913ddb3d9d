"""Arguments as the templates of upstream's charts write them (GIE v1.0.0 to v1.5.0, `config/charts`), read by our commands."""

from __future__ import annotations

from typing import Any

import pytest

from extproc.cli.options import read
from extproc.settings.commands import BbrSettings, EppSettings

_V1_0 = ["--pool-name", "p", "--pool-namespace", "ns", "--zap-encoder", "json", "--config-file", "/config/default-plugins.yaml"]
_TRITON = [
    "--total-queued-requests-metric",
    "nv_trt_llm_request_metrics{request_type=waiting}",
    "--kv-cache-usage-percentage-metric",
    "nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=fraction}",
    "--lora-info-metric",
    "",
]
_V1_1 = ["--pool-name", "p", "--pool-namespace", "ns", "--pool-group", "inference.networking.k8s.io", *_V1_0[4:]]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        pytest.param([*_V1_0, "--v", "1"], {"v": 1, "pool_name": "p", "pool_namespace": "ns"}, id="v1.0"),
        pytest.param([*_V1_0, "--v", "1", *_TRITON], {"v": 1}, id="v1.0, Triton: an empty metric"),
        pytest.param([*_V1_0, "--ha-enable-leader-election", ""], {"ha_enable_leader_election": True}, id="v1.0, no value"),
        pytest.param([*_V1_0, "--ha-enable-leader-election", "false"], {"ha_enable_leader_election": False}, id="v1.0, pair"),
        pytest.param([*_V1_0, "--kubeconfig", "", "--v", "3"], {"kubeconfig": None, "v": 3}, id="v1.0, an empty value"),
        pytest.param(
            [
                *_V1_1,
                *_TRITON,
                "--ha-enable-leader-election",
                "--v",
                "1",
                "--tracing",
                "false",
                "--metrics-endpoint-auth=false",
            ],
            {"ha_enable_leader_election": True, "metrics_endpoint_auth": False, "v": 1},
            id="v1.1, replicas and Triton",
        ),
        pytest.param(
            [*_V1_1, "--0", "map[name:v value:3]", "--1", "map[name:ha-enable-leader-election value:true]", "--tracing=false"],
            {"v": 3, "ha_enable_leader_election": True},
            id="v1.2 and later, flags as a list",
        ),
        pytest.param(
            [*_V1_1, "--ha-enable-leader-election=false", "", "--v", "1"],
            {"ha_enable_leader_election": False, "v": 1},
            id="v1.2 and later, a value in the name",
        ),
        pytest.param(
            [*_V1_1, "--ha-enable-leader-election=false=", "--v=1"],
            {"ha_enable_leader_election": False, "v": 1},
            id="--k=v, a value in the name",
        ),
        pytest.param(
            [*_V1_1, '--model-server-metrics-path="/prometheus/metrics"', '--cache-info-metric="x"', "--lora-info-metric", ""],
            {
                "upstream_parameters": {
                    "metrics-data-source": {"path": "/prometheus/metrics"},
                    "core-metrics-extractor": {"cacheInfoSpec": "x", "loraSpec": ""},
                }
            },
            id="v1.5, quotes and an empty metric",
        ),
    ],
)
def test_a_picker_s(arguments: list[str], expected: dict[str, Any]) -> None:
    settings = read(EppSettings, "epp", arguments, {})
    assert settings is not None
    assert settings.config_file == "/config/default-plugins.yaml"
    assert {field: getattr(settings, field) for field in expected} == expected


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        pytest.param(["--streaming", "--v", "3"], {"streaming": True, "v": 3}, id="v1.0"),
        pytest.param(
            ["--streaming", "--v", "3", "--secure-serving", ""], {"streaming": True, "secure_serving": True}, id="v1.3"
        ),
        pytest.param(
            ["--streaming", "--v", "3", "--plugin", 'default-bbr:default-bbr:{"no-op":true,"v":0}'], {"v": 3}, id="v1.4"
        ),
        pytest.param(
            ["--streaming", "--v", "3", "--plugin", "base-model-to-header:base-model-mapper", "--tracing=false"],
            {"plugin": ("base-model-to-header:base-model-mapper",)},
            id="v1.5",
        ),
    ],
)
def test_a_router_s(arguments: list[str], expected: dict[str, Any]) -> None:
    settings = read(BbrSettings, "bbr", arguments, {})
    assert settings is not None
    assert {field: getattr(settings, field) for field in expected} == expected
