"""How the connection to the API server does, for people: metrics for each watched resource, and a log line for each turn.

The server being away is one line for the whole process, whatever is watched, and one when it is back; what it refuses is a
line for each resource, with the verb, the resource, the API group and the namespace, and what to do about it, and one when it
does so no more. Nothing is said twice before it heals, however it alternates with other refusals and however many watches have
it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, NamedTuple

from extproc.kubernetes.errors import ApiError, KubeError
from extproc.kubernetes.reflector import Resource
from extproc.observability.instruments import Instruments
from extproc.observability.logs import logger

_log = logger(__name__)

GRANT: Final = "the chart grants it with rbac.create=true"
_LABELS: Final = ("resource", "namespace", "name")


class _Refusal(NamedTuple):
    """What is said once. The server's message is no part of it: it may have a number that differs each time."""

    resource: str
    namespace: str
    verb: str
    status: int
    reason: str


class ApiContact:
    """One per process. `watched` gives each reflector its observer."""

    def __init__(self, instruments: Instruments, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._age = instruments.gauge(
            "extproc_kubernetes_last_contact_age_seconds",
            "Since the API server last said anything on a resource; a quiet watch hears a bookmark once a minute.",
            _LABELS,
        )
        self.in_sync = instruments.gauge(
            "extproc_kubernetes_in_sync", "1 while a resource is listed whole and its watch is on.", _LABELS
        )
        self.errors = instruments.counter(
            "extproc_kubernetes_errors_total", "Lists and watches that failed, by reason.", [*_LABELS, "reason"]
        )
        self.relists = instruments.counter(
            "extproc_kubernetes_lists_total",
            "Whole lists that were read: at the start, when a version had expired, when a CRD had been missing.",
            [*_LABELS, "why"],
        )
        self.events = instruments.counter("extproc_kubernetes_events_total", "Events of watches, by type.", [*_LABELS, "type"])
        self._watched: list[WatchedResource] = []
        self._refused: dict[_Refusal, set[WatchedResource]] = {}
        self._away: set[WatchedResource] = set()
        self._away_since_s = 0.0
        instruments.before_collect.append(self._refresh)

    def watched(self, resource: Resource, *, name: str = "", without: str = "", install: str = "") -> WatchedResource:
        """An observer. `name` is the pool's; `install` says how a missing CRD is installed.

        `without` says what does not work without this resource, when everything else does: it is then no error that it is
        refused, nor that it is missing.
        """
        made = WatchedResource(self, resource, name, without, install)
        self._watched.append(made)
        return made

    def unwatched(self, watched: WatchedResource) -> None:
        """Forget one: its resource is not watched any more."""
        self._watched.remove(watched)
        self.back(watched)
        self.allowed(watched)
        if not any(other.labels == watched.labels for other in self._watched):
            self._age.remove(*watched.labels)
            self.in_sync.remove(*watched.labels)

    def away(self, watched: WatchedResource, error: KubeError) -> None:
        if not self._away:
            self._away_since_s = self.clock()
            _log.error(
                "Kubernetes API server does not answer, the last known state stays in force",
                resource=watched.resource.name,
                error=str(error),
            )
        self._away.add(watched)

    def back(self, watched: WatchedResource) -> None:
        if watched in self._away:
            self._away.discard(watched)
            if not self._away:
                _log.info("Kubernetes API server answers again", away_s=round(self.clock() - self._away_since_s, 1))

    def refused(self, watched: WatchedResource, verb: str, error: ApiError) -> bool:
        """Note it. Whether it is new, and nobody was told."""
        resource = watched.resource
        refusal = _Refusal(resource.name, resource.namespace, verb, error.status, error.reason)
        new = refusal not in self._refused
        self._refused.setdefault(refusal, set()).add(watched)
        return new

    def allowed(self, watched: WatchedResource) -> bool:
        """Note that nothing is refused any more. Whether that is news: no other watch of the resource is refused either."""
        mine = [refusal for refusal, having in self._refused.items() if watched in having]
        for refusal in mine:
            self._refused[refusal].discard(watched)
        over = [refusal for refusal in mine if not self._refused[refusal]]
        for refusal in over:
            del self._refused[refusal]
        return bool(over)

    def _refresh(self) -> None:
        now_s = self.clock()
        for watched in self._watched:
            age_s = float("nan") if watched.contact_at_s is None else now_s - watched.contact_at_s
            self._age.child(*watched.labels).value = age_s


class WatchedResource:
    """The observer of one reflector."""

    def __init__(self, contact: ApiContact, resource: Resource, name: str, without: str, install: str) -> None:
        self._contact = contact
        self.resource = resource
        self.labels = (resource.name, resource.namespace, name)
        self.contact_at_s: float | None = None
        self.problem: str | None = None
        """What the server refuses, in words; None while it refuses nothing."""
        self._without = without
        self._install = install
        self._in_sync = contact.in_sync.child(*self.labels)

    def __repr__(self) -> str:
        return f"<WatchedResource {self.labels} problem={self.problem!r}>"

    def contact(self) -> None:
        self.contact_at_s = self._contact.clock()
        self._contact.back(self)

    def watching(self) -> None:
        self._in_sync.value = 1
        self.problem = None
        if self._contact.allowed(self):
            _log.info("Kubernetes resource is watched", resource=self.resource.name, namespace=self.resource.namespace)

    def relisted(self, why: str) -> None:
        self._contact.relists.child(*self.labels, why).value += 1

    def events(self, kind: str, count: int) -> None:
        self._contact.events.child(*self.labels, kind.lower()).value += count

    def failed(self, verb: str, error: KubeError, *, cut: bool) -> None:
        self._in_sync.value = 0
        self._contact.errors.child(*self.labels, _reason(error, cut)).value += 1
        if isinstance(error, ApiError):
            self.contact()
            self._refused(verb, error)
        elif not cut:
            self._contact.away(self, error)

    def _refused(self, verb: str, error: ApiError) -> None:
        self.problem = self._words(verb, error)
        if not self._contact.refused(self, verb, error):
            return
        effect = {"effect": self._without} if self._without else {}
        self._say(error.status)(
            "Kubernetes resource can't be watched", resource=self.resource.name, problem=self.problem, **effect
        )

    def _say(self, status: int) -> Callable[..., object]:
        if status == 404:
            return _log.info if self._without else _log.warning
        return _log.warning if status == 403 and self._without else _log.error

    def _words(self, verb: str, error: ApiError) -> str:
        resource = self.resource
        where = f'namespace "{resource.namespace}"' if resource.namespace else "all namespaces"
        if error.status == 403:
            return f'no right to {verb} "{resource.plural}" in API group "{resource.group}" in {where}; {GRANT}'
        if error.status == 404:
            lacking = f"CRD {resource.name} with version {resource.version} is not installed"
            return lacking + (f"; to install it: {self._install}" if self._install else "")
        return f"{verb}: {error}"


def _reason(error: KubeError, cut: bool) -> str:
    if isinstance(error, ApiError):
        return {401: "unauthorized", 403: "forbidden", 404: "missing", 410: "expired", 429: "throttled"}.get(
            error.status, "refused"
        )
    return "cut" if cut else "unreachable"
