"""A rollout as it is kept: JSON of its plan and its state, read back as it was."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import orjson

from extproc.rollouts.course import Course, Seen
from extproc.rollouts.judge import Mark, Progress
from extproc.rollouts.machine import Event, State
from extproc.rollouts.plan import Plan, read_plan
from extproc.rollouts.samples import Moments
from extproc.rollouts.statistics import Cell, ErrorEvidence, RateSums, TimeEvidence
from extproc.settings.base import SettingsError

FORMAT: Final = 1


class Unreadable(ValueError):
    """A document that this release can't read."""


class Rollout(NamedTuple):
    """A plan, and how far it has come."""

    plan: Plan
    state: State


def to_document(rollout: Rollout) -> bytes:
    """JSON. What was seen at each look stands beside the state, where older replicas do not look: the rest is as it was."""
    state = rollout.state
    told, courses = plain(state), {}
    for field, running in (("background", state.background), ("watched", state.watched)):
        courses[field] = {name: _told_course(each.course) for name, each in running.items()}
        for each in told[field].values():
            del each["course"]
    return orjson.dumps({"format": FORMAT, "plan": rollout.plan.document, "state": told, "courses": courses})


def _told_course(course: Course) -> dict[str, Any]:
    return {"looks": [[*look] for look in course.looks], "rates": [*course.rates]}


def plain(value: Any) -> Any:
    """Named tuples as objects, all the way down."""
    if hasattr(value, "_asdict"):
        return {key: plain(each) for key, each in value._asdict().items()}
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, tuple | list):
        return [plain(each) for each in value]
    return value


def of_document(document: bytes) -> Rollout:
    """Raises Unreadable, which quotes nothing of what is in it."""
    try:
        values = orjson.loads(document)
        if values["format"] != FORMAT:
            raise Unreadable(f"its format is {int(values['format'])}; expected {FORMAT}: a newer release wrote it")
        return Rollout(read_plan(values["plan"]), _state(values["state"], values.get("courses", {})))
    except Unreadable:
        raise
    except (SettingsError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise Unreadable(f"it is no document of a rollout ({type(error).__name__})") from None


def _state(values: dict[str, Any], courses: dict[str, Any]) -> State:
    progresses = {
        field: {name: _progress(each, courses.get(field, {}).get(name)) for name, each in values[field].items()}
        for field in ("background", "watched")
    }
    return State(
        **{
            **values,
            **progresses,
            "routes": {name: tuple((str(key), str(text)) for key, text in each) for name, each in values["routes"].items()},
            "agreed": tuple(values["agreed"]),
            "events": tuple(Event(**each) for each in values["events"]),
        }
    )


def _progress(values: dict[str, Any], course: dict[str, Any] | None) -> Progress:
    times, rates = values["times"], values["rates"]
    return Progress(
        **{
            **values,
            "times": TimeEvidence(**{**times, "cells": {name: Cell(**each) for name, each in times["cells"].items()}}),
            "rates": ErrorEvidence(**{**rates, "logs": tuple(rates["logs"])}),
            "canary": _mark(values["canary"]),
            "baseline": _mark(values["baseline"]),
            "course": Course() if course is None else _course(course),
        }
    )


def _course(values: dict[str, Any]) -> Course:
    looks = [Seen(*[float(each) for each in look]) for look in values["looks"]]
    return Course(tuple(looks), RateSums(*[float(each) for each in values["rates"]]))


def _mark(values: dict[str, Any]) -> Mark:
    return Mark(values["requests"], values["errors"], {name: Moments(**each) for name, each in values["cells"].items()})
