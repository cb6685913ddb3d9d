"""The chunks of a chat completion as Anthropic's events.

    the first chunk            message_start
    content, reasoning         content_block_start and content_block_delta of a text or thinking block
    a tool call                a tool_use block of its own; it stays open until the end, for its arguments may come in any order
    finish_reason, usage       kept, for they come in either order
    [DONE], or the end         content_block_stop of each open block, message_delta, message_stop
    an error                   error

https://platform.openai.com/docs/api-reference/chat-streaming
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from extproc.credentials import Secret
from extproc.external.dialects import ErrorShape
from extproc.external.faults import Fault, fault_of_event, written
from extproc.external.tokens import STOP, anthropic_id, anthropic_usage
from extproc.external.turns import call_id
from extproc.response.usage import NO_USAGE, Usage, usage_of

MAX_TOOLS: Final = 1024
"""Tool calls of one answer."""
MAX_HELD: Final = 64 * 1024
"""Characters of arguments that come before their tool's name."""


class _Tool:
    """A tool call that began."""

    __slots__ = ("block", "held", "identity", "name")

    def __init__(self) -> None:
        self.identity = ""
        self.name = ""
        self.held = ""
        self.block = -1
        """The number of its block, -1 while its id or name is not known."""


class MessageEvents:
    """Feed it one stream's chunks in order; what it gives back goes on. It says nothing more when `over`."""

    __slots__ = (
        "_blocks",
        "_model",
        "_open",
        "_open_kind",
        "_provider",
        "_reason",
        "_secrets",
        "_started",
        "_stated",
        "_tools",
        "over",
        "usage",
    )

    def __init__(self, model: str, provider: str, secrets: tuple[Secret, ...] = ()) -> None:
        """`model` is the client's name for the model; `secrets` are kept out of messages."""
        self._model = model
        self._secrets = secrets
        self._provider = provider
        self._started = False
        self._blocks = 0
        self._open = -1
        """The block of text or thinking that is open."""
        self._open_kind = ""
        self._tools: dict[int, _Tool] = {}
        self._reason = ""
        self._stated: dict[str, Any] = {}
        self.usage: Usage = NO_USAGE
        """What the provider stated so far."""
        self.over = False

    def event(self, data: bytes) -> bytes:
        """The events that one chunk becomes."""
        if self.over:
            return b""
        if data == b"[DONE]":
            return self._stop()
        try:
            chunk = orjson.loads(data)
        except ValueError:
            return self.fault(Fault(502, f"{self._provider} sent an event that is no JSON", "provider_error"))
        if not isinstance(chunk, dict):
            return b""
        if chunk.get("error") or chunk.get("error_code"):
            return self.fault(fault_of_event(chunk, self._provider, self._secrets))
        out = b"" if self._started else self._start(chunk)
        stated = chunk.get("usage")
        if isinstance(stated, dict):
            self._stated.update(stated)
            self.usage = self.usage.then(usage_of(chunk))
        choices = chunk.get("choices")
        if isinstance(choices, list):
            for choice in choices:
                if isinstance(choice, dict) and not choice.get("index") and not self.over:
                    out += self._choice(choice)
        return out

    def end(self) -> bytes:
        """The stream ended. One that ends without a reason was cut, which the client is to see."""
        if self.over:
            return b""
        if self._reason:
            return self._stop()
        return self.fault(Fault(502, f"{self._provider} ended the stream before the answer's end", "provider_error"))

    def fault(self, fault: Fault) -> bytes:
        """The stream ends with an error."""
        self.over = True
        return b"event: error\ndata: " + written(fault, ErrorShape.ANTHROPIC) + b"\n\n"

    def _start(self, chunk: dict[str, Any]) -> bytes:
        self._started = True
        message: dict[str, Any] = {
            "id": anthropic_id(chunk.get("id")),
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": anthropic_usage({}),
        }
        return _event("message_start", {"type": "message_start", "message": message})

    def _choice(self, choice: dict[str, Any]) -> bytes:
        out = b""
        delta = choice.get("delta")
        if isinstance(delta, dict):
            thought = delta.get("reasoning_content") or delta.get("reasoning")
            if isinstance(thought, str) and thought:
                out += self._text("thinking", thought)
            text = delta.get("content")
            if isinstance(text, str) and text:
                out += self._text("text", text)
            refusal = delta.get("refusal")
            if isinstance(refusal, str) and refusal:
                self._reason = "refusal"
                out += self._text("text", refusal)
            calls = delta.get("tool_calls")
            if isinstance(calls, list):
                for call in calls:
                    if isinstance(call, dict) and not self.over:
                        out += self._call(call)
        finish = choice.get("finish_reason")
        if isinstance(finish, str) and self._reason != "refusal":
            self._reason = STOP.get(finish, "end_turn")
        return out

    def _text(self, kind: str, text: str) -> bytes:
        out = b""
        if self._open_kind != kind:
            out = self._close()
            self._open = self._blocks
            self._open_kind = kind
            self._blocks += 1
            block = {"type": "text", "text": ""} if kind == "text" else {"type": "thinking", "thinking": "", "signature": ""}
            out += _block_start(self._open, block)
        words = b'{"type":"text_delta","text":' if kind == "text" else b'{"type":"thinking_delta","thinking":'
        return out + _delta(self._open, words + orjson.dumps(text) + b"}")

    def _close(self) -> bytes:
        at, self._open, self._open_kind = self._open, -1, ""
        return _block_stop(at) if at >= 0 else b""

    def _call(self, call: dict[str, Any]) -> bytes:
        index = call.get("index")
        position = index if isinstance(index, int) else 0
        tool = self._tools.get(position)
        if tool is None:
            if len(self._tools) >= MAX_TOOLS:
                return self.fault(Fault(502, f"{self._provider} calls more than {MAX_TOOLS} tools", "provider_error"))
            tool = self._tools[position] = _Tool()
        identity, function = call.get("id"), call.get("function")
        if isinstance(identity, str) and identity and not tool.identity:
            tool.identity = call_id(identity)
        piece = ""
        if isinstance(function, dict):
            name, arguments = function.get("name"), function.get("arguments")
            if isinstance(name, str) and name and not tool.name:
                tool.name = name
            piece = arguments if isinstance(arguments, str) else ""
        if tool.block >= 0:
            return _arguments(tool.block, piece)
        tool.held += piece
        if tool.identity and tool.name:
            return self._open_tool(tool)
        if len(tool.held) > MAX_HELD:
            return self.fault(Fault(502, f"{self._provider} calls a tool without a name", "provider_error"))
        return b""

    def _open_tool(self, tool: _Tool) -> bytes:
        out = self._close()
        tool.block = self._blocks
        self._blocks += 1
        out += _block_start(tool.block, {"type": "tool_use", "id": tool.identity, "name": tool.name, "input": {}})
        held, tool.held = tool.held, ""
        return out + _arguments(tool.block, held)

    def _stop(self) -> bytes:
        out = (b"" if self._started else self._start({})) + self._close()
        for tool in self._tools.values():
            if tool.block >= 0:
                out += _block_stop(tool.block)
        self.over = True
        delta = {"stop_reason": self._reason or "end_turn", "stop_sequence": None}
        usage = anthropic_usage(self._stated)
        out += _event("message_delta", {"type": "message_delta", "delta": delta, "usage": usage})
        return out + b'event: message_stop\ndata: {"type":"message_stop"}\n\n'


def _event(kind: str, document: dict[str, Any]) -> bytes:
    return b"event: " + kind.encode() + b"\ndata: " + orjson.dumps(document) + b"\n\n"


def _block_start(at: int, block: dict[str, Any]) -> bytes:
    return _event("content_block_start", {"type": "content_block_start", "index": at, "content_block": block})


def _delta(at: int, delta: bytes) -> bytes:
    return b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":' % at + delta + b"}\n\n"


def _arguments(at: int, piece: str) -> bytes:
    return _delta(at, b'{"type":"input_json_delta","partial_json":' + orjson.dumps(piece) + b"}") if piece else b""


def _block_stop(at: int) -> bytes:
    return _event("content_block_stop", {"type": "content_block_stop", "index": at})
