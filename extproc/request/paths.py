"""Models named by the path, and paths whose body must name one.

Sources: KServe's Open Inference Protocol (`/v2/models/{m}[/versions/{v}]/infer`), TensorFlow Serving and KServe v1
(`/v1/models/{m}:predict`), Databricks (`/serving-endpoints/{m}/invocations`), OpenAI and Anthropic.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote, unquote

_MODEL_PATHS: Final = re.compile(
    r"/v2/models/(?P<v2>[^/]+)(?:/versions/[^/]+)?/infer"
    r"|/v1/models/(?P<v1>.+):predict"
    r"|/serving-endpoints/(?P<databricks>[^/]+)/invocations"
)

_UNENCODED: Final = "-._~!$&'()*+,;=:@"
"""What a path's segment may hold besides letters and digits (RFC 3986, section 3.3)."""
_BEYOND_ASCII: Final = re.compile("[\x80-\xff]")

_MODEL_REQUIRED: Final = (
    "/chat/completions",
    "/completions",
    "/embeddings",
    "/responses",
    "/messages",
    "/audio/transcriptions",
    "/audio/translations",
)


def without_query(path: str) -> str:
    """The path up to `?` or `#`."""
    for mark in ("?", "#"):
        at = path.find(mark)
        if at >= 0:
            path = path[:at]
    return path


def model_of_path(path: str) -> str | None:
    """The model that the path names, percent-decoded; None when it names none. `path` has no query string."""
    # Three cheap tests keep the regular expression off the paths that nearly all requests have.
    if not path.endswith(("/infer", "/invocations", ":predict")):
        return None
    match = _MODEL_PATHS.fullmatch(path)
    return unquote(match[match.lastgroup]) if match and match.lastgroup else None


def renamed_path(raw: bytes, model: str) -> str | None:
    """The path (with its query string) with another model's name, percent-encoded; None when it names none.

    A slash in the new name is encoded, unless the old name came with one that was not. Bytes beyond ASCII, which a path
    should not have, come out encoded too.
    """
    text = raw.decode("latin-1")
    match = _MODEL_PATHS.fullmatch(without_query(text))
    if match is None or match.lastgroup is None:
        return None
    begin, end = match.span(match.lastgroup)
    named = quote(model, safe=_UNENCODED + "/" if "/" in match[match.lastgroup] else _UNENCODED)
    return _BEYOND_ASCII.sub(lambda found: f"%{ord(found[0]):02X}", f"{text[:begin]}{named}{text[end:]}")


def requires_model(path: str) -> bool:
    """Whether the API behind the path refuses a body without a model."""
    return path.endswith(_MODEL_REQUIRED)
