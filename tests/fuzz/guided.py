"""The same under atheris (libFuzzer), which sees what each input reaches: `scripts/fuzz` puts it into `.cache/atheris`."""

from __future__ import annotations

import sys
from pathlib import Path

import atheris  # type: ignore[import-not-found,import-untyped,unused-ignore]  # only there for fuzzing

from tests.fuzz import corpus
from tests.fuzz.box import Box
from tests.fuzz.quiet import quiet
from tests.fuzz.target import load

MOST_BYTES = 2048


def main(name: str, box: str, executions: str, seconds: str, seed: str) -> None:
    """A worker: see `campaign`. Ends the process."""
    quiet()
    with atheris.instrument_imports(include=["extproc"], enable_loader_override=False):
        target = load(name)
    folder = corpus.gather(name, corpus.all_of(name, target))
    options = [
        *(f"-runs={executions}", f"-max_total_time={max(1, int(float(seconds)))}", f"-seed={seed}", f"-max_len={MOST_BYTES}"),
        *("-timeout=86400", "-rss_limit_mb=2048", f"-artifact_prefix={folder}.", "-print_final_stats=1"),
        *("-reload=0", "-verbosity=1"),
    ]
    words = [_escaped(token) for token in target.tokens if 0 < len(token) <= 64]
    if words:
        path = folder.with_suffix(".dict")
        path.write_text("".join(f'"{word}"\n' for word in words))
        options.append(f"-dict={path}")
    atheris.Setup([sys.argv[0], *options, str(folder)], Box(Path(box)).watched(target.run))
    atheris.Fuzz()


def _escaped(token: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in token)


if __name__ == "__main__":
    main(*sys.argv[1:])
