"""Decisions, found again: lines of open and packed files, and Parquet, oldest first.

Files of another process, of a crash, or of an editor are what they are: what can't be read is counted, said, and passed over.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from heapq import nlargest
from pathlib import Path
from typing import Any, Final

import orjson
import zstandard

from extproc.audit.closing import MissingExtra, needs_parquet
from extproc.audit.files import OPEN, PARQUET, DecisionFile, decision_files, unknown_versions
from extproc.audit.row import FIELDS

Decision = Mapping[str, Any]
"""By field; those with nothing to say are absent."""

_LONGEST_LINE: Final = 2**20
_KINDS: Final[Mapping[str, type | tuple[type, ...]]] = {"text": str, "whole": int, "number": (int, float), "texts": list}
_FIELDS: Final = {field.name: _KINDS[field.kind] for field in FIELDS}


@dataclass(frozen=True)
class Wanted:
    """Which decisions are asked for; '' and None: any."""

    request_id: str = ""
    endpoint: str = ""
    entity: str = ""
    bucket: int | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    model: str = ""
    """As the client named it, or as it was asked for instead."""
    status: int | None = None

    def has(self, row: Decision) -> bool:
        """Whether the row is one of them."""
        return (
            (not self.request_id or row["id"] == self.request_id)
            and (not self.endpoint or row.get("endpoint") == self.endpoint)
            and (not self.entity or row.get("entity") == self.entity)
            and (self.bucket is None or row.get("bucket") == self.bucket)
            and (self.since_ms is None or row["at_ms"] >= self.since_ms)
            and (self.until_ms is None or row["at_ms"] < self.until_ms)
            and (not self.model or self.model in (row.get("model", row.get("endpoint")), row.get("target")))
            and (self.status is None or row.get("status", 0) == self.status)
        )


@dataclass
class Reading:
    """What was passed over, while rows are read."""

    torn: list[str] = field(default_factory=list)
    """Files whose last line has no end: they are being written, or their writer was killed."""
    damaged: dict[str, int] = field(default_factory=dict)
    """Lines that are no decisions, by file."""
    unread: dict[str, str] = field(default_factory=dict)
    """Files, and why they can't be read."""
    pause: Callable[[], None] = lambda: None
    """Said every few lines; what it raises ends the reading."""

    def notes(self) -> list[str]:
        """In words."""
        return [
            *[f"{name}: its last line has no end, and is left out: its writer writes, or was killed" for name in self.torn],
            *[f"{name}: {n} line{'s' if n > 1 else ''} can't be read" for name, n in self.damaged.items()],
            *[f"{name}: {why}" for name, why in self.unread.items()],
        ]


def decisions(folder: Path, wanted: Wanted, reading: Reading) -> Iterator[Decision]:
    """The decisions that are asked for, file by file, oldest file first. Raises OSError when the folder can't be read."""
    for file in spanning(folder, wanted, reading):
        yield from decisions_in(file, wanted, reading)


def spanning(folder: Path, wanted: Wanted, reading: Reading) -> list[DecisionFile]:
    """The files that may have some of them, oldest first. Raises OSError when the folder can't be read."""
    for name in unknown_versions(folder):
        reading.unread[name] = "a newer release wrote it"
    return list(_spanning(decision_files(folder), wanted))


def decisions_in(file: DecisionFile, wanted: Wanted, reading: Reading) -> Iterator[Decision]:
    """Those of one file."""
    needle = wanted.request_id.encode()
    name = file.path.name
    try:
        rows = _parquet_rows(file.path, wanted, reading) if file.suffix == PARQUET else _rows(file, needle, reading)
        yield from (row for row in rows if wanted.has(row))
    except FileNotFoundError:
        return  # it had its time, or was closed, while we looked
    except MissingExtra as error:
        reading.unread[name] = str(error)
    except (OSError, ValueError, zstandard.ZstdError) as error:
        reading.unread[name] = f"can't be read further: {' '.join(str(error).split())[:200]}"


def _spanning(files: list[DecisionFile], wanted: Wanted) -> Iterator[DecisionFile]:
    """Those of the time. When a file ends its name does not say, but its writer's next one begins then."""
    begins: dict[str, list[float]] = {}
    for file in files:
        begins.setdefault(file.writer, []).append(file.begun_s)
    for file in files:
        if wanted.until_ms is not None and file.begun_s * 1000 >= wanted.until_ms:
            continue
        later = [begun for begun in begins[file.writer] if begun > file.begun_s]
        if wanted.since_ms is not None and later and min(later) * 1000 < wanted.since_ms - _UNDER_WAY_MS:
            continue
        yield file


_UNDER_WAY_MS: Final = 24 * 3600 * 1000
"""A decision is written when its answer has ended, and says when it was made: hours may lie between."""


def _rows(file: DecisionFile, needle: bytes, reading: Reading) -> Iterator[Decision]:
    with file.path.open("rb") as raw:
        lines: io.BufferedIOBase = raw
        if file.suffix != OPEN:
            lines = io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True))
        count = 0
        while line := lines.readline(_LONGEST_LINE):
            count += 1
            if not count % _STEPS:
                reading.pause()
            if not line.endswith(b"\n"):
                if len(line) < _LONGEST_LINE:
                    reading.torn.append(file.path.name)
                    return
                while line and not line.endswith(b"\n"):
                    line = lines.readline(_LONGEST_LINE)
                reading.damaged[file.path.name] = reading.damaged.get(file.path.name, 0) + 1
                continue
            if needle and needle not in line and b"\\" not in line:
                continue  # a hundred times as fast as reading the line
            row = row_of(line)
            if row is None:
                reading.damaged[file.path.name] = reading.damaged.get(file.path.name, 0) + 1
            else:
                yield row


def row_of(line: bytes) -> Decision | None:
    """The decision in a line, None when it is none. Fields of later releases are left out."""
    try:
        values = orjson.loads(line)
    except ValueError:
        return None
    if not isinstance(values, dict):
        return None
    row = {name: value for name, value in values.items() if name in _FIELDS and value is not None}
    if any(isinstance(value, bool) or not isinstance(value, _FIELDS[name]) for name, value in row.items()):
        return None
    return row if "at_ms" in row and "id" in row else None


def _parquet_rows(path: Path, wanted: Wanted, reading: Reading) -> Iterator[Decision]:
    """Rows that pass the filter; Parquet's statistics leave out the row groups that can't have any."""
    needs_parquet()
    import pyarrow.parquet

    asked: list[tuple[str, str, object]] = []
    for name, op, value in (
        ("id", "==", wanted.request_id),
        ("endpoint", "==", wanted.endpoint),
        ("entity", "==", wanted.entity),
        ("bucket", "==", wanted.bucket),
        ("at_ms", ">=", wanted.since_ms),
        ("at_ms", "<", wanted.until_ms),
        ("status", "==", wanted.status or None),
    ):
        if value not in ("", None):
            asked.append((name, op, value))
    table = pyarrow.parquet.read_table(path, filters=asked or None)
    for batch in table.to_batches(max_chunksize=_BATCH):
        reading.pause()
        for values in batch.to_pylist():
            yield {name: value for name, value in values.items() if value is not None and name in _FIELDS}


_BATCH: Final = 1000
_STEPS: Final = 64


def filtered(rows: Iterator[Decision], limit: int) -> list[Decision]:
    """The newest of them, the newest first; no more than these are held."""
    return nlargest(limit, rows, key=_at)


def _at(row: Decision) -> int:
    return int(row["at_ms"])
