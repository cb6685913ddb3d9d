"""What a target is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Final, NamedTuple


class Target(NamedTuple):
    """Something that reads bytes from outside, and what has to hold."""

    run: Callable[[bytes], None]
    """One execution. Raises AssertionError for a property that does not hold; any other exception is a finding too."""
    seeds: Sequence[bytes]
    """Inputs to begin with."""
    marks: set[str]
    """What executions have reached, in the target's words: it adds to them. New ones lead the mutational fuzzer."""
    modules: Sequence[str]
    """The modules under test, whose lines are counted."""
    tokens: Sequence[bytes] = ()
    """Words of the format, for mutations."""
    wanted: frozenset[str] = frozenset()
    """Marks that there can be, as far as they are known: rows of a table."""
    steps: tuple[int, int] = (20_000, 200)
    """Lines of the modules that an execution may take: so many, and so many more for each byte of its input. This bounds time
    without a clock."""


SHARES: Final = {
    "h2": 5,
    "framing": 14,
    "stream": 9,
    "gateway": 4,
    "byhand": 17,
    "sse": 8,
    "restore": 9,
    "form": 5,
    "scan": 7,
    "rename": 4,
    "long_texts": 3,
    "hpack": 6,
    "encoding": 5,
    "hello": 2,
    "page": 2,
}
"""The targets by name, and how many of 100 executions are theirs: the cheap ones have more."""

ON_SOURCES: Final = frozenset({"stream", "gateway"})
"""Targets that watch from inside, by subclasses, which compiled classes do not have: they run on the sources only."""


def load(name: str) -> Target:
    """The target, imported only now: atheris has to be there before the modules under test are."""
    found = import_module(f"tests.fuzz.targets.{name}").TARGET
    assert isinstance(found, Target)
    return found
