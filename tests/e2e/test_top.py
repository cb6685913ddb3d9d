"""`extproc top` at a real gateway behind a real Envoy, on a terminal: it follows traffic and outlives the gateway."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.behind import Behind, behind, own
from tests.e2e.parts import Endpoints, until
from tests.e2e.test_rollouts import asked

pytestmark = [pytest.mark.e2e, pytest.mark.long, pytest.mark.timeout(150)]

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
PLAN = {"baseline": "current", "canary": "challenger", "steps": [{"setWeight": 20}, {"pause": {}}], "bakeTime": 0}


class Terminal:
    """A program on a terminal: what it has written since somebody looked last, and keys for it."""

    def __init__(self, command: list[str], columns: int, lines: int) -> None:
        self._handle, child = pty.openpty()
        self.resize(columns, lines)
        # pytest-xdist tells its workers a width, which would go before the terminal's own.
        environ = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
        environ["TERM"] = "xterm-256color"
        self.process = subprocess.Popen(command, stdin=child, stdout=child, stderr=child, env=environ, start_new_session=True)
        os.close(child)

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._handle, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def waits_for_lines(self) -> bool:
        """As a terminal does, unless a program has told it otherwise."""
        return bool(termios.tcgetattr(self._handle)[3] & termios.ICANON)

    def press(self, keys: str) -> None:
        os.write(self._handle, keys.encode())

    def written(self) -> str:
        """Without colours and moves."""
        told = b""
        with contextlib.suppress(OSError):  # it has gone
            while select.select([self._handle], [], [], 0.2)[0]:
                told += os.read(self._handle, 65536)
        return _ESCAPES.sub("", told.decode("utf-8", "replace"))

    def until(self, *words: str, within_s: float = 30) -> str:
        """What it writes from now on, until all of these are in it: a busy machine writes a picture in several goes."""
        seen = ""

        def there() -> bool:
            nonlocal seen
            seen += self.written()
            return all(word in seen for word in words)

        try:
            until(there, within_s=within_s, what=f"it shows {words}")
        except AssertionError as error:
            raise AssertionError(f"{error}: {seen[-3000:]!r}") from None
        return seen

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._handle)


@pytest.fixture
def at(envoy_binary: Path, endpoints: Endpoints, tmp_path: Path) -> Iterator[Behind]:
    database = f"sqlite:///{tmp_path}/state.db"
    with behind(envoy_binary, endpoints, tmp_path, "--measures-window", "2m", "--database-url", database) as made:
        made.api("POST", "", {"name": "chat", "config": own(current=100, challenger=0)})
        made.api("POST", "/chat/rollouts", PLAN)
        with asked(made):
            yield made


def command(at: Behind, *flags: str) -> list[str]:
    page = at.stack.pages["gateway"]
    return [sys.executable, "-m", "extproc", "top", "--metrics", page, "--interval", "0.5", *flags]


def test_what_the_gateway_does(at: Behind, endpoints: Endpoints) -> None:
    def shown() -> dict[str, Any]:
        done = subprocess.run(command(at, "--json"), capture_output=True, text=True, timeout=60, check=True)
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def both_are_asked() -> bool:
        entities = {each["name"]: each for each in shown()["serving_endpoints"]}
        return all(each["requests_per_s"] and each["ttft_p50_s"] for each in entities.values())

    until(both_are_asked, within_s=60, what="both entities have requests and times")
    until(lambda: shown()["rollouts"][0]["phase"] == "Paused", within_s=30, what="the rollout is at its pause")
    found = shown()
    assert {each["name"]: each["percentage"] for each in found["serving_endpoints"]} == {"current": 80, "challenger": 20}
    (rollout,) = found["rollouts"]
    assert (rollout["endpoint"], rollout["canary"], rollout["phase"], rollout["weight"]) == ("chat", "challenger", "Paused", 20)
    assert {each["name"]: each["endpoints"] for each in found["pools"]} == {"llama": 3, "phi4": 3}
    assert {each["name"] for each in found["endpoints"]} == {endpoints.address(name) for name in endpoints.children}
    assert sum(each["picks_per_s"] for each in found["pools"]) > 0
    assert found["process"]["streams_per_s"] > 0

    endpoints.kill("phi4-2")
    address = endpoints.address("phi4-2")

    def first() -> tuple[str, str]:
        one = shown()["endpoints"][0]
        return one["name"], one["state"]

    until(lambda: first() == (address, "down"), within_s=30, what="the dead one is on top")


def test_on_a_terminal(at: Behind) -> None:
    terminal = Terminal(command(at), 120, 40)
    try:
        terminal.until("extproc top", "llama", "phi4", "challenger", "80 %", "Paused", "endpoints by worst")
        terminal.press("s")
        terminal.until("endpoints by waiting")
        terminal.press("/phi4\r")
        assert "llama" not in terminal.until("filter: phi4").rpartition("filter: phi4")[2]
        terminal.press("/\x1b")
        terminal.until("endpoints by waiting", "llama")
        terminal.resize(70, 14)
        terminal.until("extproc top", "more")
        terminal.resize(120, 40)
        at.stack.servers["gateway"].kill()
        terminal.until("asked again all the time; this is ", "phi4")
        at.restart()

        def back() -> bool:
            seen = terminal.written().rpartition("extproc top")[2]
            return "challenger" in seen and "asked again" not in seen

        until(back, within_s=30, what="it is back")
        assert not terminal.waits_for_lines()
        terminal.process.send_signal(signal.SIGINT)
        until(lambda: terminal.process.poll() is not None, within_s=20, what="Ctrl-C ends it")
        assert terminal.process.returncode == 0
        assert terminal.waits_for_lines(), "the terminal is as it was"
        assert "Traceback" not in terminal.written()
    finally:
        terminal.close()
