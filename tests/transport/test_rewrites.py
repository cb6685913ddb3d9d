"""Rewrites through a whole stream, as bytes: what the proxy is told to send on, in every body mode."""

from __future__ import annotations

import json
import random
from itertools import pairwise

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.pb import external_processor_pb2 as pb
from extproc.protocol import CHUNK_BYTES, StreamLimits
from extproc.request import scanner_of
from extproc.traffic import ModelRewrite, ObjectiveTable, RewriteRule, RewriteTable, RewriteTarget
from extproc.transport.codec import Encoder, joined
from extproc.transport.session import Session
from tests.fakes import messages
from tests.fakes.deployment import Deployment
from tests.fakes.encoders import encode
from tests.fakes.fuzz import examples
from tests.fakes.messages import JSON_HEADERS, answers, set_headers

NONE, STREAMED, BUFFERED, PARTIAL, FDS = range(5)
NEW = "the-model-that-serves"
RULE = RewriteTable([ModelRewrite("ns/r", 0.0, (RewriteRule(("m",), (RewriteTarget(NEW),)),))])
BODY = b'{"messages":["hello"],"model":"m","user":"\\u00e9"}'
EARLY = StreamLimits(scanner_of=scanner_of)


def deployed(*, gateway: bool = False) -> tuple[Deployment, Session]:
    return (deployment := Deployment()), session(deployment, gateway=gateway)


def session(deployment: Deployment, limits: StreamLimits = StreamLimits(), *, gateway: bool = False) -> Session:
    if "p" not in deployment.pools:
        deployment.add_pool("p")
        deployment.traffic["p"].rewrites.replace(RULE)
    picking = (deployment.rewriter(), deployment.admission(), deployment.picker(model_required=True))
    stages = (deployment.headers(), deployment.routes(p=["m"]), *picking) if gateway else picking
    return Session(deployment.director(*stages), Encoder(), limits)


class Told:
    """What the proxy is told about a request."""

    def __init__(self, raws: list[bytes], pieces: list[bytes]) -> None:
        self.set: dict[str, bytes] = {}
        self.removed: set[str] = set()
        self.status = 0
        self.error = ""
        self.body = b""
        self.sizes: list[int] = []
        left = list(pieces)
        for answer in answers(raws):
            kind = answer.WhichOneof("response")
            if kind == "immediate_response":
                self.status = answer.immediate_response.status.code
                self.error = orjson.loads(answer.immediate_response.body)["error"]["code"]
                self.headers = set_headers(answer.immediate_response.headers)
                return
            common = getattr(answer, str(kind)).response
            self._headers(common)
            if kind == "request_body":
                self._body(common, left)

    def _headers(self, common: pb.CommonResponse) -> None:
        self.set |= set_headers(common.header_mutation)
        self.removed |= set(common.header_mutation.remove_headers)

    def _body(self, common: pb.CommonResponse, left: list[bytes]) -> None:
        mutation = common.body_mutation
        kind = mutation.WhichOneof("mutation")
        if kind == "streamed_response":
            self.sizes.append(len(mutation.streamed_response.body))
            self.body += mutation.streamed_response.body
            return
        came = left.pop(0)
        self.body += came if kind is None else b"" if kind == "clear_body" else mutation.body


def exchange(
    stream: Session, pieces: list[bytes], mode: int = FDS, headers: dict[str, bytes] = {}, *, early: bool = False
) -> Told:
    raws = [*stream.receive(messages.request_headers({**JSON_HEADERS, **headers}, modes=(mode, 0), early=early))]
    for at, piece in enumerate(pieces, start=1):
        raws += stream.receive(messages.request_body(piece, end=at == len(pieces)))
    return Told([joined(raw) for raw in raws], pieces)


def renamed(body: bytes = BODY) -> bytes:
    return body.replace(b'"m"', b'"%s"' % NEW.encode())


class TestEveryMode:
    @pytest.mark.parametrize("gateway", [False, True])
    @pytest.mark.parametrize("mode", [FDS, BUFFERED, PARTIAL])
    def test_the_body_goes_on_with_the_new_name(self, mode: int, gateway: bool) -> None:
        _, stream = deployed(gateway=gateway)
        pieces = [BODY[:30], BODY[30:]] if mode == FDS else [BODY]
        told = exchange(stream, pieces, mode, {"content-length": b"%d" % len(BODY), "digest": b"x"})
        assert told.body == renamed()
        assert told.removed == {"content-length", "digest"}
        assert told.set["x-gateway-destination-endpoint"]
        assert told.set.get("X-Gateway-Model-Name") == (b"m" if gateway else None)

    @pytest.mark.parametrize("cut", [1, 9, 25, 31, 32, 33, 34, len(BODY)])
    def test_streamed_pieces_keep_their_answers(self, cut: int) -> None:
        told = exchange(deployed()[1], [BODY[:cut], b"", BODY[cut:]], STREAMED, early=True)
        assert told.body == renamed()

    @pytest.mark.parametrize(("mode", "early"), [(NONE, False), (STREAMED, False)])
    def test_a_body_that_is_not_seen_is_the_operators_mistake(self, mode: int, early: bool) -> None:
        told = Told([joined(raw) for raw in deployed()[1].receive(messages.request_headers(modes=(mode, 0), early=early))], [])
        assert (told.status, told.error) == (500, "body_not_seen")

    def test_a_cut_body_whose_beginning_names_the_model(self) -> None:
        stream = deployed()[1]
        raws = stream.receive(messages.request_headers(modes=(PARTIAL, 0)))
        raws += stream.receive(messages.request_body(BODY[:-10]))
        assert Told([joined(raw) for raw in raws], [BODY[:-10]]).body == renamed()[:-10]

    def test_trailers_end_a_body_that_changes(self) -> None:
        stream = deployed()[1]
        raws = stream.receive(messages.request_headers()) + stream.receive(messages.request_body(BODY))
        raws += stream.receive(messages.request_trailers())
        head, body, trailers = answers([joined(raw) for raw in raws])
        assert body.request_body.response.body_mutation.streamed_response.body == renamed()
        assert not body.request_body.response.body_mutation.streamed_response.end_of_stream
        assert (head.HasField("request_headers"), trailers.HasField("request_trailers")) == (True, True)


class TestFullDuplex:
    def test_a_large_body_in_pieces_that_the_proxy_takes(self) -> None:
        body = b'{"model":"m","messages":["' + random.Random(1).randbytes(2_500_000).hex().encode() + b'"]}'
        cuts = [*range(0, len(body), 32 * 1024), len(body)]
        told = exchange(deployed()[1], [body[begin:end] for begin, end in pairwise(cuts)])
        assert told.body == renamed(body)
        assert max(told.sizes) == CHUNK_BYTES

    @examples(100)
    @given(
        st.dictionaries(st.text(max_size=5), st.text(max_size=30) | st.integers() | st.lists(st.booleans()), max_size=4),
        st.integers(0, 4),
        st.booleans(),
        st.lists(st.integers(0, 300), max_size=8),
        st.booleans(),
    )
    def test_cut_anywhere_only_the_name_changes(
        self, document: dict[str, object], place: int, ascii_: bool, cuts: list[int], early: bool
    ) -> None:
        document.pop("model", None)
        items = list(document.items())
        texts = [json.dumps({key: value}, ensure_ascii=ascii_)[1:-1] for key, value in items]
        before, after = ("{" + ", ".join([*texts[:place], f'"model": "{name}"', *texts[place:]]) + "}" for name in ("m", NEW))
        body = before.encode()
        at = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
        stream = session(Deployment(), EARLY if early else StreamLimits())
        told = exchange(stream, [body[begin:end] for begin, end in pairwise(at)])
        assert told.body == after.encode()


class TestEarlyMode:
    def test_what_comes_behind_the_name_passes_as_it_comes(self) -> None:
        stream = session(Deployment(), EARLY)
        told = exchange(stream, [b'{"model":"m","x"', b':"', b"y" * 100_000, b'"}'])
        assert told.body == b'{"model":"%s","x":"%s"}' % (NEW.encode(), b"y" * 100_000)

    @pytest.mark.parametrize("later", [b'"model":"m"}', b'"mod\\u0065l":"m"}', b'"model":"other"}'])
    def test_the_name_may_not_come_again_not_even_the_same(self, later: bytes) -> None:
        stream = session(Deployment(), EARLY)
        told = exchange(stream, [b'{"model":"m","x":1', b"," + later])
        assert (told.status, told.error) == (400, "conflicting_model")
        assert told.body == b'{"model":"%s","x":1' % NEW.encode()

    def test_it_may_when_nothing_is_rewritten(self) -> None:
        deployment = Deployment()
        stream = session(deployment, EARLY)
        deployment.traffic["p"].rewrites.replace(RewriteTable())
        body = [b'{"model":"m","x":1', b',"model":"m"}']
        assert exchange(stream, body).body == b"".join(body)

    def test_a_beginning_with_the_name_twice_changes_in_both_places(self) -> None:
        stream = session(Deployment(), EARLY)
        told = exchange(stream, [b'{"model":"m","model":"m"', b',"x":1}'])
        assert told.body == b'{"model":"%s","model":"%s","x":1}' % (NEW.encode(), NEW.encode())

    def test_a_compressed_body_is_collected_and_goes_on_plain(self) -> None:
        body = encode(BODY * 1, "gzip")
        told = exchange(session(Deployment(), EARLY), [body[:20], body[20:]], headers={"content-encoding": b"gzip"})
        assert told.body == renamed()
        assert "content-encoding" in told.removed


class TestOtherPlaces:
    def test_a_path(self) -> None:
        body = b'{"inputs":[]}'
        told = exchange(deployed()[1], [body], headers={":path": b"/v2/models/m/infer?x=1"})
        assert told.set[":path"] == b"/v2/models/%s/infer?x=1" % NEW.encode()
        assert told.body == body

    def test_a_path_without_a_body(self) -> None:
        stream = deployed()[1]
        (raw,) = stream.receive(messages.request_headers({":path": b"/v2/models/m/infer", ":method": b"POST"}, end=True))
        assert Told([joined(raw)], []).set[":path"] == b"/v2/models/%s/infer" % NEW.encode()

    def test_a_form(self) -> None:
        form = b'--e\r\nContent-Disposition: form-data; name="model"\r\n\r\nm\r\n--e--\r\n'
        told = exchange(deployed()[1], [form], headers={"content-type": b"multipart/form-data; boundary=e"})
        assert told.body == form.replace(b"\r\n\r\nm", b"\r\n\r\n" + NEW.encode())


class TestTheAnswer:
    @pytest.mark.parametrize("kind", ["application/json", "text/event-stream"])
    def test_names_the_clients_model_again(self, kind: str) -> None:
        stream = deployed()[1]
        stream.receive(messages.request_headers(modes=(FDS, FDS)))
        stream.receive(messages.request_body(BODY, end=True))
        stream.receive(messages.response_headers(b"200", headers={"content-type": kind.encode()}))
        line = b'data: {"id":1,"model":"%s"}\n\n' if "stream" in kind else b'{"model": "%s"}'
        raws = stream.receive(messages.response_body(line % NEW.encode(), end=True))
        body = b"".join(
            answer.response_body.response.body_mutation.streamed_response.body for answer in answers([joined(r) for r in raws])
        )
        assert body == line % b"m"


class TestShedding:
    def test_is_answered_with_the_reason_clients_key_on(self) -> None:
        deployment = Deployment()
        stream = session(deployment)
        deployment.traffic["p"].objectives.replace(ObjectiveTable({"batch": -1}))
        deployment.clock.advance(1.0)  # the pages are stale
        told = exchange(stream, [BODY], headers={"x-llm-d-inference-objective": b"batch"})
        assert (told.status, told.error) == (429, "pool_saturated")
        assert told.headers["x-llm-d-request-dropped-reason"] == b"rejected-saturated"
        assert deployment.pools["p"].store.describe()[0].in_flight == 0
