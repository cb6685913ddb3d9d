"""The router against one in Rust: the same streams in turn, ratios of CPU per stream.

`rust_floor` is written as tonic's guide writes a streaming method: that is the bar. Its leanest form, without task, channel and
copies, is an observation.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.bench.processes import replay, server
from tests.bench.recorded import LARGE, STREAMS, TOKENS, chat_body, frames, request_messages
from tests.bench.table import Row
from tests.bench.transport import PLAIN, Shape

_SOURCES = Path(__file__).parent / "rust_floor"
_TARGET = Path(__file__).resolve().parents[2] / ".cache" / "rust_floor"

_STREAMS: Mapping[str, tuple[list[bytes], Shape]] = {
    "1 KB": (STREAMS["1 KB"], Shape(4000)),
    "1 KB, one at a time": (STREAMS["1 KB"], Shape(2000, 1, 1)),
    "96 KB": (request_messages(chat_body(96_000)), Shape(1000)),
    "1 MB": (LARGE["1 MB"], Shape(100)),
    "1 KB, and 100 tokens of the answer": (TOKENS, Shape(1500)),
}


def built(form: str) -> Path | None:
    """The program, made by cargo, in its `plain` or `lean` form; None where there is no cargo. Raises CalledProcessError when
    it does not compile."""
    cargo = shutil.which("cargo")
    if cargo is None:
        return None
    target = _TARGET / form
    features = ["--features", "lean"] if form == "lean" else []
    protoc = Path(sys.executable).with_name("python-grpc-tools-protoc")
    subprocess.run(
        [cargo, "build", "--quiet", "--release", "--locked", *features],
        cwd=_SOURCES,
        env={**os.environ, "CARGO_TARGET_DIR": str(target), "PROTOC": str(protoc)},
        check=True,
    )
    return target / "release" / "rust_floor"


def rust_rows(rounds: int) -> list[Row]:
    """CPU per stream of all and our ratio to each, medians of `rounds`; nothing where there is no cargo."""
    plain, lean = built("plain"), built("lean")
    if plain is None or lean is None:
        print("\nno cargo here: not compared with the router in Rust")
        return []
    rows: list[Row] = []
    with server("extproc", "bbr", *PLAIN) as ours, server(program=plain) as rust, server(program=lean) as leanest:
        targets = {"router": ours, "Rust": rust, "Rust, its leanest form": leanest}
        for name, (messages, shape) in _STREAMS.items():
            recorded = frames(messages)
            used: dict[str, list[float]] = {whose: [] for whose in targets}
            for round_ in range(rounds + 1):
                for whose, target in targets.items():
                    load = replay(target, recorded, **shape._asdict())
                    if round_:  # the first warms up
                        used[whose].append(load.cpu_us)
            for whose in ("Rust", "Rust, its leanest form"):
                ratio = statistics.median(a / b for a, b in zip(used["router"], used[whose], strict=True))
                rows.append(Row(f"router, {name}", ratio, f"x {whose}", 1.0 if whose == "Rust" else None))
            rows += [Row(f"{whose}, {name}", statistics.median(used[whose]), "µs") for whose in targets]
    return rows
