"""Whole deployments behind sessions: any request is answered or sent on, nothing is our fault, and no endpoint keeps a request
that is over."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from extproc.director import Director
from extproc.domain import Load
from extproc.errors import ExtProcError, InternalError, ProtocolError
from extproc.observability.responses import ResponseMetrics
from extproc.pb import external_processor_pb2 as pb
from extproc.protocol import StreamLimits
from extproc.request import ParseOptions, scanner_of
from extproc.stages import Stage
from extproc.traffic import AdapterMap, ModelRewrite, ObjectiveTable, RewriteRule, RewriteTable, RewriteTarget
from extproc.transport.codec import Encoder, joined
from extproc.transport.session import Session
from tests.fakes import messages
from tests.fakes.candidates import endpoints
from tests.fakes.deployment import Deployment
from tests.fakes.encoders import ENCODERS
from tests.fuzz.exchange import body_message
from tests.fuzz.source import Source
from tests.fuzz.target import Target

_MARKS: Final[set[str]] = set()
_ENCODER: Final = Encoder()
_ENDPOINTS: Final = endpoints(4)
_PATHS: Final = (
    *(b"/v1/chat/completions", b"/v1/models", b"/v1/models/m", b"/v1/models/m:predict", b"/v2/models/a%20b/infer"),
    *(b"/v2/models/%ff%00/infer", b"/serving-endpoints/m/invocations?x#y", b"", b"/v1/models/%", b"\xff"),
)
_TYPES: Final = (b"application/json", b"multipart/form-data; boundary=b", b"text/plain", b"application/x+json; charset=utf-16")
_CODINGS: Final = (b"identity", b"gzip", b"br", b"zstd", b"lzw", b"gzip, br", b"")
_BODIES: Final = (
    *(b'{"model":"m","messages":[]}', b'{"model":"a","x":NaN}', b'{"model":"other"}', b'{"model":""}', b'{"model":1}'),
    *(b'{"model":"\\ud800"}', b'{"model":"a\\u0000"}', b'{"model":"\xc3\xa9\\u2028"}', b"[]", b"{", b"", b'{"a":1e999}'),
    b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nm\r\n--b--\r\n',
    *('{"model":"m"}'.encode("utf-16"), b'\xef\xbb\xbf{"model":"m"}', b'{"model":"' + b"x" * 5000 + b'"}', b"[" * 2000),
    *(b'{"model":%s}' % (b"9" * 5000), b'{"model":"m"}{}', b'{"model":"m","model":"n"}', b'{"messages":"hi","model":"m"}'),
)
_ANSWERS: Final = (
    b'{"model":"m","usage":{"prompt_tokens":3,"completion_tokens":2}}',
    b'data: {"usage":{"prompt_tokens":3,"completion_tokens":2}}\n\n',
    b'data: {"usage":',
    b"",
    b'{"usage":{"prompt_tokens":-1,"completion_tokens":1e400}}',
)


_HEADERS: Final = (
    *("x-gateway-model-name", "x-gateway-destination-endpoint", "content-length", "x-request-id"),
    *("x-llm-d-model-name-rewrite", "x-gateway-model-name-rewrite"),
)


def _table(*models: str) -> RewriteTable:
    targets = (RewriteTarget("é/new", 3), RewriteTarget("m", 1))
    return RewriteTable([ModelRewrite("ns/r", 0.0, (RewriteRule(models, targets),))])


_TABLES: Final = (RewriteTable(), _table("m", "a b"), _table())


class _Heard(Director):
    """A director that tells of errors which are no client's."""

    def refused(self, error: ExtProcError) -> None:
        assert not isinstance(error, InternalError), "a fault of ours"
        _MARKS.add(f"{error.code}: {error.message[:40]}")
        super().refused(error)


class _Servers:
    """The three kinds of server, over one pool."""

    def __init__(self) -> None:
        made = self.deployment = Deployment()
        self.store = made.add_pool("p", _ENDPOINTS)
        picker = made.picker(responses=ResponseMetrics(made.instruments))
        strict = made.picker(model_required=True)
        rewriter, admission = made.rewriter(), made.admission()
        adapters = AdapterMap({"m": ["a", "b"]})
        stages: tuple[list[Stage], ...] = (
            [made.headers(adapters)],
            [rewriter, admission, strict],
            [made.headers(adapters), made.routes(p=["m", "a", "a b", "é\u2028"]), rewriter, admission, picker],
            [made.headers(adapters), made.routes(p=["m"], q=["n"]), rewriter, admission, picker],
        )
        made.pools["q"] = made.pools["p"]
        made.traffic["p"].objectives.replace(ObjectiveTable({"o": -1, "high": 1}))
        self.directors = [
            _Heard(these, made.stream_metrics, router_metrics=made.router_metrics, options=options, clock=made.clock)
            for these in stages
            for options in (ParseOptions(max_inflated_bytes=3000), ParseOptions(True, True))
        ]

    def reset(self) -> None:
        self.store.replace_endpoints([])
        self.store.replace_endpoints(_ENDPOINTS)
        self.deployment.traffic["p"].rewrites.replace(_TABLES[0])

    def happens(self, source: Source) -> None:
        """What the rest of the server does meanwhile."""
        kind = source.below(7)
        endpoint = source.pick(_ENDPOINTS)
        if kind == 0:
            self.store.page_started(endpoint.key)
            self.store.page_read(endpoint.key, Load(source.below(9), source.below(9), source.below(100) / 100))
        elif kind == 1:
            self.store.page_failed(endpoint.key, "refused", down=source.chance(2))
        elif kind == 2:
            self.store.replace_endpoints(_ENDPOINTS[source.below(4) : 1 + source.below(4)])
        elif kind == 4:
            self.deployment.traffic["p"].rewrites.replace(source.pick(_TABLES))
        elif kind == 3:
            self.deployment.clock.advance(source.below(4))


@lru_cache(maxsize=1)
def _servers() -> _Servers:
    return _Servers()


def _limits(source: Source) -> StreamLimits:
    return StreamLimits(source.pick((64 * 2**20, 100)), 40, scanner_of=scanner_of if source.chance(3) else None)


def _messages(source: Source) -> list[bytes]:
    """A request, and maybe its answer."""
    coding = source.pick(_CODINGS) if source.chance(4) else None
    headers = {
        ":method": source.pick((b"POST", b"POST", b"GET", b"")),
        ":path": source.pick(_PATHS) if source.chance(3) else _PATHS[0],
    }
    headers["content-type"] = source.pick(_TYPES) if source.chance(3) else _TYPES[0]
    if coding is not None:
        headers["content-encoding"] = coding
    if source.chance(6):
        headers[source.pick(_HEADERS)] = source.piece(6)
    if source.chance(8):
        headers["x-llm-d-inference-objective"] = source.pick((b"o", b"high", b"\xff"))
    subset = source.pick((None, None, None, ("10.0.0.1:8000",), (), ("10.0.0.2", "x"), ("\u00e9",)))
    modes = (source.pick((4, 4, 4, 1, 2, 3, 0)), source.pick((4, 0, 1, 2)))
    ends = source.chance(12)
    made = [messages.request_headers(headers, modes=modes, subset=subset, end=ends, early=source.chance(4))]
    if not ends:
        body = source.pick(_BODIES) if not source.chance(4) else source.piece(60)
        name = (coding or b"").decode()
        if name in ENCODERS and not source.chance(6):
            body = ENCODERS[name](body)
        pieces = source.cut(body, 4) or [b""]
        made += [body_message(0x22, piece, end=number == len(pieces) - 1) for number, piece in enumerate(pieces)]
    if source.chance(2):
        kind = source.pick((b"application/json", b"text/event-stream"))
        served = source.pick(("", "10.0.0.1:8000", "10.0.0.2:8000", "10.9.9.9:1", "x"))
        made.append(
            messages.response_headers(source.pick((b"200", b"500", b"206")), served=served, headers={"content-type": kind})
        )
        made += [body_message(0x2A, source.pick(_ANSWERS), end=source.chance(3)) for _ in range(source.below(3))]
    return made


def run(data: bytes) -> None:
    source = Source(data)
    servers = _servers()
    servers.reset()
    director = servers.directors[source.below(len(servers.directors))]
    streams = [(Session(director, _ENCODER, _limits(source)), _messages(source)) for _ in range(1 + source.below(3))]
    open_ = list(streams)
    while open_:
        index = source.below(len(open_))
        session, left = open_[index]
        servers.happens(source)
        try:
            for answer in session.receive(left.pop(0)):
                kind = pb.ProcessingResponse.FromString(joined(answer)).WhichOneof("response")
                _MARKS.add(f"{kind} {session!r:.60}")
        except ProtocolError:
            left.clear()
        if not left or source.chance(12):
            session.closed()
            del open_[index]
    assert all(view.in_flight == 0 for view in servers.store.describe())
    assert all(value == 0 for value in servers.store.candidates().in_flight)
    for member in servers.store._members.values():
        assert member.in_flight == 0
    assert len(servers.deployment.log) <= 1000


TARGET: Final = Target(
    run,
    seeds=[
        bytes(
            [
                director,
                0,
                0,
                early,
                0,
                0,
                0,
                0,
                0,
                0,
                0,
                mode,
                0,
                0,
                0,
                0,
                body,
                *([cut] * 8),
                1,
                0,
                2,
                0,
                0,
                2,
                0,
                2,
                *([5] * 8),
            ]
        )
        for director in range(8)
        for early, mode, body, cut in ((0, 0, 0, 1), (2, 0, 20, 3), (0, 4, 7, 1), (0, 2, 15, 2))
    ],
    marks=_MARKS,
    modules=[
        "extproc.director",
        "extproc.stages.headers",
        "extproc.stages.route",
        "extproc.stages.rewrite",
        "extproc.stages.admit",
        "extproc.stages.pick",
        "extproc.pool.store",
        "extproc.pool.member",
        "extproc.request.parse",
        "extproc.request.rename",
    ],
)
