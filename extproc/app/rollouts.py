"""Rollouts as a part of a service: one of the replicas drives, with the measures that it has taken itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final

import aiohttp

from extproc.app.component import Component
from extproc.control.desk import Desk
from extproc.control.errors import Unavailable
from extproc.control.lead import Lead
from extproc.control.rollouts import Rollouts
from extproc.control.store import KeepingStore, StoreUnavailable
from extproc.measures import Measures, Timing, Totals
from extproc.measures import Moments as TheirMoments
from extproc.observability.logs import logger
from extproc.observability.rollouts import RolloutMetrics, RolloutRow, WatchedRow
from extproc.rollouts.documents import Rollout
from extproc.rollouts.judge import Look, Progress, difference, evidence
from extproc.rollouts.plan import Plan, Webhook
from extproc.rollouts.samples import ArmSample, Moments, Pair, Times

_log = logger(__name__)

ROUND_S: Final = 1.0
_PERCENT: Final = (50, 90, 95, 99)


class RolloutDriver(Component):
    """Looks once a second what is to be done, while this replica leads. A store that is away stops rollouts, no requests."""

    def __init__(
        self,
        desk: Desk,
        store: KeepingStore,
        measures: Measures | None,
        me: str,
        *,
        metrics: RolloutMetrics | None = None,
        round_s: float = ROUND_S,
    ) -> None:
        """`me`: a name that no other process has."""
        super().__init__("rollouts")
        self._metrics = metrics
        self._measures = measures
        self._round_s = round_s
        self._desk = desk
        self._lead = Lead(store, me, time.monotonic)
        self._session: aiohttp.ClientSession | None = None
        self.rollouts = Rollouts(desk, store, self._look, self._tell)

    @property
    def leads(self) -> bool:
        """Whether it is this replica that drives, as far as it knows."""
        return self._lead.ours

    async def run(self, ready: asyncio.Event) -> None:
        lost = False
        under_way: dict[str, asyncio.Task[None]] = {}
        async with asyncio.TaskGroup() as tasks:
            while True:
                try:
                    await self._begin(tasks, under_way)
                    lost = False
                except (StoreUnavailable, Unavailable) as error:
                    self._lost_lead()
                    if not lost:
                        _log.warning("rollouts stand still, their store can't be asked", error=str(error))
                    lost = True
                await asyncio.sleep(self._round_s)

    async def _begin(self, tasks: asyncio.TaskGroup, under_way: dict[str, asyncio.Task[None]]) -> None:
        """A step of each rollout that is not at one, as its webhooks may take long, and others must not wait for them."""
        if not self._desk.opened or not await self._lead.held():
            self._lost_lead()
            return
        standings = await self.rollouts.all()
        if self._metrics is not None:
            self._metrics.show(_row(standing.rollout) for standing in standings.values())
        for name, standing in standings.items():
            if name not in under_way or under_way[name].done():
                under_way[name] = tasks.create_task(self.rollouts.drive(name, standing), name=f"rollout of {name}")
        for name in [name for name, task in under_way.items() if task.done()]:
            del under_way[name]

    def _lost_lead(self) -> None:
        self.rollouts.lost_lead()
        if self._metrics is not None:
            self._metrics.forget()

    async def leave(self) -> None:
        try:
            await self._lead.leave()
        except StoreUnavailable as error:
            _log.info("another replica drives rollouts after a while", error=str(error))

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    def _look(self, endpoint: str, plan: Plan) -> Look:
        measures = self._measures
        if measures is None:
            return Look(Pair())
        windows = {metric.window_s for metric in plan.metrics.values() if metric.compare is None}
        arms = (plan.canary, plan.baseline)
        return Look(
            Pair(*[_sample(measures.total(endpoint, arm)) for arm in arms]),
            {each: Pair(*[_sample(measures.of(endpoint, arm, window_s=each)) for arm in arms]) for each in windows},
        )

    async def _tell(self, hook: Webhook, payload: Mapping[str, Any]) -> bool:
        """2xx is yes, everything else is no: an answer that does not come opens no gate."""
        if self._session is None:
            self._session = aiohttp.ClientSession()
        try:
            timeout = aiohttp.ClientTimeout(total=hook.timeout_s)
            asking = self._session.post(hook.url, json=dict(payload), timeout=timeout, allow_redirects=False)
            async with asking as answer:
                return 200 <= answer.status < 300
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            _log.warning("a webhook of a rollout does not answer", webhook=hook.name, error=type(error).__name__)
            return False


def _row(rollout: Rollout) -> RolloutRow:
    plan, state = rollout
    running = [("background", state.background), ("step", state.watched)]
    watched = tuple([_watched(plan, name, of, progress) for of, found in running for name, progress in found.items()])
    return RolloutRow(state.endpoint, plan.canary, state.phase, state.weight, state.step, len(plan.steps), watched)


def _watched(plan: Plan, name: str, of: str, progress: Progress) -> WatchedRow:
    metric, phase = plan.metrics[name], progress.phase or "Running"
    bounds = difference(metric, progress, plan.share_of_alpha)
    apart = None if bounds is None else (bounds.estimate, bounds.low, bounds.high)
    return WatchedRow(name, of, phase, apart, evidence(metric, progress, plan.share_of_alpha))


def _sample(totals: Totals | None) -> ArmSample:
    if totals is None:
        return ArmSample()
    return ArmSample(
        totals.requests,
        totals.errors,
        _times(totals.ttft_s, {kind: times.ttft for kind, times in totals.alike.items()}),
        _times(totals.tpot_s, {kind: times.tpot for kind, times in totals.alike.items()}),
        _times(totals.e2e_s, {kind: times.e2e for kind, times in totals.alike.items()}),
        totals.input_tokens,
        totals.output_tokens,
        totals.cost,
        totals.shadow_same,
        totals.shadow_pairs,
        totals.feedback_good,
        totals.feedback_bad,
        _moments(totals.queue_at_pick),
        _moments(totals.hit_fraction),
    )


def _times(timing: Timing, alike: Mapping[str, TheirMoments]) -> Times:
    quantiles = {percent: seconds for percent in _PERCENT if (seconds := timing.quantile_s(percent / 100)) is not None}
    return Times({kind: _moments(each) for kind, each in alike.items() if each.n}, quantiles)


def _moments(theirs: TheirMoments) -> Moments:
    return Moments(theirs.n, theirs.mean, theirs.m2)
