"""What becomes of a file of decisions that is full: packed with zstd, or Parquet; made beside, and moved into its place."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import zstandard

from extproc.audit.files import OPEN, PARQUET
from extproc.audit.row import FIELDS

if TYPE_CHECKING:
    import pyarrow

_PIECE_BYTES: Final = 2**20
_BLOCK_BYTES: Final = 4 * 2**20
"""Of lines that become a row group's part at once."""
_LEVEL: Final = 1
"""Of zstd: rows repeat so much that it packs them as well as 3, in half the time."""


class MissingExtra(ValueError):
    """What makes Parquet is not installed."""


def needs_parquet() -> None:
    """Raises MissingExtra, which says how to get it."""
    try:
        import pyarrow.json
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise MissingExtra("pyarrow is not installed: pip install 'extproc[audit]'") from None


def whole_lines(fd: int) -> int:
    """Cut off what a process that was killed has begun to write, and no newline ends. How many bytes that was."""
    size = os.fstat(fd).st_size
    end = size
    while end:
        start = max(0, end - _PIECE_BYTES)
        at = os.pread(fd, end - start, start).rfind(b"\n")
        if at >= 0:
            end = start + at + 1
            break
        end = start
    if end < size:
        os.ftruncate(fd, end)
    return size - end


def close_as(path: Path, suffix: str) -> Path | None:
    """Make of an open file, whose lines are whole, a closed one with that suffix; None when there was nothing in it.

    Raises OSError; then the open file is as it was.
    """
    done = path.with_name(path.name.removesuffix(OPEN) + suffix)
    if path.stat().st_size == 0:
        path.unlink()
        return None
    beside = done.with_name(f".{done.name}.tmp")
    beside.unlink(missing_ok=True)
    try:
        beside.touch(mode=0o640)
        if suffix == PARQUET:
            _to_parquet(path, beside)
        else:
            _pack(path, beside)
        beside.replace(done)
    finally:
        beside.unlink(missing_ok=True)
    path.unlink()
    return done


def _pack(path: Path, beside: Path) -> None:
    with path.open("rb") as lines, beside.open("wb") as packed:
        zstandard.ZstdCompressor(level=_LEVEL).copy_stream(lines, packed, read_size=_PIECE_BYTES)


def _to_parquet(path: Path, beside: Path) -> None:
    """A block of lines at a time, so that it takes no more memory than that."""
    import pyarrow.parquet

    schema = parquet_schema()
    with pyarrow.parquet.ParquetWriter(beside, schema, compression="zstd") as writer:
        for block in _blocks(path):
            writer.write_table(_table(block, schema))


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as lines:
        while block := lines.read(_BLOCK_BYTES):
            yield block + lines.readline()


def _table(lines: bytes, schema: Any) -> Any:
    import pyarrow
    import pyarrow.json

    parse = pyarrow.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    read = pyarrow.json.ReadOptions(use_threads=False, block_size=len(lines) + 1)
    return pyarrow.json.read_json(pyarrow.BufferReader(lines), read_options=read, parse_options=parse)


def parquet_schema() -> pyarrow.Schema:
    """The table of fields, in Arrow's words; with what each means."""
    import pyarrow

    kinds = {
        "text": pyarrow.string(),
        "whole": pyarrow.int64(),
        "number": pyarrow.float64(),
        "texts": pyarrow.list_(pyarrow.string()),
    }
    return pyarrow.schema([pyarrow.field(f.name, kinds[f.kind], metadata={"doc": f.doc}) for f in FIELDS])
