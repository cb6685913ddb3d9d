"""Who speaks what: the two dialects of chat, the tasks of external models, and the shapes of errors."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final, NamedTuple

from extproc.errors import Untranslatable


class Dialect(Enum):
    """Of chat requests, their answers and events."""

    OPENAI = "OpenAI"
    """Chat completions, completions and embeddings."""
    ANTHROPIC = "Anthropic"
    """Messages."""


class Task(Enum):
    """What an external model is for, in Databricks' words."""

    CHAT = "llm/v1/chat"
    COMPLETIONS = "llm/v1/completions"
    EMBEDDINGS = "llm/v1/embeddings"


class ErrorShape(Enum):
    """How a client reads what went wrong."""

    OPENAI = '{"error": {"message", "type", "param", "code"}}'
    ANTHROPIC = '{"type": "error", "error": {"type", "message"}}'
    DATABRICKS = '{"error_code", "message"}'


class Asked(NamedTuple):
    """What a client asks for, by its path and the shape of its body."""

    dialect: Dialect
    task: Task
    errors: ErrorShape


_PATHS: Final = (
    ("/chat/completions", Dialect.OPENAI, Task.CHAT),
    ("/completions", Dialect.OPENAI, Task.COMPLETIONS),
    ("/embeddings", Dialect.OPENAI, Task.EMBEDDINGS),
    ("/messages", Dialect.ANTHROPIC, Task.CHAT),
)
_FIELDS: Final = (("messages", Task.CHAT), ("prompt", Task.COMPLETIONS), ("input", Task.EMBEDDINGS))
"""Of bodies at `/invocations`, which Databricks' clients send in OpenAI's shape."""


def asked(path: str, payload: Mapping[str, object]) -> Asked:
    """`path` without its query string. Raises Untranslatable for what no external model is asked."""
    databricks = path.startswith("/serving-endpoints/")
    for end, dialect, task in _PATHS:
        if path.endswith(end):
            own = ErrorShape.ANTHROPIC if dialect is Dialect.ANTHROPIC else ErrorShape.OPENAI
            return Asked(dialect, task, ErrorShape.DATABRICKS if databricks else own)
    if path.endswith("/invocations"):
        for field, task in _FIELDS:
            if field in payload:
                return Asked(Dialect.OPENAI, task, ErrorShape.DATABRICKS if databricks else ErrorShape.OPENAI)
        raise Untranslatable("an external model takes a body with 'messages', 'prompt' or 'input'", param="messages")
    expected = "/chat/completions, /completions, /embeddings, /messages or /invocations"
    raise Untranslatable(f"an external model is asked at a path that ends with {expected}")
