"""The nouns every room speaks of: endpoints, their load, requests, decisions.

This module imports nothing of the package and knows no I/O. Values are immutable unless their
docstring names the one writer.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated, Final, NamedTuple, Protocol, TypeAlias, get_type_hints


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
    node_address: str = field(default="", compare=False)
    """The IP address of its machine; '' when nobody says."""
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


class Source(Enum):
    """Where a signal comes from."""

    PAGE = "page"
    """The engine's page of metrics: as old as that, and unknown without it."""
    LIVE = "live"
    """Counted here: always known."""


class Signal(NamedTuple):
    """One row of `SIGNALS`: what is known of an endpoint's load.

    The store, the candidates, explanations, `/debug/endpoints` and gauges iterate over the table, so a new signal of a page is
    one field of `Load`, and what an engine calls it (`scraping.engines`).
    """

    unit: str
    doc: str
    each: str = ""
    """The gauge of each endpoint, '' for none."""
    mean: str = ""
    """The gauge of the pool's mean over endpoints with fresh pages, '' for none."""
    spread: str = ""
    """The gauge of the standard deviation over the same."""
    name: str = ""
    """Of `Load`'s field, which says it; of another's, as the pages show it."""
    source: Source = Source.PAGE

    def of(self, load: Load, live: object) -> object:
        """Its value; `live` has an attribute for each signal that is counted here."""
        return getattr(load if self.source is Source.PAGE else live, self.name)


class Load(NamedTuple):
    """What one page of `/metrics` says of one endpoint. None: the page does not say, which is not zero."""

    waiting: Annotated[
        float | None,
        Signal(
            "requests",
            "Requests in the engine's queue.",
            each="inference_pool_per_pod_queue_size",
            mean="inference_pool_average_queue_size",
            spread="llm_d_epp_std_dev_queue_size",
        ),
    ] = None
    running: Annotated[
        float | None,
        Signal(
            "requests",
            "Requests in the running batch.",
            each="extproc_endpoint_running_requests",
            mean="inference_pool_average_running_requests",
            spread="llm_d_epp_std_dev_running_requests",
        ),
    ] = None
    kv_usage: Annotated[
        float | None,
        Signal(
            "share",
            "Used share of the KV cache, 0 to 1; of several engines behind one endpoint, that of the fullest.",
            each="extproc_endpoint_kv_cache_usage",
        ),
    ] = None
    kv_block_size: Annotated[int | None, Signal("tokens", "Tokens in a KV cache block.")] = None
    kv_blocks: Annotated[int | None, Signal("blocks", "KV cache blocks in all.")] = None
    running_loras: Annotated[tuple[str, ...] | None, Signal("names", "LoRA adapters of the running batch.")] = None
    waiting_loras: Annotated[tuple[str, ...] | None, Signal("names", "LoRA adapters that requests wait for.")] = None
    max_loras: Annotated[int | None, Signal("adapters", "LoRA adapters that fit into a batch.")] = None
    kv_usage_mean: Annotated[
        float | None,
        Signal(
            "share",
            "Used share of the KV cache, 0 to 1, on average over the engines behind the endpoint.",
            each="extproc_endpoint_kv_cache_usage_mean",
            mean="inference_pool_average_kv_cache_utilization",
            spread="llm_d_epp_std_dev_kv_cache_utilization",
        ),
    ] = None
    started_s: Annotated[float | None, Signal("s", "When its process was started, since 1970: a new one has empty caches.")] = (
        None
    )
    attributes: Annotated[
        Mapping[str, float] | None,
        Signal("numbers", "What else its page says that a plugin reads (`customMetrics`), by the attribute's name."),
    ] = None


NO_LOAD: Final = Load()

SIGNALS: Final[tuple[Signal, ...]] = (
    *(hint.__metadata__[0]._replace(name=name) for name, hint in get_type_hints(Load, include_extras=True).items()),
    Signal(
        "requests",
        "Requests we sent that have not ended.",
        each="extproc_endpoint_inflight_requests",
        name="in_flight",
        source=Source.LIVE,
    ),
)
"""Every signal, in the order in which it is shown."""
COLUMNS: Final = ("waiting", "running", "kv_usage", "in_flight")
"""Signals that most scorers read, kept as columns of numbers; the others are read from `Candidates.loads`."""


def signals_of(load: Load, waiting: float, in_flight: float) -> dict[str, object]:
    """What is known of an endpoint, by the signal's name: the columns, None where unknown, and what else its page says.

    `waiting` is the projected queue, NaN when unknown.
    """
    known: dict[str, object] = {}
    for signal in SIGNALS:
        name = signal.name
        value = known_or_none(waiting) if name == "waiting" else in_flight if name == "in_flight" else getattr(load, name)
        if value is not None or name in COLUMNS:
            known[name] = value
    return known


def known_or_none(value: float) -> float | None:
    return value if value == value else None


class Reading(NamedTuple):
    """What is known of an endpoint that may be picked."""

    load: Load
    age_s: float | None
    """Seconds since its page was read, None when it never was."""
    in_flight: int
    """Requests picked here that have not ended."""
    endpoint: str = ""
    """Its key."""


_LONGEST_WISH_MS: Final = 1e12
"""Thirty years: what is beyond is no wish."""


class RequestHead(NamedTuple):
    """An HTTP request as far as its headers tell. Header names are lower case, values raw bytes as they came."""

    headers: Mapping[str, bytes]
    subset: tuple[str, ...] | None = None
    """The proxy's subset hint (proposal 004): None when it gave none, empty when nothing may be picked."""
    attempt: int | None = None
    """Which attempt at the request this is, from 1: the proxy asks anew for each. 0: there are none yet, and the request may be
    handed over to where they are made. None: the proxy makes no attempts of ours."""

    def text(self, name: str) -> str:
        """The header as text, '' when absent. Bytes outside ASCII are read as latin-1, as HTTP does."""
        value = self.headers.get(name)
        return value.decode("latin-1") if value else ""

    def wished_ms(self, names: Sequence[str]) -> float | None:
        """The milliseconds that the client asks for, above 0, by the first of these headers that is there; None for none, or
        nonsense: nobody answers in no time."""
        for name in names:
            text = self.text(name).strip()
            if text:
                try:
                    value = float(text)
                except ValueError:
                    return None
                return value if 0 < value < _LONGEST_WISH_MS else None
        return None


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
    """May hold NaN, and half surrogate pairs, which encode with `surrogatepass`; of long texts maybe a `document.Document`."""
    unread: str | None = None
    """Why the body could not be read for a model although there is one, e.g. 'content-encoding gzip'."""
    empty_model: bool = False
    """The request names a model, and the name is empty."""
    by_query: bool = False
    """`model` is what the query string says: neither the path nor the body names one."""


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

    def headers(self, status: int, headers: Mapping[str, bytes], path: BodyPath) -> HeaderMutation:
        """Headers that no longer hold are removed, others set, `:status` too; names and values as in RequestHead.

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


def segments(body: bytes, splices: Sequence[Splice]) -> Iterator[bytes | memoryview]:
    """The body with its changes, piece by piece; what stays is a view of it."""
    view, done = memoryview(body), 0
    for begin, end, data in splices:
        yield view[done:begin]
        yield data
        done = end
    yield view[done:]


def spliced(body: bytes, splices: Sequence[Splice]) -> bytes:
    """The body with its changes."""
    return b"".join(segments(body, splices))


class HeaderMutation(NamedTuple):
    """Changes to a message's headers (Envoy's `HeaderMutation`), made in this order: removed, set, appended."""

    remove_headers: tuple[str, ...] = ()
    set_headers: tuple[tuple[str, str], ...] = ()
    """Whatever else was there under the name is gone."""
    append_headers: tuple[tuple[str, str], ...] = ()
    """Stand beside what is there under the name already, as a `set-cookie` must."""


NO_MUTATION: Final = HeaderMutation()


Numbers: TypeAlias = tuple[tuple[str, str, float], ...]
"""Dynamic metadata: namespace, name and value of each."""


class Lease:
    """Lets who made a decision take it back while nothing of its answer has come. The request's carrier writes `revoke`."""

    __slots__ = ("revoke", "revoked")

    def __init__(self) -> None:
        self.revoke: Callable[[int], bool] | None = None
        """The client is told to come again in so many seconds. False: its answer has begun, and it goes on."""
        self.revoked = False  # it was taken back


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
    falls_back: bool = False
    """Somebody else is left to serve the request: a failed answer says so to the proxy, which then asks anew."""
    patience_s: float = 0.0
    """How long the first byte of the answer's body may take, in seconds from here; then it is 504. 0: as long as it likes."""
    served_header: str = ""
    """A header of the response that says which endpoint answered, or why that is not known; '' for none."""
    report: Callable[[], Numbers] | None = None
    """Asked once when the end of the response's body is here: what the proxy is told with it. Raises nothing."""
    lease: Lease | None = None
    """Where the decision may be taken back; None where it may not."""


def is_failure(status: int) -> bool:
    """Whether an answer with this status is the server's failure, and another one may do better: 429 and 5xx."""
    return status == 429 or status >= 500


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
    "Decision",
    "Endpoint",
    "HeaderMutation",
    "InferenceRequest",
    "Lease",
    "Load",
    "Numbers",
    "Reading",
    "Reply",
    "RequestHead",
    "ResponseReader",
    "Splice",
    "is_failure",
    "segments",
    "signals_of",
    "spliced",
]
