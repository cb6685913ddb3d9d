"""Files with objects or endpoints, and what is said about them, for `extproc render` and `extproc import`."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import click

from extproc.control.exchange import KEY, found_in, text_of
from extproc.files.problems import Unusable
from extproc.files.read import MAX_BYTES, read_file
from extproc.interop import Losses
from extproc.settings.base import SettingsError
from extproc.settings.document import Document, load_document, load_documents

_STANDARD_INPUT: Final = "-"
_SUFFIXES: Final = (".yaml", ".yml", ".json")
_NUMBERED: Final = "documents"
_NUMBER: Final = re.compile(rf"{_NUMBERED}\[(\d+)\](?:(\.)|: )")


def data_of(path: str) -> bytes:
    """A file's, or what comes on standard input. Raises click.UsageError."""
    if path == _STANDARD_INPUT:
        return sys.stdin.buffer.read(MAX_BYTES + 1)
    try:
        return read_file(Path(path))
    except (Unusable, OSError) as error:
        raise click.UsageError("\n".join(getattr(error, "problems", None) or [f"{path}: {error}"])) from None


def documents_of(path: str) -> list[object]:
    """The endpoints' documents of a file, of a gateway's file, or of the files of a folder. Raises click.UsageError."""
    where = Path(path)
    files = [path]
    if path != _STANDARD_INPUT and where.is_dir():
        files = sorted(str(each) for each in where.iterdir() if each.suffix in _SUFFIXES and not each.name.startswith("."))
    found: list[object] = []
    for file in files:
        data = data_of(file)
        try:
            found += _endpoints(data)
        except SettingsError as error:
            raise click.UsageError("\n".join(f"{file}: {problem}" for problem in error.problems)) from None
    return found


def _endpoints(data: bytes) -> list[object]:
    """A gateway's file has other things beside its endpoints."""
    try:
        return [each.value for each in found_in(data)]
    except SettingsError:
        whole = load_document(data).value
        if isinstance(whole, dict) and "routes" in whole:
            listed = whole.get(KEY)
            return list(listed) if isinstance(listed, list) else []
        raise


class Objects(NamedTuple):
    """Documents of files."""

    documents: list[tuple[str, Document]]
    """Each with its file."""

    def numbered(self) -> list[tuple[object, str]]:
        """Each with what stands before its paths, until `located` says what that is."""
        return [(document.value, f"{_NUMBERED}[{index}].") for index, (_, document) in enumerate(self.documents)]

    def located(self, lines: Iterable[str]) -> list[str]:
        """The lines with file and line instead of the number of the document."""
        found = []
        for each in lines:
            number = _NUMBER.match(each)
            if number is None:
                found.append(each)
                continue
            file, document = self.documents[int(number[1])]
            words = each[number.end() :]
            found.append(f"{file}: {document.locate(words) if number[2] else words}")
        return found


def objects_of(files: Sequence[str]) -> Objects:
    """Raises click.UsageError for files that can't be read, or are no YAML."""
    found = Objects([])
    for file in dict.fromkeys(files):
        try:
            documents = load_documents(data_of(file))
        except SettingsError as error:
            raise click.UsageError("\n".join(f"{file}: {problem}" for problem in error.problems)) from None
        if not documents:
            raise click.UsageError(f"{file}: there is nothing in it; expected objects")
        found.documents.extend((file, document) for document in documents)
    return found


def print_objects(objects: Sequence[dict[str, Any]], title: str, losses: Losses) -> None:
    """As a file that `kubectl apply -f -` takes."""
    click.echo(_comments(title, losses) + objects_text(objects), nl=False)


def objects_text(objects: Sequence[dict[str, Any]]) -> str:
    """As YAML, without anchors, which other readers bound."""
    return "---\n".join([text_of(each) for each in objects])


def endpoints_text(documents: Sequence[dict[str, Any]], title: str, losses: Losses) -> str:
    """One endpoint by itself, or a list of several: both are what a file may be."""
    return _comments(title, losses) + text_of(documents[0] if len(documents) == 1 else list(documents))


def _comments(title: str, losses: Losses) -> str:
    lines = [title]
    if losses.left_out:
        lines += ["Not said here:", *(f"- {line}" for line in losses.left_out)]
    if losses.remarks:
        lines += ["It holds as long as:", *(f"- {line}" for line in losses.remarks)]
    return "".join(f"# {' '.join(line.split())}\n" for line in lines)


def tell(losses: Losses) -> int:
    """The list on standard error, and the exit code."""
    for line in losses.left_out:
        click.echo(line, err=True)
    for line in losses.remarks:
        click.echo(f"as long as: {line}", err=True)
    return 1 if losses.left_out else 0
