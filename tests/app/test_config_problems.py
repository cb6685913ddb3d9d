"""What is wrong with configs is said at once, whichever stage finds it, with its line, and nothing that is untrue."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from extproc.app.adapters.file import AdaptersFile
from extproc.app.build import build
from extproc.app.pools import Pools
from extproc.settings.base import SettingsError
from extproc.settings.commands import BbrSettings, EppSettings, GatewaySettings
from tests.app.running import part

GATEWAY = """\
apiVersion: extproc.dev/v1alpha1
kind: Gateway
pools:
- name: llama
  endpoints: {static: ["127.0.0.1:8101"]}
routes:
- models: [llama]
  pool: llama
"""


def epp(**values: object) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        build(EppSettings.model_validate(values))
    return caught.value.problems


def epp_file(path: Path, text: str, **values: object) -> list[str]:
    path.write_text(text)
    return [problem.replace(str(path), "epp.yaml") for problem in epp(config_file=str(path), **values)]


def gateway(folder: Path, text: str, **values: object) -> list[str]:
    path = folder / "gateway.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError) as caught:
        build(GatewaySettings.model_validate({"config_file": str(path), **values}))
    return [problem.replace(f"{folder}/", "") for problem in caught.value.problems]


def test_two_routes_in_a_gateway_file(tmp_path: Path) -> None:
    text = GATEWAY + "routes:\n- models: [other]\n  pool: llama\n"
    assert gateway(tmp_path, text) == ["gateway.yaml: line 9: key 'routes' is there twice, first on line 6"]


def test_two_plugins_in_a_picker_config(tmp_path: Path) -> None:
    text = "plugins: [{type: queue-scorer}]\nplugins: [{type: max-score-picker}]\n"
    told = "line 2: key 'plugins' is there twice, first on line 1"

    assert epp_file(tmp_path / "epp.yaml", text) == [f"epp.yaml: {told}"]
    assert epp(config_text=text) == [f"--config-text: {told}"]


def test_lines_of_what_only_later_stages_find(tmp_path: Path) -> None:
    text = """\
plugins:
- type: queue-scorer
- type: kv-cache-utilization-scorrer
- type: active-request-scorer
  parameters:
    idleThreshold: many
schedulingProfiles:
- name: default
  plugins:
  - pluginRef: nobody
"""
    found = epp_file(tmp_path / "epp.yaml", text, endpoints=["127.0.0.1:1", "nowhere"])

    assert [problem.partition(": ")[2][:7] for problem in found[:3]] == ["line 3:", "line 6:", "line 10"]
    assert found[3].startswith("--endpoints[1]: expected host:port")
    assert len(found) == 4


@pytest.mark.parametrize(
    "broken", ["kind: Other", "plugin: []", "dataLayer: {discovery: {pluginRef: files}, sauces: []}", "plugins: [", "[]"]
)
def test_after_a_wrong_form_endpoints_are_not_missed(tmp_path: Path, broken: str) -> None:
    """They may be what the config says, when it can be read."""
    found = epp_file(tmp_path / "epp.yaml", broken)

    assert len(found) == 1
    assert "--endpoints" not in found[0]


def test_without_any_source_they_are(tmp_path: Path) -> None:
    (found,) = epp()
    assert found.startswith("--endpoints: expected at least one endpoint")
    (found,) = epp_file(tmp_path / "epp.yaml", "{}")
    assert found.startswith("--endpoints: expected at least one endpoint")


def test_all_stages_of_a_picker_at_once(tmp_path: Path) -> None:
    found = epp_file(
        tmp_path / "epp.yaml",
        "kind: Other\n",
        endpoints=["nowhere"],
        cert_path=str(tmp_path / "tls"),
        metrics_cert_dir=str(tmp_path / "metrics"),
    )

    assert [problem.partition(":")[0] for problem in found] == [
        "--cert-path",
        "--cert-path",
        "--metrics-cert-dir",
        "--metrics-cert-dir",
        "epp.yaml",
        "--endpoints[0]",
    ]


def test_all_stages_of_a_gateway_at_once(tmp_path: Path) -> None:
    (tmp_path / "adapters.yaml").write_text("a: [x]\na: [y]\n")
    (tmp_path / "endpoints.yaml").write_text("endpoints:\n- {name: a}\n")
    text = """\
apiVersion: extproc.dev/v1alpha1
kind: Gateway
pools:
- name: llama
  endpoints: {static: ["127.0.0.1"]}
- name: phi
  endpoints: {file: endpoints.yaml}
- name: broken
- name: own
  endpoints: {static: ["127.0.0.1:1"]}
  scheduling:
    plugins: [{type: nothing}]
routes:
- models: [llama, llama]
  pool: llama
- models: [phi]
  pool: phee
- models: [broken]
  pool: broken
adaptersFile: adapters.yaml
route: []
"""
    found = gateway(tmp_path, text, cert_path=str(tmp_path))

    assert [" ".join(problem.split()[:4]) for problem in found] == [
        "--cert-path: tls.crt: No such",
        "--cert-path: tls.key: No such",
        "gateway.yaml: line 8: pools[2].endpoints:",
        "gateway.yaml: line 21: route:",
        "gateway.yaml: line 14: routes[0].models[1]:",
        "gateway.yaml: line 17: routes[1].pool:",
        "gateway.yaml: line 5: pools[0].endpoints.static[0]:",
        "gateway.yaml: line 7: pools[1].endpoints.file:",
        "gateway.yaml: line 7: pools[1].endpoints.file:",
        "gateway.yaml: line 12: pools[3].scheduling.plugins[0].type:",
        "gateway.yaml: line 20: adaptersFile:",
    ]
    assert found[7].endswith("endpoints.yaml: line 2: endpoints[0].address: field required")
    assert found[-1].endswith("adapters.yaml: line 2: key 'a' is there twice, first on line 1")


def test_empty_is_absent_in_a_gateway_file(tmp_path: Path) -> None:
    path = tmp_path / "gateway.yaml"
    text = GATEWAY.replace("{static:", "{file: '', kubernetes: {}, static:")
    path.write_text(text + "adaptersFile: ''\nscheduling: {}\n")

    service = build(GatewaySettings(config_file=str(path)))

    assert [pool.store.name for pool in part(service, Pools).pools] == ["llama"]
    assert service.find(AdaptersFile) is None


@pytest.mark.timeout(20)
@pytest.mark.parametrize("what", ["pipe", "device", "directory", "huge"])
def test_what_is_no_file(tmp_path: Path, what: str) -> None:
    """Each of these hung, filled the memory, or was a traceback."""
    path = {"device": Path("/dev/zero")}.get(what, tmp_path / what)
    if what == "pipe":
        os.mkfifo(path)
    elif what == "directory":
        path.mkdir()
    elif what == "huge":
        path.write_bytes(b"a: b\n" * 300_000)
    why = "larger than 1048576 bytes" if what == "huge" else f"expected a regular file, this is a {what}"

    assert epp(config_file=str(path), endpoints=["127.0.0.1:1"]) == [f"--config-file: {path}: {why}"]
    with pytest.raises(SettingsError) as caught:
        build(GatewaySettings(config_file=str(path)))
    assert caught.value.problems == [f"--config-file: {path}: {why}"]
    with pytest.raises(SettingsError) as caught:
        build(BbrSettings(adapters_file=str(path)))
    assert caught.value.problems == [f"--adapters-file: {path}: {why}"]
