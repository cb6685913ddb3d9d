"""Every input that broke something once, and those that together reach what fuzzing has reached."""

from __future__ import annotations

from pathlib import Path

import pytest

from extproc import compiled
from tests.fuzz import corpus
from tests.fuzz.lines import Tracer
from tests.fuzz.mutational import check_steps
from tests.fuzz.target import ON_SOURCES, SHARES, load

NAMES = sorted(SHARES.keys() - ON_SOURCES if compiled() else SHARES)


@pytest.mark.parametrize("path", [path for name in NAMES for path in corpus.crashes(name)], ids=lambda path: path.name)
def test_what_was_found_once(path: Path) -> None:
    load(path.name.partition("-")[0]).run(path.read_bytes())


@pytest.mark.parametrize("name", NAMES)
def test_the_corpus(name: str) -> None:
    target = load(name)
    trace = Tracer(target)
    for data in dict.fromkeys([*target.seeds, *corpus.kept(name)]):
        check_steps(target, data, trace(data))


def test_every_finding_has_a_target() -> None:
    assert {path.name.partition("-")[0] for path in corpus.CRASHES.glob("*-*")} <= SHARES.keys()
