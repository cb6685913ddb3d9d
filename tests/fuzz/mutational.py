"""A fuzzer in plain Python. Inputs that leave new marks or reach new lines are kept and changed further.

Lines are looked at in one execution of many, as that is slow; it also bounds what an execution may cost, in lines. That goes
for the inputs to begin with too, of which campaigns gather thousands. Of the compiled package there are none to see: there the
marks lead.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Final

from tests.fuzz import corpus
from tests.fuzz.box import Box
from tests.fuzz.lines import Tracer
from tests.fuzz.mutate import mutated
from tests.fuzz.quiet import quiet
from tests.fuzz.target import Target, load

_TRACED: Final = 64
"""One execution of so many is looked at line by line."""
_POOL: Final = 5000


def check_steps(target: Target, data: bytes, steps: int) -> None:
    """Time is bounded by the lines that an input takes, which are the same on every machine."""
    base, each = target.steps
    assert steps <= base + each * len(data), f"{steps} lines for {len(data)} bytes"


def fuzz(target: Target, box: Box, begin: Sequence[bytes], *, executions: int, seconds: float, seed: int) -> list[bytes]:
    """Run until either bound; the inputs that were kept. What a target raises goes through."""
    chance = Random(seed)
    trace = Tracer(target)
    run, traced, sees = box.watched(target.run), trace, trace.sees
    pool: list[bytes] = []
    marks = target.marks
    until = time.monotonic() + seconds
    for number, data in enumerate(begin):
        before = len(marks)
        run(data)
        if sees and (len(marks) > before or number % _TRACED == 0):
            check_steps(target, data, traced(data))
        pool.append(data)
    found: list[bytes] = []
    for number in range(len(begin), executions):
        # The newest inputs are the likeliest to lead further.
        place = chance.random()
        data = mutated(pool[int((place if number & 1 else 1 - place * place) * len(pool))], chance, pool, target.tokens)
        before = len(marks)
        run(data)
        new = len(marks) > before
        if sees and (new or number % _TRACED == 0):
            lines = len(trace.reached)
            check_steps(target, data, traced(data))
            new = new or len(trace.reached) > lines
        if new and len(found) < _POOL:
            pool.append(data)
            found.append(data)
            box.kept = len(found)
        if number & 255 == 0 and time.monotonic() > until:
            break
    return found


def main(name: str, box: str, executions: str, seconds: str, seed: str) -> None:
    """A worker: see `campaign`."""
    quiet()
    target = load(name)
    gc.freeze()
    gc.set_threshold(50_000)  # an execution makes thousands of objects and leaves few
    begin = corpus.all_of(name, target)
    found = fuzz(target, Box(Path(box)), begin, executions=int(executions), seconds=float(seconds), seed=int(seed))
    corpus.gather(name, found)


if __name__ == "__main__":
    main(*sys.argv[1:])
