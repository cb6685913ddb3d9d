"""A request to Anthropic's Messages API, as a chat request of OpenAI's.

| Anthropic | OpenAI |
|---|---|
| `system` | a `system` message before all others |
| `tool_use` and `tool_result` blocks | `tool_calls`, `tool` messages; a result's images go into the user's message behind it |
| `image`, `document` (PDF in base64, text) | `image_url`, `file`, `text` parts |
| `max_tokens` | `max_completion_tokens` at OpenAI, `max_tokens` elsewhere |
| `stop_sequences`, `metadata.user_id` | `stop`, `user` |
| `output_config`, `thinking` with a budget | `response_format`, `reasoning_effort` |
| `stream` | with `stream_options.include_usage`: Anthropic's clients are always told the usage |

Thinking in earlier turns is left out: only the model that signed it can read it. So are `cache_control` and other hints.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from extproc.errors import Untranslatable
from extproc.external.chat_to_messages import GATEWAY
from extproc.external.reading import count_of, dumped, flag_of, list_of, number_of, object_of, refused, text_of, word_of

Out = dict[str, Any]

HINTS: Final = frozenset({"cache_control", "diagnostics"})
"""Of caches only."""
_ELSEWHERE: Final = frozenset({"messages", "model", "system", "max_tokens"})
_EFFORTS: Final = {"low": "low", "medium": "medium", "high": "high", "xhigh": "xhigh", "max": "xhigh"}
_BUDGETS: Final = ((4096, "low"), (16384, "medium"))
"""Tokens of thinking below which an effort is meant."""
_TIERS: Final = {"auto": "auto", "standard_only": "default"}
_THOUGHTS: Final = ("thinking", "redacted_thinking")


def chat_request(payload: Mapping[str, object], model: str, bound: str) -> Out:
    """The request for OpenAI. `bound` is its field for `max_tokens`. Raises Untranslatable with the field."""
    out: Out = {"model": model, "messages": _conversation(payload)}
    out[bound] = count_of(payload.get("max_tokens"), "max_tokens")
    for field, value in payload.items():
        if value is None or field in _ELSEWHERE or field in HINTS or field in GATEWAY:
            continue
        write = _FIELDS.get(field)
        if write is None:
            raise Untranslatable(f"'{field}' can't be asked of an OpenAI model", param=field)
        write(out, value)
    if "tools" not in out:
        out.pop("tool_choice", None)
        out.pop("parallel_tool_calls", None)
    return out


# -- fields ----------------------------------------------------------------------------------------------------------


def _temperature(out: Out, value: object) -> None:
    out["temperature"] = number_of(value, "temperature", 0, 1)


def _top_p(out: Out, value: object) -> None:
    out["top_p"] = number_of(value, "top_p", 0, 1)


def _stop(out: Out, value: object) -> None:
    stops = [text_of(each, "stop_sequences") for each in list_of(value, "stop_sequences")]
    if stops:
        out["stop"] = stops


def _stream(out: Out, value: object) -> None:
    if flag_of(value, "stream"):
        out["stream"] = True
        out["stream_options"] = {"include_usage": True}


def _metadata(out: Out, value: object) -> None:
    for field, each in object_of(value, "metadata").items():
        if field != "user_id":
            raise Untranslatable(f"'metadata.{field}' can't be asked of an OpenAI model", param=f"metadata.{field}")
        if each is not None:
            out["user"] = text_of(each, "metadata.user_id")


def _thinking(out: Out, value: object) -> None:
    asked = object_of(value, "thinking")
    kind = asked.get("type")
    if kind == "enabled":
        budget = count_of(asked.get("budget_tokens"), "thinking.budget_tokens")
        out.setdefault("reasoning_effort", next((effort for most, effort in _BUDGETS if budget < most), "high"))
    elif kind not in ("adaptive", "disabled"):
        raise refused("thinking.type", kind, "enabled, adaptive or disabled")


def _output(out: Out, value: object) -> None:
    for field, each in object_of(value, "output_config").items():
        if each is None:
            continue
        if field == "effort":
            out["reasoning_effort"] = word_of(each, "output_config.effort", _EFFORTS)
        elif field == "format":
            asked = object_of(each, "output_config.format")
            if asked.get("type") != "json_schema":
                raise refused("output_config.format.type", asked.get("type"), "json_schema")
            schema = object_of(asked.get("schema"), "output_config.format.schema")
            named = {"name": "answer", "strict": True, "schema": schema}
            out["response_format"] = {"type": "json_schema", "json_schema": named}
        else:
            raise Untranslatable(f"'output_config.{field}' can't be asked of an OpenAI model", param=f"output_config.{field}")


def _tier(out: Out, value: object) -> None:
    out["service_tier"] = word_of(value, "service_tier", _TIERS)


def _tools(out: Out, value: object) -> None:
    tools = [_tool(tool, f"tools[{at}]") for at, tool in enumerate(list_of(value, "tools"))]
    if tools:
        out["tools"] = tools


def _tool(value: object, where: str) -> Out:
    tool = object_of(value, where)
    if tool.get("type") not in (None, "custom"):
        raise refused(f"{where}.type", tool.get("type"), "custom: tools that Anthropic's servers run are not elsewhere")
    function: Out = {"name": text_of(tool.get("name"), f"{where}.name")}
    if tool.get("description"):
        function["description"] = text_of(tool["description"], f"{where}.description")
    function["parameters"] = object_of(tool.get("input_schema"), f"{where}.input_schema")
    if tool.get("strict"):
        function["strict"] = flag_of(tool["strict"], f"{where}.strict")
    return {"type": "function", "function": function}


def _tool_choice(out: Out, value: object) -> None:
    choice = object_of(value, "tool_choice")
    kind = choice.get("type")
    if kind == "tool":
        name = text_of(choice.get("name"), "tool_choice.name")
        out["tool_choice"] = {"type": "function", "function": {"name": name}}
    else:
        out["tool_choice"] = word_of(
            kind, "tool_choice.type", {"auto": "auto", "any": "required", "none": "none", "tool": "tool"}
        )
    if choice.get("disable_parallel_tool_use"):
        out["parallel_tool_calls"] = not flag_of(choice["disable_parallel_tool_use"], "tool_choice.disable_parallel_tool_use")


_FIELDS: Final[dict[str, Callable[[Out, object], None]]] = {
    "temperature": _temperature,
    "top_p": _top_p,
    "stop_sequences": _stop,
    "stream": _stream,
    "metadata": _metadata,
    "thinking": _thinking,
    "output_config": _output,
    "service_tier": _tier,
    "tools": _tools,
    "tool_choice": _tool_choice,
}


# -- messages --------------------------------------------------------------------------------------------------------


def _conversation(payload: Mapping[str, object]) -> list[Out]:
    chat = _Chat()
    system = payload.get("system")
    if system:
        chat.messages.append({"role": "system", "content": _joined(system, "system")})
    for at, value in enumerate(list_of(payload.get("messages"), "messages")):
        chat.add(object_of(value, f"messages[{at}]"), f"messages[{at}]")
    chat.check_paired("messages")
    if not chat.messages or chat.messages[-1]["role"] == "assistant":
        raise Untranslatable(
            "'messages': expected the last message to be the user's; OpenAI's API goes on from no other", param="messages"
        )
    return chat.messages


class _Chat:
    """The messages so far, and the tool calls that have no result yet."""

    __slots__ = ("_open", "messages")

    def __init__(self) -> None:
        self.messages: list[Out] = []
        self._open: dict[str, None] = {}

    def add(self, message: Mapping[str, object], where: str) -> None:
        role = message.get("role")
        content = message.get("content")
        if role == "user":
            self._user(_blocks(content, f"{where}.content"), f"{where}.content")
        elif role == "assistant":
            self._assistant(_blocks(content, f"{where}.content"), f"{where}.content")
        elif role == "system":
            self.messages.append({"role": "system", "content": _joined(content, f"{where}.content")})
        else:
            raise refused(f"{where}.role", role, "user, assistant or system")

    def check_paired(self, where: str) -> None:
        if self._open:
            raise Untranslatable(f"'{where}': expected a tool_result for each tool_use of the turn before it", param=where)

    def _user(self, blocks: list[Any], where: str) -> None:
        parts: list[Out] = []
        for at, value in enumerate(blocks):
            here = f"{where}[{at}]"
            block = object_of(value, here)
            if block.get("type") == "tool_result":
                self._result(block, parts, here)
            else:
                parts.append(_part(block, here))
        self.check_paired(where)
        if len(parts) == 1 and parts[0]["type"] == "text":
            self.messages.append({"role": "user", "content": parts[0]["text"]})
        elif parts:
            self.messages.append({"role": "user", "content": parts})

    def _result(self, block: Mapping[str, object], parts: list[Out], where: str) -> None:
        identity = text_of(block.get("tool_use_id"), f"{where}.tool_use_id")
        if identity not in self._open:
            field = f"{where}.tool_use_id"
            raise Untranslatable(f"'{field}': expected the id of a tool_use of the assistant's turn before it", param=field)
        del self._open[identity]
        texts: list[str] = []
        content = block.get("content")
        for at, value in enumerate([] if content is None else _blocks(content, f"{where}.content")):
            here = f"{where}.content[{at}]"
            part = _part(object_of(value, here), here)
            if part["type"] == "text":
                texts.append(part["text"])
            else:
                parts.append(part)
        text = "\n".join(texts)
        if block.get("is_error") and not text.lower().startswith("error"):
            text = f"Error: {text}"
        self.messages.append({"role": "tool", "tool_call_id": identity, "content": text})

    def _assistant(self, blocks: list[Any], where: str) -> None:
        self.check_paired(where)
        texts: list[str] = []
        calls: list[Out] = []
        for at, value in enumerate(blocks):
            here = f"{where}[{at}]"
            block = object_of(value, here)
            kind = block.get("type")
            if kind == "text":
                texts.append(text_of(block.get("text"), f"{here}.text"))
            elif kind == "tool_use":
                calls.append(self._call(block, here))
            elif kind not in _THOUGHTS:
                raise refused(f"{here}.type", kind, "text, tool_use or thinking")
        text = "".join(texts)
        if not text and not calls:
            return
        message: Out = {"role": "assistant", "content": text or None}
        if calls:
            message["tool_calls"] = calls
        self.messages.append(message)

    def _call(self, block: Mapping[str, object], where: str) -> Out:
        identity = text_of(block.get("id"), f"{where}.id")
        if identity in self._open:
            raise Untranslatable(f"'{where}.id': two tool_use blocks have one id", param=f"{where}.id")
        self._open[identity] = None
        arguments = dumped(object_of(block.get("input"), f"{where}.input")).decode()
        function = {"name": text_of(block.get("name"), f"{where}.name"), "arguments": arguments}
        return {"id": identity, "type": "function", "function": function}


def _blocks(content: object, where: str) -> list[Any]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else list_of(content, where)


def _joined(content: object, where: str) -> str:
    """Text alone."""
    texts = []
    for at, value in enumerate(_blocks(content, where)):
        block = object_of(value, f"{where}[{at}]")
        if block.get("type") != "text":
            raise refused(f"{where}[{at}].type", block.get("type"), "text")
        texts.append(text_of(block.get("text"), f"{where}[{at}].text"))
    return "\n".join(texts)


def _part(block: Mapping[str, object], where: str) -> Out:
    kind = block.get("type")
    if kind == "text":
        return {"type": "text", "text": text_of(block.get("text"), f"{where}.text")}
    if kind not in ("image", "document"):
        raise refused(f"{where}.type", kind, "text, image, document or tool_result")
    source = object_of(block.get("source"), f"{where}.source")
    how = source.get("type")
    if kind == "image" and how in ("url", "base64"):
        return {"type": "image_url", "image_url": {"url": _url(source, f"{where}.source")}}
    if kind == "document" and how == "text":
        return {"type": "text", "text": text_of(source.get("data"), f"{where}.source.data")}
    if kind == "document" and how == "base64":
        title = block.get("title")
        name = text_of(title, f"{where}.title") if title else "document.pdf"
        return {"type": "file", "file": {"filename": name, "file_data": _url(source, f"{where}.source")}}
    raise refused(f"{where}.source.type", how, "base64 or text" if kind == "document" else "base64 or url")


def _url(source: Mapping[str, object], where: str) -> str:
    if source.get("type") == "url":
        return text_of(source.get("url"), f"{where}.url")
    media_type = text_of(source.get("media_type"), f"{where}.media_type")
    return f"data:{media_type};base64,{text_of(source.get('data'), f'{where}.data')}"
