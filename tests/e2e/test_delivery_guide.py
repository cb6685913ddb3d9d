"""docs/delivery.md: its commands, in their order, in one shell, at a real Envoy; and what they show."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from extproc.demo.ports import free_ports
from extproc.demo.stack import LLAMA, PHI4
from tests.e2e.behind import _Ports
from tests.e2e.parts import Endpoints, Stack, call, until

pytestmark = [pytest.mark.e2e, pytest.mark.long, pytest.mark.timeout(240)]

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "delivery.md"
_BLOCK = re.compile(r"```console\n(.*?)```", re.DOTALL)
_NOT_HERE = (". .venv/bin/activate",)


def commands() -> list[str]:
    """As they stand there, without the prompt."""
    found = [each.strip() for block in _BLOCK.findall(PAGE.read_text()) for each in re.split(r"^\$ ", block, flags=re.M)]
    return [each for each in found if each and each not in _NOT_HERE]


def script(stack: Stack) -> str:
    """One that stops at the first failure, and says before each command which it is."""
    lines = ["set -eu"]
    for number, command in enumerate(commands()):
        lines += [f"printf '\\n## {number}\\n'", command]
    text = "\n".join(lines)
    return text.replace("http://localhost:10000", stack.url).replace(
        "localhost:9090", stack.pages["gateway"].removeprefix("http://")
    )


def outputs(text: str) -> dict[str, str]:
    """What each command printed."""
    parts = re.split(r"^## (\d+)\n", text, flags=re.M)[1:]
    return {commands()[int(number)]: said.strip() for number, said in zip(parts[::2], parts[1::2], strict=True)}


def ran(stack: Stack, folder: Path) -> dict[str, str]:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    process = subprocess.Popen(
        ["bash", "-c", script(stack)],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=200)
    except subprocess.TimeoutExpired as error:
        raise AssertionError((error.output or b"").decode()[-3000:]) from None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # users that it has left
    assert process.returncode == 0, said
    return outputs(said)


def entities(stack: Stack) -> dict[str, str]:
    found = call(stack.url, "/api/2.0/serving-endpoints/helper").json["config"]["served_entities"]
    return {each["name"]: each["entity_name"] for each in found}


def counts(text: str) -> dict[str, int]:
    return {name: int(number) for number, name in re.findall(r"^ *(\d+) (\w+)$", text, re.M)}


@pytest.fixture
def slow(envoy_binary: Path, tmp_path: Path) -> Iterator[Endpoints]:
    """As `make up` leaves them."""
    flags = ("--time-to-first-token", "100ms")
    endpoints = Endpoints(tmp_path, dict.fromkeys((LLAMA.name, PHI4.name), flags))
    try:
        endpoints.start()
        yield endpoints
    finally:
        endpoints.stop()


def test_the_commands_of_the_page(envoy_binary: Path, slow: Endpoints, tmp_path: Path) -> None:
    endpoints = slow
    (port,) = free_ports(1, taken=endpoints.ports.values())
    ports = _Ports(endpoints.ports | {9080: port})
    stack = Stack("serving-endpoints", envoy_binary, ports, tmp_path, flags=["--api-port", str(port)])
    try:
        stack.start()
        until(lambda: call(stack.url, "/api/2.0/serving-endpoints").status == 200, what="the API answers")
        told = ran(stack, tmp_path)
        until(lambda: entities(stack)["current"] == LLAMA.model, what="what was undone is as it was")
    finally:
        stack.stop()

    def said(command: str) -> str:
        return next(text for each, text in told.items() if each.startswith(command))

    split = counts(said("users 100"))
    assert 75 <= split["current"] <= 99
    assert split["challenger"] == 100 - split["current"]
    assert counts(said("users 20")) == {"current": 20}, "of a shadow nobody sees anything"
    assert '"pairs": ' in said('curl -s "$API/helper/shadows')
    assert said("ask -H 'x-tier: gold'") == "challenger"
    arms = counts(said("users 40"))
    assert min(arms.values()) >= 8
    assert {'["tone","control"', '["tone","treatment"'} <= {line.rsplit(",", 3)[0] for line in _lines(told, "select(.arm)")}
    both = _lines(told, "select(.arm | not)")
    assert [line.split(",")[0] for line in both] == ['["current"', '["challenger"']
    assert "extproc_entity_requests_total{" in said("curl -s localhost:9090/metrics")
    watched = said("extproc rollout status helper --watch")
    assert "promoted: challenger has taken over, which is called current from now on" in watched
    assert "of 10,000 users about 4,000 get another entity" in said("extproc split helper")
    assert "promoted" in said('curl -s "$API/helper/history')
    assert "Undone" in said("extproc rollout undo helper")
    assert '["current",' in said('curl -s "$API/helper" ')


def _lines(told: dict[str, str], part: str) -> list[str]:
    return next(text for command, text in told.items() if part in command).splitlines()


def test_every_test_and_page_that_it_names_is_there() -> None:
    text = PAGE.read_text()
    for name in re.findall(r"`((?:e2e|tests)/[\w/.]+)`", text):
        assert (ROOT / "tests" / name.removeprefix("tests/")).exists(), name
    for page in re.findall(r"\]\(([\w/.-]+\.md)", text):
        assert (PAGE.parent / page).is_file(), page
