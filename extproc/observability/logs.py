"""JSON logs, one line an event. No line per request at the default level, and no body, prompt, key or secret at any.

Nothing waits for the reader of the log (`log_writer`). What a stranger can cause as often as he likes goes to a `peer_logger`,
and is limited in rate by the kind of event (`log_limit`); so are the lines of libraries, for nobody knows who causes them.
"""

from __future__ import annotations

import atexit
import logging
from collections.abc import MutableMapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import orjson
import structlog

from extproc.observability.log_limit import LogLimit
from extproc.observability.log_writer import LogWriter

if TYPE_CHECKING:
    from extproc.observability.instruments import Instruments

_LEVELS = {0: logging.WARNING, 1: logging.WARNING, 2: logging.INFO, 3: logging.INFO, 4: logging.DEBUG}

_STANDARD_ERROR: Final = 2
_FLUSH_S: Final = 1.0
"""How long the end of the process waits for who reads the log."""

_BY_PEERS: Final = "_by_peers"


def level_of(verbosity: int) -> int:
    """The level of upstream's `--v`: 2 and 3 are INFO, 4 and more DEBUG, less than 2 WARNING."""
    return _LEVELS.get(max(0, min(verbosity, 4)), logging.INFO)


class _Process:
    """The log of the process, which is one as standard error is."""

    def __init__(self) -> None:
        self.writer: LogWriter | None = None
        self.limit = LogLimit()

    def dropped(self) -> int:
        return 0 if self.writer is None else self.writer.dropped

    def suppressed(self) -> int:
        return self.limit.suppressed


_process: Final = _Process()


def configure(verbosity: int, fd: int = _STANDARD_ERROR) -> None:
    """Send every log line, also those of libraries, to `fd` (standard error) as JSON; at the end of the process wait a moment
    for what is not written yet."""
    if _process.writer is None:
        _process.writer = LogWriter(fd, _dropped)
        atexit.register(flush)
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
    ]
    handler = _Handler(_process.writer)
    handler.addFilter(_limit_libraries)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, _tell_suppressed],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.EventRenamer("msg"),
                structlog.processors.JSONRenderer(serializer=_dumps),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level_of(verbosity))
    logging.captureWarnings(True)
    for chatty in ("aiohttp.access", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            _limit_peers,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def flush() -> None:
    """Wait until the lines so far are written, a second at most: the reader may have stalled."""
    if _process.writer is not None:
        _process.writer.close(_FLUSH_S)


def logger(name: str) -> structlog.stdlib.BoundLogger:
    """The logger of a module."""
    found: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return found


def peer_logger(name: str) -> structlog.stdlib.BoundLogger:
    """The logger of a module for what a stranger can cause as often as he likes: limited in rate by event and `reason`. The
    line after those that were left out says how many they were, as `suppressed`."""
    found: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name, **{_BY_PEERS: True})
    return found


def count_losses(instruments: Instruments) -> None:
    """Show what the log does not have."""
    dropped = instruments.counter(
        "extproc_log_lines_dropped_total", "Log lines that were dropped because nobody read those before them."
    ).child()
    suppressed = instruments.counter(
        "extproc_log_lines_suppressed_total", "Log lines that were left out because there were too many of their kind."
    ).child()

    def refresh() -> None:
        dropped.value = float(_process.dropped())
        suppressed.value = float(_process.suppressed())

    instruments.before_collect.append(refresh)


class _Handler(logging.Handler):
    """Hands lines to the writer."""

    def __init__(self, writer: LogWriter) -> None:
        super().__init__()
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception as error:  # a line that can't be made must not stop what wanted to say it
            line = _dumps(
                {"msg": "a log line could not be made", "logger": record.name, "level": "error", "error": repr(error)}
            )
        self._writer.put(line.encode("utf-8", "replace") + b"\n")


def _limit_peers(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    if event.pop(_BY_PEERS, False):
        suppressed = _process.limit.passes(f"{event['event']} {event.get('reason', '')}")
        if suppressed is None:
            raise structlog.DropEvent
        if suppressed:
            event["suppressed"] = suppressed
    return event


def _limit_libraries(record: logging.LogRecord) -> bool:
    if isinstance(record.msg, dict):  # ours
        return True
    kind, _, _ = str(record.msg).partition("\n")
    suppressed = _process.limit.passes(f"{record.name} {kind[:80]}")
    if suppressed:
        record.suppressed = suppressed
    return suppressed is not None


def _tell_suppressed(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    suppressed = getattr(event.get("_record"), "suppressed", 0)
    if suppressed:
        event["suppressed"] = suppressed
    return event


def _dropped(lines: int) -> bytes:
    fields = {
        "msg": f"{lines} lines were dropped: nobody read the log",
        "lines": lines,
        "level": "warning",
        "logger": __name__,
        "ts": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
    }
    return orjson.dumps(fields) + b"\n"


def _dumps(value: object, **_: object) -> str:
    return orjson.dumps(value, default=str).decode()
