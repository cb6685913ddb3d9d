"""What the two providers send, in the shapes that their documentation and their libraries have; text and ids are made up."""

from __future__ import annotations

from typing import Any

import orjson

CHAT: dict[str, Any] = {
    "id": "chatcmpl-B9MHDbslfkBeAs8l4bebGdFOJ6PeG",
    "object": "chat.completion",
    "created": 1741570283,
    "model": "gpt-4o-2024-08-06",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": 'Grüße, "world" 🌍', "refusal": None, "annotations": []},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": {
        "prompt_tokens": 1117,
        "completion_tokens": 46,
        "total_tokens": 1163,
        "prompt_tokens_details": {"cached_tokens": 1024, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "accepted_prediction_tokens": 0},
    },
    "service_tier": "default",
    "system_fingerprint": "fp_fc9f1d7035",
}

CHAT_TOOLS: dict[str, Any] = {
    **CHAT,
    "choices": [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": None,
                "refusal": None,
                "tool_calls": [
                    {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Oslo"}'}},
                    {"id": "call_2", "type": "function", "function": {"name": "time", "arguments": "{}"}},
                ],
            },
            "logprobs": None,
            "finish_reason": "tool_calls",
        }
    ],
}

MESSAGE: dict[str, Any] = {
    "model": "claude-sonnet-5-5-20260801",
    "id": "msg_013Zva2CMHLNnXjNJJKqJ2EF",
    "type": "message",
    "role": "assistant",
    "content": [{"type": "text", "text": 'Grüße, "world" 🌍', "citations": None}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {
        "input_tokens": 93,
        "cache_creation_input_tokens": 100,
        "cache_read_input_tokens": 924,
        "output_tokens": 46,
        "service_tier": "standard",
    },
}

MESSAGE_TOOLS: dict[str, Any] = {
    **MESSAGE,
    "content": [
        {"type": "thinking", "thinking": "Two things to ask.", "signature": "EqQBCgIYAhIM"},
        {"type": "text", "text": "Let me look."},
        {"type": "tool_use", "id": "toolu_01A09q90qw90lq917835lq9", "name": "weather", "input": {"city": "Oslo"}},
        {"type": "tool_use", "id": "toolu_02A09q90qw90lq917835lq9", "name": "time", "input": {}},
    ],
    "stop_reason": "tool_use",
}


def sse(*events: dict[str, Any] | str, named: bool) -> bytes:
    """Events as they are written: Anthropic names them, OpenAI does not."""
    out = b""
    for event in events:
        data = event.encode() if isinstance(event, str) else orjson.dumps(event)
        if named:
            kind = event["type"] if isinstance(event, dict) else "message"
            out += b"event: " + kind.encode() + b"\n"
        out += b"data: " + data + b"\n\n"
    return out


def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
    """One chunk of a chat completion."""
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    head = {"id": "chatcmpl-123", "object": "chat.completion.chunk", "created": 1694268190, "model": "gpt-4o-mini-2024-07-18"}
    return {**head, "system_fingerprint": "fp_44709d6fcb", "choices": [choice], **more}


CHAT_STREAM = sse(
    chunk({"role": "assistant", "content": "", "refusal": None}),
    chunk({"content": "Grüße, "}),
    chunk({"content": '"world" 🌍'}),
    chunk({}, "stop"),
    {**chunk({}), "choices": [], "usage": CHAT["usage"]},
    "[DONE]",
    named=False,
)


def call_delta(index: int, arguments: str, **first: str) -> dict[str, Any]:
    """A piece of a tool call; the first one has `id` and `name`."""
    if not first:
        return {"tool_calls": [{"index": index, "function": {"arguments": arguments}}]}
    function = {"name": first["name"], "arguments": arguments}
    return {"tool_calls": [{"index": index, "id": first["id"], "type": "function", "function": function}]}


CHAT_TOOLS_STREAM = sse(
    chunk({"role": "assistant", "content": None}),
    chunk({"content": "Let me look."}),
    chunk(call_delta(0, "", id="call_1", name="weather")),
    chunk(call_delta(0, '{"city"')),
    chunk(call_delta(0, ':"Oslo"}')),
    chunk(call_delta(1, "", id="call_2", name="time")),
    chunk(call_delta(1, "{}")),
    chunk({}, "tool_calls", usage=None),
    {**chunk({}), "choices": [], "usage": CHAT["usage"]},
    "[DONE]",
    named=False,
)


def text_block(index: int, *pieces: str) -> list[dict[str, Any]]:
    """The events of a block of text."""
    return [
        {"type": "content_block_start", "index": index, "content_block": {"type": "text", "text": ""}},
        *[{"type": "content_block_delta", "index": index, "delta": {"type": "text_delta", "text": piece}} for piece in pieces],
        {"type": "content_block_stop", "index": index},
    ]


def tool_block(index: int, identity: str, name: str, *pieces: str) -> list[dict[str, Any]]:
    """The events of a tool call."""
    block = {"type": "tool_use", "id": identity, "name": name, "input": {}}
    deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
    return [
        {"type": "content_block_start", "index": index, "content_block": block},
        *[{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas],
        {"type": "content_block_stop", "index": index},
    ]


START = {
    "type": "message_start",
    "message": {
        **MESSAGE,
        "content": [],
        "stop_reason": None,
        "usage": {"input_tokens": 93, "cache_creation_input_tokens": 100, "cache_read_input_tokens": 924, "output_tokens": 1},
    },
}
STOP = {"type": "message_stop"}


def message_delta(reason: str) -> dict[str, Any]:
    """The last event but one."""
    delta = {"stop_reason": reason, "stop_sequence": None}
    return {"type": "message_delta", "delta": delta, "usage": {"output_tokens": 46}}


MESSAGE_STREAM = sse(
    START, {"type": "ping"}, *text_block(0, "Grüße, ", '"world" 🌍'), message_delta("end_turn"), STOP, named=True
)

MESSAGE_TOOLS_STREAM = sse(
    START,
    {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": "", "signature": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "Two things to ask."}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "EqQBCgIYAhIM"}},
    {"type": "content_block_stop", "index": 0},
    *text_block(1, "Let me ", "look."),
    {"type": "something_new", "index": 1},
    *tool_block(2, "toolu_01A09q90qw90lq917835lq9", "weather", "", '{"city"', ':"Oslo"}'),
    *tool_block(3, "toolu_02A09q90qw90lq917835lq9", "time", ""),
    message_delta("tool_use"),
    STOP,
    named=True,
)

OVERLOADED_EVENT = sse({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, named=True)
OPENAI_ERROR = {
    "error": {"message": "The server had an error", "type": "server_error", "param": None, "code": "server_overloaded"}
}
OPENAI_401 = {
    "error": {
        "message": "Incorrect API key provided: sk-proj-*****abcd.",
        "type": "invalid_request_error",
        "param": None,
        "code": "invalid_api_key",
    }
}
