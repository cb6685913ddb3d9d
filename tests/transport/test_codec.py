"""The codec against protobuf."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from extproc import names
from extproc.domain import EMPTY_DECISION, NO_MUTATION, Decision, HeaderMutation, Reply
from extproc.errors import ProtocolError
from extproc.pb import base_pb2 as core
from extproc.pb import external_processor_pb2 as pb
from extproc.protocol import (
    BodyMode,
    Direction,
    ProtocolConfig,
    RequestBody,
    RequestHeaders,
    RequestTrailers,
    ResponseBody,
    ResponseHeaders,
    ResponseTrailers,
)
from extproc.transport import codec
from tests.fakes import messages
from tests.fakes.fuzz import examples
from tests.fakes.messages import set_headers

FULL_DUPLEX = pb.ProcessingRequest(
    protocol_config=pb.ProtocolConfiguration(request_body_mode=4, response_body_mode=4)  # type: ignore[arg-type]
).SerializeToString()
REQUEST, RESPONSE = Direction.REQUEST, Direction.RESPONSE


class TestDecode:
    @pytest.mark.parametrize("raw_value", [True, False], ids=["raw_value", "value"])
    def test_request_headers(self, raw_value: bool) -> None:
        headers = {":path": b"/v1/completions", "x-name": "é".encode(), "x-empty": b""}
        event = codec.decode(messages.request_headers(headers, raw=raw_value))
        assert isinstance(event, RequestHeaders)
        assert event.head.headers == headers
        assert event.head.subset is None
        assert not event.end_of_stream

    def test_raw_value_wins_over_value(self) -> None:
        message = pb.ProcessingRequest()
        header = message.request_headers.headers.headers.add()
        header.key, header.value, header.raw_value = "a", "text", b"raw"
        event = codec.decode(message.SerializeToString())
        assert isinstance(event, RequestHeaders)
        assert event.head.headers == {"a": b"raw"}

    def test_header_values_are_bytes_of_any_kind(self) -> None:
        event = codec.decode(messages.request_headers({"a": b"\xff\x00"}))
        assert isinstance(event, RequestHeaders)
        assert event.head.headers == {"a": b"\xff\x00"}

    @pytest.mark.parametrize("end", [True, False])
    @pytest.mark.parametrize("data", [b"", b"abc", b"x" * 70_000])
    def test_bodies(self, data: bytes, end: bool) -> None:
        assert codec.decode(messages.request_body(data, end=end)) == RequestBody(data, end, None)
        event = codec.decode(messages.response_body(data, end=end))
        assert event == ResponseBody(data, end)
        assert isinstance(event, ResponseBody)

    def test_trailers(self) -> None:
        assert isinstance(codec.decode(messages.request_trailers()), RequestTrailers)
        assert isinstance(codec.decode(messages.response_trailers()), ResponseTrailers)

    @pytest.mark.parametrize("raw_value", [True, False], ids=["raw_value", "value"])
    @pytest.mark.parametrize(
        ("status", "number"),
        [(b"200", 200), (b"503", 503), (b"", 0), (b"ok", 0), (b"20", 0), (b"-20", 0), (b"9" * 5000, 0)],
    )
    def test_response_headers(self, status: bytes, number: int, raw_value: bool) -> None:
        event = codec.decode(messages.response_headers(status, end=True, raw=raw_value))
        assert event == ResponseHeaders(number, True, "", {":status": status, "content-type": b"application/json"})

    def test_response_without_a_status(self) -> None:
        message = pb.ProcessingRequest()
        messages.put_headers(message.response_headers, {"a": b"b"})
        assert codec.decode(message.SerializeToString()) == ResponseHeaders(0, False, "", {"a": b"b"})

    def test_who_answered(self) -> None:
        event = codec.decode(messages.response_headers(served="10.0.0.1:8000"))
        assert isinstance(event, ResponseHeaders)
        assert event.served == "10.0.0.1:8000"

    def test_who_answered_by_a_header(self) -> None:
        told = {names.SERVED_KEY: b"10.0.0.2:8000"}
        event = codec.decode(messages.response_headers(headers=told))
        assert isinstance(event, ResponseHeaders)
        assert event.served == "10.0.0.2:8000"
        event = codec.decode(messages.response_headers(headers=told, served="10.0.0.1:8000"))
        assert isinstance(event, ResponseHeaders)
        assert event.served == "10.0.0.1:8000", "an upstream may write headers, but no metadata"

    def test_other_metadata_says_nothing_of_who_answered(self) -> None:
        message = pb.ProcessingRequest()
        messages.put_headers(message.response_headers, {":status": b"200"})
        message.metadata_context.filter_metadata[names.LB_NAMESPACE].fields["other"].string_value = "x"
        expected = ResponseHeaders(200, False, "", {":status": b"200"}, of_balancer=True)
        assert codec.decode(message.SerializeToString()) == expected

    def test_metadata_of_others_is_not_of_the_balancer(self) -> None:
        message = pb.ProcessingRequest()
        messages.put_headers(message.response_headers, {":status": b"200"})
        message.metadata_context.filter_metadata["envoy.filters.other"].fields["served"].string_value = "x"
        assert codec.decode(message.SerializeToString()) == ResponseHeaders(200, False, "", {":status": b"200"})


class TestProtocolConfig:
    def test_absent(self) -> None:
        event = codec.decode(messages.request_headers(modes=None))
        assert isinstance(event, RequestHeaders)
        assert event.config is None

    @pytest.mark.parametrize("early", [True, False])
    @pytest.mark.parametrize("mode", BodyMode)
    def test_modes(self, mode: BodyMode, early: bool) -> None:
        event = codec.decode(messages.request_headers(modes=(mode, 1), early=early))
        assert isinstance(event, RequestHeaders)
        assert event.config == ProtocolConfig(mode, BodyMode.STREAMED, early)

    @pytest.mark.parametrize("modes", [(5, 0), (0, 5), (99, 99)])
    def test_modes_that_are_not_known(self, modes: tuple[int, int]) -> None:
        """A newer Envoy's mode: nothing we could answer would be right."""
        with pytest.raises(ProtocolError, match=r"body mode \d+ is not supported"):
            codec.decode(messages.request_headers(modes=modes))

    def test_numbers_are_envoys(self) -> None:
        assert {mode.name: mode.value for mode in BodyMode} == {
            "NONE": 0,
            "STREAMED": 1,
            "BUFFERED": 2,
            "BUFFERED_PARTIAL": 3,
            "FULL_DUPLEX_STREAMED": 4,
        }


class TestSubset:
    @pytest.mark.parametrize(
        ("hint", "subset"),
        [
            (["10.0.0.1:80", "10.0.0.2:80"], ("10.0.0.1:80", "10.0.0.2:80")),
            ("10.0.0.1:80,10.0.0.2:80", ("10.0.0.1:80", "10.0.0.2:80")),
            (" 10.0.0.1:80 , ,10.0.0.2:80,", ("10.0.0.1:80", "10.0.0.2:80")),
            ([" 10.0.0.1 ", ""], ("10.0.0.1",)),
            (["[::1]:80"], ("[::1]:80",)),
            ([], ()),
            ("", ()),
            (None, None),
        ],
    )
    def test_with_headers_and_with_the_body(self, hint: Sequence[str] | str | None, subset: tuple[str, ...] | None) -> None:
        """Proposal 004 sends it with the headers, llm-d's proxies with the body; as a list, or as a string."""
        event = codec.decode(messages.request_headers(subset=hint))
        assert isinstance(event, RequestHeaders)
        assert event.head.subset == subset
        assert codec.decode(messages.request_body(b"abc", end=True, subset=hint)) == RequestBody(b"abc", True, subset)

    def test_other_metadata_is_no_hint(self) -> None:
        message = pb.ProcessingRequest()
        message.request_body.body = b"x"
        message.metadata_context.filter_metadata[names.SUBSET_NAMESPACE].fields["other"].string_value = "10.0.0.1"
        message.metadata_context.filter_metadata[names.LB_NAMESPACE].fields[names.SUBSET_KEY].string_value = "10.0.0.1"
        assert codec.decode(message.SerializeToString()) == RequestBody(b"x", False, None)

    def test_a_hint_of_another_type_allows_nothing(self) -> None:
        message = pb.ProcessingRequest()
        message.request_body.body = b"x"
        message.metadata_context.filter_metadata[names.SUBSET_NAMESPACE].fields[names.SUBSET_KEY].number_value = 1
        assert codec.decode(message.SerializeToString()) == RequestBody(b"x", False, ())


class TestAttempt:
    @pytest.mark.parametrize(
        ("number", "attempt"),
        [(0, 0), (1, 1), (15, 15), (2.0, 2), (-1, None), (1e18, None), (float("nan"), None), (float("inf"), None)],
    )
    def test_its_number(self, number: float, attempt: int | None) -> None:
        message = pb.ProcessingRequest.FromString(messages.request_headers())
        messages.put_attempt(message, number)
        event = codec.decode(message.SerializeToString())
        assert isinstance(event, RequestHeaders)
        assert event.head.attempt == attempt

    def test_a_clients_headers_are_no_attempt(self) -> None:
        told = {names.ATTEMPT_NAMESPACE: b"2", names.ATTEMPT_KEY: b"2", "x-envoy-attempt-count": b"2"}
        event = codec.decode(messages.request_headers({**messages.JSON_HEADERS, **told}))
        assert isinstance(event, RequestHeaders)
        assert event.head.attempt is None

    def test_what_is_no_number_is_no_attempt(self) -> None:
        message = pb.ProcessingRequest.FromString(messages.request_headers())
        message.metadata_context.filter_metadata[names.ATTEMPT_NAMESPACE].fields[names.ATTEMPT_KEY].string_value = "2"
        event = codec.decode(message.SerializeToString())
        assert isinstance(event, RequestHeaders)
        assert event.head.attempt is None


class TestGarbage:
    @pytest.mark.parametrize("raw", [b"\xff", b"\x22", b"\x22\x05ab", b"\x12\x01", b"not protobuf", b"\x22\x80"])
    def test_bytes_that_are_no_message(self, raw: bytes) -> None:
        with pytest.raises(ProtocolError, match="not a ProcessingRequest"):
            codec.decode(raw)

    def test_messages_without_a_request(self) -> None:
        empty = pb.ProcessingRequest()
        only_config = pb.ProcessingRequest()
        only_config.protocol_config.request_body_mode = 4  # type: ignore[assignment]
        for message in (empty, only_config):
            with pytest.raises(ProtocolError, match="has no request"):
                codec.decode(message.SerializeToString())

    @examples(60)
    @given(st.binary(max_size=60) | st.binary(max_size=60).map(lambda rest: b"\x12" + rest))
    def test_any_bytes_are_an_event_or_a_protocol_error(self, raw: bytes) -> None:
        for decode in (codec.decode, codec.can_wait):
            with suppress(ProtocolError):
                decode(raw)


def by_protobuf(raw: bytes) -> RequestBody | None:
    """What protobuf reads, if it is a piece of request body."""
    try:
        message = pb.ProcessingRequest.FromString(raw)
    except DecodeError:
        return None
    if message.WhichOneof("request") != "request_body" or message.HasField("metadata_context"):
        return None
    return RequestBody(message.request_body.body, message.request_body.end_of_stream, None)


def by_us(raw: bytes) -> RequestBody | None:
    try:
        event = codec.decode(raw)
    except ProtocolError:
        return None
    return event if isinstance(event, RequestBody) and event.subset is None else None


class TestBodiesReadByHand:
    @pytest.mark.parametrize("end", [True, False])
    @pytest.mark.parametrize("tail", [b"", b"\x10\x01", b"\x10\x00", b"\x0a", b"\x18\x01"])
    @pytest.mark.parametrize("size", [0, 1, 2, 120, 127, 128, 129, 16_380, 16_384, 16_390, 2**21])
    def test_sizes_and_bodies_that_look_like_fields(self, size: int, tail: bytes, end: bool) -> None:
        raw = messages.request_body(b"x" * size + tail, end=end)
        assert codec.decode(raw) == RequestBody(b"x" * size + tail, end, None)

    @pytest.mark.parametrize(
        "raw",
        [
            b"\x22\x04\x10\x01\x0a\x00",  # the end before the body
            b"\x22\x06\x10\x01\x0a\x02ab",
            b"\x22\x08\x0a\x02ab\x0a\x02cd",  # the body twice: the last counts
            b"\x22\x06\x0a\x02ab\x10\x02",  # true in another spelling
            b"\x22\x07\x0a\x02ab\x10\x81\x00",
            b"\x22\x84\x00\x0a\x02ab",  # lengths longer than they need be
            b"\x22\x05\x0a\x82\x00ab",
            b"\x22\x04\x0a\x02ab\x22\x02\x10\x01",  # the field twice: merged
            b"\x22\x04\x0a\x02ab\x2a\x00",  # and then another kind
            b"\x22\x06\x0a\x02ab\x18\x01",  # a field that is not known
            b"\x22\x80\x80\x80\x80\x10",
            b"\x22\x84\x80\x80\x80\x10\x0a\x02ab",
            b"\x22\x00",
        ],
    )
    def test_unusual_spellings(self, raw: bytes) -> None:
        assert by_us(raw) == by_protobuf(raw)

    @examples(100)
    @given(st.binary(max_size=20), st.booleans(), st.integers(0, 30), st.binary(max_size=3), st.integers(0, 4))
    def test_damaged_messages(self, data: bytes, end: bool, at: int, patch: bytes, drop: int) -> None:
        raw = messages.request_body(data, end=end)
        damaged = raw[:at] + patch + raw[at + drop :]
        assert by_us(damaged) == by_protobuf(damaged)


class TestCanWait:
    """Headers that need no answer before the body comes may be read together with it."""

    def test_a_full_duplex_request_with_a_body(self) -> None:
        for response_mode in range(5):
            assert codec.can_wait(messages.request_headers(modes=(4, response_mode)))
            assert codec.can_wait(messages.request_headers(modes=(4, response_mode), subset=["10.0.0.1"]))

    @pytest.mark.parametrize(
        "raw",
        [
            b"",
            b"\x12",
            messages.request_headers(end=True),
            messages.request_headers(modes=None),
            messages.request_headers(modes=(2, 4)),
            messages.request_headers(modes=(1, 4), early=True),
            messages.request_headers(modes=(4, 4), early=True),
            messages.request_body(b"abc"),
            messages.response_headers(),
        ],
    )
    def test_all_else_is_read_at_once(self, raw: bytes) -> None:
        assert not codec.can_wait(raw)

    def test_the_end_in_an_unusual_place(self) -> None:
        """Fields may come in any order: what ends with the headers must not wait for a body."""
        headers = messages.request_headers(modes=None)[2:]
        for part in (b"\x18\x01" + headers, headers + b"\x18\x81\x00"):
            raw = b"\x12" + bytes([len(part)]) + part
            event = codec.decode(raw + FULL_DUPLEX)
            assert isinstance(event, RequestHeaders)
            assert event.end_of_stream
            assert event.config == ProtocolConfig(BodyMode.FULL_DUPLEX_STREAMED, BodyMode.FULL_DUPLEX_STREAMED)
            assert not codec.can_wait(raw + FULL_DUPLEX)

    @examples(50)
    @given(st.binary(max_size=30), st.sampled_from([b"", b"\x18\x01", b"\x18\x00", b"\x12\x00"]))
    def test_what_may_wait_is_not_the_end(self, value: bytes, more: bytes) -> None:
        part = messages.request_headers({"a": value}, modes=None)[2:] + more
        raw = b"\x12" + bytes([len(part)]) + part + FULL_DUPLEX
        if codec.can_wait(raw):
            event = codec.decode(raw)
            assert isinstance(event, RequestHeaders)
            assert not event.end_of_stream


def chunk_by_protobuf(direction: Direction, body: bytes, end: bool) -> bytes:
    message = pb.ProcessingResponse()
    part = message.request_body if direction is REQUEST else message.response_body
    part.response.body_mutation.streamed_response.body = body
    part.response.body_mutation.streamed_response.end_of_stream = end
    return message.SerializeToString()


AROUND_VARINT_EDGES = [*range(140), *range(16_350, 16_400), 62_000, *range(2**21 - 30, 2**21 + 3, 8)]


@pytest.mark.parametrize("end", [True, False])
@pytest.mark.parametrize("direction", Direction)
def test_chunks_are_protobufs_bytes(direction: Direction, end: bool) -> None:
    for size in AROUND_VARINT_EDGES:
        body = b"\xff" * size
        ours = codec.joined(codec.chunk(direction, body, end))
        assert ours == chunk_by_protobuf(direction, body, end), size


@examples(50)
@given(st.binary(max_size=300), st.booleans(), st.sampled_from(Direction))
def test_chunks_of_anything(body: bytes, end: bool, direction: Direction) -> None:
    assert codec.joined(codec.chunk(direction, memoryview(body), end)) == chunk_by_protobuf(direction, body, end)


class TestAnswers:
    decision = Decision(
        set_headers=(("X-Gateway-Model-Name", "été"), ("x-b", "")),
        remove_headers=("x-gone", "x-too"),
        metadata=(("x-gateway-destination-endpoint", "10.0.0.1:8000"),),
    )

    def test_nothing_changed(self) -> None:
        encoder = codec.Encoder()
        for kind, raw in (
            ("request_headers", encoder.request_headers(None)),
            ("response_headers", encoder.response_headers(NO_MUTATION)),
            ("request_body", encoder.body(REQUEST, None)),
            ("response_body", encoder.body(RESPONSE, None)),
            ("request_trailers", codec.trailers(REQUEST, False)),
            ("response_trailers", codec.trailers(RESPONSE, False)),
        ):
            expected = pb.ProcessingResponse()
            getattr(expected, kind).SetInParent()
            assert pb.ProcessingResponse.FromString(raw) == expected

    @pytest.mark.parametrize("direction", [REQUEST, RESPONSE])
    def test_trailers_behind_a_changed_body_lose_its_digests(self, direction: Direction) -> None:
        answer = pb.ProcessingResponse.FromString(codec.trailers(direction, True))
        assert answer.WhichOneof("response") == f"{direction.value}_trailers"
        mutation = getattr(answer, f"{direction.value}_trailers").header_mutation
        assert list(mutation.remove_headers) == ["content-digest", "content-md5", "digest", "repr-digest", "etag"]
        assert not mutation.set_headers

    @pytest.mark.parametrize("kind", ["headers", "body"])
    def test_a_decision(self, kind: str) -> None:
        encoder = codec.Encoder()
        raw = encoder.request_headers(self.decision) if kind == "headers" else encoder.body(REQUEST, self.decision)
        answer = pb.ProcessingResponse.FromString(raw)
        assert answer.WhichOneof("response") == f"request_{kind}"
        common = getattr(answer, f"request_{kind}").response
        assert set_headers(common.header_mutation) == {"X-Gateway-Model-Name": "été".encode(), "x-b": b""}
        assert {option.append_action for option in common.header_mutation.set_headers} == {
            core.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
        }
        assert not any(option.header.value for option in common.header_mutation.set_headers), "raw_value only"
        assert list(common.header_mutation.remove_headers) == ["x-gone", "x-too"]
        assert common.clear_route_cache
        assert not common.HasField("body_mutation")
        space = answer.dynamic_metadata.fields[names.LB_NAMESPACE].struct_value
        assert space.fields["x-gateway-destination-endpoint"].string_value == "10.0.0.1:8000"

    def test_the_headers_of_a_response(self) -> None:
        mutation = HeaderMutation(("x-gone",), (("x-set", "été"),), (("set-cookie", "a=1"), ("set-cookie", "b=2")))
        encoder = codec.Encoder()
        raw = encoder.response_headers(mutation)
        answer = pb.ProcessingResponse.FromString(raw)
        assert answer.WhichOneof("response") == "response_headers"
        common = answer.response_headers.response
        assert [
            (option.header.key, option.header.raw_value.decode(), option.append.value, option.append_action)
            for option in common.header_mutation.set_headers
        ] == [
            ("x-set", "été", False, core.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD),
            ("set-cookie", "a=1", True, 0),
            ("set-cookie", "b=2", True, 0),
        ]
        assert list(common.header_mutation.remove_headers) == ["x-gone"]
        assert not common.clear_route_cache
        assert encoder.response_headers(HeaderMutation(*mutation)) is raw, "what repeats is kept"

    def test_metadata_of_numbers(self) -> None:
        decision = Decision(metadata=(("a", "x"), ("scores", (("10.0.0.1:8000", 1.5), ("[::1]:1", 0.0))), ("none", ())))
        answer = pb.ProcessingResponse.FromString(codec.Encoder().request_headers(decision))
        space = answer.dynamic_metadata.fields[names.LB_NAMESPACE].struct_value
        scores = space.fields["scores"].struct_value.fields
        assert {key: value.number_value for key, value in scores.items()} == {"10.0.0.1:8000": 1.5, "[::1]:1": 0.0}
        assert space.fields["none"].HasField("struct_value")
        assert space.fields["a"].string_value == "x"

    def test_an_empty_decision_has_a_mutation(self) -> None:
        """Envoy ignores clear_route_cache without one."""
        answer = pb.ProcessingResponse.FromString(codec.Encoder().request_headers(EMPTY_DECISION))
        assert answer.request_headers.response.HasField("header_mutation")
        assert answer.request_headers.response.clear_route_cache
        assert not answer.HasField("dynamic_metadata")

    def test_what_repeats_is_kept_by_what_it_says(self) -> None:
        encoder = codec.Encoder()
        one = encoder.request_headers(self.decision._replace(ticket="one"))
        assert encoder.request_headers(self.decision._replace(ticket="two")) is one
        assert encoder.body(REQUEST, self.decision) != one
        assert encoder.request_headers(self.decision._replace(remove_headers=())) != one
        assert encoder.request_headers(self.decision._replace(metadata=())) != one

    def test_models_that_clients_invent_do_not_fill_the_memory(self) -> None:
        encoder = codec.Encoder()
        for number in range(codec._CACHED + 100):
            encoder.request_headers(Decision(set_headers=(("m", str(number)),)))
            encoder.response_headers(HeaderMutation(set_headers=(("x-receipt", str(number)),)))
        assert len(encoder._kept) <= codec._CACHED
        assert len(encoder._kept_responses) <= codec._CACHED

    def test_immediate(self) -> None:
        reply = Reply(503, b'{"error":{}}', headers=(("x-reason", "none"),), details="extproc_no_endpoints")
        answer = pb.ProcessingResponse.FromString(codec.immediate(reply)).immediate_response
        assert answer.status.code == 503
        assert answer.body == b'{"error":{}}'
        assert answer.details == "extproc_no_endpoints"
        assert set_headers(answer.headers) == {"content-type": b"application/json", "x-reason": b"none"}
