"""docker-compose.yaml, the Dockerfile and the example config fit together and fit our command line. No engine needed."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from extproc.cli.options import from_text
from extproc.demo.envoy import config_path
from extproc.demo.stack import ENVOY_CONFIG, POOLS, gateway_config
from extproc.settings.base import Settings
from extproc.settings.commands import GatewaySettings
from extproc.settings.gateway import load_gateway_config
from extproc.settings.sim import SimSettings

ROOT = Path(__file__).resolve().parents[2]
SETTINGS: dict[str, type[Settings]] = {"gateway": GatewaySettings, "sim": SimSettings}


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    document: dict[str, dict[str, dict[str, Any]]] = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())
    return document["services"]


def settings_of(command: list[str]) -> Settings:
    """What our command line makes of it; raises SettingsError as it would."""
    name, *arguments = command
    click_command = importlib.import_module(f"extproc.cli.{name}").COMMAND
    with click_command.make_context(name, arguments) as context:
        flags = {key: value for key, value in context.params.items() if value is not None}
        return from_text(SETTINGS[name], flags, {}, context.args)


def on_host(service: dict[str, Any], path: str) -> Path:
    """The file that a container sees under this path."""
    for volume in service["volumes"]:
        source, target, *mode = str(volume).split(":")
        if path.startswith(target):
            assert mode == ["ro"]
            return ROOT / source / path.removeprefix(target).lstrip("/")
    raise AssertionError(f"{path} is in no volume")


def envoy_ports(cluster: str) -> set[int]:
    document = yaml.safe_load(config_path(ENVOY_CONFIG).read_text())
    found = next(each for each in document["static_resources"]["clusters"] if each["name"] == cluster)
    hosts = found["load_assignment"]["endpoints"][0]["lb_endpoints"]
    return {host["endpoint"]["address"]["socket_address"]["port_value"] for host in hosts}


def test_every_command_is_accepted(services: dict[str, dict[str, Any]]) -> None:
    ours = {name: service for name, service in services.items() if name != "envoy"}
    assert sorted(ours) == ["gateway", "llama", "phi4"]
    for service in ours.values():
        settings_of(service["command"])
        assert service["network_mode"] == "service:envoy"
        assert service["build"] == "."


def test_one_network_holds_what_envoy_expects(services: dict[str, dict[str, Any]]) -> None:
    envoy = services["envoy"]
    config = envoy["command"][envoy["command"].index("--config-path") + 1]
    assert on_host(envoy, config).samefile(config_path(ENVOY_CONFIG))
    gateway = settings_of(services["gateway"]["command"])
    assert isinstance(gateway, GatewaySettings)
    assert envoy_ports("gateway") == {gateway.grpc_port}
    assert envoy_ports("api") == {gateway.api_port}
    simulated = set()
    for pool in POOLS:
        sim = settings_of(services[pool.name]["command"])
        assert isinstance(sim, SimSettings)
        assert sim.model == (pool.model,)
        simulated |= {server.port for server in sim.servers()}
    assert envoy_ports("endpoints") == simulated
    published = {int(port.split(":")[1]) for port in envoy["ports"]}
    assert published == {10000, gateway.metrics_port}


def test_gateway_config_is_the_demo_s(services: dict[str, dict[str, Any]]) -> None:
    gateway = settings_of(services["gateway"]["command"])
    assert isinstance(gateway, GatewaySettings)
    text = on_host(services["gateway"], gateway.config_file).read_text()
    load_gateway_config(text)
    assert yaml.safe_load(text) == gateway_config({port: port for pool in POOLS for port in pool.ports})


def test_endpoints_outlive_the_container_and_no_other_machine_makes_them(services: dict[str, dict[str, Any]]) -> None:
    document = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())
    gateway = settings_of(services["gateway"]["command"])
    assert isinstance(gateway, GatewaySettings)
    assert gateway.database_url is not None
    folder = Path(gateway.database_url.removeprefix("sqlite:///")).parent
    (name,) = (each.split(":")[0] for each in services["gateway"]["volumes"] if each.endswith(f":{folder}"))
    assert name in document["volumes"]
    text = (ROOT / "Dockerfile").read_text()
    made = re.search(rf"^RUN install --directory --owner=(\d+) .* {folder}$", text, re.M)
    assert made, "a new volume takes its owner from the image's folder"
    assert f"\nUSER {made[1]}:" in text[made.end() :]
    assert gateway.api_bind_address == "127.0.0.1", "without tokens"
    assert all(port.startswith("127.0.0.1:") for port in services["envoy"]["ports"])


def test_dockerfile_copies_what_exists_and_runs_as_nobody() -> None:
    text = (ROOT / "Dockerfile").read_text()
    for sources in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.M):
        for source in sources.split():
            assert (ROOT / source).exists(), source
    assert re.search(r"^USER (?!0|root)", text, re.M)
    assert re.search(r'^ENTRYPOINT \["extproc"\]$', text, re.M)
    assert "--require-hashes" in text


def test_dockerfile_leaves_nothing_that_installs_and_says_how_it_is() -> None:
    text = (ROOT / "Dockerfile").read_text()
    assert re.search(r'^HEALTHCHECK .* CMD \["extproc", "health"\]$', text, re.M)
    runtime = text[text.index(" AS runtime") :]
    assert "pip uninstall" in runtime
    assert "compileall" in text
    for extra in ("kubernetes", "serving", "postgres"):
        assert f"'{extra}'" in text, "the image runs in clusters, and with a database"


@pytest.mark.parametrize("target", ["bbr", "epp"])
def test_dockerfile_has_images_that_need_no_subcommand(target: str) -> None:
    """Upstream's charts and manifests give none."""
    text = (ROOT / "Dockerfile").read_text()
    assert f'FROM runtime AS {target}\nENTRYPOINT ["extproc", "{target}"]' in text
    last = text[text.rindex("\nFROM ") :]
    assert 'ENTRYPOINT ["extproc"]' in last, "what is built without --target takes subcommands"
