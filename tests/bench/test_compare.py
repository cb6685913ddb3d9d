"""What the comparison makes of its rounds; the rounds themselves need h2load and time."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.bench.compare import ROOT, flags_for, known_flags, ratio
from tests.bench.processes import server


def test_rounds_are_compared_in_pairs() -> None:
    """The machine became slower by and by, for both."""
    found = ratio([10.0, 20.0, 30.0, 40.0], [11.0, 22.0, 33.0, 44.0])
    assert found == pytest.approx((1.1, 1.1, 1.1))
    assert found.worse


@pytest.mark.parametrize(
    ("after", "worse"),
    [
        ([10.0] * 9, False),
        ([10.2] * 9, False),
        ([10.4] * 9, True),
        ([9.0] * 9, False),
        ([9.0, 11.0, 9.0, 11.0, 11.0], False),
        ([11.0, 12.0, 11.0, 9.9, 11.0, 11.0, 11.0], True),
    ],
)
def test_worse_is_what_surely_is(after: list[float], worse: bool) -> None:
    found = ratio([10.0] * len(after), after)
    assert found.low <= found.middle <= found.high
    assert found.worse is worse


def test_a_revision_gets_the_flags_that_it_has() -> None:
    assert flags_for({"grpc-port", "secure-serving", "other"}) == ["--grpc-port=0", "--secure-serving=false"]
    assert {"grpc-port", "host", "secure-serving"} <= known_flags("bbr", ROOT)


def test_a_server_of_another_checkout(tmp_path: Path) -> None:
    (tmp_path / "other.py").write_text("import json, sys; sys.stderr.write(json.dumps({'msg': 'started', 'grpc': 7}) + '\\n')")
    with server("other", where=tmp_path) as running:
        assert running.started["grpc"] == 7
    assert "other" not in sys.modules
