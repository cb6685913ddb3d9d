"""Our default and upstream's against round robin and the load alone: `python -m tests.evaluation [SCENARIO ...] [--virtual]`.

With real parts: Envoy, `extproc epp`, six `extproc sim`, requests over HTTP. `--virtual`: the picker's store and plugins and
the simulator's engines in virtual time. docs/evaluation.md says how to read it. The exit code is 1 when a bar is missed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import Final, TypeAlias

import uvloop

from extproc import __version__, compiled
from tests.bench.table import Row, show, verdict
from tests.evaluation import real, virtual
from tests.evaluation.judged import policies_of, rows_of
from tests.evaluation.measured import Measured
from tests.evaluation.policies import POLICIES, Policy
from tests.evaluation.scenarios import SCENARIOS, Scenario

Run: TypeAlias = Callable[[Policy, Scenario, int], Measured]

_VIRTUAL_SEEDS: Final = 20


def _real(policy: Policy, scenario: Scenario, seed: int) -> Measured:
    return uvloop.run(real.evaluate(policy, scenario, seed))


def main() -> int:
    """Run, print, and tell whether all bars are met."""
    names = [each.name for each in SCENARIOS]
    parser = argparse.ArgumentParser(prog="python -m tests.evaluation", description=__doc__)
    parser.add_argument("scenario", nargs="*", default=names, help=f"what to run: {', '.join(names)}")
    parser.add_argument("--virtual", action="store_true", help="in virtual time, without processes")
    parser.add_argument("--seeds", type=int, help="loads of each kind; 20 in virtual time, else what the scenario says")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.scenario).difference(names))
    if unknown:
        parser.error(f"no such scenario: {', '.join(unknown)}; there are {', '.join(names)}")
    print(f"extproc {__version__}, {'compiled' if compiled() else 'the sources, not compiled'}")
    problems = {policy.name: problem for policy in POLICIES if (problem := policy.problem())}
    for name, problem in problems.items():
        print(f"without {name}: {problem}")
    rows: list[Row] = []
    began_s = time.monotonic()
    for scenario in [each for each in SCENARIOS if each.name in arguments.scenario]:
        seeds = arguments.seeds or (_VIRTUAL_SEEDS if arguments.virtual else scenario.seeds)
        policies = [policy for policy in policies_of(scenario) if policy.name not in problems]
        found = rows_of(scenario, _runs(virtual.evaluate if arguments.virtual else _real, policies, scenario, seeds))
        show(f"{scenario.name}: {scenario.what} ({seeds} {'load' if seeds == 1 else 'loads'})", found)
        rows += found
    print(f"\nin {time.monotonic() - began_s:.0f} s: {verdict(rows)}")
    return 0 if all(row.met for row in rows) and not problems else 1


def _runs(run: Run, policies: list[Policy], scenario: Scenario, seeds: int) -> dict[str, list[Measured]]:
    """Of one seed all policies, one after the other, before the next: what disturbs a machine for long disturbs them alike."""
    runs: dict[str, list[Measured]] = {policy.name: [] for policy in policies}
    for seed in range(1, seeds + 1):
        for policy in policies:
            runs[policy.name].append(run(policy, scenario, seed))
    return runs


if __name__ == "__main__":
    sys.exit(main())
