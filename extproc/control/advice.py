"""What is allowed in rules and experiments and is hardly meant: for notes on a change, and for `extproc check`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from extproc.control.deliveries import experiments_of, rules_of
from extproc.traffic.experiments import ExperimentSpec
from extproc.traffic.match import Matcher, shadowed


def advice_on(delivery: Mapping[str, Any], prefix: str = "") -> list[str]:
    """A line for each rule and experiment that never gets a request."""
    rules, experiments = rules_of(delivery), experiments_of(delivery)
    places = {rule.name: index for index, rule in enumerate(rules)}
    told = [
        f"{prefix}rules[{places[name]}]: {name!r} never matches, as rules[{places[first]}], {first!r}, has all of its requests"
        for name, first in shadowed(rules)
    ]
    for index, experiment in enumerate(experiments):
        matcher = Matcher(experiment.matches)
        where = f"{prefix}experiments[{index}]: {experiment.name!r} never gets a request, as"
        for place, rule in enumerate(rules):
            if Matcher(rule.matches).covers(matcher):
                told.append(f"{where} rules[{place}], {rule.name!r}, decides on all of them")
                break
        for place, earlier in enumerate(experiments[:index]):
            if _takes_all(earlier, matcher) and _decides(experiment):
                told.append(f"{where} experiments[{place}], {earlier.name!r}, decides on all of them")
                break
    return told


def _decides(experiment: ExperimentSpec) -> bool:
    return any(arm.entity for arm in experiment.arms)


def _takes_all(experiment: ExperimentSpec, other: Matcher) -> bool:
    whole = sum(arm.weight for arm in experiment.arms) == 100 and experiment.start_s is None and experiment.end_s is None
    return whole and _decides(experiment) and Matcher(experiment.matches).covers(other)
