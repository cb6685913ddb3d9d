"""Rollouts: who drives them, how far each is, and what its metrics say. Only the replica that drives them shows them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from extproc.observability.instruments import UNBOUNDED, Family, Instruments, Value

BOUNDS: Final = ("estimate", "low", "high")


class WatchedRow(NamedTuple):
    """A metric of a rollout."""

    name: str
    of: str
    """`background`, or `step`."""
    phase: str
    """`Running` while it goes on."""
    difference: tuple[float, float, float] | None = None
    """How much longer the canary takes, as `BOUNDS` has it: 0.1 is a tenth longer. None where nothing can be said."""
    evidence: float | None = None
    """That the canary is worse: the logarithm of the e-value by the one that is enough."""


class RolloutRow(NamedTuple):
    """A rollout, or an endpoint's last one."""

    endpoint: str
    canary: str
    phase: str
    weight: int
    step: int
    steps: int
    watched: tuple[WatchedRow, ...] = ()


class RolloutMetrics:
    """`extproc_rollout_*`. Endpoints, entities and metrics are named by those who write plans."""

    def __init__(self, instruments: Instruments) -> None:
        self._leads = instruments.gauge(
            "extproc_rollouts_leading", "1 while this replica drives rollouts; the series of rollouts are on its page alone."
        ).child()
        one = ["serving_endpoint"]

        def gauge(name: str, doc: str, *labels: str) -> Family[Value]:
            return instruments.gauge(f"extproc_rollout_{name}", doc, [*one, *labels], most=UNBOUNDED)

        self._phase = gauge("phase", "1 for the phase that an endpoint's rollout is in, or its last one ended in.", "phase")
        self._weight = gauge(
            "weight_percentage", "Percent of the requests that a rollout gives to its canary.", "served_entity"
        )
        self._step = gauge("step", "Steps of a rollout's plan that are done.")
        self._steps = gauge("steps", "Steps that a rollout's plan has.")
        self._watched = gauge("metric_phase", "1 for the phase that a metric of a rollout is in.", "metric", "of", "phase")
        self._difference = gauge(
            "difference_ratio",
            "How much longer the canary takes than its baseline by a metric that compares times (0.1: a tenth longer), and "
            "between what it is, at all looks at once.",
            *("metric", "of", "bound"),
        )
        self._evidence = gauge(
            "evidence_ratio",
            "Evidence that the canary is worse: the logarithm of the e-value by that of the one which is enough. At 1 it is "
            "rolled back; below 0 all speaks against it.",
            *("metric", "of"),
        )

    def show(self, rows: Iterable[RolloutRow]) -> None:
        """This replica drives these, and no others are there."""
        told = list(rows)
        self._leads.value = 1.0
        for family, series in (
            (self._phase, [((row.endpoint, row.phase), 1.0) for row in told]),
            (self._weight, [((row.endpoint, row.canary), float(row.weight)) for row in told]),
            (self._step, [((row.endpoint,), float(row.step)) for row in told]),
            (self._steps, [((row.endpoint,), float(row.steps)) for row in told]),
            (self._watched, [((row.endpoint, each.name, each.of, each.phase), 1.0) for row, each in _each(told)]),
            (self._difference, [*_differences(told)]),
            (
                self._evidence,
                [((row.endpoint, each.name, each.of), each.evidence) for row, each in _each(told) if each.evidence is not None],
            ),
        ):
            _replace(family, dict(series))

    def forget(self) -> None:
        """Another replica drives."""
        self.show(())
        self._leads.value = 0.0


def _each(rows: Iterable[RolloutRow]) -> Iterator[tuple[RolloutRow, WatchedRow]]:
    return ((row, each) for row in rows for each in row.watched)


def _differences(rows: Iterable[RolloutRow]) -> Iterator[tuple[tuple[str, ...], float]]:
    for row, each in _each(rows):
        for bound, value in zip(BOUNDS, each.difference or (), strict=False):
            yield (row.endpoint, each.name, each.of, bound), value


def _replace(family: Family[Value], series: dict[tuple[str, ...], float]) -> None:
    family.keep(lambda labels: labels in series)
    for labels, value in series.items():
        family.child(*labels).value = value
