"""A call as its handler sees it: who asks, for which endpoint, with which words in the query and which document in the body."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from prometheus_client import Metric
from starlette.requests import ClientDisconnect, Request

from extproc.api.auth import Caller, Guard
from extproc.api.errors import ApiError, invalid, malformed
from extproc.api.standing import Pools
from extproc.control.audited import Audited
from extproc.control.changes import DeskChange, Origin
from extproc.control.desk import Applied, Desk
from extproc.control.rollouts import Rollouts
from extproc.domain import RequestHead
from extproc.files.read import MAX_BYTES
from extproc.measures import Measures
from extproc.observability.decisions import DecisionLog
from extproc.settings.base import SettingsError, shown
from extproc.settings.document import load_json
from extproc.slices import Slices
from extproc.traffic import TrafficTable

_AT_ONCE_BYTES: Final = 32 * 2**10
"""Of a body that is read on the event loop, in half a millisecond; larger ones are read in a thread."""
_LARGEST: Final = 2**63 - 1


class ShadowsOf(Protocol):
    """Tells of an endpoint's shadows, in shapes for JSON."""

    def __call__(self, endpoint: str, *, limit: int, bodies: bool) -> Sequence[object]:
        """With so many of the last pairs of each, and their bodies where these are kept."""
        ...


class Explain(Protocol):
    """Tells what a request would be told now. Nothing is counted, booked, sent or waited for."""

    def __call__(self, head: RequestHead, body: bytes | None, known: Mapping[str, object] = {}) -> Mapping[str, Any]:
        """As Director.explain."""
        ...


@dataclass(frozen=True, slots=True)
class Inside:
    """What the API shows and changes."""

    desk: Desk
    rollouts: Rollouts
    table: Callable[[], TrafficTable]
    """What is served now."""
    ready: Callable[[str], bool]
    """Whether a pool can serve: it has an endpoint that may be picked."""
    metrics: Callable[[], Iterable[Metric | None]]
    """A little at a time; None is a step on the way."""
    guard: Guard
    slices: Slices
    body_timeout_s: float = 10.0
    measures: Measures | None = None
    """Of served entities; None: nothing is measured."""
    feedback: Callable[[str], None] = lambda verdict: None
    """Counts what became of what was said of an answer."""
    shadows: ShadowsOf | None = None
    """None where there can be none."""
    held: Callable[[str], Mapping[str, str]] = lambda name: {}
    """Of an endpoint: which entities do not follow what they name in a registry, and why."""
    pools: Pools | None = None
    """As they stand; None where there are none."""
    decisions: DecisionLog | None = None
    """The last ones; None where nobody keeps any."""
    audited: Audited | None = None
    """Where what was changed and decided can be looked up; None: nowhere."""
    explain: Explain | None = None
    """What a request would be told now; None where nothing is decided."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One call, whose caller may make it."""

    inside: Inside
    caller: Caller
    request: Request

    @property
    def name(self) -> str:
        """The endpoint in the path."""
        return self.word("name")

    def word(self, key: str) -> str:
        """A variable part of the path."""
        return str(self.request.path_params[key])

    async def document(self) -> Any:
        """The JSON of the body. Raises ApiError."""
        return await document_of(self.request, self.inside.body_timeout_s)

    async def data(self) -> bytes:
        """The body, whatever it is. Raises ApiError."""
        return await body_of(self.request, self.inside.body_timeout_s)

    async def object(self) -> dict[str, Any]:
        """As `document`, which has to be an object."""
        value = await self.document()
        if not isinstance(value, dict):
            kind = {list: "a list", str: "text", bool: "true or false", type(None): "null"}.get(type(value), "a number")
            raise malformed(f"body: got {kind}; expected a JSON object")
        return value

    @property
    def dry_run(self) -> bool:
        """`?dry_run=true`: say what would be, and change nothing."""
        return self.flag("dry_run")

    def number(self, key: str) -> int | None:
        """A whole number of the query, None when it is not there."""
        given = self.request.query_params.get(key)
        return None if given is None else whole(key, given, 0)

    def flag(self, key: str) -> bool:
        """Whether the query says so. Raises ApiError."""
        given = self.request.query_params.get(key, "false").lower()
        if given not in ("true", "false", "1", "0"):
            raise invalid(f"{key}: got {shown(given)}; expected true or false")
        return given in ("true", "1")

    async def change(self, change: DeskChange, *, expected: int | None = None, reason: str | None = None) -> Applied:
        """Make the change, in the caller's name; or look what it would be. Raises DeskError.

        `expected` and `reason`: of the body, when there may be some; they go before those of the query.
        """
        return await self.inside.desk.apply(
            change,
            self.caller.subject,
            expected=self.number("config_version") if expected is None else expected,
            reason=self.request.query_params.get("reason", "") if reason is None else reason,
            origin=Origin("" if self.request.client is None else self.request.client.host, self.approved_by),
            dry_run=self.dry_run,
        )

    @property
    def approved_by(self) -> str:
        """`?approved_by=NAME`: who has said yes to the change, in the caller's words; for the record."""
        return self.request.query_params.get("approved_by", "")


def whole(field: str, value: object, least: int) -> int:
    """A whole number, or its text. Raises ApiError with the field."""
    text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
    if text.isascii() and text.isdigit() and len(text) < 20 and least <= int(text) <= _LARGEST:
        return int(text)
    raise invalid(f"{field}: got {shown(value)}; expected a whole number of at least {least}, of at most 63 bits")


async def document_of(request: Request, timeout_s: float) -> Any:
    """The JSON that a body is. Raises ApiError: as `body_of`, or no JSON, with line and column."""
    data = await body_of(request, timeout_s)
    try:
        if len(data) <= _AT_ONCE_BYTES:
            return load_json(data)
        return await asyncio.to_thread(load_json, data)
    except SettingsError as error:
        raise malformed(f"body: {'; '.join(error.problems)}") from None


async def body_of(request: Request, timeout_s: float) -> bytes:
    """A body that holds something. Raises ApiError: too large, too slow, or packed."""
    encoding = request.headers.get("content-encoding", "identity").lower()
    if encoding != "identity":
        words = f"content-encoding: got {shown(encoding)}; expected a body as it is"
        raise ApiError(415, "INVALID_PARAMETER_VALUE", words)
    said = request.headers.get("content-length", "")
    if said.isascii() and said.isdigit() and (len(said) > 18 or int(said) > MAX_BYTES):
        raise _too_large(f"{said[:20]} bytes")
    data = bytearray()
    try:
        async with asyncio.timeout(timeout_s):
            async for piece in request.stream():
                data += piece
                if len(data) > MAX_BYTES:
                    raise _too_large("more")
    except TimeoutError:
        # What may still come of it belongs to no request any more.
        words = f"body: it did not come within {timeout_s:g} s"
        raise ApiError(408, "REQUEST_TIMEOUT", words, {"Connection": "close"}) from None
    except ClientDisconnect:
        raise malformed("body: the connection ended before it was whole") from None
    if not data.strip():
        raise malformed("body: got nothing; expected a JSON object")
    return bytes(data)


def _too_large(size: str) -> ApiError:
    return invalid(f"body: got {size}; expected at most {MAX_BYTES} bytes")
