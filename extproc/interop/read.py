"""A serving endpoint's document to an `Endpoint`, with everything in it that no other router says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from extproc.interop.endpoint import ONE_OF, PRESENT, Endpoint, Entity, Losses, Match, Refusal, Rule, Shadow, TextTest
from extproc.settings.base import SettingsError
from extproc.settings.serving import EndpointForm, read_create, settled
from extproc.settings.serving.delivery import changed, check

_DELIVERY: Final = frozenset({"rules", "experiments", "shadows", "rollout"})
"""What is looked at one by one; of any other field of the kind nothing is said there."""
_ENTITY: Final = frozenset({"name", "entity_name", "entity_version"})
_HERE_ONLY: Final = "nothing there does this"
_SAID: Final = frozenset({"headers", "path", "model", "regions"})
_UNSAID: Final = {
    "body": "no field of a body is read there",
    "segments": "there are no segments",
    "time": "there are no times",
    "percentage": "who is in a share there is drawn anew for each request, and all others would have to go on",
    "expression": "there is no CEL for requests",
}
_SHADOW: Final = frozenset({"entity", "percentage"})


def read_endpoint(document: object, losses: Losses) -> Endpoint:
    """The endpoint, with what is left out of it told to `losses`.

    Raises SettingsError for what is no endpoint, and for external models, of which other routers can say nothing.
    """
    form = read_create(document)
    config = settled(form.config.entities or [], form.config.shares, prefix="config.", listed_as=form.config.listed_as)
    delivery = changed({}, form.config.delivery)
    problems = check(delivery, config.entities, "")
    for index, entity in enumerate(config.entities):
        if "external_model" in entity:
            path = f"config.{form.config.listed_as}[{index}].external_model"
            problems.append(f"{path}: got a provider's model; expected a model of your own, as nothing there asks a provider")
    if problems:
        raise SettingsError(problems)
    for index, entity in enumerate(config.entities):
        for field in entity:
            if field not in _ENTITY:
                losses.drop(f"config.{form.config.listed_as}[{index}].{field}", "it is of this gateway alone")
        if (entity.get("entity_version") or "").startswith("@"):
            words = "an alias of a registry is followed here; there it is a word that stays"
            losses.differ(f"config.{form.config.listed_as}[{index}].entity_version", words)
    endpoint = Endpoint(
        form.name,
        tuple([Entity(each["name"], each["entity_name"], each.get("entity_version") or "") for each in config.entities]),
        tuple(config.percentages.items()),
        _rules(delivery.get("rules", ()), losses),
        _shadows(delivery.get("shadows", ()), losses),
    )
    _others(form, delivery, endpoint, losses)
    return endpoint


def splits(endpoint: Endpoint) -> bool:
    """Whether any request is drawn between entities."""
    return any(
        0 < share < 100 for shares in (endpoint.shares, *(rule.shares for rule in endpoint.rules)) for _, share in shares
    )


def _others(form: EndpointForm, delivery: Mapping[str, Any], endpoint: Endpoint, losses: Losses) -> None:
    """What is neither split, rule nor shadow."""
    if form.sticky and splits(endpoint):
        losses.differ("sticky", "who has a key stays with an entity here; there each request is drawn (here: sticky: none)")
    for index, experiment in enumerate(delivery.get("experiments", ())):
        losses.drop(f"experiments[{index}]", f"{experiment['name']}: there are no experiments")
    if "rollout" in delivery:
        losses.drop("rollout", "a plan is what this gateway drives")
    for field in delivery:
        if field not in _DELIVERY:
            losses.drop(field, _HERE_ONLY)
    for key, value in form.ai_gateway.items():
        if key == "fallback_config":
            if value.get("enabled"):
                losses.drop("ai_gateway.fallback_config", "a retry there goes by the same split again, to no other entity")
        elif value not in (None, [], {}):
            losses.drop(f"ai_gateway.{key}", _HERE_ONLY)
    kept = {
        "rate_limits": form.rate_limits,
        "tags": form.tags,
        "description": form.description,
        "email_notifications": form.notifications,
        "telemetry_config": form.telemetry,
        **form.rest,
        **{f"config.{key}": value for key, value in form.config.rest.items()},
    }
    for key, value in kept.items():
        if value not in (None, "", [], {}):
            losses.drop(key, _HERE_ONLY)


def _rules(rules: Any, losses: Losses) -> tuple[Rule, ...]:
    found = []
    for index, rule in enumerate(rules):
        where = f"rules[{index}]"
        given = rule.get("match", [])
        matches = [
            match for place, each in enumerate(given) if (match := _match(each, f"{where}.match[{place}]", losses)) is not None
        ]
        if given and not matches:
            losses.drop(where, f"{rule['name']}: none of its matches can be said; its requests go on to what comes next")
            continue
        if any(not each for each in given):  # without a condition it is every request
            matches = []
        shares: tuple[tuple[str, int], ...] = ()
        refusal = None
        if "refuse" in rule:
            refusal = Refusal(rule["refuse"].get("status", 403), rule["refuse"].get("message") or "")
        else:
            shares = tuple(rule["split"].items()) if "split" in rule else ((rule["entity"], 100),)
        found.append(Rule(rule["name"], tuple(matches), shares, refusal, where))
    return tuple(found)


def _match(match: Mapping[str, Any], where: str, losses: Losses) -> Match | None:
    """None: one of its conditions can't be said."""
    unsaid = [field for field in match if field not in _SAID]
    for field in unsaid:
        losses.drop(f"{where}.{field}", f"{_UNSAID.get(field, _HERE_ONLY)}; so the match is left out")
    if unsaid:
        return None
    return Match(
        tuple([(name, _test(test)) for name, test in match.get("headers", {}).items()]),
        _test(match["path"]) if "path" in match else None,
        _test(match["model"]) if "model" in match else None,
        tuple(match.get("regions", ())),
        where,
    )


def _test(test: Mapping[str, Any]) -> TextTest:
    ((kind, value),) = test.items()
    if kind == PRESENT:
        return TextTest(PRESENT, wanted=value)
    return TextTest(kind, tuple(value) if kind == ONE_OF else (value,))


def _shadows(shadows: Any, losses: Losses) -> tuple[Shadow, ...]:
    found = []
    for index, shadow in enumerate(shadows):
        for field in shadow:
            if field not in _SHADOW:
                losses.drop(f"shadows[{index}].{field}", "a mirror there has no budget, and nobody looks at its answers")
        found.append(Shadow(shadow["entity"], shadow["percentage"]))
    return tuple(found)
