"""Upstream's default config against round robin and the load alone: `python -m tests.evaluation [SCENARIO ...] [--virtual]`.

With real parts: Envoy, `extproc epp`, six `extproc sim`, requests over HTTP. `--virtual`: the picker's store and plugins and
the simulator's engines in virtual time. docs/evaluation.md says how to read it. The exit code is 1 when a bar is missed.
"""

from __future__ import annotations

import argparse
import sys

from extproc import __version__, compiled
from tests.bench.table import Row, show, verdict
from tests.evaluation.judged import policies_of, rows_of
from tests.evaluation.measured import Measured
from tests.evaluation.policies import POLICIES
from tests.evaluation.scenarios import SCENARIOS
from tests.evaluation.virtual import evaluate


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
    for scenario in SCENARIOS:
        if scenario.name not in arguments.scenario:
            continue
        runs: dict[str, list[Measured]] = {}
        for policy in policies_of(scenario):
            if policy.name not in problems:
                runs[policy.name] = [evaluate(policy, scenario, seed) for seed in range(1, 1 + (arguments.seeds or 20))]
        found = rows_of(scenario, runs)
        show(f"{scenario.name}: {scenario.what}", found)
        rows += found
    print(f"\n{verdict(rows)}")
    return 0 if all(row.met for row in rows) and not problems else 1


if __name__ == "__main__":
    sys.exit(main())
