"""The nouns every room speaks of: endpoints, their load, requests, decisions.

This module imports nothing of the package and knows no I/O. Values are immutable unless their
docstring names the one writer.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Column: TypeAlias = list[float] | NDArray[np.float64]
else:
    Column: TypeAlias = list


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address that serves a model: a pod's port, a process, a data-parallel rank.

    `address` is an IP address (Envoy is told addresses, never names). Two endpoints are the same if `key` is.
    """

    address: str
    port: int
    name: str = field(default="", compare=False)
    namespace: str = field(default="default", compare=False)
    labels: Mapping[str, str] = field(default_factory=dict, compare=False, hash=False)
    metrics_port: int | None = field(default=None, compare=False)
    """Where its page of metrics is, when that is neither `port` nor the one that the settings name for all."""
    key: str = field(init=False, compare=False)
    """`ip:port`, with brackets around IPv6: the form of `x-gateway-destination-endpoint`."""

    def __post_init__(self) -> None:
        """Raise ValueError when the address is no IP address or the port is out of 1..65535."""
        ip = ipaddress.ip_address(self.address)
        if not 1 <= self.port <= 65535:
            raise ValueError(f"port {self.port} is not in 1..65535")
        object.__setattr__(self, "address", str(ip))  # one spelling: IPv6 has several
        host = f"[{ip}]" if ip.version == 6 else str(ip)
        object.__setattr__(self, "key", f"{host}:{self.port}")
        if not self.name:
            object.__setattr__(self, "name", self.key)

    def __str__(self) -> str:
        return self.key


class Load(NamedTuple):
    """What one page of `/metrics` says of one endpoint. None: the page does not say, which is not zero."""

    waiting: float | None = None
    """Requests in the engine's queue."""
    running: float | None = None
    """Requests in the running batch."""
    kv_usage: float | None = None
    """Used share of the KV cache, 0..1; of several engines behind one endpoint, that of the fullest."""
    kv_block_size: int | None = None
    """Tokens in a KV cache block."""
    kv_blocks: int | None = None
    """KV cache blocks in all."""
    running_loras: tuple[str, ...] | None = None
    waiting_loras: tuple[str, ...] | None = None
    max_loras: int | None = None
    kv_usage_mean: float | None = None
    """The same on average over the engines behind the endpoint."""


class Reading(NamedTuple):
    """What is known of an endpoint that may be picked."""

    load: Load
    age_s: float | None
    """Seconds since its page was read, None when it never was."""
    in_flight: int
    """Requests picked here that have not ended."""


class RequestHead(NamedTuple):
    """An HTTP request as far as its headers tell. Header names are lower case, values raw bytes as they came."""

    headers: Mapping[str, bytes]
    subset: tuple[str, ...] | None = None
    """The proxy's subset hint (proposal 004): None when it gave none, empty when nothing may be picked."""

    def text(self, name: str) -> str:
        """The header as text, '' when absent. Bytes outside ASCII are read as latin-1, as HTTP does."""
        value = self.headers.get(name)
        return value.decode("latin-1") if value else ""


class InferenceRequest(NamedTuple):
    """A request after its body was read.

    `model` is None when the request names none; `payload` is the parsed JSON object, None when the body is not JSON.
    """

    head: RequestHead
    path: str
    """Without the query string."""
    model: str | None = None
    body_bytes: int = 0
    payload: Mapping[str, object] | None = None
    """May hold NaN, and strings with half a surrogate pair, which only encode with `surrogatepass`."""
    unread: str | None = None
    """Why the body could not be read for a model although there is one, e.g. 'content-encoding gzip'."""
    empty_model: bool = False
    """The request names a model, and the name is empty."""
    by_query: bool = False
    """`model` is what the query string says: neither the path nor the body names one."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """The endpoints a request may go to, as aligned columns: position i of each column is `endpoints[i]`.

    NaN is an unknown signal (never scraped, or stale). `waiting` and `in_flight` are live: the pool's store writes them in
    place, on each pick and release, so read them, never keep or change them.
    Two Candidates with the same `stamp` have the same endpoints, `running` and `kv_usage`: what depends only on those may
    be kept from one request to the next.
    """

    endpoints: Sequence[Endpoint]
    waiting: Column
    """Requests waiting: what the engine said, and what was sent since that its page can't have seen."""
    running: Column
    kv_usage: Column
    in_flight: Column
    """Requests picked here that have not ended, counted by us; never NaN."""
    stamp: object
    trial: int = -1
    """The position of an endpoint of which nothing is known while others are known, and whose turn it is to be tried: it counts
    as much as the best, or it would never get the request that makes it known. -1: there is none."""

    def __len__(self) -> int:
        return len(self.endpoints)


class Pick(NamedTuple):
    """Positions in the candidates, best first: one, or more as ordered fallbacks, with the total points of the first."""

    positions: Sequence[int]
    score: float
    totals: Column = []
    """The total points of each candidate; to read only, and at once."""


class BodyPath(Enum):
    """How the body of a response comes by us."""

    EMPTY = "there is none"
    UNSEEN = "Envoy does not send it to us"
    PIECEWISE = "each piece is answered before the next, so nothing of it may be held back"
    FREE = "pieces go on as the reader likes: later, joined, split"


class ResponseReader(Protocol):
    """Reads a response as it passes, and may change its body. Raises nothing: an answer must not end because of its reader.

    `headers` is said once and before anything else; then `body` for each piece, until one is the last or `rest` is said.
    A stream may end between any two of these. A reader that heard no headers hears nothing.
    """

    def headers(self, status: int, headers: Mapping[str, bytes], path: BodyPath) -> tuple[str, ...]:
        """The names of headers that no longer hold and are to be removed; names and values as in RequestHead.

        Nothing else is said when the path is EMPTY or UNSEEN.
        """
        ...

    @property
    def wants_body(self) -> bool:
        """Known after `headers`: whether anything else is to be said. What nobody wants is passed on unread."""
        ...

    @property
    def only_listens(self) -> bool:
        """Known after `headers`: every piece goes on as it is, and at once, whatever `body` would say; so does the rest."""
        ...

    def body(self, piece: bytes, last: bool) -> bytes:
        """What goes on instead: `piece` itself when it is unchanged."""
        ...

    def rest(self) -> bytes:
        """What is still held back: trailers end the body."""
        ...


class Splice(NamedTuple):
    """Bytes of a body that are replaced: `body[begin:end]` becomes `data`. An insertion has `begin` equal to `end`."""

    begin: int
    end: int
    data: bytes


class HeaderMutation(NamedTuple):
    """Changes to a message's headers (Envoy's `HeaderMutation`), made in this order: removed, set, appended."""

    remove_headers: tuple[str, ...] = ()
    set_headers: tuple[tuple[str, str], ...] = ()
    """Whatever else was there under the name is gone."""
    append_headers: tuple[tuple[str, str], ...] = ()
    """Stand beside what is there under the name already, as a `set-cookie` must."""


NO_MUTATION: Final = HeaderMutation()


class Decision(NamedTuple):
    """What Envoy shall do with the request: go on, with these changes."""

    set_headers: tuple[tuple[str, str], ...] = ()
    remove_headers: tuple[str, ...] = ()
    metadata: tuple[tuple[str, str | tuple[tuple[str, float], ...]], ...] = ()
    """Dynamic metadata of the namespace `envoy.lb`: texts, and structs of numbers."""
    ticket: object = None
    """The director's own, to find the request again when it ends."""
    destination: str = ""
    """The endpoint that was picked, `ip:port`; '' when none was."""
    reader: ResponseReader | None = None
    """Whoever reads the response; None lets it pass unread, at the least cost."""
    splices: tuple[Splice, ...] = ()
    """Changes to the body that was decided on, or to the beginning of it, in order and apart from each other. What their
    change of length needs in the headers is in `remove_headers`."""
    response: HeaderMutation = NO_MUTATION
    """Changes to the headers of the response."""


class Reply(NamedTuple):
    """An answer of our own, instead of the upstream's."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()
    details: str = ""
    """Envoy's response code details, for its access log."""


EMPTY_DECISION = Decision()

__all__ = [
    "EMPTY_DECISION",
    "NO_MUTATION",
    "BodyPath",
    "Candidates",
    "Column",
    "Decision",
    "Endpoint",
    "HeaderMutation",
    "InferenceRequest",
    "Load",
    "Pick",
    "Reading",
    "Reply",
    "RequestHead",
    "ResponseReader",
    "Splice",
]
