"""Request bodies of the OpenAI API into what is to be generated, refused in vLLM's words.

Not modelled, and ignored when asked for: log probabilities, tool calls in answers, structured output, beam search.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import orjson
from pydantic import BaseModel, Field, ValidationError

from extproc.simulator import tokens
from extproc.simulator.answers import AnswerOptions

_MAX_REPORTED_ERRORS = 10
_MAX_N = 16384
"""Choices of one request, as in vLLM."""


class ApiError(Exception):
    """An answer that is an error. `kind` and `param` are fields of vLLM's error object beside the message."""

    def __init__(self, status: int, kind: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status, self.kind, self.message, self.param = status, kind, message, param

    def body(self) -> bytes:
        """The JSON document that vLLM would answer."""
        error = {"message": self.message, "type": self.kind, "param": self.param, "code": self.status}
        return orjson.dumps({"error": error})


def bad_request(message: str, param: str | None = None, value: object = None) -> ApiError:
    """vLLM's 400; it repeats parameter and value at the end of the message."""
    if param is not None:
        message += f" (parameter={param})" if value is None else f" (parameter={param}, value={value})"
    return ApiError(400, "BadRequestError", message, param)


class StreamOptions(BaseModel):
    """What a stream carries besides tokens."""

    include_usage: bool | None = False
    continuous_usage_stats: bool | None = False


class _Body(BaseModel):
    model: str | None = None
    n: int = 1
    max_tokens: int | None = None
    min_tokens: int = 0
    ignore_eos: bool = False
    seed: int | None = None
    stop: str | Annotated[list[str], Field(max_length=4)] | None = None
    include_stop_str_in_output: bool = False
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    cache_salt: str | None = None


class ChatBody(_Body):
    """POST /v1/chat/completions."""

    messages: list[dict[str, Any]]
    max_completion_tokens: int | None = None
    tools: list[dict[str, Any]] | None = None


class CompletionBody(_Body):
    """POST /v1/completions."""

    prompt: list[Annotated[int, Field(ge=0)]] | list[list[Annotated[int, Field(ge=0)]]] | str | list[str] | None = None
    max_tokens: int | None = 16
    echo: bool | None = False


class TokenizeBody(BaseModel):
    """POST /tokenize, for a prompt or a chat."""

    prompt: str | None = None
    messages: list[dict[str, Any]] | None = None
    tools: list[dict[str, Any]] | None = None
    add_generation_prompt: bool = True
    return_token_strs: bool | None = False


class DetokenizeBody(BaseModel):
    """POST /detokenize."""

    tokens: list[Annotated[int, Field(ge=0)]]


@dataclass(frozen=True, slots=True)
class ServedModel:
    """What can be asked for."""

    names: tuple[str, ...]
    loras: tuple[str, ...]
    max_model_len: int


@dataclass(frozen=True, slots=True)
class Ask:
    """A request to generate: `n` answers to each of `prompts`. `lora` is None for the base model."""

    chat: bool
    prompts: tuple[list[int], ...]
    n: int
    options: tuple[AnswerOptions, ...]
    """One for each prompt: its length bounds the answer's."""
    lora: str | None
    cache_salt: str
    stream: bool
    include_usage: bool
    continuous_usage: bool
    echo: bool


Model = TypeVar("Model", bound=BaseModel)


def parse(model: type[Model], content_type: str, body: bytes) -> Model:
    """The validated body. Raises ApiError as vLLM words it."""
    if content_type.lower().partition(";")[0].strip() != "application/json":
        raise _validation_error(["Unsupported Media Type: Only 'application/json' is allowed"], None)
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        value = _loads_slowly(body)
    try:
        return model.model_validate(value)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False)
        shown = []
        for item in found[:_MAX_REPORTED_ERRORS]:
            loc = _loc(item["loc"])
            shown.append(str({"type": item["type"], "loc": loc, "msg": item["msg"], "input": _brief(item["input"])}))
        raise _validation_error(shown, _loc(found[0]["loc"]), len(found)) from None


def _loads_slowly(body: bytes) -> object:
    """What orjson refuses: the standard library accepts a little more, and says where it stopped as vLLM does."""
    try:
        return json.loads(body)
    except json.JSONDecodeError as error:
        loc = f"body.{error.pos}"
        problem = {
            "type": "json_invalid",
            "loc": loc,
            "msg": "JSON decode error",
            "input": "<dict of 0 items>",
            "ctx": {"error": error.msg},
        }
        raise _validation_error([str(problem)], loc) from None
    except (UnicodeDecodeError, RecursionError):
        raise ApiError(400, "Bad Request", "There was an error parsing the body") from None


def _validation_error(problems: list[str], param: str | None, count: int | None = None) -> ApiError:
    count = len(problems) if count is None else count
    label = "error" if count == 1 else "errors"
    message = f"{count} validation {label}:\n" + "\n".join(f"  {problem}" for problem in problems)
    if count > len(problems):
        message += f"\n  ...and {count - len(problems)} more {label}"
    return ApiError(400, "Bad Request", message, param)


def _loc(parts: Iterable[int | str]) -> str:
    """The path of a problem without pydantic's own segments (types of a union, names of validators)."""
    own = ("str", "int", "list", "none")
    return ".".join(["body", *(str(p) for p in parts if isinstance(p, int) or not ("[" in p or p in own))])


def _brief(value: object) -> object:
    if isinstance(value, list | dict):
        return f"<{type(value).__name__} of {len(value)} items>"
    text = value if isinstance(value, str) else str(value)
    return text if len(text) <= 200 else text[:200] + "...[truncated]"


def chat_ask(body: ChatBody, served: ServedModel) -> Ask:
    """Raises ApiError when the model isn't served or the prompt or the answer can't fit."""
    param = "max_tokens" if body.max_completion_tokens is None else "max_completion_tokens"
    limit = body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens
    prompts = [tokens.chat_segments(body.messages, body.tools)]
    return _ask(body, served, prompts, limit, param, chat=True, said=(tokens.last_said(body.messages),))


def completion_ask(body: CompletionBody, served: ServedModel) -> Ask:
    """Raises ApiError when the model isn't served, there is no prompt, or prompt or answer can't fit."""
    prompt = body.prompt
    many: list[int] | list[list[int]] | list[str] = [prompt] if isinstance(prompt, str) else prompt or []
    ids: list[tokens.Segment] = [one for one in many if isinstance(one, int)]
    texts = [_segments(one) for one in many if not isinstance(one, int)]
    prompts = [ids] if ids else texts
    if not prompts or not all(map(tokens.length, prompts)):
        raise bad_request("Either prompt or prompt_embeds must be provided and non-empty.", "prompt")
    said = tuple(tokens.decode(tokens.encode(each)) for each in prompts)
    return _ask(body, served, prompts, body.max_tokens, "max_tokens", chat=False, echo=bool(body.echo), said=said)


def _segments(prompt: str | list[int]) -> list[tokens.Segment]:
    return [prompt.encode(errors="replace")] if isinstance(prompt, str) else [*prompt]


def _ask(
    body: _Body,
    served: ServedModel,
    prompts: list[list[tokens.Segment]],
    max_tokens: int | None,
    param: str,
    *,
    chat: bool,
    said: tuple[str, ...],
    echo: bool = False,
) -> Ask:
    if body.stream_options is not None and not body.stream:
        raise bad_request("Stream options can only be defined when `stream=True`.", "stream_options")
    lora = adapter(body.model, served)
    stop = (body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ())
    if body.n < 1:
        raise bad_request(f"n must be at least 1, got {body.n}.")
    if body.n > _MAX_N:
        raise bad_request(f"n must be at most {_MAX_N}, got {body.n}.")
    if "" in stop:
        raise bad_request("stop cannot contain an empty string.")
    if max_tokens is not None and max_tokens > served.max_model_len:
        raise bad_request(
            f"{param}={max_tokens} cannot be greater than max_model_len={served.max_model_len}. "
            "Please request fewer output tokens.",
            param,
            max_tokens,
        )
    options = tuple(
        AnswerOptions(
            max_tokens=room(tokens.length(prompt), max_tokens, body.min_tokens, served.max_model_len),
            min_tokens=body.min_tokens,
            ignore_eos=body.ignore_eos,
            stop=stop,
            include_stop=body.include_stop_str_in_output,
            seed=body.seed or 0,
            said=last,
        )
        for prompt, last in zip(prompts, said, strict=True)
    )
    include = body.stream_options is not None and bool(body.stream_options.include_usage)
    return Ask(
        chat=chat,
        prompts=tuple(map(tokens.encode, prompts)),
        n=body.n,
        options=options,
        lora=lora,
        cache_salt=body.cache_salt or "",
        stream=bool(body.stream),
        include_usage=include,
        continuous_usage=include and body.stream_options is not None and bool(body.stream_options.continuous_usage_stats),
        echo=echo,
    )


def adapter(model: str | None, served: ServedModel) -> str | None:
    """The adapter of this name, None for the base model. Raises ApiError when nothing is served under it."""
    if not model or model in served.names:
        return None
    if model in served.loras:
        return model
    message = f"The model `{model}` does not exist. Valid aliases: {', '.join(served.names)}."
    raise ApiError(404, "NotFoundError", message, "model")


def room(prompt_tokens: int, max_tokens: int | None, min_tokens: int, max_model_len: int) -> int:
    """How long the answer may be. Raises ApiError when the prompt leaves none."""
    if prompt_tokens > max_model_len:
        raise bad_request(
            f"This model's maximum context length is {max_model_len} tokens. However, your prompt contains "
            f"{prompt_tokens} input tokens, which exceeds this limit even without any output tokens. "
            "Please reduce the length of the input prompt.",
            "input_tokens",
            prompt_tokens,
        )
    room = max_model_len - prompt_tokens
    room = room if max_tokens is None else min(room, max_tokens)
    if room < 1:
        raise bad_request(f"max_tokens must be at least 1, got {room}.", "max_tokens", room)
    if not 0 <= min_tokens <= room:
        raise bad_request(f"min_tokens must be from 0 to max_tokens={room}, got {min_tokens}.")
    return room


def tokenize_answer(body: TokenizeBody, served: ServedModel) -> Mapping[str, object]:
    """What POST /tokenize answers."""
    if body.messages is not None:
        segments = tokens.chat_segments(body.messages, body.tools, generate=body.add_generation_prompt)
    elif body.prompt is not None:
        segments = [body.prompt.encode(errors="replace")]
    else:
        raise bad_request("Either prompt or messages must be provided.", "prompt")
    ids = tokens.encode(segments)
    texts = [tokens.token_text(token) for token in ids] if body.return_token_strs else None
    return {"count": len(ids), "max_model_len": served.max_model_len, "tokens": ids, "token_strs": texts}
