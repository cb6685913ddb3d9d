"""This checkout against an older revision: `python -m tests.bench.compare BASE [--rounds N] [--sources] [--strict]`.

Both are compiled, as they are released, unless `--sources` says otherwise. They run as servers at the same time, each from its
own checkout and with the same Python, and get the same recorded streams in turn. What counts is the ratio of CPU per stream in
one round, as the machine's mood is in both of its halves; the range is that of 95 % of what other rounds would have given
(bootstrap of the median). With `--strict` the exit code is 1 when something became slower by more than 3 % and the range does
not hold 1.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from tests.bench.processes import Server, environment, replay, server
from tests.bench.recorded import LARGE, MODEL, STREAMS, frames

ROOT: Final = Path(__file__).resolve().parents[2]
WORSE: Final = 1.03
_RESAMPLES: Final = 2000


class Shape(NamedTuple):
    """How the streams of one replay come."""

    recorded: str
    streams: int
    connections: int = 4
    concurrent: int = 8


SHAPES: Final[Mapping[str, Shape]] = {
    "1 KB": Shape("1 KB", 6000),
    "1 KB, one at a time": Shape("1 KB", 2000, 1, 1),
    "100 KB": Shape("100 KB", 1000),
    "1 MB": Shape("1 MB", 150),
}
_WANTED: Final[Mapping[str, str]] = {
    "host": "127.0.0.1",
    "grpc-port": "0",
    "grpc-health-port": "0",
    "metrics-port": "0",
    "secure-serving": "false",
}


class Ratio(NamedTuple):
    """How much a stream costs now by what it cost before, and the range of 95 %."""

    middle: float
    low: float
    high: float

    @property
    def worse(self) -> bool:
        """Slower by more than 3 %, and surely slower."""
        return self.middle > WORSE and self.low > 1

    def __str__(self) -> str:
        return f"{self.middle:.3f} ({self.low:.3f} to {self.high:.3f})"


def ratio(before: Sequence[float], after: Sequence[float]) -> Ratio:
    """Of the rounds' pairs. Needs one of them; with few the range is what the rounds were."""
    ratios = [b / a for a, b in zip(before, after, strict=True)]
    draw = random.Random(1)
    medians = sorted(statistics.median(draw.choices(ratios, k=len(ratios))) for _ in range(_RESAMPLES))
    return Ratio(statistics.median(ratios), medians[int(0.025 * _RESAMPLES)], medians[int(0.975 * _RESAMPLES) - 1])


def checkout(base: str) -> tuple[str, Path]:
    """The revision's hash and its files. Raises SystemExit for what git does not know."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"git {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout.strip()

    sha = git("rev-parse", "--verify", f"{base}^{{commit}}")
    path = ROOT / ".cache" / "bench-compare" / sha
    if not (path / "extproc").is_dir():
        git("worktree", "prune")
        path.parent.mkdir(parents=True, exist_ok=True)
        git("worktree", "add", "--force", "--detach", str(path), sha)
    return sha, path


def compiled(where: Path) -> Path:
    """A checkout's compiled tree, which is what is released; made when it is not up to date.

    Raises SystemExit for a revision that could not be compiled yet.
    """
    script = where / "scripts" / "compile"
    if not script.is_file():
        raise SystemExit(f"{where.name[:12]} has no scripts/compile: compare the sources, with --sources")
    environment_of = where / ".venv"
    if not environment_of.exists():
        environment_of.symlink_to(ROOT / ".venv")  # the same Python and the same libraries for both
    subprocess.run([script], cwd=where, check=True, stdout=subprocess.DEVNULL)
    return where / ".cache" / "compiled" / "source"


def known_flags(command: str, where: Path) -> set[str]:
    """What the command's --help lists."""
    done = subprocess.run(
        [sys.executable, "-m", "extproc", command, "--help"],
        cwd=where,
        env=environment(where),
        capture_output=True,
        text=True,
        check=True,
    )
    return set(re.findall(r"--([a-z0-9][a-z0-9-]*)", done.stdout))


def flags_for(known: set[str]) -> list[str]:
    """The flags that a server gets, as far as its revision has them: without --secure-serving it is plaintext anyway."""
    return [f"--{name}={value}" for name, value in _WANTED.items() if name in known]


@contextlib.contextmanager
def servers(where: Path, endpoints: Sequence[str], wanted: Sequence[str]) -> Iterator[dict[str, Server]]:
    """A checkout's router, picker and gateway."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        config = {
            "apiVersion": "extproc.dev/v1alpha1",
            "kind": "Gateway",
            "pools": [{"name": "bench", "endpoints": {"static": list(endpoints)}}],
            "routes": [{"models": [MODEL], "pool": "bench"}],
        }
        (folder / "gateway.yaml").write_text(json.dumps(config))
        more = {
            "router": ("bbr", [], "started"),
            "picker": ("epp", ["--endpoints", ",".join(endpoints)], "ready"),
            "gateway": ("gateway", ["--config-file", str(folder / "gateway.yaml")], "ready"),
        }
        running = {}
        for name in wanted:
            command, arguments, until = more[name]
            flags = flags_for(known_flags(command, where))
            running[name] = stack.enter_context(server("extproc", command, *flags, *arguments, until=until, where=where))
        yield running


def measure(both: Sequence[Server], shape: Shape, rounds: int) -> tuple[list[float], list[float]]:
    """CPU per stream in µs of both, a value for each round; who goes first alternates, and the first round is not counted."""
    recorded = frames((STREAMS | LARGE)[shape.recorded])
    used: tuple[list[float], list[float]] = ([], [])
    for round_ in range(rounds + 1):
        for which in (0, 1) if round_ % 2 else (1, 0):
            load = replay(
                both[which], recorded, streams=shape.streams, connections=shape.connections, concurrent=shape.concurrent
            )
            if round_:
                used[which].append(load.cpu_us)
    return used


def main() -> int:
    """Compare, print, and tell whether something is worse."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", help="the revision to compare with")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--servers", default="router,picker,gateway", help="comma separated")
    parser.add_argument("--shapes", default=";".join(SHAPES), help="semicolon separated")
    parser.add_argument("--sources", action="store_true", help="the sources as they are, not what is released")
    parser.add_argument("--strict", action="store_true", help="exit with 1 when something is slower by more than 3 %%")
    arguments = parser.parse_args()
    wanted, shapes = arguments.servers.split(","), arguments.shapes.split(";")
    sha, path = checkout(arguments.base)
    here = ROOT
    if not arguments.sources:
        here, path = compiled(ROOT), compiled(path)
    worse = []
    print(
        f"CPU per stream, {sha[:12]} and this checkout, medians of {arguments.rounds} rounds in turn; ratio below 1 is faster"
    )
    with contextlib.ExitStack() as stack:
        pages = stack.enter_context(server("tests.bench.pages", "10"))
        endpoints = [f"127.0.0.1:{port}" for port in pages.started["ports"]]
        base = stack.enter_context(servers(path, endpoints, wanted))
        ours = stack.enter_context(servers(here, endpoints, wanted))
        for shape in shapes:
            for name in wanted:
                before, after = measure((base[name], ours[name]), SHAPES[shape], arguments.rounds)
                found = ratio(before, after)
                verdict = "  WORSE" if found.worse else ""
                print(
                    f"  {f'{name}, {shape}':30s} {statistics.median(before):9.1f} µs  {statistics.median(after):9.1f} µs  "
                    f"{found}{verdict}",
                    flush=True,
                )
                if found.worse:
                    worse.append(f"{name}, {shape}")
    print(f"slower by more than 3 %: {', '.join(worse)}" if worse else "nothing is slower by more than 3 %")
    return 1 if worse and arguments.strict else 0


if __name__ == "__main__":
    sys.exit(main())
