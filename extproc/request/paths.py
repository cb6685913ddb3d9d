"""Paths that name a model, and paths whose body names one: two tables, from which `docs/requests.md` is made too.

Sources: KServe's Open Inference Protocol and Triton's extensions of it, TensorFlow Serving's REST API and KServe v1,
Databricks, SageMaker and MLflow, Azure OpenAI, Amazon Bedrock, Vertex AI, Gemini; for bodies OpenAI, Anthropic, vLLM, SGLang.
"""

from __future__ import annotations

import re
from enum import IntEnum
from typing import Final, NamedTuple
from urllib.parse import quote, unquote_to_bytes


class NamingPath(NamedTuple):
    """Paths that name a model. Anything may stand before them: KServe and many gateways put a prefix there."""

    template: str
    """`{model}` is one segment, `{+model}` may hold slashes, `[…]` may be left out, `(a|b)` is one of them, `…` is any rest."""
    api: str


NAMING_PATHS: Final = (
    NamingPath("/v2/models/stats", "Triton: all models, so it names none"),
    NamingPath(
        "/v2/models/{model}[/versions/{version}]"
        "[/(infer|generate|generate_stream|ready|config|stats|trace/setting|explain|classify|regress)]",
        "KServe v2 (Open Inference Protocol), Triton",
    ),
    NamingPath("/v2/repository/models/{model}/(load|unload)", "Triton, MLServer"),
    NamingPath(
        "/v1/models/{+model}[/(versions|labels)/{version}]:(predict|classify|regress|explain)", "TensorFlow Serving, KServe v1"
    ),
    NamingPath("/v1/models/{+model}[/(versions|labels)/{version}]/metadata", "TensorFlow Serving"),
    NamingPath("/v1/models/{model}/(versions|labels)/{version}", "TensorFlow Serving: its status"),
    NamingPath("/serving-endpoints/{model}[/(served-models|served-entities)/{entity}]/invocations", "Databricks"),
    NamingPath("/endpoints/{model}/(invocations|invocations-response-stream)", "SageMaker, MLflow"),
    NamingPath("/gateway/{model}/invocations", "MLflow"),
    NamingPath("/openai/deployments/{model}/…", "Azure OpenAI"),
    NamingPath("/engines/{model}/(completions|chat/completions|embeddings)", "OpenAI, before models were in bodies"),
    NamingPath(
        "/model/{model}/(invoke|invoke-with-response-stream|invoke-with-bidirectional-stream|converse|converse-stream"
        "|count-tokens)",
        "Amazon Bedrock",
    ),
    NamingPath(
        "/publishers/{publisher}/models/{model}:(generateContent|streamGenerateContent|countTokens|computeTokens|predict"
        "|predictLongRunning|serverStreamingPredict|rawPredict|streamRawPredict|embedContent)",
        "Vertex AI (`/v1/projects/{project}/locations/{location}` before it)",
    ),
    NamingPath(
        "/locations/{location}/endpoints/{model}:(generateContent|streamGenerateContent|countTokens|predict|explain"
        "|serverStreamingPredict|rawPredict|streamRawPredict|directPredict|directRawPredict)",
        "Vertex AI: an endpoint (`/v1/projects/{project}` before it)",
    ),
    NamingPath(
        "/(v1|v1beta|v1alpha)/(models|tunedModels)/{model}:(generateContent|streamGenerateContent|countTokens|embedContent"
        "|batchEmbedContents|batchGenerateContent|predict|predictLongRunning)",
        "Gemini",
    ),
)

_MARKS: Final = (
    *("/models/", "/serving-endpoints/", "/endpoints/", "/gateway/", "/openai/deployments/", "/engines/", "/model/"),
    "/tunedModels/",
)
"""Each path above holds one of these: they keep the regular expressions off the paths that nearly all requests have."""


class Api(IntEnum):
    """What a path says of the request's body."""

    UNKNOWN = 0
    """It may be anything; a model is read where one is found."""
    READS_MODEL = 1
    """JSON or a form that may name a model; the model server has one of its own when it does not."""
    NEEDS_MODEL = 2
    """A body without a model is refused by the model server."""


BODY_PATHS: Final[dict[str, tuple[Api, str]]] = {
    "/chat/completions": (Api.NEEDS_MODEL, "OpenAI"),
    "/completions": (Api.NEEDS_MODEL, "OpenAI"),
    "/embeddings": (Api.NEEDS_MODEL, "OpenAI"),
    "/responses": (Api.NEEDS_MODEL, "OpenAI"),
    "/messages": (Api.NEEDS_MODEL, "Anthropic"),
    "/audio/transcriptions": (Api.NEEDS_MODEL, "OpenAI"),
    "/audio/translations": (Api.NEEDS_MODEL, "OpenAI"),
    "/audio/speech": (Api.READS_MODEL, "OpenAI"),
    "/images/generations": (Api.READS_MODEL, "OpenAI"),
    "/images/edits": (Api.READS_MODEL, "OpenAI"),
    "/images/variations": (Api.READS_MODEL, "OpenAI"),
    "/moderations": (Api.READS_MODEL, "OpenAI"),
    "/responses/input_tokens": (Api.READS_MODEL, "OpenAI"),
    "/responses/compact": (Api.READS_MODEL, "OpenAI"),
    "/messages/count_tokens": (Api.READS_MODEL, "Anthropic"),
    "/chat/completions/render": (Api.READS_MODEL, "vLLM"),
    "/completions/render": (Api.READS_MODEL, "vLLM"),
    "/inference/v1/generate": (Api.READS_MODEL, "vLLM"),
    "/tokenize": (Api.READS_MODEL, "vLLM"),
    "/detokenize": (Api.READS_MODEL, "vLLM"),
    "/pooling": (Api.READS_MODEL, "vLLM"),
    "/classify": (Api.READS_MODEL, "vLLM, SGLang"),
    "/score": (Api.READS_MODEL, "vLLM"),
    "/rerank": (Api.READS_MODEL, "Jina, Cohere, vLLM"),
    "/generate": (Api.READS_MODEL, "SGLang, TGI"),
    "/api/chat": (Api.READS_MODEL, "Ollama"),
    "/api/generate": (Api.READS_MODEL, "Ollama"),
    "/api/embed": (Api.READS_MODEL, "Ollama"),
    "/invocations": (Api.READS_MODEL, "SageMaker's containers"),
}
"""Paths by their end, at most three segments: anything may stand before it, but a thread or a conversation."""

_STORED: Final = ("/threads/", "/conversations/", "/vector_stores/")
"""Below these, `messages` and the like are objects and not APIs (OpenAI)."""

_UNENCODED: Final = "-._~!$&'()*+,;=:@"
"""What a path's segment may hold besides letters and digits (RFC 3986, section 3.3)."""
_UNENCODED_IN_QUERY: Final = "-._~!$'()*,;:@/?"
"""What a query's value may hold besides letters and digits: `&`, `=` and `+` mean something there."""
_BEYOND_ASCII: Final = re.compile("[\x80-\xff]")


def _compiled(template: str) -> re.Pattern[str]:
    """For `search`: the leftmost place from which the path is as the template says, to its end."""
    tokens: list[str] = re.findall(r"\{\+?\w+\}|[\[\]()|…]|[^\[\](){}|…]+", template)
    parts = [_TOKENS.get(token) or ("[^/]+" if token[0] == "{" else re.escape(token)) for token in tokens]
    return re.compile(f"{''.join(parts)}\\Z", re.DOTALL)


_TOKENS: Final = {
    "{model}": "(?P<model>[^/]+)",
    "{+model}": "(?P<model>.+?)",
    "[": "(?:",
    "]": ")?",
    "(": "(?:",
    ")": ")",
    "|": "|",
    "…": ".+",
}


class _Matcher(NamedTuple):
    pattern: re.Pattern[str]
    ends: tuple[str, ...]
    """One of these ends the path, where the name may hold slashes: so a search that fails is never tried from many places."""


def matchers(rows: tuple[NamingPath, ...]) -> tuple[_Matcher, ...]:
    """The rows, ready to be tried in their order."""
    patterns = []
    for template, _ in rows:
        ends: tuple[str, ...] = ("",)
        if "{+model}" in template:
            verbs = re.search(r"([:/])\(?([\w|]+)\)?\Z", template)
            assert verbs is not None, "a name with slashes has something behind it"
            ends = tuple([verbs[1] + verb for verb in verbs[2].split("|")])
        patterns.append(_Matcher(_compiled(template), ends))
    return tuple(patterns)


_MATCHERS: Final = matchers(NAMING_PATHS)


def without_query(path: str) -> str:
    """The path up to `?` or `#`."""
    for mark in ("?", "#"):
        at = path.find(mark)
        if at >= 0:
            path = path[:at]
    return path


def span_of_model(path: str, rows: tuple[_Matcher, ...] = _MATCHERS) -> tuple[int, int] | None:
    """Where the model's name stands in a path without its query string; None when it names none."""
    if not any(mark in path for mark in _MARKS):
        return None
    for pattern, ends in rows:
        if not path.endswith(ends):
            continue
        match = pattern.search(path)
        if match is not None:
            return match.span("model") if pattern.groups else None
    return None


def model_of_path(path: str) -> str | None:
    """The model that the path names, percent-decoded; None when it names none. `path` has no query string, and one character
    for each byte. A name that is not UTF-8 comes with halves of surrogate pairs.
    """
    span = span_of_model(path)
    return None if span is None else _decoded(path[span[0] : span[1]])


def _decoded(text: str) -> str:
    return unquote_to_bytes(text.encode("latin-1")).decode("utf-8", "surrogateescape")


def model_of_query(raw: str) -> str | None:
    """The value of `model` in the query string, or of `deployment` (Azure OpenAI) for a realtime session; the last of several.

    None when there is none or it is empty. `raw` is the path with its query, one character for each byte.
    """
    value = None
    for begin, end in _spans_of_query(raw):
        value = raw[begin:end]
    return _decoded(value.replace("+", " ")) if value else None


def _spans_of_query(raw: str) -> list[tuple[int, int]]:
    """Where the values of all parameters stand that name a model."""
    at = raw.find("?")
    if at < 0:
        return []
    stop = raw.find("#", at)
    end = len(raw) if stop < 0 else stop
    keys = ("model", "deployment") if raw[:at].endswith("/realtime") else ("model",)
    spans = []
    begin = at + 1
    for pair in raw[begin:end].split("&"):
        key, equals, value = pair.partition("=")
        if equals and key in keys:
            spans.append((begin + len(key) + 1, begin + len(key) + 1 + len(value)))
        begin += len(pair) + 1
    return spans


def renamed_path(raw: bytes, model: str) -> str | None:
    """The path (with its query string) with another model's name, percent-encoded; None when it names none.

    The name stands in the path, or else in the query, where all that name a model change. A slash in the new name is encoded,
    unless the old name came with one that was not. Bytes beyond ASCII, which a path should not have, come out encoded too.
    """
    text = raw.decode("latin-1")
    span = span_of_model(without_query(text))
    if span is not None:
        begin, end = span
        named = quote(model, safe=_UNENCODED + "/" if "/" in text[begin:end] else _UNENCODED)
        return _ascii(f"{text[:begin]}{named}{text[end:]}")
    spans = _spans_of_query(text)
    if not spans:
        return None
    named = quote(model, safe=_UNENCODED_IN_QUERY)
    for begin, end in reversed(spans):
        text = f"{text[:begin]}{named}{text[end:]}"
    return _ascii(text)


def _ascii(text: str) -> str:
    return _BEYOND_ASCII.sub(lambda found: f"%{ord(found[0]):02X}", text)


_STORED_RESPONSE: Final = re.compile(r"/responses/([^/]+)(?:/(?:cancel|input_items))?\Z")


def stored_response(path: str) -> str | None:
    """The id of the stored response that the path is about (OpenAI), None when it is about none."""
    if "/responses/" not in path:
        return None
    match = _STORED_RESPONSE.search(path)
    return match[1] if match is not None and api_of(path) is Api.UNKNOWN else None


def api_of(path: str) -> Api:
    """What the path says of the body. `path` has no query string."""
    row = BODY_PATHS.get(path.removeprefix("/v1"))
    if row is not None:
        return row[0]
    if any(stored in path for stored in _STORED):
        return Api.UNKNOWN
    segments = path.rsplit("/", 3)[1:]
    for at in range(len(segments)):
        row = BODY_PATHS.get("/" + "/".join(segments[at:]))
        if row is not None:
            return row[0]
    return Api.UNKNOWN


def requires_model(path: str) -> bool:
    """Whether the API behind the path refuses a body without a model."""
    return api_of(path) is Api.NEEDS_MODEL
