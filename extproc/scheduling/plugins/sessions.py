"""Session affinity: the requests of a session go to one endpoint, which has their conversation in its cache.

Two strategies. A token in a header, which the client sends back, names the endpoint: nothing is kept here, and every replica
knows. Or the client names its session, and which endpoint that has is kept here. Both fail open: an endpoint that is no
candidate binds nobody.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from binascii import Error
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Final, cast

from extproc.candidates import Candidates, Column
from extproc.domain import Endpoint
from extproc.scheduling import columns
from extproc.scheduling.cycle import Cycle
from extproc.scheduling.plugins.base import FILTER, SCORER, Clock, Figure, Kit, Need, PluginType, Scheduled
from extproc.scheduling.plugins.parameters_sessions import ATTRIBUTES, SessionAffinityParameters

_LONGEST_TOKEN: Final = 1024
"""Bytes; Kubernetes' names are 253 and 63 characters at most."""


def token_of(endpoint: Endpoint) -> str:
    """What names the endpoint to its sessions: upstream's form, base64 of `namespace/name`."""
    return b64encode(f"{endpoint.namespace}/{endpoint.name}".encode()).decode("ascii")


def named_by(token: bytes) -> tuple[str, str] | None:
    """Namespace and name that a token says; None for anything else."""
    if len(token) > _LONGEST_TOKEN:
        return None
    try:
        text = b64decode(token, validate=True).decode()
    except (Error, UnicodeDecodeError):
        return None
    namespace, slash, name = text.partition("/")
    return (namespace, name) if slash and name else None


class Pinned:
    """Of a filter and of a scorer: a candidate that the session is bound to, if there is one."""

    fixed = False
    by_load = False
    per_snapshot = False

    def pinned(self, cycle: Cycle, candidates: Candidates) -> int:
        """Its position, -1 for none."""
        raise NotImplementedError

    def keep(self, cycle: Cycle, candidates: Candidates) -> Sequence[int] | None:
        position = self.pinned(cycle, candidates)
        return None if position < 0 else (position,)

    def score(self, cycle: Cycle, candidates: Candidates) -> Column:
        points = columns.zeros_like(candidates.in_flight)
        position = self.pinned(cycle, candidates)
        if position >= 0:
            points[position] = 1.0
        return points


class ByToken(Pinned):
    """The strategy `encoded_endpoint_header`."""

    def __init__(self, header: str, profile: str | None) -> None:
        """The header of the request and of the response; None for the profile that serves."""
        self._header = header
        self._profile = profile

    def pinned(self, cycle: Cycle, candidates: Candidates) -> int:
        token = cycle.asked.head.headers.get(self._header)
        named = named_by(token) if token else None
        if named is not None:
            namespace, name = named
            for position, endpoint in enumerate(candidates.endpoints):
                if endpoint.name == name and endpoint.namespace == namespace:
                    return position
        return -1

    def dress(self, cycle: Cycle, scheduled: Scheduled) -> Scheduled:
        run = scheduled.runs.get(self._profile or scheduled.primary)
        if run is None:
            return scheduled
        header = (self._header, token_of(run.candidates.endpoints[run.pick.positions[0]]))
        if header in scheduled.set_response_headers:
            return scheduled  # a filter and a scorer say the same
        return scheduled._replace(set_response_headers=(*scheduled.set_response_headers, header))


class Place:
    """An endpoint that sessions are bound to."""

    __slots__ = ("gone", "key")

    def __init__(self, key: str) -> None:
        self.key = key
        self.gone = False
        """It has left, or was started anew: who was bound to it is free."""


class Binding:
    """A session's."""

    __slots__ = ("place", "used_s")

    def __init__(self, place: Place, used_s: float) -> None:
        self.place = place
        self.used_s = used_s


class BySession(Pinned):
    """The strategy `session_id`. Of a session only a digest of its id is kept."""

    def __init__(
        self,
        sources: Sequence[tuple[str, str]],
        profile: str | None,
        clock: Clock,
        *,
        ttl_s: float,
        sweep_s: float,
        most: int,
    ) -> None:
        """`sources`: a header, or where in a cycle's facts it is; the other one is ''."""
        self._sources = tuple(sources)
        self._profile = profile
        self._clock = clock
        self._ttl_s = ttl_s
        self._sweep_s = sweep_s
        self._swept_s = clock()
        self._most = most
        self._bindings: OrderedDict[bytes, Binding] = OrderedDict()
        """The one that was used longest ago first."""
        self._places: dict[str, Place] = {}
        self._bound = 0
        self._kept = 0
        self._elsewhere = 0
        self._dropped = 0

    def _session(self, cycle: Cycle) -> bytes:
        """The digest of its id, b'' for a request of no session."""
        for header, fact in self._sources:
            said = cycle.asked.head.text(header) if header else cast(str, cycle.facts[fact])
            said = said.strip()
            if said:
                return blake2b(said.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        return b""

    def _place(self, session: bytes) -> Place | None:
        """Where it is bound to now."""
        binding = self._bindings.get(session)
        if binding is None or binding.place.gone or self._clock() - binding.used_s >= self._ttl_s:
            return None
        return binding.place

    def pinned(self, cycle: Cycle, candidates: Candidates) -> int:
        session = self._session(cycle)
        place = self._place(session) if session else None
        if place is not None:
            for position, endpoint in enumerate(candidates.endpoints):
                if endpoint.key == place.key:
                    return position
        return -1

    def picked(self, cycle: Cycle, scheduled: Scheduled) -> None:
        """Bind it. One that is bound stays so, even when this request went elsewhere: its endpoint was no candidate, or others
        weighed more."""
        self._sweep()
        run = scheduled.runs.get(self._profile or scheduled.primary)
        session = self._session(cycle)
        if run is None or not session:
            return
        now_s, key = self._clock(), run.endpoint
        place = self._place(session)
        if place is None:
            self._bindings[session] = Binding(self._places.setdefault(key, Place(key)), now_s)
            self._bindings.move_to_end(session)
            self._bound += 1
            if len(self._bindings) > self._most:
                self._bindings.popitem(last=False)
                self._dropped += 1
            return
        self._bindings[session].used_s = now_s
        self._bindings.move_to_end(session)
        if place.key == key:
            self._kept += 1
        else:
            self._elsewhere += 1

    def forget(self, endpoint: str) -> None:
        place = self._places.pop(endpoint, None)
        if place is not None:
            place.gone = True

    def _sweep(self) -> None:
        now_s = self._clock()
        if now_s - self._swept_s < self._sweep_s:
            return
        self._swept_s = now_s
        bindings = self._bindings
        while bindings:
            session, binding = bindings.popitem(last=False)
            if now_s - binding.used_s < self._ttl_s:
                bindings[session] = binding
                bindings.move_to_end(session, last=False)
                return

    def figures(self) -> Iterable[Figure]:
        doc = "Requests of sessions: bound to an endpoint now, kept to it, or sent elsewhere although they are bound."
        name = "extproc_session_requests_total"
        outcomes = (("bound", self._bound), ("kept", self._kept), ("elsewhere", self._elsewhere))
        return [
            Figure("extproc_sessions", "Sessions that are bound to an endpoint.", len(self._bindings)),
            *[Figure(name, doc, number, (("outcome", outcome),), counts=True) for outcome, number in outcomes],
            Figure("extproc_sessions_dropped_total", "Sessions let go as there were too many.", self._dropped, counts=True),
        ]

    def dump(self) -> object:
        return {
            "sessions": len(self._bindings),
            "endpoints": len(self._places),
            "bound": self._bound,
            "kept": self._kept,
            "elsewhere": self._elsewhere,
            "dropped": self._dropped,
        }


def _needs(parameters: SessionAffinityParameters) -> Sequence[Need]:
    if parameters.strategy != "session_id":
        return ()
    sources = enumerate(parameters.session_id_config.sources)
    return [
        Need(ATTRIBUTES[source.attribute], source.producer, f"sessionIdConfig.sources[{index}].producer")
        for index, source in sources
        if source.attribute is not None
    ]


def _affinity(parameters: SessionAffinityParameters, kit: Kit) -> Pinned:
    if parameters.strategy == "encoded_endpoint_header":
        return ByToken(parameters.encoded_endpoint_header_config.header, parameters.profile_name)
    config = parameters.session_id_config
    facts = iter(kit.sources)
    sources = [
        (source.header.strip().lower(), "") if source.header is not None else ("", next(facts) or "")
        for source in config.sources
    ]
    return BySession(
        sources, parameters.profile_name, kit.clock, ttl_s=config.ttl_s, sweep_s=config.sweep_s, most=config.max_sessions
    )


def _row(name: str, family: str, what: str) -> PluginType:
    return PluginType(name, family, what, SessionAffinityParameters, _affinity, needs=_needs)


_ALONE: Final = "the endpoint of the request's session alone, where it is a candidate; else all"

TYPES: Final = (
    _row("session-affinity-filter", FILTER, _ALONE),
    _row("multicluster-session-affinity-filter", FILTER, _ALONE),
    _row("session-affinity-scorer", SCORER, "the endpoint of the request's session: 1; else 0"),
)
