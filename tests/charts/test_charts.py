"""The charts as far as no Helm is needed: tests/k8s renders and installs them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import extproc
from extproc.app.checking.picker import check_picker

ROOT = Path(__file__).resolve().parents[2]
CHARTS = ROOT / "charts"
NAMES = ("body-based-routing", "inferencepool", "standalone")
EVERY = pytest.mark.parametrize("chart", NAMES)


def schema_of(chart: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((CHARTS / chart / "values.schema.json").read_text())
    return found


def keys(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every key that can be set, those of lists' items too."""
    for key, value in schema.get("properties", {}).items():
        yield f"{path}{key}", value
        yield from keys(value, f"{path}{key}.")
        yield from keys(value.get("items", {}), f"{path}{key}[].")


@EVERY
def test_every_key_is_described_and_closed(chart: str) -> None:
    found = dict(keys(schema_of(chart)))
    assert len(found) > 100
    assert [path for path, value in found.items() if len(value.get("description", "")) < 8] == []
    maps = {path: value for path, value in found.items() if value.get("type") == "object"}
    assert [path for path, value in maps.items() if "additionalProperties" not in value] == [], "a typo would be silent"


@EVERY
def test_values_are_the_schemas_defaults(chart: str) -> None:
    values = yaml.safe_load((CHARTS / chart / "values.yaml").read_text())
    for path, value in keys(schema_of(chart)):
        if "[]" in path or "default" not in value:
            continue
        at = values
        for key in path.split("."):
            at = at[key]
        assert at == value["default"], path


@EVERY
def test_the_readme_has_every_key(chart: str) -> None:
    text = (CHARTS / chart / "README.md").read_text()
    for path, value in keys(schema_of(chart)):
        if path != "global" and "default" in value and not any(f"{path}." in line for line in text.splitlines()):
            assert f"| `{path}` |" in text, path


@EVERY
def test_version_is_the_products(chart: str) -> None:
    about = yaml.safe_load((CHARTS / chart / "Chart.yaml").read_text())
    assert about["apiVersion"] == "v2"
    assert about["name"] == chart
    assert about["version"] == about["appVersion"] == extproc.__version__
    assert about["kubeVersion"]
    assert "dependencies" not in about, "a fresh clone renders without `helm dependency build`"


@EVERY
def test_templates_are_files_of_their_own(chart: str) -> None:
    """GitOps tools leave symbolic links out; and templates of two charts in one umbrella chart must not share names."""
    for path in (CHARTS / chart / "templates").iterdir():
        assert not path.is_symlink(), path
        for name in re.findall(r'{{-? define "([^"]+)"', path.read_text()):
            assert name.startswith(f"{chart}."), name


@pytest.mark.parametrize("number", [0, 1, 2], ids=["default", "by latency", "payload-agnostic"])
def test_the_charts_own_picker_configs_are_good(number: int) -> None:
    """For every type of model server that the values name."""
    source = (CHARTS / "src" / "templates" / "_plugins.tpl").read_text()
    engines = next(value["enum"] for path, value in keys(schema_of("inferencepool")) if path.endswith(".modelServerType"))
    body = re.findall(r"(?ms)^apiVersion:.*?(?=^{{- end }})", source)[number]
    body = body.replace("{{ .source.scheme }}", "http").replace("{{ .source.path }}", "/metrics")
    body = body.replace("{{ .source.insecureSkipVerify }}", "true")
    for engine in engines:
        found = check_picker(yaml.safe_load(body.replace("{{ .engine }}", engine)))
        assert found.problems == []
        assert found.described is not None
        assert found.described["profiles"]


def _without_templates(text: str) -> Any:
    """The Envoy bootstrap of the chart with its ports as they are in the values, and TLS."""
    ports = {"$s.adminPort": 9901, "$s.readyPort": 19001, "$v.listenPort": 8081, "$v.extProcPort": 9002}
    ports["$.Values.servingEndpoints.api.port"] = 9080
    body = text[text.index("admin:") : text.rindex("{{- end }}")]
    for name, port in ports.items():
        body = body.replace(f"{{{{ int {name} }}}}", str(port))
    return yaml.safe_load(re.sub(r"(?m)^ *{{-.*}}$", "", body))


def test_standalones_envoy_is_the_one_hop_config_but_for_what_a_pod_needs() -> None:
    chart = _without_templates((CHARTS / "standalone" / "templates" / "_envoy.tpl").read_text())
    ours = yaml.safe_load((ROOT / "envoy" / "one-hop.yaml").read_text())
    assert chart["admin"] == ours["admin"]
    ready, clients = chart["static_resources"]["listeners"]
    assert ready["address"]["socket_address"]["port_value"] == 19001
    (one,) = ours["static_resources"]["listeners"]
    assert clients.pop("address") == {"socket_address": {"address": "0.0.0.0", "port_value": 8081}}
    one.pop("address")
    assert clients == one, "filters and routes are the same"
    clusters = {cluster["name"]: cluster for cluster in chart["static_resources"]["clusters"]}
    expected = {cluster["name"]: cluster for cluster in ours["static_resources"]["clusters"]}
    assert clusters["gateway"] == expected["gateway"]
    endpoints, static = clusters["endpoints"], expected["endpoints"]
    differing = {key for key in endpoints.keys() | static.keys() if endpoints.get(key) != static.get(key)}
    assert differing == {"type", "lb_policy", "original_dst_lb_config", "load_balancing_policy", "load_assignment"}
    assert "use_http_header" not in endpoints["original_dst_lb_config"], "a client can write a header"
    assert set(clusters) - set(expected) == {"admin"}


def test_standalones_envoy_with_serving_endpoints_is_ours_but_for_what_a_pod_needs() -> None:
    chart = _without_templates((CHARTS / "standalone" / "templates" / "_envoy_serving.tpl").read_text())
    ours = yaml.safe_load((ROOT / "envoy" / "serving-endpoints.yaml").read_text())
    assert chart["bootstrap_extensions"] == ours["bootstrap_extensions"]
    _, clients, attempts = chart["static_resources"]["listeners"]
    for listener, expected in zip((clients, attempts), ours["static_resources"]["listeners"], strict=True):
        assert [each.pop("address", None) is None for each in (listener, expected)] == [expected["name"] == "attempts"] * 2
        assert listener == expected, "filters and routes are the same"
    clusters = {cluster["name"]: cluster for cluster in chart["static_resources"]["clusters"]}
    expected = {cluster["name"]: cluster for cluster in ours["static_resources"]["clusters"]}
    assert set(clusters) - set(expected) == {"admin"}
    assert {name for name in expected if clusters[name] != expected[name]} == {"endpoints"}
    assert clusters["endpoints"]["type"] == "ORIGINAL_DST"
    assert "use_http_header" not in clusters["endpoints"]["original_dst_lb_config"], "a client can write a header"
