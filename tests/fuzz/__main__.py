"""`python -m tests.fuzz`: see --help."""

from __future__ import annotations

import argparse
import math
import sys
import time
from pathlib import Path

from extproc import compiled
from tests.fuzz import corpus, lines
from tests.fuzz.campaign import Plan, engine, run_all
from tests.fuzz.quiet import quiet
from tests.fuzz.target import ON_SOURCES, SHARES, load


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzz what reads bytes from outside.")
    parser.add_argument("--target", action="append", choices=[*SHARES], help="only this one; may be given more than once")
    parser.add_argument(
        "--executions", type=int, default=100_000, help="of all targets together, by their shares (%(default)s)"
    )
    parser.add_argument("--each", type=int, default=0, help="at least so many for each target")
    parser.add_argument("--seconds", type=float, default=math.inf, help="for each target at most")
    parser.add_argument("--seed", type=int, default=0, help="of the changes; 0: the time's (%(default)s)")
    parser.add_argument("--jobs", type=int, default=1, help="targets at a time (%(default)s)")
    parser.add_argument(
        "--engine", choices=["auto", "atheris", "mutational"], default="auto", help="auto: atheris if it is there"
    )
    parser.add_argument("--reach", action="store_true", help="run the gathered inputs once, and tell which lines they reach")
    parser.add_argument("--minimize", action="store_true", help="write the gathered inputs that matter into tests/fuzz/corpus")
    parser.add_argument("--replay", type=Path, help="run one input of the target and let it raise")
    return parser.parse_args()


def main() -> int:
    """The exit code: 1 when something was found."""
    told = _arguments()
    names = told.target or [name for name in SHARES if not compiled() or name not in ON_SOURCES]
    if compiled() and (left_out := ON_SOURCES.intersection(names)):
        print(f"on the sources only: {', '.join(sorted(left_out))}", file=sys.stderr)
        return 2
    if told.replay is not None:
        load(names[0]).run(told.replay.read_bytes())
        return 0
    if told.reach or told.minimize:
        quiet()
        for name in names:
            target = load(name)
            if told.minimize:
                print(f"{name}: {corpus.minimize(name, target)} inputs")
            else:
                print(f"{name}:", *lines.report(target, corpus.all_of(name, target)), sep="\n  ")
        return 0
    seed = told.seed or time.time_ns() % 2**31
    whole = sum(SHARES[name] for name in names)
    used = "mutational" if compiled() and told.engine == "auto" else engine(told.engine)  # coverage is seen in Python alone
    print(f"seed {seed}, engine {used}, {'the compiled package' if compiled() else 'the sources'}", flush=True)
    seconds = min(told.seconds, 10.0**7)
    plans = {name: Plan(max(told.executions * SHARES[name] // whole, told.each), seconds, seed, used) for name in names}
    began = time.monotonic()
    executions = findings = 0
    for outcome in run_all(plans, told.jobs):
        print(outcome.line, flush=True)
        if outcome.slowest_s > 0.05:
            print(f"  the slowest input: {outcome.slowest.hex()}")
        executions += outcome.executions
        findings += bool(outcome.finding)
    print(f"{executions:,} executions in {time.monotonic() - began:,.0f} s, {findings} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
