"""A rollout as it is kept: JSON of its plan and its state, read back as it was."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import orjson

from extproc.rollouts.judge import Mark, Progress
from extproc.rollouts.machine import Event, State
from extproc.rollouts.plan import Plan, read_plan
from extproc.rollouts.samples import Moments
from extproc.rollouts.statistics import Cell, ErrorEvidence, TimeEvidence
from extproc.settings.base import SettingsError

FORMAT: Final = 1


class Unreadable(ValueError):
    """A document that this release can't read."""


class Rollout(NamedTuple):
    """A plan, and how far it has come."""

    plan: Plan
    state: State


def to_document(rollout: Rollout) -> bytes:
    """JSON."""
    return orjson.dumps({"format": FORMAT, "plan": rollout.plan.document, "state": plain(rollout.state)})


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
        return Rollout(read_plan(values["plan"]), _state(values["state"]))
    except Unreadable:
        raise
    except (SettingsError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise Unreadable(f"it is no document of a rollout ({type(error).__name__})") from None


def _state(values: dict[str, Any]) -> State:
    return State(
        **{
            **values,
            "routes": {name: tuple((str(key), str(text)) for key, text in each) for name, each in values["routes"].items()},
            "background": {name: _progress(each) for name, each in values["background"].items()},
            "watched": {name: _progress(each) for name, each in values["watched"].items()},
            "agreed": tuple(values["agreed"]),
            "events": tuple(Event(**each) for each in values["events"]),
        }
    )


def _progress(values: dict[str, Any]) -> Progress:
    times, rates = values["times"], values["rates"]
    return Progress(
        **{
            **values,
            "times": TimeEvidence(**{**times, "cells": {name: Cell(**each) for name, each in times["cells"].items()}}),
            "rates": ErrorEvidence(**{**rates, "logs": tuple(rates["logs"])}),
            "canary": _mark(values["canary"]),
            "baseline": _mark(values["baseline"]),
        }
    )


def _mark(values: dict[str, Any]) -> Mark:
    return Mark(values["requests"], values["errors"], {name: Moments(**each) for name, each in values["cells"].items()})
