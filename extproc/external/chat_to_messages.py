"""A chat request of OpenAI's, as a request to Anthropic's Messages API.

| OpenAI | Anthropic |
|---|---|
| `system` and `developer` messages, wherever they stand | `system`, joined with line ends, as Anthropic's own layer for OpenAI clients does |
| `tool_calls`, `tool` messages | `tool_use` and `tool_result` blocks, in the order and pairs that the API asks for |
| `image_url` (https and data URLs), `file` with a PDF | `image` and `document` blocks |
| `max_tokens`, `max_completion_tokens` | `max_tokens`, which is required there: a default |
| `temperature` up to 2 | up to 1 |
| `stop` | `stop_sequences` |
| `response_format` with a schema, `reasoning_effort` | `output_config` |
| `user`, `safety_identifier` | `metadata.user_id` |

What has no counterpart is refused, unless it says what is the case anyway (`n: 1`) or is a hint that changes no answer (`HINTS`).
https://platform.openai.com/docs/api-reference/chat, https://platform.claude.com/docs/en/api/messages
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson

from extproc.errors import Untranslatable
from extproc.external.reading import count_of, flag_of, list_of, number_of, object_of, refused, text_of, word_of
from extproc.external.turns import Block, Turns, call_id

Out = dict[str, Any]

HINTS: Final = frozenset({"prompt_cache_key", "prompt_cache_retention", "prompt_cache_options"})
"""Of caches only."""
GATEWAY: Final = frozenset({"client_request_id", "usage_context"})
"""Said to the gateway: no provider gets them, whatever it speaks."""
_ELSEWHERE: Final = frozenset(
    {"messages", "model", "tool_choice", "parallel_tool_calls", "stream_options", "max_tokens", "max_completion_tokens"}
)
"""Read by name below, or, of `stream_options`, by the reader of the answer."""
_AS_IT_IS: Final[dict[str, tuple[object, ...]]] = {
    "n": (1,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "store": (False,),
    "metadata": ({},),
    "modalities": (["text"],),
    "verbosity": ("medium",),
    "functions": ([],),
    "moderation": (),
}
"""What these say when they ask for nothing special."""
_EFFORTS: Final = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "xhigh", "max": "max"}
_TIERS: Final = {"auto": "auto", "default": "standard_only"}
_NO_SCHEMA: Final = {"type": "object", "properties": {}}


def messages_request(payload: Mapping[str, object], model: str, max_tokens: int) -> Out:
    """The request for Anthropic. `max_tokens` is for a request that sets no bound. Raises Untranslatable with the field."""
    out: Out = {"model": model, "max_tokens": _bound(payload, max_tokens)}
    system, messages = _conversation(list_of(payload.get("messages"), "messages"))
    if system:
        out["system"] = system
    out["messages"] = messages
    for field, value in payload.items():
        if value is None or field in _ELSEWHERE or field in HINTS or field in GATEWAY:
            continue
        write = _FIELDS.get(field)
        if write is not None:
            write(out, value)
        elif field not in _AS_IT_IS or value not in _AS_IT_IS[field]:
            raise Untranslatable(f"'{field}' can't be asked of an Anthropic model", param=field)
    _tool_choice(out, payload)
    return out


def _bound(payload: Mapping[str, object], max_tokens: int) -> int:
    for field in ("max_completion_tokens", "max_tokens"):
        value = payload.get(field)
        if value is not None:
            return count_of(value, field)
    return max_tokens


# -- fields ----------------------------------------------------------------------------------------------------------


def _temperature(out: Out, value: object) -> None:
    out["temperature"] = min(number_of(value, "temperature", 0, 2), 1)


def _top_p(out: Out, value: object) -> None:
    out["top_p"] = number_of(value, "top_p", 0, 1)


def _top_k(out: Out, value: object) -> None:
    out["top_k"] = count_of(value, "top_k")


def _stop(out: Out, value: object) -> None:
    stops = [value] if isinstance(value, str) else [text_of(each, "stop") for each in list_of(value, "stop")]
    if stops:
        out["stop_sequences"] = stops


def _stream(out: Out, value: object) -> None:
    if flag_of(value, "stream"):
        out["stream"] = True


def _user(out: Out, value: object) -> None:
    out["metadata"] = {"user_id": text_of(value, "user")}


def _effort(out: Out, value: object) -> None:
    if value == "none":
        out["thinking"] = {"type": "disabled"}
    else:
        out.setdefault("output_config", {})["effort"] = word_of(value, "reasoning_effort", _EFFORTS)


def _thinking(out: Out, value: object) -> None:
    out["thinking"] = object_of(value, "thinking")


def _tier(out: Out, value: object) -> None:
    out["service_tier"] = word_of(value, "service_tier", _TIERS)


def _format(out: Out, value: object) -> None:
    asked = object_of(value, "response_format")
    kind = asked.get("type")
    if kind == "text":
        return
    if kind != "json_schema":
        raise refused("response_format.type", kind, "text or json_schema, which Anthropic models know")
    schema = object_of(asked.get("json_schema"), "response_format.json_schema").get("schema")
    written = {"type": "json_schema", "schema": object_of(schema, "response_format.json_schema.schema")}
    out.setdefault("output_config", {})["format"] = written


def _tools(out: Out, value: object) -> None:
    tools = [_tool(tool, f"tools[{at}]") for at, tool in enumerate(list_of(value, "tools"))]
    if tools:
        out["tools"] = tools


def _tool(value: object, where: str) -> Out:
    tool = object_of(value, where)
    if tool.get("type", "function") != "function":
        raise refused(f"{where}.type", tool.get("type"), "function")
    function = object_of(tool.get("function"), f"{where}.function")
    parameters = function.get("parameters")
    schema = _NO_SCHEMA if parameters is None else object_of(parameters, f"{where}.function.parameters")
    written: Out = {"name": text_of(function.get("name"), f"{where}.function.name")}
    if function.get("description"):
        written["description"] = text_of(function["description"], f"{where}.function.description")
    written["input_schema"] = schema if "type" in schema else {"type": "object", **schema}
    if function.get("strict"):
        written["strict"] = flag_of(function["strict"], f"{where}.function.strict")
    return written


_FIELDS: Final[dict[str, Callable[[Out, object], None]]] = {
    "temperature": _temperature,
    "top_p": _top_p,
    "top_k": _top_k,
    "stop": _stop,
    "stream": _stream,
    "user": _user,
    "safety_identifier": _user,
    "reasoning_effort": _effort,
    "thinking": _thinking,
    "service_tier": _tier,
    "response_format": _format,
    "tools": _tools,
}


def _tool_choice(out: Out, payload: Mapping[str, object]) -> None:
    """`tool_choice` and `parallel_tool_calls`, which are one thing there."""
    choice, parallel = payload.get("tool_choice"), payload.get("parallel_tool_calls")
    one_at_a_time = parallel is not None and not flag_of(parallel, "parallel_tool_calls")
    if "tools" not in out:
        if choice not in (None, "auto", "none"):
            raise Untranslatable("'tool_choice': expected tools to choose from", param="tool_choice")
        return
    written: Out | None = None
    if isinstance(choice, str):
        written = {"type": word_of(choice, "tool_choice", {"auto": "auto", "none": "none", "required": "any"})}
    elif choice is not None:
        named = object_of(choice, "tool_choice")
        if named.get("type") != "function":
            raise refused("tool_choice.type", named.get("type"), "function")
        function = object_of(named.get("function"), "tool_choice.function")
        written = {"type": "tool", "name": text_of(function.get("name"), "tool_choice.function.name")}
    if one_at_a_time:
        written = written or {"type": "auto"}
        if written["type"] != "none":
            written["disable_parallel_tool_use"] = True
    if written is not None:
        out["tool_choice"] = written


# -- messages --------------------------------------------------------------------------------------------------------


def _conversation(messages: list[Any]) -> tuple[str, list[Out]]:
    system: list[str] = []
    turns = Turns()
    for at, value in enumerate(messages):
        where = f"messages[{at}]"
        message = object_of(value, where)
        role = message.get("role")
        if role == "user":
            turns.say("user", _user_blocks(message, where), where)
        elif role == "assistant":
            _assistant(turns, message, where)
        elif role == "tool":
            identity = call_id(text_of(message.get("tool_call_id"), f"{where}.tool_call_id"))
            turns.result(identity, _result(message, identity, where), f"{where}.tool_call_id")
        elif role in ("system", "developer"):
            system.append(_text(message, where))
        else:
            raise refused(f"{where}.role", role, "system, developer, user, assistant or tool")
    return "\n".join([text for text in system if text.strip()]), turns.whole()


def _check_name(message: Mapping[str, object], where: str) -> None:
    if message.get("name"):
        raise Untranslatable(f"'{where}.name': Anthropic's API knows no names of participants", param=f"{where}.name")


def _text(message: Mapping[str, object], where: str) -> str:
    """Content that is text alone."""
    _check_name(message, where)
    content = message.get("content")
    if isinstance(content, str):
        return content
    field = f"{where}.content"
    return "\n".join([_part_text(part, f"{field}[{at}]") for at, part in enumerate(list_of(content, field))])


def _part_text(value: object, where: str) -> str:
    part = object_of(value, where)
    if part.get("type") != "text":
        raise refused(f"{where}.type", part.get("type"), "text")
    return text_of(part.get("text"), f"{where}.text")


def _user_blocks(message: Mapping[str, object], where: str) -> list[Block]:
    _check_name(message, where)
    content = message.get("content")
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    field = f"{where}.content"
    return [_user_block(part, f"{field}[{at}]") for at, part in enumerate(list_of(content, field))]


def _user_block(value: object, where: str) -> Block:
    part = object_of(value, where)
    kind = part.get("type")
    if kind == "text":
        return {"type": "text", "text": text_of(part.get("text"), f"{where}.text")}
    if kind == "image_url":
        image = object_of(part.get("image_url"), f"{where}.image_url")
        return {"type": "image", "source": _source(image.get("url"), f"{where}.image_url.url")}
    if kind == "file":
        file = object_of(part.get("file"), f"{where}.file")
        source = _source(file.get("file_data"), f"{where}.file.file_data")
        return {"type": "document", "source": source}
    raise refused(f"{where}.type", kind, "text, image_url or file")


def _source(value: object, where: str) -> Block:
    url = text_of(value, where)
    if url.startswith(("https://", "http://")):
        return {"type": "url", "url": url}
    head, comma, data = url.partition(",")
    if not comma or not head.startswith("data:") or not head.endswith(";base64"):
        raise Untranslatable(f"'{where}': expected an https URL or a data URL in base64", param=where)
    return {"type": "base64", "media_type": head[5:-7].partition(";")[0].lower(), "data": data}


def _result(message: Mapping[str, object], identity: str, where: str) -> Block:
    content = message.get("content")
    block: Block = {"type": "tool_result", "tool_use_id": identity}
    if isinstance(content, str):
        text = content
    else:
        field = f"{where}.content"
        text = "\n".join([_part_text(part, f"{field}[{at}]") for at, part in enumerate(list_of(content, field))])
    if text.strip():
        block["content"] = text
    return block


def _assistant(turns: Turns, message: Mapping[str, object], where: str) -> None:
    _check_name(message, where)
    for field in ("function_call", "audio"):
        if message.get(field):
            raise Untranslatable(f"'{where}.{field}' can't be said to an Anthropic model", param=f"{where}.{field}")
    blocks = _assistant_blocks(message, where)
    calls = list_of(message.get("tool_calls") or [], f"{where}.tool_calls")
    uses = [_use(call, f"{where}.tool_calls[{at}]") for at, call in enumerate(calls)]
    turns.say("assistant", blocks + uses, where)
    for at, use in enumerate(uses):
        turns.call(use["id"], f"{where}.tool_calls[{at}].id")


def _assistant_blocks(message: Mapping[str, object], where: str) -> list[Block]:
    content = message.get("content")
    texts: list[str] = []
    if isinstance(content, str):
        texts.append(content)
    elif content is not None:
        for at, value in enumerate(list_of(content, f"{where}.content")):
            here = f"{where}.content[{at}]"
            part = object_of(value, here)
            kind = part.get("type")
            if kind not in ("text", "refusal"):
                raise refused(f"{here}.type", kind, "text or refusal")
            texts.append(text_of(part.get(kind), f"{here}.{kind}"))
    if message.get("refusal"):
        texts.append(text_of(message["refusal"], f"{where}.refusal"))
    return [{"type": "text", "text": text} for text in texts]


def _use(value: object, where: str) -> Block:
    call = object_of(value, where)
    if call.get("type", "function") != "function":
        raise refused(f"{where}.type", call.get("type"), "function")
    function = object_of(call.get("function"), f"{where}.function")
    identity = call_id(text_of(call.get("id"), f"{where}.id"))
    if not identity:
        raise refused(f"{where}.id", "", "an id")
    name = text_of(function.get("name"), f"{where}.function.name")
    arguments = text_of(function.get("arguments"), f"{where}.function.arguments")
    return {"type": "tool_use", "id": identity, "name": name, "input": _arguments(arguments, f"{where}.function.arguments")}


def _arguments(text: str, where: str) -> dict[str, Any]:
    if not text.strip():
        return {}
    try:
        read = orjson.loads(text)
    except ValueError:
        read = None
    if not isinstance(read, dict):
        raise Untranslatable(f"'{where}': expected a JSON object", param=where)
    return read
