"""`disaggregatedset-rollout-screener`: one revision for all stages of a request, while a DisaggregatedSet is rolled out.

Endpoints of two revisions may not understand each other's KV cache. A revision may serve when each required role has an
endpoint of it; which one does is drawn, by how many endpoints there are of it. Counted are the pool's endpoints, by address, as
ranks of one pod are one pod (llm-d router's README of the plugin).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from extproc.candidates import Candidates
from extproc.domain import Endpoint
from extproc.scheduling.cycle import Cycle
from extproc.scheduling.plugins.base import SCREENER, Kit, PluginType, Random, Scheduled
from extproc.scheduling.plugins.parameters_labels import RolloutParameters
from extproc.scheduling.selector import Selector, selects


class Gate:
    """Which revisions there are, and how often each is to be drawn."""

    def __init__(
        self, revision_label: str, role_label: str, roles: Sequence[str], scope: Selector, by_largest_role: bool
    ) -> None:
        """`by_largest_role`: by the number of those of the role that has most endpoints in all; else of all roles."""
        self.label = revision_label
        self._role_label = role_label
        self._roles = tuple(roles)
        self._scope = scope
        self._by_largest_role = by_largest_role
        self._endpoints: Sequence[Endpoint] = ()
        self._shares: dict[str, float] = {}

    def shares(self, endpoints: Sequence[Endpoint]) -> dict[str, float]:
        """Of 1, by revision; those that lack a role have none. Kept until the endpoints change."""
        if endpoints is not self._endpoints:
            self._endpoints, self._shares = endpoints, self._counted(endpoints)
        return self._shares

    def _counted(self, endpoints: Sequence[Endpoint]) -> dict[str, float]:
        seen: dict[str, dict[str, set[str]]] = {}
        for endpoint in endpoints:
            labels = endpoint.labels
            revision, role = labels.get(self.label), labels.get(self._role_label)
            if revision and role in self._roles and selects(self._scope, labels):
                seen.setdefault(revision, {}).setdefault(role, set()).add(endpoint.address)
        whole = {revision: by_role for revision, by_role in seen.items() if len(by_role) == len(self._roles)}
        counted = self._roles
        if self._by_largest_role:
            totals = [sum([len(by_role[role]) for by_role in whole.values()]) for role in self._roles]
            counted = (self._roles[totals.index(max(totals))],)
        weights = {revision: sum([len(by_role[role]) for role in counted]) for revision, by_role in whole.items()}
        in_all = sum(weights.values())
        return {revision: weight / in_all for revision, weight in weights.items()}

    def drawn(self, endpoints: Sequence[Endpoint], random: Random) -> str | None:
        """A revision; None when none may serve."""
        left = random()
        chosen: str | None = None
        for revision, share in self.shares(endpoints).items():
            chosen = revision
            left -= share
            if left < 0.0:
                break
        return chosen


class RolloutScreener:
    """Keeps one revision, and what the request's strict headers say; tells the client which labels served it."""

    fixed = False
    by_load = False

    def __init__(
        self, name: str, gate: Gate | None, strict: Sequence[tuple[str, str]], told: Sequence[tuple[str, str]], random: Random
    ) -> None:
        """`strict` and `told` are headers with their labels. Without a gate only those count."""
        self._name = name
        self._gate = gate
        self._strict = tuple(strict)
        self._told = tuple(told)
        self._random = random

    def keep(self, cycle: Cycle, candidates: Candidates) -> Sequence[int] | None:
        wanted = {label: value for header, label in self._strict if (value := cycle.asked.head.text(header))}
        gate = self._gate
        if gate is not None:
            whole = candidates.whole
            everyone = candidates.endpoints if whole is None else whole.endpoints
            asked = wanted.get(gate.label)
            if asked is None:
                drawn = self._draw(cycle, gate, everyone)
                if drawn is None:
                    return ()
                wanted[gate.label] = drawn
            elif asked not in gate.shares(everyone):
                return ()
        if not wanted:
            return None
        pairs = list(wanted.items())
        return [
            position
            for position, endpoint in enumerate(candidates.endpoints)
            if all(endpoint.labels.get(label) == value for label, value in pairs)
        ]

    def _draw(self, cycle: Cycle, gate: Gate, everyone: Sequence[Endpoint]) -> str | None:
        """Once for each request, so that its explanation tells of the same draw."""
        drawn = cycle.facts.get(self._name)
        if not isinstance(drawn, str):
            drawn = gate.drawn(everyone, self._random)
            cycle.facts[self._name] = drawn
        return drawn

    def dress(self, cycle: Cycle, scheduled: Scheduled) -> Scheduled:
        run = scheduled.run
        labels = run.candidates.endpoints[run.pick.positions[0]].labels
        told = tuple([(header, labels[label]) for header, label in self._told if labels.get(label)])
        if not told:
            return scheduled
        return scheduled._replace(set_response_headers=scheduled.set_response_headers + told)


def _screener(parameters: RolloutParameters, kit: Kit) -> RolloutScreener:
    gating = parameters.revision_gating
    gate = None
    if gating.mode != "disabled" and gating.require_roles is not None:
        gate = Gate(
            gating.revision_label_key,
            gating.role_label_key,
            gating.require_roles.values,
            parameters.scope.label_selector,
            gating.mode == "max-role",
        )
    headers = parameters.header_selectors
    return RolloutScreener(
        kit.name,
        gate,
        [(each.header_name, each.label_key) for each in headers if each.mode == "strict"],
        [(each.header_name, each.label_key) for each in headers],
        kit.random,
    )


TYPES: Final = (
    PluginType(
        "disaggregatedset-rollout-screener",
        SCREENER,
        "one revision for all stages: of those with an endpoint of each required role, drawn by their number (`sum`: of all "
        "roles; `max-role`: of the role with most); strict headers first",
        RolloutParameters,
        _screener,
    ),
)
