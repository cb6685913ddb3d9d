"""Inputs on disk: a few for each target with the tests, findings for ever, and what campaigns gather in `.cache`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from tests.fuzz.lines import Tracer
from tests.fuzz.target import Target

HERE: Final = Path(__file__).parent
CRASHES: Final = HERE / "crashes"
"""Inputs that broke a property once; the tests run them."""
CORPUS: Final = HERE / "corpus"
"""Inputs that together reach every line that fuzzing has reached, as lines of hexadecimal digits."""
WORK: Final = HERE.parent.parent / ".cache" / "fuzz"


def crash_path(name: str, data: bytes, *, kind: str = "") -> Path:
    """Where a finding is kept."""
    return CRASHES / f"{name}-{kind}{hashlib.sha256(data).hexdigest()[:12]}"


def crashes(name: str) -> list[Path]:
    """The findings of a target."""
    return sorted(path for path in CRASHES.glob(f"{name}-*") if path.is_file())


def kept(name: str) -> list[bytes]:
    """The inputs that come with the tests."""
    path = CORPUS / f"{name}.hex"
    return [bytes.fromhex(line) for line in path.read_text().splitlines()] if path.exists() else []


def gathered(name: str) -> list[bytes]:
    """The inputs that campaigns on this machine have kept."""
    return [path.read_bytes() for path in sorted((WORK / name).glob("*")) if path.is_file()]


def gather(name: str, inputs: Iterable[bytes]) -> Path:
    """Keep these; where they are."""
    folder = WORK / name
    folder.mkdir(parents=True, exist_ok=True)
    for data in inputs:
        path = folder / hashlib.sha256(data).hexdigest()[:16]
        if not path.exists():
            path.write_bytes(data)
    return folder


def minimize(name: str, target: Target, *, most_bytes: int = 600) -> int:
    """Write the shortest inputs that reach what all do, and some more that leave marks of their own, into CORPUS; how many."""
    trace = Tracer(target)
    chosen: list[bytes] = []
    candidates = sorted({*target.seeds, *kept(name), *gathered(name)}, key=lambda data: (len(data), data))
    target.marks.clear()
    for data in candidates:
        lines, marks = len(trace.reached), len(target.marks)
        trace(data)
        if len(data) <= most_bytes and (len(trace.reached) > lines or (len(target.marks) > marks and len(chosen) < 150)):
            chosen.append(data)
    CORPUS.mkdir(exist_ok=True)
    (CORPUS / f"{name}.hex").write_text("".join(f"{data.hex()}\n" for data in chosen))
    return len(chosen)


def all_of(name: str, target: Target) -> Sequence[bytes]:
    """Everything to begin with."""
    return list(dict.fromkeys([*target.seeds, *kept(name), *(path.read_bytes() for path in crashes(name)), *gathered(name)]))
