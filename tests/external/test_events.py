"""Streams from one dialect to the other: each result the same however the stream is cut."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from anthropic.types import RawMessageStreamEvent
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletionChunk
from pydantic import TypeAdapter

from extproc.domain import BodyPath
from extproc.response.sse import MAX_EVENT_BYTES, EventStream
from extproc.response.usage import Usage
from tests.external.parts import CREATED_S, Answer, Called, chat, messages
from tests.external.recorded import (
    CHAT,
    CHAT_STREAM,
    CHAT_TOOLS_STREAM,
    MESSAGE_STREAM,
    MESSAGE_TOOLS_STREAM,
    OPENAI_ERROR,
    OVERLOADED_EVENT,
    START,
    call_delta,
    chunk,
    sse,
    text_block,
    tool_block,
)
from tests.fakes.fuzz import examples

EVENT: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
SSE = "text/event-stream; charset=utf-8"


def to_chat(stream: bytes, *, include_usage: bool = False, **options: Any) -> Answer:
    """An Anthropic stream as an OpenAI client gets it."""
    fields = {"stream": True, **({"stream_options": {"include_usage": True}} if include_usage else {})}
    return Answer(Called("anthropic", chat(**fields)).reader(), stream, kind=SSE, **options)


def to_messages(stream: bytes, **options: Any) -> Answer:
    """An OpenAI stream as an Anthropic client gets it."""
    return Answer(Called("openai", messages(stream=True), "/v1/messages").reader(), stream, kind=SSE, **options)


def chunks(answer: Answer) -> list[dict[str, Any]]:
    """The chunks before [DONE], each as OpenAI's library reads it."""
    events = EventStream().feed(answer.body)
    assert events[-1].data == b"[DONE]"
    documents = [orjson.loads(event.data) for event in events[:-1]]
    for document in documents:
        if "error" not in document:
            ChatCompletionChunk.model_validate(document, strict=True)
    return documents


def events(answer: Answer) -> list[dict[str, Any]]:
    """The events, each as Anthropic's library reads it, under its name."""
    found = EventStream().feed(answer.body)
    documents = [orjson.loads(event.data) for event in found]
    for event, document in zip(found, documents, strict=True):
        assert event.kind.decode() == document["type"]
        if document["type"] != "error":
            EVENT.validate_python(document)
    return documents


def test_text_for_an_openai_client() -> None:
    answer = to_chat(MESSAGE_STREAM)
    said = chunks(answer)
    assert [each["choices"][0]["delta"] for each in said] == [
        {"role": "assistant", "content": "", "refusal": None},
        {"content": "Grüße, "},
        {"content": '"world" 🌍'},
        {},
    ]
    assert {(each["id"], each["model"], each["created"]) for each in said} == {
        ("chatcmpl-013Zva2CMHLNnXjNJJKqJ2EF", "chat", CREATED_S)
    }
    assert [each["choices"][0]["finish_reason"] for each in said] == [None, None, None, "stop"]
    assert "usage" not in said[0]
    assert answer.headers["content-type"] == SSE
    assert "content-length" not in answer.headers
    assert answer.reader.usage == Usage(93, 46, 924)


def test_usage_for_who_asked_for_it() -> None:
    said = chunks(to_chat(MESSAGE_STREAM, include_usage=True))
    assert [each["usage"] for each in said[:-1]] == [None] * 4
    assert said[-1]["choices"] == []
    assert said[-1]["usage"] == {
        "prompt_tokens": 1117,
        "completion_tokens": 46,
        "total_tokens": 1163,
        "prompt_tokens_details": {"cached_tokens": 924},
    }


def test_tools_for_an_openai_client() -> None:
    said = chunks(to_chat(MESSAGE_TOOLS_STREAM))
    thoughts = "".join(each["choices"][0]["delta"].get("reasoning_content", "") for each in said)
    assert thoughts == "Two things to ask."
    calls: dict[int, dict[str, str]] = {}
    for each in said:
        for call in each["choices"][0]["delta"].get("tool_calls", ()):
            into = calls.setdefault(call["index"], {"arguments": ""})
            into.update({field: call[field] for field in ("id",) if field in call})
            into["name"] = call["function"].get("name", into.get("name", ""))
            into["arguments"] += call["function"]["arguments"]
    assert calls == {
        0: {"id": "toolu_01A09q90qw90lq917835lq9", "name": "weather", "arguments": '{"city":"Oslo"}'},
        1: {"id": "toolu_02A09q90qw90lq917835lq9", "name": "time", "arguments": ""},
    }
    assert said[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_text_for_an_anthropic_client() -> None:
    answer = to_messages(CHAT_STREAM)
    said = events(answer)
    assert [each["type"] for each in said] == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert (said[0]["message"]["id"], said[0]["message"]["model"]) == ("msg_123", "chat")
    assert "".join(each["delta"]["text"] for each in said[2:4]) == 'Grüße, "world" 🌍'
    assert said[-2]["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}
    assert said[-2]["usage"] == {
        "input_tokens": 93,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 1024,
        "output_tokens": 46,
    }
    assert answer.reader.usage == Usage(1117, 46, 1024)


def blocks(said: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the blocks hold in the end."""
    out: list[dict[str, Any]] = []
    opened: set[int] = set()
    for each in said:
        if each["type"] == "content_block_start":
            assert each["index"] == len(out)
            opened.add(each["index"])
            out.append({**each["content_block"], "json": ""})
        elif each["type"] == "content_block_delta":
            assert each["index"] in opened
            block, delta = out[each["index"]], each["delta"]
            block["json"] += delta.get("partial_json", "")
            for field in ("text", "thinking"):
                if field in delta:
                    block[field] += delta[field]
        elif each["type"] == "content_block_stop":
            opened.remove(each["index"])
    assert not opened
    return out


def test_tools_for_an_anthropic_client() -> None:
    said = events(to_messages(CHAT_TOOLS_STREAM))
    assert [(block["type"], block.get("text") or block.get("name"), block["json"]) for block in blocks(said)] == [
        ("text", "Let me look.", ""),
        ("tool_use", "weather", '{"city":"Oslo"}'),
        ("tool_use", "time", "{}"),
    ]
    assert said[-2]["delta"]["stop_reason"] == "tool_use"


def test_tool_calls_may_come_mixed_and_their_names_late() -> None:
    stream = sse(
        chunk({"reasoning": "hm"}),
        chunk({"tool_calls": [{"index": 0, "id": "call.a", "function": {"arguments": '{"a"'}}]}),
        chunk(call_delta(1, '{"b":', id="b", name="g")),
        chunk({"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": ":1}"}}]}),
        chunk(call_delta(1, "2}")),
        chunk({"content": "and"}, "tool_calls"),
        named=False,
    )
    found = blocks(events(to_messages(stream)))
    assert [(block["type"], block.get("name"), block.get("id"), block["json"]) for block in found] == [
        ("thinking", None, None, ""),
        ("tool_use", "g", "b", '{"b":2}'),
        ("tool_use", "f", "call_a", '{"a":1}'),
        ("text", None, None, ""),
    ]


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        *(("end_turn", "stop"), ("stop_sequence", "stop"), ("pause_turn", "stop"), ("max_tokens", "length")),
        *(("tool_use", "tool_calls"), ("refusal", "content_filter"), ("model_context_window_exceeded", "length")),
        ("something_new", "stop"),
    ],
)
def test_reasons_of_an_end(reason: str, finish: str) -> None:
    delta = {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": 1}}
    assert chunks(to_chat(sse(START, delta, {"type": "message_stop"}, named=True)))[-1]["choices"][0]["finish_reason"] == finish


@pytest.mark.parametrize(
    ("finish", "reason"),
    [
        *(("stop", "end_turn"), ("length", "max_tokens"), ("tool_calls", "tool_use"), ("function_call", "tool_use")),
        *(("content_filter", "refusal"), ("something_new", "end_turn")),
    ],
)
def test_and_back(finish: str, reason: str) -> None:
    said = events(to_messages(sse(chunk({}, finish), "[DONE]", named=False)))
    assert said[-2]["delta"]["stop_reason"] == reason


def test_a_refusal_is_text_and_a_reason() -> None:
    said = events(to_messages(sse(chunk({"refusal": "No."}), chunk({}, "stop"), "[DONE]", named=False)))
    assert blocks(said)[0]["text"] == "No."
    assert said[-2]["delta"]["stop_reason"] == "refusal"


class TestErrors:
    def test_an_error_in_the_middle_ends_an_openai_clients_stream(self) -> None:
        said = chunks(to_chat(sse(START, *text_block(0, "a"), named=True) + OVERLOADED_EVENT + MESSAGE_STREAM))
        assert said[-1] == {"error": {"message": "Overloaded", "type": "server_error", "param": None, "code": None}}
        assert len(said) == 3

    @pytest.mark.parametrize("error", [OPENAI_ERROR, {"error_code": "INTERNAL_ERROR", "message": "The server had an error"}])
    def test_and_an_anthropic_clients(self, error: dict[str, Any]) -> None:
        said = events(to_messages(sse(chunk({"content": "a"}), error, named=False) + CHAT_STREAM))
        assert said[-1] == {"type": "error", "error": {"type": "api_error", "message": "The server had an error"}}

    @pytest.mark.parametrize(
        "cut", range(0, len(MESSAGE_STREAM) - len('event: message_stop\ndata: {"type":"message_stop"}\n\n'), 97)
    )
    def test_a_stream_that_ends_too_early_is_an_error(self, cut: int) -> None:
        last = chunks(to_chat(MESSAGE_STREAM[:cut]))[-1]
        assert last["error"]["code"] == "provider_error"

    def test_and_for_an_anthropic_client(self) -> None:
        said = events(to_messages(sse(chunk({"content": "a"}), named=False)))
        assert said[-1]["error"] == {"type": "api_error", "message": "openai ended the stream before the answer's end"}

    def test_without_done_a_reason_is_end_enough(self) -> None:
        assert events(to_messages(sse(chunk({"content": "a"}, "stop"), named=False)))[-1] == {"type": "message_stop"}

    def test_a_credential_that_a_stream_refuses_is_not_told(self) -> None:
        error = {"type": "error", "error": {"type": "authentication_error", "message": "bad key sk-live-0123456789"}}
        (said,) = chunks(to_chat(sse(error, named=True)))
        assert said["error"]["message"] == "anthropic refused the gateway's credential (401)"

    def test_a_key_in_a_message_is_redacted(self) -> None:
        error = {"type": "error", "error": {"type": "api_error", "message": "bad key sk-live-0123456789"}}
        (said,) = chunks(to_chat(sse(error, named=True)))
        assert said["error"]["message"] == "bad key [redacted]"

    @pytest.mark.parametrize("data", ["{", "nonsense", "\x00"])
    def test_an_event_that_is_no_json(self, data: str) -> None:
        assert chunks(to_chat(sse(START, data, named=True)))[-1]["error"]["code"] == "provider_error"
        assert events(to_messages(sse(data, named=False)))[-1]["type"] == "error"

    def test_an_event_that_is_too_long(self) -> None:
        stream = sse(START, {"type": "x", "y": "z" * 2 * MAX_EVENT_BYTES}, named=True) + MESSAGE_STREAM
        answer = to_chat(stream, cut=lambda body: [body[at : at + 60_000] for at in range(0, len(body), 60_000)])
        assert chunks(answer)[-1]["error"]["message"] == "anthropic sent an event that is too long"

    def test_too_many_tools(self) -> None:
        many = [event for at in range(1030) for event in tool_block(at, f"t{at}", "f")]
        assert "more than 1024 tools" in chunks(to_chat(sse(START, *many, named=True)))[-1]["error"]["message"]
        calls = [chunk(call_delta(at, "", id=f"t{at}", name="f")) for at in range(1030)]
        assert "more than 1024 tools" in events(to_messages(sse(*calls, named=False)))[-1]["error"]["message"]

    def test_arguments_without_a_name(self) -> None:
        calls = [chunk(call_delta(0, "x" * 1000)) for _ in range(100)]
        assert "without a name" in events(to_messages(sse(*calls, named=False)))[-1]["error"]["message"]


STREAMS = {
    "text to chat": (to_chat, MESSAGE_STREAM),
    "tools to chat": (to_chat, MESSAGE_TOOLS_STREAM),
    "error to chat": (to_chat, MESSAGE_STREAM[:600] + b"\n\n" + OVERLOADED_EVENT),
    "text to messages": (to_messages, CHAT_STREAM),
    "tools to messages": (to_messages, CHAT_TOOLS_STREAM),
    "error to messages": (to_messages, sse(chunk({"content": "a"}), OPENAI_ERROR, named=False)),
}


@pytest.mark.parametrize("name", STREAMS)
@given(data=st.data())
@examples(60)
def test_any_cut_of_a_stream_gives_the_same(name: str, data: st.DataObject) -> None:
    translate, stream = STREAMS[name]
    lines = data.draw(st.sampled_from([b"\n", b"\r\n", b"\r"]))
    stream = stream.replace(b"\n", lines)
    places = data.draw(st.lists(st.integers(0, len(stream)), max_size=12).map(sorted))
    way = data.draw(st.sampled_from([BodyPath.FREE, BodyPath.PIECEWISE]))

    def cut(body: bytes) -> list[bytes]:
        return [body[begin:end] for begin, end in zip([0, *places], [*places, len(body)], strict=True)]

    assert translate(stream, cut=cut, way=way).body == translate(stream).body
    assert translate(stream, cut=cut, trailers=True).body == translate(stream).body


def test_each_event_goes_on_as_it_comes() -> None:
    pieces = [piece + b"\n\n" for piece in MESSAGE_STREAM.split(b"\n\n")[:-1]]
    answer = to_chat(MESSAGE_STREAM, cut=lambda _: pieces)
    assert [bool(piece) for piece in answer.pieces] == [True, False, False, True, True, False, True, True]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 3) | st.sampled_from(["text", "tool_use", "a", ""]),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["type", "index", "text", "id"]), inner, max_size=3)
    ),
    max_leaves=6,
)
FIELDS = st.sampled_from(
    [
        *("type", "index", "delta", "content_block", "message", "usage", "error", "choices", "id", "tool_calls", "content"),
        *("finish_reason", "stop_reason", "function", "error_code"),
    ]
)
KINDS = st.sampled_from(
    ["message_start", "content_block_start", "content_block_delta", "message_delta", "message_stop", "error", "x"]
)
ODD = st.builds(
    lambda kind, fields: {**fields, "type": kind},
    KINDS,
    st.dictionaries(
        FIELDS,
        JSON | st.dictionaries(FIELDS, JSON, max_size=3) | st.lists(st.dictionaries(FIELDS, JSON), max_size=2),
        max_size=4,
    ),
)


@given(st.lists(ODD | JSON, max_size=6), st.booleans())
@examples(400)
def test_whatever_a_provider_sends_the_client_gets_a_stream_that_ends(odd: list[Any], begun: bool) -> None:
    named = b"".join(b"data: " + orjson.dumps(event) + b"\n\n" for event in odd)
    first = sse(START, named=True) if begun else b""
    assert to_chat(first + named).body.endswith(b"data: [DONE]\n\n")
    last = EventStream().feed(to_messages((CHAT_STREAM[:300] if begun else b"") + named).body)[-1]
    assert last.kind in (b"message_stop", b"error")


def test_numbers_of_tokens_that_are_none() -> None:
    said = chunks(to_chat(MESSAGE_STREAM.replace(b'"input_tokens":93', b'"input_tokens":"x"'), include_usage=True))
    assert said[-1]["usage"]["prompt_tokens"] == 1024
    assert CHAT["usage"]["prompt_tokens"] == 1117
