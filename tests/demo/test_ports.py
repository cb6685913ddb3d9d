"""Ports of the demo, and of tests that run real parts side by side."""

from __future__ import annotations

import socket

import pytest

from extproc.demo import ports


def test_processes_side_by_side_take_from_parts_that_have_nothing_in_common() -> None:
    parts = [ports.share(number, 3) for number in range(3)]
    assert len({port for part in parts for port in part}) == sum(map(len, parts))
    assert all(port in ports.PORTS for part in parts for port in (part[0], part[-1]))


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
