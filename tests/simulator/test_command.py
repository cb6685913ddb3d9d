"""`extproc sim` as a user runs it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from extproc.cli import sim
from tests.simulator.helpers import fast


@contextmanager
def started(*flags: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "extproc", "sim", *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def test_it_says_when_it_is_ready_and_ends_when_told() -> None:
    with started("--port", "0", "--count", "2", "--name", "pool", "--model", "m", "--lora", "a") as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(2)]
        pattern = r"pool-(\d): m, a at (http://127\.0\.0\.1:\d+) \(256 sequences, 8192 blocks of 16 tokens\)\n"
        found = [re.fullmatch(pattern, line) for line in lines]
        for number, match in enumerate(found, 1):
            assert match is not None
            assert match[1] == str(number)
            with urllib.request.urlopen(match[2] + "/health", timeout=2) as response:
                assert response.headers["x-sim-endpoint"] == f"pool-{number}"
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=5)
        assert (process.returncode, errors) == (0, "")


def test_a_taken_port_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SystemExit) as left:
            sim.run(fast(port=port, name="pool"))
    assert left.value.code == 2
    message = f"extproc: pool: can't listen on 127.0.0.1 port {port}: Address already in use\n"
    assert capsys.readouterr().err == message


def test_an_address_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        sim.run(fast(host="256.1.1.1", port=8000))
    assert left.value.code == 2
    assert "can't listen on 256.1.1.1 port 8000: " in capsys.readouterr().err


def test_wrong_flags_are_all_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("EXTPROC_SIM_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("EXTPROC_SIM_BLOCK_SIZE", "0")
    with pytest.raises(SystemExit) as left:
        sim.COMMAND.main(["--prot", "--fault", "explode"], standalone_mode=False)
    assert left.value.code == 2
    errors = capsys.readouterr().err
    assert "--prot: unknown flag, did you mean --port?" in errors
    assert "EXTPROC_SIM_BLOCK_SIZE (environment)" in errors
    assert "no such fault for requests: 'explode'" in errors


def test_what_is_wrong_with_upstreams_flags_is_said_as_everything_is() -> None:
    with started("--self-signed-certs", "--lora-modules", "{}") as process:
        output, errors = process.communicate(timeout=10)
    assert (process.returncode, output) == (2, "")
    assert errors.splitlines() == [
        "extproc: --self-signed-certs: this simulator speaks HTTP only",
        'extproc: --lora-modules: expected JSON with a name such as {"name": "sql", "path": "/sql"}, got \'{}\'',
        "Try 'extproc sim --help'.",
    ]
