"""A plan: what is done in which order, and what is watched meanwhile. Immutable; made of the form that people write."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from extproc.rollouts.conditions import BadCondition, Condition, condition
from extproc.settings.base import SettingsError, few, shown
from extproc.settings.serving.rollout import read_rollout

GATES: Final = ("confirm-rollout", "confirm-traffic-increase", "confirm-promotion")


class SetWeight(NamedTuple):
    """So many percent of the endpoint's requests go to the canary."""

    weight: int


class Pause(NamedTuple):
    """For so long; None: until somebody says `promote`."""

    duration_s: float | None


class Analysis(NamedTuple):
    """Goes on when these metrics have come to their end."""

    metrics: tuple[str, ...]


class SetShadow(NamedTuple):
    """So many percent of the requests are copied to the canary."""

    percentage: int


class SetHeaderRoute(NamedTuple):
    """Requests with these headers go to the canary. No headers: the route of that name goes again."""

    name: str
    headers: tuple[tuple[str, str], ...]


Step: TypeAlias = SetWeight | Pause | Analysis | SetShadow | SetHeaderRoute


class Comparison(NamedTuple):
    """The canary's measure must not be worse than the baseline's by more than the tolerance."""

    measure: str
    """`ttft`, `tpot`, `e2e` or `error_rate`."""
    tolerance: float
    margin: float
    """Passed when it is surely no worse than by so much."""
    minimum: int
    """Requests of each arm before anything is said."""
    hold: tuple[str, ...]


class Metric(NamedTuple):
    """One thing that is watched: by a comparison, or by conditions."""

    name: str
    interval_s: float
    initial_delay_s: float
    measurements: int
    """`count` in a plan; 0: as long as it is asked."""
    failure_limit: int
    inconclusive_limit: int
    error_limit: int
    dry_run: bool
    window_s: float
    success: Condition | None = None
    failure: Condition | None = None
    compare: Comparison | None = None


class Webhook(NamedTuple):
    """Somebody who is asked (`confirm-…`, `rollback`) or told (`event`)."""

    name: str
    kind: str
    url: str
    timeout_s: float


class Plan(NamedTuple):
    """The whole."""

    baseline: str
    canary: str
    steps: tuple[Step, ...]
    metrics: Mapping[str, Metric]
    background: tuple[str, ...]
    """Metrics that are watched from step `starting_step` on."""
    starting_step: int
    webhooks: tuple[Webhook, ...]
    alpha: float
    novelty_s: float
    bake_s: float
    large: int
    rename: bool
    deadline_s: float | None
    document: Mapping[str, Any]
    """As it was read, with all defaults in it; the same document is the same plan."""

    @property
    def share_of_alpha(self) -> float:
        """Of each comparison that counts: all of them together roll a good canary back in at most `alpha` of all rollouts."""
        counting = sum(metric.compare is not None and not metric.dry_run for metric in self.metrics.values())
        return self.alpha / max(1, counting)

    def hooks(self, kind: str) -> tuple[Webhook, ...]:
        return tuple(hook for hook in self.webhooks if hook.kind == kind)


_USUAL: Final = (
    {"name": "ttft", "compare": {"measure": "ttft"}},
    {"name": "error-rate", "compare": {"measure": "error_rate"}},
)
"""What is watched by a plan that names no metrics."""


def read_plan(document: object, path: str = "rollout") -> Plan:
    """Raises SettingsError with every problem and its path: an unknown measure, a step back, a metric that is not there."""
    if isinstance(document, dict) and not document.get("metrics"):
        document = {**document, "metrics": [dict(each) for each in _USUAL]}
    form = read_rollout(document, path)
    problems: list[str] = []
    metrics = _metrics(form["metrics"], path, problems)
    steps = _steps(form["steps"], metrics, path, problems)
    in_steps = {name for step in steps if isinstance(step, Analysis) for name in step.metrics}
    background, starting = _background(form.get("analysis"), metrics, in_steps, len(steps), path, problems)
    if form["canary"] == form["baseline"]:
        problems.append(f"{path}.canary: got {shown(form['canary'])}, which is the baseline; expected another entity")
    hooks = tuple(Webhook(each["name"], each["type"], each["url"], each["timeout"]) for each in form.get("webhooks", ()))
    _once([hook.name for hook in hooks], f"{path}.webhooks", problems)
    if problems:
        raise SettingsError(few(problems))
    return Plan(
        form["baseline"],
        form["canary"],
        steps,
        metrics,
        background,
        starting,
        hooks,
        form["alpha"],
        form["noveltyPeriod"],
        form["bakeTime"],
        form["largeChange"],
        form["promotion"] == "rename",
        form.get("progressDeadline"),
        form,
    )


def check_entities(plan: Plan, entities: Sequence[str], path: str = "rollout") -> list[str]:
    """What is wrong with a plan for an endpoint of these entities."""
    return [
        f"{path}.{field}: got {shown(name)}; expected one of the endpoint's served entities: {', '.join(entities)}"
        for field, name in (("baseline", plan.baseline), ("canary", plan.canary))
        if name not in entities
    ]


def _once(names: Sequence[str], path: str, problems: list[str]) -> None:
    problems += [f"{path}: got {shown(name)} {n} times; expected it once" for name, n in Counter(names).items() if n > 1]


def _metrics(forms: Sequence[Mapping[str, Any]], path: str, problems: list[str]) -> dict[str, Metric]:
    metrics: dict[str, Metric] = {}
    for index, form in enumerate(forms):
        where = f"{path}.metrics[{index}]"
        compare = form.get("compare")
        metrics[form["name"]] = Metric(
            form["name"],
            form["interval"],
            form["initialDelay"],
            form["count"],
            form["failureLimit"],
            form["inconclusiveLimit"],
            form["consecutiveErrorLimit"],
            form["dryRun"],
            form["window"],
            _condition(form, "successCondition", where, problems),
            _condition(form, "failureCondition", where, problems),
            None if compare is None else _comparison(compare),
        )
    _once([form["name"] for form in forms], f"{path}.metrics", problems)
    return metrics


def _comparison(form: Mapping[str, Any]) -> Comparison:
    usual = form["tolerance"] + (0.01 if form["measure"] == "error_rate" else 0.1)
    return Comparison(
        form["measure"], form["tolerance"], form.get("margin", usual), form["minimumSamples"], tuple(form["hold"])
    )


def _condition(form: Mapping[str, Any], field: str, where: str, problems: list[str]) -> Condition | None:
    if field not in form:
        return None
    try:
        return condition(form[field])
    except BadCondition as error:
        problems.append(f"{where}.{field}: {error}")
        return None


def _steps(
    forms: Sequence[Mapping[str, Any]], metrics: Mapping[str, Metric], path: str, problems: list[str]
) -> tuple[Step, ...]:
    steps: list[Step] = []
    weight = 0
    for index, form in enumerate(forms):
        ((kind, value),) = form.items()
        where = f"{path}.steps[{index}].{kind}"
        if kind == "setWeight":
            if value < weight or (value == weight and value):
                problems.append(f"{where}: got {value} after {weight}; expected more, for a plan goes forward only")
            weight = max(weight, value)
            steps.append(SetWeight(value))
        elif kind == "pause":
            steps.append(Pause(value.get("duration")))
        elif kind == "shadow":
            steps.append(SetShadow(value["percentage"]))
        elif kind == "analysis":
            steps.append(_analysis(value, metrics, where, problems))
        else:
            headers = tuple((each["headerName"].lower(), each["headerValue"]["exact"]) for each in value["match"])
            steps.append(SetHeaderRoute(value["name"], headers))
    if not any(isinstance(step, SetWeight) and step.weight for step in steps):
        problems.append(f"{path}.steps: got no setWeight above 0; expected one, or the canary has nothing to be judged by")
    return tuple(steps)


def _analysis(value: Mapping[str, Any], metrics: Mapping[str, Metric], where: str, problems: list[str]) -> Analysis:
    names = tuple(value.get("metrics") or metrics)
    _known(names, metrics, f"{where}.metrics", problems)
    for name in names:
        metric = metrics.get(name)
        if metric is not None and not metric.measurements and metric.compare is None:
            problems.append(
                f"{where}.metrics: got {shown(name)}, which has no count; expected one, or this step would never end"
            )
    return Analysis(names)


def _background(
    form: Mapping[str, Any] | None,
    metrics: Mapping[str, Metric],
    in_steps: set[str],
    steps: int,
    path: str,
    problems: list[str],
) -> tuple[tuple[str, ...], int]:
    """Metrics that no step names are watched all along, unless it is said which."""
    usual = tuple(name for name in metrics if name not in in_steps)
    if form is None:
        return usual, 0
    starting: int = form["startingStep"]
    if starting >= steps:
        problems.append(f"{path}.analysis.startingStep: got {starting}; expected at most {steps - 1}, the last step")
    names = tuple(form["metrics"]) if form.get("metrics") is not None else usual
    _known(names, metrics, f"{path}.analysis.metrics", problems)
    return names, starting


def _known(names: Sequence[str], metrics: Mapping[str, Metric], where: str, problems: list[str]) -> None:
    problems += [
        f"{where}: got {shown(name)}; expected one of the plan's metrics: {', '.join(metrics)}"
        for name in names
        if name not in metrics
    ]
