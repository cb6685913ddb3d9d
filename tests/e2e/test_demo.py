"""`extproc demo` as a newcomer runs it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.parts import call, until

pytestmark = [pytest.mark.e2e, pytest.mark.long]

COMMAND = [sys.executable, "-m", "extproc", "demo"]


@contextlib.contextmanager
def started(*flags: str) -> Iterator[subprocess.Popen[str]]:
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen([*COMMAND, *flags], stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout
    with process.stdout:
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def lines_up_to(process: subprocess.Popen[str], mark: str) -> str:
    assert process.stdout
    seen = ""
    for line in process.stdout:
        seen += line
        if mark in line:
            return seen
    raise AssertionError(f"no {mark!r} in\n{seen}")


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.timeout(240)
def test_demo(envoy_binary: Path) -> None:
    done = subprocess.run(COMMAND, capture_output=True, text=True, timeout=230)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FAILED" not in done.stdout
    assert len(re.findall(r"^   ok     ", done.stdout, re.M)) == 16
    assert len(re.findall(r"^   challenger +\d+ +0 +\d+ ms +\d+ ms +\d+ ms +\d+$", done.stdout, re.M)) == 2, (
        "tables of measures"
    )
    assert done.stderr == ""


@pytest.mark.timeout(240)
def test_keep_until_told_to_stop(envoy_binary: Path) -> None:
    with started("--keep") as process:
        text = lines_up_to(process, "Envoy's own pages")
        url = re.search(r"curl -i (http://127\.0\.0\.1:\d+)/v1/chat", text)
        assert url
        listed = call(url[1], "/v1/models").json["data"]
        assert len(listed) == 3, "two models and an endpoint"
        process.send_signal(signal.SIGINT)
        assert process.wait(15) == 0
        until(lambda: not listens(int(url[1].rpartition(":")[2])))


def test_nothing_stays_behind_when_the_demo_is_killed(envoy_binary: Path) -> None:
    with started() as process:
        text = lines_up_to(process, "1. ")
        ports = [int(port) for port in re.findall(r"-port (\d+)", text)]
        assert len(ports) == 4
        assert all(map(listens, ports))
        process.kill()
    until(lambda: not any(map(listens, ports)))


def test_envoy_is_missing(tmp_path: Path) -> None:
    done = subprocess.run([*COMMAND, "--envoy", str(tmp_path / "envoy")], capture_output=True, text=True, timeout=30)
    assert done.returncode == 2
    assert "--envoy: no program" in done.stderr
