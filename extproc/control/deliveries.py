"""What a record keeps as it was given of rules and the like, as the data plane needs it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from extproc.traffic.match import MatchSpec, RefusalSpec, RuleSpec, Wanted


def rules_of(delivery: Mapping[str, Any]) -> tuple[RuleSpec, ...]:
    """The rules, in order."""
    return tuple([_rule(rule) for rule in delivery.get("rules", ())])


def match_of(match: Mapping[str, Any]) -> MatchSpec:
    """One alternative."""
    return MatchSpec(
        headers=tuple([(name, _test(test)) for name, test in match.get("headers", {}).items()]),
        path=_test(match["path"]) if "path" in match else None,
        model=_test(match["model"]) if "model" in match else None,
        body=tuple([(path, _test(test)) for path, test in match.get("body", {}).items()]),
    )


def _rule(rule: Mapping[str, Any]) -> RuleSpec:
    refuse = rule.get("refuse")
    return RuleSpec(
        rule["name"],
        tuple([match_of(match) for match in rule.get("match", ())]),
        rule.get("entity", ""),
        tuple(rule.get("split", {}).items()),
        None if refuse is None else RefusalSpec(refuse.get("status", 403), refuse.get("message", "")),
    )


def _test(test: Mapping[str, Any]) -> Wanted:
    ((kind, value),) = test.items()
    return Wanted(kind, tuple(value) if isinstance(value, list) else (value,))
