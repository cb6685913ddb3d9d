"""Which lines of the modules under test an input reaches, and how many it takes."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from importlib import import_module
from types import CodeType, FrameType
from typing import Any, Final, TypeAlias

from tests.fuzz.target import Target

Line: TypeAlias = tuple[str, int]
_CODE: Final = 0x2  # CO_NEWLOCALS: a function, not a module or a class


class Tracer:
    """Runs a target and looks at each line. Ten times as slow as without."""

    def __init__(self, target: Target) -> None:
        self._run = target.run
        files = {import_module(name).__file__ or "" for name in target.modules}
        self._files = {file for file in files if file.endswith(".py")}
        self.reached: set[Line] = set()
        """By all executions."""

    @property
    def sees(self) -> bool:
        """There are lines to look at: not all is compiled."""
        return bool(self._files)

    def __call__(self, data: bytes) -> int:
        """One execution; how many lines it took."""
        steps = 0
        files, reached = self._files, self.reached

        def on_line(frame: FrameType, event: str, _: Any) -> Any:
            nonlocal steps
            if event == "line":
                steps += 1
                reached.add((frame.f_code.co_filename, frame.f_lineno))
            return on_line

        def on_call(frame: FrameType, event: str, _: Any) -> Any:
            return on_line if frame.f_code.co_filename in files else None

        before = sys.gettrace()
        sys.settrace(on_call)
        try:
            self._run(data)
        finally:
            sys.settrace(before)
        return steps


def lines_of(module: str) -> set[Line]:
    """The lines inside the functions of a module."""
    file = import_module(module).__file__ or ""
    with open(file, encoding="utf-8") as source:
        code = compile(source.read(), file, "exec")
    return {(file, line) for function in _functions(code) for line in _lines(function)}


def _functions(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            if constant.co_flags & _CODE:
                yield constant
            yield from _functions(constant)


def _lines(code: CodeType) -> Iterator[int]:
    first = code.co_firstlineno
    for _, _, line in code.co_lines():
        if line is not None and line != first:
            yield line


def report(target: Target, inputs: Iterable[bytes]) -> list[str]:
    """What the inputs reach, one line for each module, and which rows and lines they do not."""
    trace = Tracer(target)
    for data in inputs:
        trace(data)
    told = [f"{len(target.marks)} marks"]
    if target.wanted:
        left = sorted(target.wanted - target.marks)
        told.append(
            f"{len(target.wanted) - len(left)} of {len(target.wanted)} rows" + "".join(f"\n    not {row}" for row in left)
        )
    for module in target.modules:
        wanted = lines_of(module)
        missed = sorted(line for _, line in wanted - trace.reached)
        share = 1 - len(missed) / len(wanted) if wanted else 1.0
        told.append(f"{module}: {share:.0%} of {len(wanted)} lines" + (f", not {_ranges(missed)}" if missed else ""))
    return told


def _ranges(numbers: list[int]) -> str:
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ", ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in spans)
