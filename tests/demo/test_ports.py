"""Ports of the demo, and of tests that run real parts side by side."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from extproc.demo import ports


def test_processes_side_by_side_take_from_parts_that_have_nothing_in_common() -> None:
    whole = range(18_000, 32_000)
    parts = [ports.share(whole, f"{number}/3") for number in range(3)]
    assert len({port for part in parts for port in part}) == sum(map(len, parts)) >= len(whole) - 2
    assert all(port in whole for part in parts for port in (part[0], part[-1]))


@pytest.mark.parametrize("part", ["", "3", "3/3", "/2", "1/", "a/b", "-1/2", "0/0", "0/99999"])
def test_what_names_no_part_of_the_ports_is_all_of_them(part: str) -> None:
    assert ports.share(range(18_000, 32_000), part) == range(18_000, 32_000)


def test_a_process_started_by_us_takes_from_our_part() -> None:
    code = "from extproc.demo import ports; print(ports.PORTS.start, ports.PORTS.stop)"
    told = [
        subprocess.run([sys.executable, "-c", code], env={**os.environ, ports.SHARE: part}, capture_output=True, check=True)
        for part in ("0/2", "1/2")
    ]
    (start, middle), (again, stop) = (map(int, each.stdout.split()) for each in told)
    assert start < middle == again < stop


@pytest.mark.parametrize(
    ("outgoing", "chosen"),
    [
        pytest.param(32_768, range(18_000, 32_000), id="Linux' default"),
        pytest.param(20_000, range(6_000, 20_000), id="a wider range"),
        pytest.param(15_000, range(1_024, 15_000), id="wider still"),
        pytest.param(1_024, range(18_000, 32_000), id="all of them: nothing is below"),
    ],
)
def test_no_outgoing_connection_has_a_port_of_ours(outgoing: int, chosen: range) -> None:
    assert ports.below(outgoing) == chosen


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> range:
    """Twenty of the ports that are ours, in whichever process."""
    mine = ports.PORTS[:20]
    monkeypatch.setattr(ports, "PORTS", mine)
    return mine


def test_free_ports_are_different_of_ones_own_part_and_none_that_is_taken(few: range) -> None:
    chosen = ports.free_ports(5, taken=few[:10])
    assert len(set(chosen)) == 5
    assert set(chosen) <= set(few[10:])


def test_ports_that_somebody_listens_on_are_not_free(few: range) -> None:
    (port,) = ports.free_ports(1)
    with socket.create_server(("127.0.0.1", port)):
        assert port not in ports.free_ports(10, taken=())


def test_more_ports_than_there_are_is_an_error_that_says_so(few: range) -> None:
    with pytest.raises(OSError, match=f"15 free ports from {few.start} to {few.stop - 1} are not to be had, only 1"):
        ports.free_ports(15, taken=few[:10])
