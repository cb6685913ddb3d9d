"""The pick waits for a producer: a tokenizer, a slow plugin, whoever has to be asked."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from extproc.observability.logs import logger
from extproc.scheduling.cycle import Awaited
from extproc.stages.stage import Pending, Step

_log = logger(__name__)


def for_producer(name: str, awaited: Awaited, then: Callable[[object], Step]) -> Pending:
    """The wait for it; `then` goes on with what it found out, or with its fallback."""
    begin = partial(_begin, awaited, name)
    return Pending(f"producer {name}", begin, then, timeout_s=awaited.timeout_s, fallback=awaited.fallback)


def _begin(awaited: Awaited, name: str, resolve: Callable[[object], None]) -> Callable[[], None]:
    """Begin to wait; a producer that fails is done without."""

    def resolved(outcome: object) -> None:
        resolve(awaited.fallback if isinstance(outcome, Exception) else outcome)

    try:
        return awaited.begin(resolved)
    except Exception:
        _log.exception("a producer could not begin to find out", plugin=name)
        resolve(awaited.fallback)
        return _cancelled


def _cancelled() -> None:
    """Nothing was begun."""
