"""Ports of the demo, and of tests that run real parts side by side."""

from __future__ import annotations

import pytest

from extproc.demo import ports


def test_processes_side_by_side_take_from_parts_that_have_nothing_in_common() -> None:
    parts = [ports.share(number, 3) for number in range(3)]
    assert len({port for part in parts for port in part}) == sum(map(len, parts))
    assert all(port in ports.PORTS for part in parts for port in (part[0], part[-1]))


def test_free_ports_are_different_of_ones_own_part_and_none_that_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = ports.share(0, 500)
    monkeypatch.setattr(ports, "PORTS", mine)
    taken = list(mine[:10])
    chosen = ports.free_ports(5, taken=taken)
    assert len(set(chosen)) == 5
    assert set(chosen) <= set(mine[10:])
