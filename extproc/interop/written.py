"""An `Endpoint` to the document that the gateway's files and the REST API take."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, Final

from extproc.interop.endpoint import EXACT, ONE_OF, PRESENT, Endpoint, Losses, Match, Rule, TextTest
from extproc.settings.base import SettingsError
from extproc.settings.serving import read_create, settled
from extproc.settings.serving.delivery import changed, check

_WHOLE: Final = 100


def document_of(endpoint: Endpoint) -> dict[str, Any]:
    """The document. Requests are drawn one by one, as the objects that it is of have it: `sticky: none`.

    Raises SettingsError when it is none that a gateway would take, such as one of too many entities.
    """
    found: dict[str, Any] = {
        "name": endpoint.name,
        "config": {
            "served_entities": [
                {
                    "name": each.name,
                    "entity_name": each.model,
                    **({"entity_version": each.version} if each.version else {}),
                }
                for each in endpoint.entities
            ],
            "traffic_config": {
                "routes": [{"served_entity_name": name, "traffic_percentage": share} for name, share in endpoint.shares]
            },
        },
    }
    if endpoint.rules:
        found["rules"] = [_rule(rule) for rule in endpoint.rules]
    if endpoint.shadows:
        found["shadows"] = [{"entity": each.entity, "percentage": each.percentage} for each in endpoint.shadows]
    found["sticky"] = "none"
    form = read_create(found)
    config = settled(form.config.entities or [], form.config.shares, prefix="config.")
    if problems := check(changed({}, form.config.delivery), config.entities, ""):
        raise SettingsError(problems)
    return found


def percentages(weights: Mapping[str, int], path: str, losses: Losses) -> dict[str, int]:
    """Weights as whole percents, 100 in all, by largest remainders; what is not quite the same is told.

    Raises SettingsError when all are 0.
    """
    total = sum(weights.values())
    if total == 0:
        raise SettingsError([f"{path}: got weights that add up to 0; expected at least one above 0"])
    exact = {name: Fraction(weight * _WHOLE, total) for name, weight in weights.items()}
    found = {name: int(share) for name, share in exact.items()}
    by_rest = sorted(exact, key=lambda name: found[name] - exact[name])
    for name in by_rest[: _WHOLE - sum(found.values())]:
        found[name] += 1
    if any(found[name] != share for name, share in exact.items()):
        shares = ", ".join(f"{name} {float(share):.3g}" for name, share in exact.items())
        losses.differ(path, f"the weights are {shares} %; here they are whole: {', '.join(map(str, found.values()))}")
    return found


def _rule(rule: Rule) -> dict[str, Any]:
    found: dict[str, Any] = {"name": rule.name}
    if rule.matches:
        found["match"] = [_match(match) for match in rule.matches]
    if rule.refusal is not None:
        found["refuse"] = {"status": rule.refusal.status}
        if rule.refusal.message:
            found["refuse"]["message"] = rule.refusal.message
    elif len(rule.shares) == 1:
        found["entity"] = rule.shares[0][0]
    else:
        found["split"] = dict(rule.shares)
    return found


def _match(match: Match) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if match.headers:
        found["headers"] = {name: _test(test) for name, test in match.headers}
    if match.path is not None:
        found["path"] = _test(match.path)
    if match.model is not None:
        found["model"] = _test(match.model)
    if match.regions:
        found["regions"] = list(match.regions)
    return found


def _test(test: TextTest) -> Any:
    if test.kind == PRESENT:
        return {PRESENT: test.wanted}
    if test.kind == EXACT:
        return test.values[0]
    return {test.kind: list(test.values) if test.kind == ONE_OF else test.values[0]}
