"""For tests of own plugins: endpoints, candidates and requests without a pool, and time and chance that a test knows.

plugin = make(MyScorer, {"most": 5})
assert plugin.score(cycle(), candidates(waiting=[0, 9])) == [1.0, 0.0]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random as _Random
from typing import Any, Final, cast

import numpy as np

from extproc.candidates import Candidates, Column
from extproc.domain import Endpoint, InferenceRequest, Load, RequestHead
from extproc.plugin import EndpointState, Plugin, Request, row_of
from extproc.scheduling.cycle import Cycle
from extproc.scheduling.plugins.base import Clock, Kit, PluginType, Random
from extproc.scheduling.registry import PLUGIN_TYPES

NAN: Final = float("nan")
"""What is not known of an endpoint, in a column."""
REQUEST: Final = InferenceRequest(RequestHead({}), "/v1/completions", "m")


class FakeClock:
    """A clock in seconds; call it to read it. Time passes when a test says so."""

    def __init__(self, now_s: float = 1000.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s

    def advance(self, seconds: float) -> None:
        self.now_s += seconds


def seeded(seed: int = 1) -> Callable[[], float]:
    """Uniform in [0, 1), the same numbers on every run."""
    return _Random(seed).random


def request(
    model: str | None = "m",
    payload: Mapping[str, object] | None = None,
    *,
    headers: Mapping[str, str] | None = None,
    path: str = "/v1/completions",
) -> InferenceRequest:
    """A request after its body was read; names of headers are lower case."""
    head = RequestHead({name: value.encode() for name, value in (headers or {}).items()})
    return InferenceRequest(head, path, model, payload=payload)


def cycle(request: InferenceRequest = REQUEST, *, priority: int = 0, facts: Mapping[str, object] | None = None) -> Cycle:
    """A choice that begins; `facts` are what producers said, by their plugins' names."""
    made = Cycle(request, priority)
    made.facts.update(facts or {})
    return made


def endpoints(number: int, *, port: int = 8000, labels: Sequence[Mapping[str, str]] = ()) -> list[Endpoint]:
    """10.0.0.1:8000, 10.0.0.2:8000 and so on; `labels` of the first ones."""
    return [
        Endpoint(f"10.0.{i // 250}.{i % 250 + 1}", port, labels=labels[i] if i < len(labels) else {}) for i in range(number)
    ]


def candidates(
    number: int | None = None,
    *,
    waiting: Sequence[float] | None = None,
    running: Sequence[float] | None = None,
    kv_usage: Sequence[float] | None = None,
    in_flight: Sequence[float] | None = None,
    picked_at: Sequence[float] | None = None,
    labels: Sequence[Mapping[str, str]] = (),
    loads: Sequence[Load] = (),
    trial: int = -1,
    arrays: bool = False,
    stamp: object = None,
) -> Candidates:
    """Candidates with these columns; one that is not given is unknown, or 0 in flight and never picked. `arrays`: as of a large
    pool."""
    given = [column for column in (waiting, running, kv_usage, in_flight, labels, loads) if column]
    size = number if number is not None else len(given[0])

    def column(values: Sequence[float] | None, default: float) -> Column:
        whole = [float(value) for value in values] if values is not None else [default] * size
        return cast(Column, np.asarray(whole, dtype=np.float64)) if arrays else whole

    return Candidates(
        endpoints=endpoints(size, labels=labels),
        waiting=column(waiting, NAN),
        running=column(running, NAN),
        kv_usage=column(kv_usage, NAN),
        in_flight=column(in_flight, 0.0),
        stamp=stamp if stamp is not None else object(),
        trial=trial,
        loads=loads,
        picked_at=column(picked_at, 0.0),
    )


def each(
    candidates: Candidates, request: InferenceRequest = REQUEST, *, priority: int = 0
) -> list[tuple[Request, EndpointState]]:
    """What the per-endpoint forms are called with, one pair for each candidate."""
    seen = Request(Cycle(request, priority))
    return [(seen, EndpointState(candidates, position)) for position in range(len(candidates))]


def kit(
    name: str = "plugin",
    *,
    random: Random | None = None,
    clock: Clock | None = None,
    sources: Sequence[str | None] = (),
    plugins: Mapping[str, Any] | None = None,
) -> Kit:
    """What a plugin is made with: time and chance of the test."""
    return Kit(name, random or seeded(), clock or FakeClock(), 0.05, sources, plugins or {})


def make(
    kind: str | PluginType | type[Plugin], parameters: Mapping[str, object] | None = None, made_with: Kit | None = None
) -> Any:
    """A plugin, with parameters as in YAML: of a type that comes with us by its name, of a row, or of a class, as the picker
    has it: the per-endpoint forms with the columns' methods."""
    row = PLUGIN_TYPES[kind] if isinstance(kind, str) else kind if isinstance(kind, PluginType) else row_of(kind)
    assert row.make is not None, f"{row.name} can't be made"
    return row.make(row.parameters.model_validate(parameters or {}), made_with or kit(row.name))
