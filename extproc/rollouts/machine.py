"""The state machine of a rollout.

    Progressing ──▶ Paused ──▶ Progressing ... ──▶ Healthy ──▶ Undone       what is desired of the endpoint follows from the
         │            │                                                     state alone, so who was killed makes it true again
         ╰────────────┴──▶ Degraded: rolled back

    tick      metrics fail ▸ Degraded, are inconclusive ▸ Paused, steps are over ▸ the next one, none is left ▸ Healthy
    command   promote (past this step, or to the end), pause, resume, abort, undo

Pure: `tick` is told the time, what is measured, and what those who are asked have answered.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from extproc.rollouts.judge import ERROR, FAILED, INCONCLUSIVE, PENDING, SUCCESSFUL, Look, Progress, begun, measured, recounted
from extproc.rollouts.plan import Analysis, Pause, Plan, SetHeaderRoute, SetShadow, SetWeight, Step, Webhook

PROGRESSING: Final = "Progressing"
PAUSED: Final = "Paused"
HEALTHY: Final = "Healthy"
DEGRADED: Final = "Degraded"
UNDONE: Final = "Undone"
OVER: Final = frozenset({HEALTHY, DEGRADED, UNDONE})

_MOST_EVENTS: Final = 100
_BY_HAND: Final = "promote"
"""Stands for all gates and guards of a step, when somebody said so."""


class Refused(Exception):
    """A command that has no place now; its text says why."""


class Event(NamedTuple):
    """What happened, for people."""

    at_s: float
    who: str
    words: str


class State(NamedTuple):
    """All of a rollout but its plan. Times are Unix seconds."""

    id: str
    endpoint: str
    began_s: float
    phase: str = PROGRESSING
    reason: str = ""
    """Why it is in this phase."""
    step: int = 0
    """The one that is done now; as many as there are: all are."""
    since_s: float = 0.0
    """When this step began; 0 before."""
    weight: int = 0
    """Percent of the endpoint's requests that the canary is to have."""
    shadow: int = 0
    routes: Mapping[str, tuple[tuple[str, str], ...]] = {}
    """Header routes by name."""
    first_s: float = 0.0
    """When the canary first had a weight; 0 before."""
    large_s: float = 0.0
    """When the weight was last changed much."""
    background: Mapping[str, Progress] = {}
    watched: Mapping[str, Progress] = {}
    """Metrics of this step."""
    manual: bool = False
    """Paused by somebody, and not by its plan."""
    forced: bool = False
    """Guards were told to let it pass."""
    agreed: tuple[str, ...] = ()
    """Gates that have opened, each with its step."""
    events: tuple[Event, ...] = ()
    before: Mapping[str, Any] = {}
    """What is needed for the way back, as `wanted.remembered` gives it."""
    made: str = ""
    """Signature of what was last made true; '' before."""

    @property
    def over(self) -> bool:
        return self.phase in OVER


def started(
    plan: Plan, endpoint: str, rollout_id: str, before: Mapping[str, Any], now_s: float, who: str, *, forced: bool = False
) -> State:
    """A rollout that has just been asked for."""
    state = State(rollout_id, endpoint, now_s, before=before, forced=forced)
    return _told(state, now_s, who, f"started: {plan.canary} against {plan.baseline}")


# -- what is asked of others ------------------------------------------------------------------------------------------


def asked(plan: Plan, state: State) -> tuple[Webhook, ...]:
    """Who is to be asked before the next tick, whose answers it takes."""
    if state.over:
        return ()
    return (*(hook for hook in _gates(plan, state) if _gate(hook, state) not in state.agreed), *plan.hooks("rollback"))


def _gates(plan: Plan, state: State) -> tuple[Webhook, ...]:
    """What stands before this step."""
    if state.phase != PROGRESSING:
        return ()
    first = plan.hooks("confirm-rollout") if state.step == 0 else ()
    if state.since_s:
        return ()
    if state.step >= len(plan.steps):
        return (*first, *plan.hooks("confirm-promotion"))
    step = plan.steps[state.step]
    return (*first, *(plan.hooks("confirm-traffic-increase") if isinstance(step, SetWeight) and step.weight else ()))


def _gate(hook: Webhook, state: State) -> str:
    return f"{state.step}:{hook.name}"


# -- time passes --------------------------------------------------------------------------------------------------------


def tick(plan: Plan, state: State, look: Look, now_s: float, answers: Mapping[str, bool] = {}) -> State:
    """What it is now. `answers` are those of the hooks that `asked` named: whether somebody said yes."""
    if state.over:
        return state
    for hook in plan.hooks("rollback"):
        if answers.get(hook.name):
            return _rolled_back(state, now_s, f"the webhook {hook.name} asks for it")
    if plan.deadline_s is not None and now_s - state.began_s > plan.deadline_s:
        return _rolled_back(state, now_s, f"it is not done after {plan.deadline_s:g} s")
    state = _judged(plan, state, look, now_s)
    if state.over:
        return state
    agreed = tuple(_gate(hook, state) for hook in _gates(plan, state) if answers.get(hook.name))
    state = state._replace(agreed=(*state.agreed, *(each for each in agreed if each not in state.agreed)))
    for _ in range(2 * len(plan.steps) + 2):
        further = _advanced(plan, state, look, now_s)
        if further == state or further.phase != PROGRESSING or further.weight != state.weight:
            return further  # a weight is made true before anything comes after it
        state = further
    return state


def _step(plan: Plan, state: State) -> Step | None:
    return plan.steps[state.step] if state.step < len(plan.steps) else None


def _judged(plan: Plan, state: State, look: Look, now_s: float) -> State:
    """Also while it is paused: a canary that fails is taken back whoever sleeps."""
    novel = bool(state.first_s) and now_s - state.first_s < plan.novelty_s
    both = {}
    for field, running in (("background", state.background), ("watched", state.watched)):
        both[field] = {
            name: measured(plan.metrics[name], each, look, now_s, plan.share_of_alpha, novel=novel)
            for name, each in running.items()
        }
    state = state._replace(background=both["background"], watched=both["watched"])
    for name, progress in (*state.background.items(), *state.watched.items()):
        if plan.metrics[name].dry_run:
            continue
        if progress.phase in (FAILED, ERROR):
            return _rolled_back(state, now_s, f"{name}: {progress.words}")
        if progress.phase == INCONCLUSIVE and state.phase == PROGRESSING:
            state = _paused(state, now_s, "rollout", f"{name} is inconclusive: {progress.words}")
    return state


def _advanced(plan: Plan, state: State, look: Look, now_s: float) -> State:
    """One step further, if it is time."""
    if state.phase == PAUSED and state.manual:
        return state
    step = _step(plan, state)
    if not state.since_s:
        return _entered(plan, state, look, now_s) if _may_enter(plan, state, now_s) == "" else _waiting(plan, state, now_s)
    if isinstance(step, Pause):
        if step.duration_s is None or now_s - state.since_s < step.duration_s:
            return state
    elif isinstance(step, Analysis):
        open_ones = [
            name for name, each in state.watched.items() if each.phase != SUCCESSFUL and not plan.metrics[name].dry_run
        ]
        if open_ones:
            return state._replace(reason=f"{open_ones[0]}: {state.watched[open_ones[0]].words}")
    return _next(state)


def _next(state: State) -> State:
    return state._replace(step=state.step + 1, since_s=0.0, watched={}, phase=PROGRESSING, reason="", manual=False)


def _may_enter(plan: Plan, state: State, now_s: float) -> str:
    """Why this step may not begin; '' when it may."""
    if f"{state.step}:{_BY_HAND}" in state.agreed:
        return ""
    for hook in _gates(plan, state):
        if _gate(hook, state) not in state.agreed:
            return f"waits for the webhook {hook.name}"
    step = _step(plan, state)
    weight = step.weight if isinstance(step, SetWeight) else 100 if step is None else state.weight
    if state.weight and weight > state.weight:
        for name, progress in state.background.items():
            if progress.last in ("", PENDING) and not progress.phase and not plan.metrics[name].dry_run:
                return f"waits for {name}: {progress.words}"
    if weight - state.weight >= plan.large and state.large_s and now_s - state.large_s < plan.bake_s and not state.forced:
        left = plan.bake_s - (now_s - state.large_s)
        return f"bakes for {left:.0f} s more: from {state.weight} % to {weight} % is a large change, and so was the last one"
    return ""


def _waiting(plan: Plan, state: State, now_s: float) -> State:
    return state._replace(reason=_may_enter(plan, state, now_s))


def _entered(plan: Plan, state: State, look: Look, now_s: float) -> State:
    step = _step(plan, state)
    if step is None:
        return _healthy(plan, state, now_s)
    state = state._replace(since_s=now_s, reason="")
    if isinstance(step, SetWeight):
        state = _weighed(plan, state, step.weight, now_s)
    elif isinstance(step, SetShadow):
        state = _told(state._replace(shadow=step.percentage), now_s, "rollout", f"shadow {step.percentage} %")
    elif isinstance(step, SetHeaderRoute):
        routes = {name: each for name, each in state.routes.items() if name != step.name}
        routes |= {step.name: step.headers} if step.headers else {}
        state = _told(state._replace(routes=routes), now_s, "rollout", f"header route {step.name}")
    elif isinstance(step, Analysis):
        state = state._replace(watched={name: begun(plan.metrics[name], now_s, look) for name in step.metrics})
    elif step.duration_s is None:
        state = _told(state._replace(phase=PAUSED, reason="until somebody promotes it"), now_s, "rollout", "waits for promote")
    else:
        state = state._replace(reason=f"for {step.duration_s:g} s")
    if state.first_s and not state.background and state.step >= plan.starting_step:
        state = state._replace(background={name: begun(plan.metrics[name], now_s, look) for name in plan.background})
    return state


def _weighed(plan: Plan, state: State, weight: int, now_s: float) -> State:
    large = weight - state.weight >= plan.large
    return _told(
        state._replace(
            weight=weight,
            large_s=now_s if large else state.large_s,
            first_s=state.first_s or (now_s if weight else 0.0),
        ),
        now_s,
        "rollout",
        f"weight {weight} %",
    )


def _healthy(plan: Plan, state: State, now_s: float) -> State:
    how = f", which is called {plan.baseline} from now on" if plan.rename else ""
    state = state._replace(phase=HEALTHY, weight=100, shadow=0, routes={}, reason="all steps are done", manual=False)
    return _told(state, now_s, "rollout", f"promoted: {plan.canary} has taken over{how}")


def _rolled_back(state: State, now_s: float, why: str, who: str = "rollout") -> State:
    state = state._replace(phase=DEGRADED, weight=0, shadow=0, routes={}, reason=why, manual=False)
    return _told(state, now_s, who, f"rolled back: {why}")


def _paused(state: State, now_s: float, who: str, why: str) -> State:
    return _told(state._replace(phase=PAUSED, manual=True, reason=why), now_s, who, f"paused: {why}")


def _told(state: State, now_s: float, who: str, words: str) -> State:
    return state._replace(events=(*state.events, Event(now_s, who, words))[-_MOST_EVENTS:])


# -- people speak -------------------------------------------------------------------------------------------------------


def promoted(plan: Plan, state: State, now_s: float, who: str, *, full: bool = False) -> State:
    """Past the step that it is at; `full`: to the end at once, past gates and metrics. Raises Refused when it is over."""
    _still(state, "promote")
    if full:
        return _healthy(plan, _told(state, now_s, who, "promote to the end"), now_s)
    state = _told(state, now_s, who, f"promote past step {state.step}")
    waits = not state.since_s
    agreed = (*state.agreed, f"{state.step}:{_BY_HAND}") if waits else state.agreed
    state = state._replace(phase=PROGRESSING, manual=False, reason="", agreed=agreed)
    return _fresh(state) if waits else _next(_fresh(state))


def paused(state: State, now_s: float, who: str) -> State:
    """Where it is; its metrics are watched on. Raises Refused."""
    _still(state, "pause")
    if state.phase == PAUSED and state.manual:
        raise Refused("it is paused already")
    return _paused(state, now_s, who, f"by {who}")


def resumed(plan: Plan, state: State, now_s: float, who: str, *, force: bool = False) -> State:
    """On from where it was paused. Raises Refused, also at a pause of its plan: that is for `promote`."""
    _still(state, "resume")
    if state.phase != PAUSED:
        raise Refused("it is not paused")
    if not state.manual:
        raise Refused("its plan pauses here until somebody says promote")
    gate = isinstance(step := _step(plan, state), Pause) and step.duration_s is None and state.since_s
    state = state._replace(
        phase=PAUSED if gate else PROGRESSING,
        reason="until somebody promotes it" if gate else "",
        manual=False,
        forced=state.forced or force,
    )
    return _fresh(_told(state, now_s, who, "resumed" + (", past its guards" if force else "")))


def aborted(state: State, now_s: float, who: str) -> State:
    """Back to the baseline. Raises Refused when it is over."""
    _still(state, "abort")
    return _rolled_back(state, now_s, f"by {who}", who)


def undone(state: State, now_s: float, who: str) -> State:
    """As it was before, names and shares; after a promotion. Raises Refused."""
    if state.phase != HEALTHY:
        raise Refused(f"it is {state.phase}; only what was promoted can be undone")
    return _told(state._replace(phase=UNDONE, weight=0, reason=f"by {who}"), now_s, who, "undone: all is as it was before")


def held_back(state: State, now_s: float, why: str) -> State:
    """Somebody outside says that what is desired may not be: a pool that is too small, a config that others have changed."""
    return _paused(state, now_s, "rollout", why)


def _still(state: State, what: str) -> None:
    if state.over:
        raise Refused(f"it is over ({state.phase}); there is nothing to {what}")


def _fresh(state: State) -> State:
    """Metrics that could not say anything may try again."""
    again = {
        field: {
            name: each._replace(phase="", inconclusive=0, last=PENDING) if each.phase == INCONCLUSIVE else each
            for name, each in running.items()
        }
        for field, running in (("background", state.background), ("watched", state.watched))
    }
    return state._replace(background=again["background"], watched=again["watched"])


def adopted(plan: Plan, state: State, look: Look) -> State:
    """Driven by another process from now on, which counts for itself, from this look on."""
    again = {
        field: {name: recounted(plan.metrics[name], each, look) for name, each in running.items()}
        for field, running in (("background", state.background), ("watched", state.watched))
    }
    return state._replace(background=again["background"], watched=again["watched"])
