"""The fuzzer itself: that it finds what was planted, says where, and ends what does not end."""

from __future__ import annotations

import subprocess
from pathlib import Path
from random import Random

import pytest

from extproc import compiled
from extproc.response import sse
from tests.fuzz import corpus, lines
from tests.fuzz.box import Box
from tests.fuzz.campaign import Plan, run_one
from tests.fuzz.mutate import MOST_BYTES, mutated
from tests.fuzz.mutational import check_steps, fuzz
from tests.fuzz.source import Source
from tests.fuzz.target import SHARES, Target, load

MARKS: set[str] = set()


def _planted(data: bytes) -> None:
    """Breaks at a word of four letters; each letter that is right leaves a mark."""
    for number, letter in enumerate(b"FUZZ"):
        if data[number : number + 1] != bytes((letter,)):
            return
        MARKS.add(str(number))
    raise AssertionError("found")


def _target() -> Target:
    MARKS.clear()
    return Target(_planted, seeds=[b""], marks=MARKS, modules=["extproc.response.sse"], tokens=[b"U", b"Z"])


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path / "box", new=True)


class TestMutational:
    def test_marks_lead_to_what_is_planted(self, box: Box) -> None:
        with pytest.raises(AssertionError, match="found"):
            fuzz(_target(), box, [b""], executions=200_000, seconds=30, seed=1)
        assert box.input[:4] == b"FUZZ"
        assert 4 <= box.executions < 200_000

    def test_a_seed_gives_the_same_inputs(self, box: Box) -> None:
        target = _target()._replace(tokens=[])
        found = []
        for _ in range(2):
            MARKS.clear()
            found.append(fuzz(target, box, [b""], executions=500, seconds=30, seed=5))
        assert found[0] == found[1]
        assert found[0]

    def test_it_ends_in_time(self, box: Box) -> None:
        fuzz(_target(), box, [b""], executions=10**12, seconds=0.0, seed=2)
        assert box.executions < 1000

    def test_too_many_lines_are_a_finding(self) -> None:
        target = _target()._replace(steps=(10, 1))
        check_steps(target, b"12", 12)
        with pytest.raises(AssertionError, match="13 lines for 2 bytes"):
            check_steps(target, b"12", 13)

    def test_begins_with_a_look_at_few_inputs(self, box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
        looked: list[bytes] = []

        def look(_: lines.Tracer, data: bytes) -> int:
            looked.append(data)
            return 0

        monkeypatch.setattr(lines.Tracer, "sees", True)
        monkeypatch.setattr(lines.Tracer, "__call__", look)
        begin = [b"F", *(b"x%d" % number for number in range(99))]
        fuzz(_target(), box, begin, executions=100, seconds=30, seed=1)
        assert looked == [b"F", b"x63"]

    def test_does_not_look_where_nothing_is_seen(self, box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(lines.Tracer, "sees", False)
        monkeypatch.delattr(lines.Tracer, "__call__")
        assert fuzz(_target(), box, [b"", b"F"], executions=300, seconds=30, seed=1)

    def test_inputs_stay_small(self) -> None:
        chance = Random(1)
        data = b"abc"
        for _ in range(2000):
            data = mutated(data, chance, [b"", b"x" * 500], [b"token", b"t" * 300])
            assert len(data) <= MOST_BYTES


class TestSource:
    def test_draws_from_front_to_back(self) -> None:
        source = Source(bytes([7, 1, 2, 3, 2, 65, 66, 67]))
        assert (source.below(5), source.number(3), source.piece(10), source.rest(), source.left) == (
            2,
            0x010203,
            b"AB",
            b"C",
            0,
        )

    def test_has_first_choices_for_ever(self) -> None:
        source = Source(b"")
        assert (source.below(9), source.number(4), source.piece(9), source.chance(2), source.pick("ab")) == (
            0,
            0,
            b"",
            False,
            "a",
        )

    @pytest.mark.parametrize("draws", [b"", b"\x06", b"\x04\xff\xff\x00\x07\x12\x34", b"\x05abcdefgh"])
    @pytest.mark.parametrize("data", [b"", b"x", bytes(range(100))])
    def test_cuts_lose_nothing(self, draws: bytes, data: bytes) -> None:
        assert b"".join(Source(draws).cut(data)) == data


@pytest.mark.skipif(compiled(), reason="what is compiled has no lines")
class TestLines:
    def test_are_seen_and_counted(self) -> None:
        target = Target(
            lambda data: _read(sse.EventStream().feed(data)), seeds=[], marks=set(), modules=["extproc.response.sse"]
        )
        trace = lines.Tracer(target)
        few, many = trace(b""), trace(b"event: e\ndata: x\n\n" * 9)
        assert trace.sees
        assert 0 < few < many
        assert trace.reached < lines.lines_of("extproc.response.sse")
        marks, rows, told = lines.report(target._replace(marks={"a"}, wanted=frozenset({"a", "b"})), [b""])
        assert (marks, rows) == ("1 marks", "1 of 2 rows\n    not b")
        assert "% of" in told
        assert ", not " in told


def _read(events: list[sse.ServerSentEvent]) -> None:
    assert all(event.data for event in events)


class TestCampaign:
    @pytest.fixture(autouse=True)
    def _folders(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(corpus, "CRASHES", tmp_path / "crashes")

    @pytest.fixture
    def plan(self) -> Plan:
        return Plan(executions=500, seconds=20, seed=1, engine="mutational")

    def test_a_target_in_a_process(self, plan: Plan) -> None:
        outcome = run_one("hello", plan)
        assert (outcome.executions, outcome.finding) == (500, "")
        assert "500 executions" in outcome.line
        assert outcome.peak_mb > 5

    @pytest.mark.parametrize(
        ("does", "finding"),
        [
            ("raise AssertionError('planted')", "hello ended with 1"),
            ("import os; os.abort()", "hello ended with -6"),
            ("\n while True: pass", "hello hangs"),
            ("held = []\n while True: held.append(b'x' * 10**7)", "hello grows"),
        ],
    )
    def test_what_goes_wrong_is_kept(
        self, does: str, finding: str, plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        script = (
            "import sys, pathlib\nfrom tests.fuzz.box import Box\n"
            f"def run(data):\n {does.lstrip()}\n"
            "Box(pathlib.Path(sys.argv[4])).watched(run)(b'the input')\n"
        )
        start = subprocess.Popen
        monkeypatch.setattr(
            subprocess, "Popen", lambda command, **more: start([command[0], "-c", script, *command[1:]], **more)
        )
        outcome = run_one("hello", plan._replace(hang_s=0.5 if finding.endswith("hangs") else plan.hang_s, most_mb=200))
        assert finding in outcome.finding
        (kept,) = (tmp_path / "crashes").iterdir()
        assert kept.read_bytes() == b"the input"

    def test_one_that_does_not_begin(self, plan: Plan) -> None:
        with pytest.raises(RuntimeError, match="no-such did not begin"):
            run_one("no-such", plan)


def test_the_shares_are_of_a_hundred() -> None:
    assert sum(SHARES.values()) == 100
    for name in SHARES:
        assert load(name).seeds
