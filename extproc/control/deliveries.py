"""What a record keeps as it was given of rules and the like, as the data plane needs it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from extproc.rollouts.plan import check_entities, read_plan
from extproc.settings.base import SettingsError
from extproc.settings.serving.residency import Residency
from extproc.settings.serving.rules import DAYS, minute_of
from extproc.settings.serving.shadows import Shadow
from extproc.traffic import BUCKETS, NamedLayout
from extproc.traffic.conditions import Wanted, Window
from extproc.traffic.experiments import ArmSpec, ExperimentSpec, changed_layout, weights_of
from extproc.traffic.match import MatchSpec, RefusalSpec, RuleSpec
from extproc.traffic.residency import ResidencySpec
from extproc.traffic.shadows import ShadowSpec


def rules_of(delivery: Mapping[str, Any]) -> tuple[RuleSpec, ...]:
    """The rules, in order."""
    return tuple([_rule(rule) for rule in delivery.get("rules", ())])


def shadows_of(delivery: Mapping[str, Any]) -> tuple[ShadowSpec, ...]:
    """The shadows, with what their form says where nothing was given."""
    return tuple([_shadow(Shadow.model_validate(shadow)) for shadow in delivery.get("shadows", ())])


def residency_of(rules: Sequence[Mapping[str, Any]]) -> tuple[ResidencySpec, ...]:
    """Rules of residency, an endpoint's or the gateway's."""
    return tuple([_residency(Residency.model_validate(rule), rule) for rule in rules])


def plan_problems(delivery: Mapping[str, Any], entities: Collection[str], path: str) -> list[str]:
    """What is wrong with the plan of an endpoint that has these entities; nothing when it has none."""
    if "rollout" not in delivery:
        return []
    try:
        plan = read_plan(delivery["rollout"], path)
    except SettingsError as error:
        return error.problems
    return check_entities(plan, list(entities), path)


def experiments_of(delivery: Mapping[str, Any], layouts: Mapping[str, NamedLayout] = {}) -> tuple[ExperimentSpec, ...]:
    """The experiments; `layouts` are those that are kept, by the experiment's name."""
    return tuple([_experiment(each, layouts.get(each["name"], ())) for each in delivery.get("experiments", ())])


def layouts_of(delivery: Mapping[str, Any], previous: Mapping[str, NamedLayout]) -> dict[str, NamedLayout]:
    """Whose buckets are whose in each experiment, so that who is in an arm stays there."""
    return {spec.name: changed_layout(weights_of(spec.arms), previous.get(spec.name, ())) for spec in experiments_of(delivery)}


def _experiment(each: Mapping[str, Any], layout: NamedLayout) -> ExperimentSpec:
    return ExperimentSpec(
        each["name"],
        tuple([ArmSpec(arm["name"], arm["weight"], arm.get("entity", "")) for arm in each["arms"]]),
        tuple([match_of(match) for match in each.get("match", ())]),
        each.get("salt", ""),
        _seconds(each.get("start")),
        _seconds(each.get("end")),
        tuple(each.get("overrides", {}).items()),
        layout,
    )


def match_of(match: Mapping[str, Any]) -> MatchSpec:
    """One alternative."""
    return MatchSpec(
        headers=tuple([(name, _test(test)) for name, test in match.get("headers", {}).items()]),
        path=_test(match["path"]) if "path" in match else None,
        model=_test(match["model"]) if "model" in match else None,
        body=tuple([(path, _test(test)) for path, test in match.get("body", {}).items()]),
        regions=tuple(match.get("regions", ())),
        segments=tuple(match.get("segments", ())),
        window=_window(match["time"]) if "time" in match else None,
        buckets=buckets_of(match["percentage"]) if "percentage" in match else None,
        expression=match.get("expression", ""),
    )


def buckets_of(percentage: float) -> int:
    """Of 10,000; percentages have at most two decimals."""
    return round(percentage * (BUCKETS // 100))


def _window(time: Mapping[str, Any]) -> Window:
    begin, _, end = time.get("hours", "00:00-24:00").partition("-")
    return Window(
        after_s=_seconds(time.get("after")),
        before_s=_seconds(time.get("before")),
        days=tuple(sorted(DAYS.index(day) for day in time.get("days", ()))),
        from_minute=minute_of(begin),
        to_minute=minute_of(end),
        zone=ZoneInfo(time.get("timezone", "UTC")),
    )


def _residency(form: Residency, rule: Mapping[str, Any]) -> ResidencySpec:
    matches = rule.get("match", ())
    return ResidencySpec(
        form.name,
        form.regions,
        tuple([match_of(match) for match in ([matches] if isinstance(matches, Mapping) else matches)]),
        tuple(form.entities or ()),
    )


def _seconds(moment: str | None) -> float | None:
    return None if moment is None else datetime.fromisoformat(moment).timestamp()


def _rule(rule: Mapping[str, Any]) -> RuleSpec:
    refuse = rule.get("refuse")
    return RuleSpec(
        rule["name"],
        tuple([match_of(match) for match in rule.get("match", ())]),
        rule.get("entity", ""),
        tuple(rule.get("split", {}).items()),
        None if refuse is None else RefusalSpec(refuse.get("status", 403), refuse.get("message", "")),
    )


def _shadow(form: Shadow) -> ShadowSpec:
    kept = form.keep_bodies
    return ShadowSpec(
        entity=form.entity,
        share=form.percentage / 100,
        salt=form.salt or "",
        max_in_flight=form.max_in_flight,
        max_bytes=form.max_bytes,
        max_per_second=form.max_per_second,
        timeout_s=form.timeout_seconds,
        max_answer_bytes=form.max_answer_bytes,
        max_saturation=form.max_saturation,
        min_similarity=form.min_similarity,
        max_difference=form.max_difference,
        copy_headers=tuple(form.copy_headers),
        kept_body_bytes=0 if kept is None else kept.max_bytes,
        kept_body_s=0.0 if kept is None else kept.max_age_seconds,
    )


def _test(test: Mapping[str, Any]) -> Wanted:
    ((kind, value),) = test.items()
    return Wanted(kind, tuple(value) if isinstance(value, list) else (value,))
