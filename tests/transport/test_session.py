"""One stream, from message bytes to answer bytes."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc import names
from extproc.domain import Decision, Numbers, Reply
from extproc.errors import ExtProcError, InternalError, InvalidBody, NoEndpoints, ProtocolError, UnknownModel
from extproc.pb import external_processor_pb2 as pb
from extproc.protocol import Decide, Finished, StreamLimits
from extproc.request import scanner_of
from extproc.transport.codec import Encoder, joined
from extproc.transport.session import Session
from tests.fakes import messages
from tests.fakes.decider import FakeDecider
from tests.fakes.fuzz import examples
from tests.fakes.messages import answers, kinds, set_headers

DECISION = Decision(set_headers=(("X-Gateway-Model-Name", "m"),), ticket=object())
BODY = b'{"model":"m"}'


def session(decider: FakeDecider, limits: StreamLimits = StreamLimits()) -> Session:
    return Session(decider, Encoder(), limits)


def send(stream: Session, *raws: bytes) -> list[bytes]:
    return [joined(answer) for raw in raws for answer in stream.receive(raw)]


def immediate(raws: list[bytes]) -> pb.ImmediateResponse:
    (answer,) = answers(raws)
    assert answer.WhichOneof("response") == "immediate_response"
    return answer.immediate_response


class TestARequest:
    def test_in_full_duplex(self) -> None:
        decider = FakeDecider(DECISION)
        stream = session(decider)
        assert send(stream, messages.request_headers(), messages.request_body(BODY[:5])) == []
        out = send(stream, messages.request_body(BODY[5:], end=True))
        assert kinds(out) == ["request_headers", "request_body"]
        head, body = answers(out)
        assert set_headers(head.request_headers.response.header_mutation) == {"X-Gateway-Model-Name": b"m"}
        streamed = body.request_body.response.body_mutation.streamed_response
        assert (streamed.body, streamed.end_of_stream) == (BODY, True)
        (question,) = decider.asked
        assert question == Decide(question.head, BODY, True)
        assert question.head.headers == messages.JSON_HEADERS

    def test_buffered(self) -> None:
        stream = session(FakeDecider(DECISION))
        assert kinds(send(stream, messages.request_headers(modes=(2, 0)))) == ["request_headers"]
        out = send(stream, messages.request_body(BODY, end=True))
        assert kinds(out) == ["request_body"]
        assert set_headers(answers(out)[0].request_body.response.header_mutation)

    def test_headers_only(self) -> None:
        decider = FakeDecider(DECISION)
        assert kinds(send(session(decider), messages.request_headers(end=True))) == ["request_headers"]
        assert decider.asked[0].body == b""

    def test_with_trailers(self) -> None:
        out = send(
            session(FakeDecider(DECISION)),
            messages.request_headers(),
            messages.request_body(BODY),
            messages.request_trailers(),
        )
        assert kinds(out) == ["request_headers", "request_body", "request_trailers"]

    def test_the_first_message_may_be_garbage(self) -> None:
        with pytest.raises(ProtocolError):
            session(FakeDecider()).receive(b"\xff\xff")

    def test_headers_that_wait_are_read_with_the_next_message(self) -> None:
        decider = FakeDecider(DECISION)
        stream = session(decider)
        assert send(stream, messages.request_headers(subset=None)) == []
        assert kinds(send(stream, messages.request_trailers())) == ["request_headers", "request_trailers"]
        assert decider.asked[0].head.headers == messages.JSON_HEADERS

    def test_gone_while_the_headers_wait(self) -> None:
        decider = FakeDecider(DECISION)
        stream = session(decider)
        send(stream, messages.request_headers())
        stream.closed()
        assert decider.asked == []
        assert decider.ended == []


class TestRefusals:
    @pytest.mark.parametrize("error", [UnknownModel("no such model", param="model"), NoEndpoints("none")])
    def test_errors_are_answered_in_openais_shape_and_counted(self, error: ExtProcError) -> None:
        decider = FakeDecider(error)
        stream = session(decider)
        answer = immediate(send(stream, messages.request_headers(end=True)))
        assert answer.status.code == error.status
        assert orjson.loads(answer.body)["error"] == {
            "message": error.message,
            "type": error.type,
            "param": error.param,
            "code": error.code,
        }
        assert answer.details == f"extproc_{error.code}"
        told = set_headers(answer.headers)
        assert told["content-type"] == b"application/json"
        assert (names.DROPPED_REASON_HEADER in told) == (error.dropped_reason is not None)
        assert decider.errors == [error]

    def test_a_fault_of_ours_is_kept_from_the_client(self) -> None:
        decider = FakeDecider(ZeroDivisionError("the secret"))
        stream = session(decider)
        answer = immediate(send(stream, messages.request_headers(end=True)))
        assert answer.status.code == 500
        assert b"secret" not in answer.SerializeToString()
        (error,) = decider.errors
        assert isinstance(error, InternalError)
        stream.closed()
        assert decider.ended == []

    def test_a_body_that_is_too_large(self) -> None:
        decider = FakeDecider(DECISION)
        stream = session(decider, StreamLimits(max_body_bytes=4))
        answer = immediate(send(stream, messages.request_headers(), messages.request_body(BODY)))
        assert answer.status.code == 413
        assert decider.asked == []
        assert [error.code for error in decider.errors] == ["body_too_large"]

    def test_then_silence(self) -> None:
        decider = FakeDecider(NoEndpoints("none"))
        stream = session(decider)
        send(stream, messages.request_headers(end=True))
        assert send(stream, messages.response_headers(b"503"), messages.response_body(b"x", end=True)) == []
        stream.closed()
        assert decider.ended == []
        assert len(decider.errors) == 1

    def test_a_reply_of_the_director_is_no_error(self) -> None:
        decider = FakeDecider(Reply(200, b"[]", details="extproc_models"))
        answer = immediate(send(session(decider), messages.request_headers(end=True)))
        assert (answer.status.code, answer.body, answer.details) == (200, b"[]", "extproc_models")
        assert decider.errors == []


class TestEarlyMode:
    """With the real scanner."""

    def test_a_request(self) -> None:
        decider = FakeDecider(DECISION)
        stream = session(decider, StreamLimits(scanner_of=scanner_of))
        assert send(stream, messages.request_headers(), messages.request_body(b'{"mod')) == []
        out = send(stream, messages.request_body(b'el":"m",'))
        assert kinds(out) == ["request_headers", "request_body"]
        assert decider.asked[0].parts()[1:3] == (b'{"model":"m",', False)
        out += send(stream, messages.request_body(b'"x":[1'), messages.request_body(b"]}", end=True))
        pieces = [answer.request_body.response.body_mutation.streamed_response for answer in answers(out)[1:]]
        assert [piece.body for piece in pieces] == [b'{"model":"m",', b'"x":[1', b"]}"]
        assert [piece.end_of_stream for piece in pieces] == [False, False, True]

    def test_another_model(self) -> None:
        decider = FakeDecider(DECISION)
        stream = session(decider, StreamLimits(scanner_of=scanner_of))
        send(stream, messages.request_headers(), messages.request_body(b'{"model":"m",'))
        answer = immediate(send(stream, messages.request_body(b'"model":"n"}', end=True)))
        assert (answer.status.code, answer.details) == (400, "extproc_conflicting_model")
        assert [error.code for error in decider.errors] == ["conflicting_model"]
        assert decider.ended == []
        stream.closed()
        assert decider.ended == [(Finished(DECISION, 0, False), "")]

    def test_a_model_in_the_path_waits_for_the_first_piece_only(self) -> None:
        decider = FakeDecider(DECISION)
        stream = session(decider, StreamLimits(scanner_of=scanner_of))
        send(stream, messages.request_headers({":method": b"POST", ":path": b"/v2/models/m/infer"}))
        assert kinds(send(stream, messages.request_body(b'{"model":"n"'))) == ["request_headers", "request_body"]
        assert kinds(send(stream, messages.request_body(b"...", end=True))) == ["request_body"]


@pytest.mark.parametrize("waits", [False, True])
def test_the_first_message_may_wait_for_the_second(waits: bool) -> None:
    decider = FakeDecider(DECISION)
    stream = Session(decider, Encoder(), StreamLimits(), waits=waits)
    whole = [
        joined(answer)
        for raw in (messages.request_headers(), messages.request_body(BODY, end=True))
        for answer in stream.receive(raw)
    ]
    assert kinds(whole) == ["request_headers", "request_body"]
    alone = Session(decider, Encoder(), StreamLimits(), waits=waits)
    assert kinds(alone.receive(messages.request_headers(modes=(2, 0)))) == ["request_headers"]  # an answer nobody else gives


class TestTheDeadline:
    def test_before_the_decision(self) -> None:
        decider = FakeDecider(DECISION)
        stream = session(decider, StreamLimits(request_timeout_s=2))
        send(stream, messages.request_headers(), messages.request_body(BODY[:5]))
        answer = immediate([joined(answer) for answer in stream.expire()])
        assert answer.status.code == 408
        assert orjson.loads(answer.body)["error"]["code"] == "request_timeout"
        assert [error.code for error in decider.errors] == ["request_timeout"]
        assert send(stream, messages.request_body(BODY[5:], end=True)) == []
        assert stream.expire() == []
        stream.closed()
        assert decider.asked == []
        assert decider.ended == []

    @pytest.mark.parametrize("waits", [False, True])
    @pytest.mark.parametrize("raws", [[], [messages.request_headers()], [messages.request_headers(subset=None)]])
    def test_before_the_headers_were_read(self, raws: list[bytes], waits: bool) -> None:
        stream = Session(FakeDecider(DECISION), Encoder(), StreamLimits(), waits=waits)
        send(stream, *raws)
        assert immediate([joined(answer) for answer in stream.expire()]).status.code == 408
        assert send(stream, messages.request_body(BODY, end=True)) == []

    def test_after_the_decision(self) -> None:
        decider = FakeDecider(DECISION)
        stream = session(decider)
        send(stream, messages.request_headers(end=True))
        assert stream.expire() == []
        assert kinds(send(stream, messages.response_headers())) == ["response_headers"]
        stream.closed()
        assert stream.expire() == []
        assert decider.errors == []


class TestTheEnd:
    def test_of_the_response(self) -> None:
        decider = FakeDecider(DECISION)
        stream = session(decider)
        send(stream, messages.request_headers(end=True))
        out = send(
            stream,
            messages.response_headers(b"200", served="10.0.0.1:8000"),
            messages.response_body(b"data: 1"),
            messages.response_body(b"", end=True),
        )
        assert kinds(out) == ["response_headers", "response_body", "response_body"]
        assert decider.ended == [(Finished(DECISION, 200, True), "10.0.0.1:8000")]
        stream.closed()
        assert len(decider.ended) == 1

    def test_of_the_stream(self) -> None:
        decider = FakeDecider(DECISION)
        stream = session(decider)
        send(stream, messages.request_headers(end=True, modes=(4, 0)), messages.response_headers(b"500"))
        assert decider.ended == []
        stream.closed()
        stream.closed()
        assert decider.ended == [(Finished(DECISION, 500, False), "")]

    def test_without_a_request(self) -> None:
        decider = FakeDecider(DECISION)
        session(decider).closed()
        assert decider.ended == []

    def test_by_a_message_that_breaks_the_protocol(self) -> None:
        decider = FakeDecider(DECISION)
        stream = session(decider)
        send(stream, messages.request_headers(end=True))
        with pytest.raises(ProtocolError, match="unexpected RequestHeaders"):
            send(stream, messages.request_headers(end=True))
        stream.closed()
        assert [end.decision for end, _ in decider.ended] == [DECISION]

    def test_messages_after_it_are_dropped(self) -> None:
        stream = session(FakeDecider(DECISION))
        send(stream, messages.request_headers(end=True))
        stream.closed()
        assert send(stream, messages.response_headers(), messages.request_trailers()) == []


@pytest.mark.parametrize(
    ("mode", "raws", "may_leave"),
    [
        (0, [], True),
        (0, [messages.response_headers()], True),
        (0, [messages.response_headers(end=True)], False),
        (4, [], False),
        (4, [messages.response_headers()], False),
        (1, [messages.response_headers()], False),
    ],
)
def test_envoy_may_be_left_when_the_body_of_the_answer_does_not_come_by(mode: int, raws: list[bytes], may_leave: bool) -> None:
    stream = session(FakeDecider(DECISION))
    send(stream, messages.request_headers(end=True, modes=(4, mode)), *raws)
    assert stream.may_leave is may_leave


@pytest.mark.parametrize("mode", [2, 3, 4])
def test_envoy_may_not_be_left_while_the_request_comes_by(mode: int) -> None:
    stream = session(FakeDecider(DECISION))
    assert not stream.may_leave
    send(stream, messages.request_headers(modes=(mode, 0)))
    assert not stream.may_leave
    send(stream, messages.request_body(b"{}"))
    assert stream.may_leave is (mode != 4), "a buffered body is all there is"
    if mode == 4:
        send(stream, messages.request_body(b"", end=True))
        assert stream.may_leave


def test_repr_says_where_it_stands() -> None:
    stream = session(FakeDecider(DECISION))
    send(stream, messages.request_headers(end=True))
    assert repr(stream).startswith("<Session <ExtProcStream PASSING/RESPONSE_START")


raw_messages = st.sampled_from(
    [
        messages.request_headers(),
        messages.request_headers(end=True),
        messages.request_headers(modes=(2, 2)),
        messages.request_headers(modes=(0, 0)),
        messages.request_body(b"abc"),
        messages.request_body(b"abc", end=True),
        messages.request_trailers(),
        messages.response_headers(),
        messages.response_headers(end=True),
        messages.response_body(b"abc", end=True),
        messages.response_trailers(),
        b"\xff",
    ]
)


@examples(60)
@given(st.lists(raw_messages, max_size=8), st.sampled_from([DECISION, NoEndpoints("none")]))
def test_whatever_comes_a_decision_is_given_back_once(raws: list[bytes], outcome: Decision | Exception) -> None:
    decider = FakeDecider(outcome)
    stream = session(decider)
    broken = False
    for raw in raws:
        try:
            answers(stream.receive(raw))
        except ProtocolError:
            broken = True
            break
    stream.closed()
    stream.closed()
    assert len(decider.asked) <= 1
    assert len(decider.ended) == (len(decider.asked) if isinstance(outcome, Decision) else 0)
    assert broken or not raws or raws[0] != b"\xff"


class TestWhatIsLeft:
    """Of a stream that is over: nothing waits for the garbage collector, which would keep its body until it comes."""

    @pytest.fixture(autouse=True)
    def without_collector(self) -> Iterator[None]:
        gc.collect()
        gc.disable()
        yield
        gc.enable()

    @staticmethod
    def refuse(question: Decide) -> Decision:
        try:
            orjson.loads(b"{")
        except ValueError:
            raise InvalidBody("no JSON") from None
        raise AssertionError

    @pytest.mark.parametrize("outcome", [DECISION, refuse], ids=["decided", "refused"])
    def test_nothing(self, outcome: Any) -> None:
        def sessions() -> int:
            return sum(isinstance(thing, Session) for thing in gc.get_objects())

        before = sessions()
        stream = session(FakeDecider(outcome))
        assert send(stream, messages.request_headers(), messages.request_body(BODY, end=True))
        stream.closed()
        assert sessions() == before + 1
        del stream
        assert sessions() == before


class TestNumbersWithTheEnd:
    """Dynamic metadata that ride on the reply that ends an answer."""

    @staticmethod
    def stream(told: list[str], modes: tuple[int, int]) -> Session:
        def report() -> Numbers:
            told.append("asked")
            return (("envoy.lb", "cost", 14.0), ("a", "b", -1.5))

        stream = session(FakeDecider(Decision(report=report, ticket=object())))
        send(stream, messages.request_headers(modes=modes), messages.request_body(BODY, end=True))
        return stream

    @staticmethod
    def numbers(raw: bytes) -> dict[str, dict[str, float]]:
        (answer,) = answers([raw])
        spaces = answer.dynamic_metadata.fields.items()
        return {space: {key: each.number_value for key, each in value.struct_value.fields.items()} for space, value in spaces}

    @pytest.mark.parametrize("modes", [(4, 4), (4, 1), (4, 2)])
    @pytest.mark.parametrize("size", [0, 3, 50_000, 200_000])
    def test_on_the_last_piece(self, modes: tuple[int, int], size: int) -> None:
        told: list[str] = []
        stream = self.stream(told, modes)
        out = send(stream, messages.response_headers(), messages.response_body(b"a"))
        assert told == []
        assert not any(self.numbers(each) for each in out)
        *before, last = send(stream, messages.response_body(b"x" * size, end=True))
        assert not any(self.numbers(each) for each in before)
        assert self.numbers(last) == {"envoy.lb": {"cost": 14.0}, "a": {"b": -1.5}}
        assert kinds([last]) == ["response_body"]
        if modes[1] == 4:
            streamed = [each.response_body.response.body_mutation.streamed_response for each in answers([*before, last])]
            assert b"".join(each.body for each in streamed) == b"x" * size
            assert [each.end_of_stream for each in streamed] == [*[False] * len(before), True]
        stream.closed()
        assert told == ["asked"]

    def test_on_the_trailers(self) -> None:
        told: list[str] = []
        stream = self.stream(told, (4, 4))
        send(stream, messages.response_headers(), messages.response_body(b"a"))
        (last,) = send(stream, messages.response_trailers())
        assert kinds([last]) == ["response_trailers"]
        assert self.numbers(last) == {"envoy.lb": {"cost": 14.0}, "a": {"b": -1.5}}

    def test_not_where_the_answer_is_cut_or_has_no_body(self) -> None:
        told: list[str] = []
        stream = self.stream(told, (4, 4))
        send(stream, messages.response_headers(), messages.response_body(b"a"))
        stream.closed()
        stream = self.stream(told, (4, 4))
        (only,) = send(stream, messages.response_headers(end=True))
        assert self.numbers(only) == {}
        assert told == []

    def test_nothing_to_tell_changes_nothing(self) -> None:
        plain, quiet = session(FakeDecider(Decision())), session(FakeDecider(Decision(report=lambda: ())))
        raws = [
            messages.request_headers(),
            messages.request_body(BODY, end=True),
            messages.response_headers(),
            messages.response_body(b"a", end=True),
        ]
        assert send(plain, *raws) == send(quiet, *raws)
