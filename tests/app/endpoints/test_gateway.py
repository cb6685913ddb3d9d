"""The gateway with serving endpoints: from its own file, from a folder, and from a database that outlives it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from structlog.testing import capture_logs

from extproc.app import Service, build
from extproc.app.endpoints import ServingEndpoints
from extproc.control.changes import Create
from extproc.files import watch
from extproc.settings.base import SettingsError
from extproc.settings.commands import GatewaySettings
from tests.app.running import part, running, until
from tests.app.test_edited_files import GATEWAY, HERE
from tests.settings.serving.documents import KEY, external, openai

ENDPOINT = """\
servingEndpoints:
- name: chat
  config:
    served_entities: [{name: now, entity_name: llama}, {name: new, entity_name: adapter}]
    traffic_config:
      routes: [{served_model_name: now, traffic_percentage: "90"}, {served_model_name: new, traffic_percentage: "10"}]
"""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are looked at more often than by default."""
    defaults = dict(watch.FileWatcher.__init__.__kwdefaults__ or {})
    monkeypatch.setattr(watch.FileWatcher.__init__, "__kwdefaults__", {**defaults, "interval_s": 0.01, "settle_s": 0.02})


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "adapters.yaml").write_text("llama: [adapter]\n")
    path = tmp_path / "gateway.yaml"
    path.write_text(GATEWAY + ENDPOINT)
    return path


def write(path: Path, text: str) -> None:
    path.write_text(text)


def holding(folder: Path, text: str) -> list[str]:
    """The files that have the text in them."""
    return [path.name for path in folder.iterdir() if path.is_file() and text.encode() in path.read_bytes()]


def gateway(config: Path, **words: Any) -> Service:
    return build(GatewaySettings(**HERE, config_file=str(config), **words))


async def shares(service: Service, name: str, expected: dict[str, int] | None) -> None:
    desk = part(service, ServingEndpoints).desk

    async def holds() -> bool:
        found = {record.name: record.percentages for record in desk.list()}
        return found.get(name) == expected

    await until(holds)


async def test_the_gateways_file_declares_endpoints_and_is_followed(config: Path) -> None:
    service = gateway(config)
    with capture_logs() as logs:
        async with running(service):
            await shares(service, "chat", {"now": 90, "new": 10})
            write(config, GATEWAY + ENDPOINT.replace('"90"', "50").replace('"10"', "50"))
            await shares(service, "chat", {"now": 50, "new": 50})
            write(config, GATEWAY)
            await shares(service, "chat", None)
            assert not any("restart" in entry["event"] for entry in logs), "endpoints need none"


async def test_an_adapter_that_leaves_is_a_problem_of_its_endpoint(config: Path) -> None:
    service = gateway(config)
    async with running(service):
        desk = part(service, ServingEndpoints).desk
        assert desk.problems() == {}
        (config.parent / "adapters.yaml").write_text("llama: [other]\n")

        async def holds() -> bool:
            return list(desk.problems()) == ["chat"]

        await until(holds)
        await shares(service, "chat", {"now": 90, "new": 10})


async def test_endpoints_in_a_folder_of_their_own(config: Path) -> None:
    folder = config.parent / "endpoints.d"
    folder.mkdir()
    write(folder / "one.yaml", ENDPOINT.replace("chat", "one"))
    write(config, GATEWAY + "servingEndpointsFile: endpoints.d\n")
    service = gateway(config)
    async with running(service):
        await shares(service, "one", {"now": 90, "new": 10})
        assert part(service, ServingEndpoints).desk.get("one").owner == "file:endpoints.d"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            ENDPOINT.replace("served_entities", "served_entites"),
            "line 13: servingEndpoints[0].config.served_entites: unknown key; expected",
        ),
        ("servingEndpoints: 3\n", "line 10: servingEndpoints: input should be a valid list (got 3)"),
        ("servingEndpointsFile: no.yaml\n", "no.yaml: No such file or directory"),
    ],
)
def test_what_is_wrong_with_the_file_is_said_before_it_starts(config: Path, text: str, said: str) -> None:
    write(config, GATEWAY + text)
    with pytest.raises(SettingsError) as raised:
        gateway(config)
    assert any(said in line for line in raised.value.problems), raised.value.problems


async def test_a_database_outlives_the_gateway_and_keeps_secrets_sealed(config: Path, tmp_path: Path) -> None:
    write(config, GATEWAY)
    keys = tmp_path / "keys"
    write(keys, Fernet.generate_key().decode() + "\n")
    words = {"database_url": f"sqlite:///{tmp_path}/state.db", "plaintext_key_file": str(keys)}
    first = gateway(config, **words)
    async with running(first):
        desk = part(first, ServingEndpoints).desk
        await desk.apply(Create(external(openai(openai_api_key_plaintext=KEY))), "ann")
    second = gateway(config, **words)
    async with running(second):
        desk = part(second, ServingEndpoints).desk
        (handle,) = desk.get("proxy").sealed
        secret = desk.secret(handle)
        assert secret is not None
        assert secret.reveal() == KEY
    assert "state.db" in holding(tmp_path, "proxy")
    assert holding(tmp_path, KEY) == []


@pytest.mark.parametrize(("text", "said"), [("", "has no key; expected one in each line"), (KEY, "expected keys of 32 bytes")])
def test_a_key_file_that_has_none(config: Path, tmp_path: Path, text: str, said: str) -> None:
    keys = tmp_path / "keys"
    keys.write_text(text)
    with pytest.raises(SettingsError) as raised:
        gateway(config, plaintext_key_file=str(keys))
    (line,) = raised.value.problems
    assert line.startswith(f"--plaintext-key-file: {keys}: {said}")
    assert KEY not in line
