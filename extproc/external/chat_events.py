"""Anthropic's events as the chunks of a chat completion.

    message_start                      the first chunk: the role
    content_block_start (tool_use)     a tool call's id and name
    content_block_delta                content, reasoning_content, or a piece of a tool call's arguments
    message_delta                      the chunk with finish_reason
    message_stop                       usage, if asked for, and [DONE]
    error                              an error chunk, and [DONE]
    ping, signatures, unknown kinds    nothing

https://platform.claude.com/docs/en/build-with-claude/streaming
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from extproc.credentials import Secret
from extproc.external.dialects import ErrorShape
from extproc.external.faults import Fault, fault_of_event, written
from extproc.external.tokens import FINISH, openai_id, openai_usage
from extproc.response.usage import NO_USAGE, Usage, usage_of

MAX_TOOLS: Final = 1024
"""Tool calls of one answer."""
DONE: Final = b"data: [DONE]\n\n"


class ChatChunks:
    """Feed it one stream's events in order; what it gives back goes on. It says nothing more when `over`."""

    __slots__ = (
        "_after",
        "_before",
        "_created_s",
        "_include_usage",
        "_model",
        "_provider",
        "_reason",
        "_secrets",
        "_stated",
        "_tools",
        "over",
        "usage",
    )

    def __init__(
        self, model: str, created_s: int, include_usage: bool, provider: str, secrets: tuple[Secret, ...] = ()
    ) -> None:
        """`model` is the client's name for the model, `created_s` Unix time; `secrets` are kept out of messages."""
        self._secrets = secrets
        self._model = model
        self._created_s = created_s
        self._include_usage = include_usage
        self._provider = provider
        self._after = b',"usage":null}\n\n' if include_usage else b"}\n\n"
        self._before = self._head("")
        self._tools: dict[int, int] = {}
        """The position among the tool calls of each block that is one."""
        self._stated: dict[str, Any] = {}
        self._reason = ""
        self.usage: Usage = NO_USAGE
        """What the provider stated so far."""
        self.over = False

    def event(self, data: bytes) -> bytes:
        """The chunks that one event becomes."""
        if self.over:
            return b""
        try:
            event = orjson.loads(data)
        except ValueError:
            return self.fault(Fault(502, f"{self._provider} sent an event that is no JSON", "provider_error"))
        if not isinstance(event, dict):
            return b""
        kind = event.get("type")
        if kind == "content_block_delta":
            return self._delta(event)
        if kind == "content_block_start":
            return self._block(event)
        if kind == "message_start":
            return self._start(event)
        if kind == "message_delta":
            return self._end_of_message(event)
        if kind == "message_stop":
            return self._stop()
        if kind == "error":
            return self.fault(fault_of_event(event, self._provider, self._secrets))
        return b""

    def end(self) -> bytes:
        """The stream ended. One that ends before its last event was cut, which the client is to see."""
        if self.over:
            return b""
        return self.fault(Fault(502, f"{self._provider} ended the stream before the answer's end", "provider_error"))

    def fault(self, fault: Fault) -> bytes:
        """The stream ends with an error."""
        self.over = True
        return b"data: " + written(fault, ErrorShape.OPENAI) + b"\n\n" + DONE

    def _head(self, identity: str) -> bytes:
        head = {"id": identity, "object": "chat.completion.chunk", "created": self._created_s, "model": self._model}
        return b"data: " + orjson.dumps(head)[:-1] + b',"choices":'

    def _chunk(self, delta: bytes, finish: bytes = b"null") -> bytes:
        choice = b'[{"index":0,"delta":' + delta + b',"logprobs":null,"finish_reason":' + finish + b"}]"
        return self._before + choice + self._after

    def _start(self, event: dict[str, Any]) -> bytes:
        message = event.get("message")
        if isinstance(message, dict):
            self._before = self._head(openai_id(message.get("id")))
            self._state(message.get("usage"))
        return self._chunk(b'{"role":"assistant","content":"","refusal":null}')

    def _block(self, event: dict[str, Any]) -> bytes:
        block = event.get("content_block")
        if not isinstance(block, dict):
            return b""
        if block.get("type") == "tool_use":
            position = len(self._tools)
            if position >= MAX_TOOLS:
                return self.fault(Fault(502, f"{self._provider} calls more than {MAX_TOOLS} tools", "provider_error"))
            index = event.get("index")
            self._tools[index if isinstance(index, int) else -1] = position
            function = {"name": str(block.get("name") or ""), "arguments": ""}
            call = {"index": position, "id": str(block.get("id") or ""), "type": "function", "function": function}
            return self._chunk(orjson.dumps({"tool_calls": [call]}))
        text = block.get("text")
        return self._chunk(b'{"content":' + orjson.dumps(text) + b"}") if isinstance(text, str) and text else b""

    def _delta(self, event: dict[str, Any]) -> bytes:
        delta = event.get("delta")
        if not isinstance(delta, dict):
            return b""
        kind = delta.get("type")
        if kind == "text_delta":
            text = delta.get("text")
            return self._chunk(b'{"content":' + orjson.dumps(text) + b"}") if isinstance(text, str) else b""
        if kind == "thinking_delta":
            text = delta.get("thinking")
            return self._chunk(b'{"reasoning_content":' + orjson.dumps(text) + b"}") if isinstance(text, str) else b""
        index = event.get("index")
        if kind == "input_json_delta" and isinstance(index, int) and index in self._tools:
            piece = delta.get("partial_json")
            if isinstance(piece, str) and piece:
                call = b'{"tool_calls":[{"index":%d,"function":{"arguments":' % self._tools[index]
                return self._chunk(call + orjson.dumps(piece) + b"}}]}")
        return b""

    def _end_of_message(self, event: dict[str, Any]) -> bytes:
        self._state(event.get("usage"))
        delta = event.get("delta")
        reason = delta.get("stop_reason") if isinstance(delta, dict) else None
        if not isinstance(reason, str) or self._reason:
            return b""
        self._reason = FINISH.get(reason, "stop")
        return self._chunk(b"{}", orjson.dumps(self._reason))

    def _stop(self) -> bytes:
        self.over = True
        finish = b"" if self._reason else self._chunk(b"{}", b'"stop"')
        if not self._include_usage:
            return finish + DONE
        return finish + self._before + b'[],"usage":' + orjson.dumps(openai_usage(self._stated)) + b"}\n\n" + DONE

    def _state(self, stated: object) -> None:
        if isinstance(stated, dict):
            self._stated.update({field: value for field, value in stated.items() if value is not None})
            self.usage = self.usage.then(usage_of({"usage": stated}))
