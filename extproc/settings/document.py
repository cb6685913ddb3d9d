"""The only reader of the YAML and JSON that users write: configs, adapters, endpoints, texts in flags and in ConfigMaps.

YAML as Kubernetes' tools read it: dates and `10:30` are text. Strict: no key twice, only the tags of plain values. Bounded, so
that nothing a user writes costs more than a moment: in bytes, in depth, and in nodes, where an alias counts as all that it
stands for. Every problem says its line, also those that are found later: `Document.locate`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final, cast

import yaml

from extproc.files.read import MAX_BYTES
from extproc.settings.base import SettingsError, few, shown
from extproc.settings.places import MERGE, PARSER, Place, Places

MAX_DEPTH: Final = 32
"""Of maps and lists in each other."""

MAX_NODES: Final = 200_000
"""Maps, lists, keys and values. A pool of 10,000 endpoints with labels has about 150,000."""

_TAG: Final = "tag:yaml.org,2002:"

_BOOL: Final = {
    word: value
    for value in (True, False)
    for plain in (("true", "yes", "on") if value else ("false", "no", "off"))
    for word in (plain, plain.capitalize(), plain.upper())
}
_NULL: Final = frozenset({"", "~", "null", "Null", "NULL"})
# As YAML 1.1 has them, so `1e3` is text as for who writes files with PyYAML; fields that are numbers take such text too.
_INT: Final = re.compile(r"[-+]?(?:0b[01_]+|0[0-7_]+|0x[0-9a-fA-F_]+|0|[1-9][0-9_]*)")
_FLOAT: Final = re.compile(
    r"[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+][0-9]+)?|\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)
_LONGEST_NUMBER: Final = 100
"""Characters; what is longer is text. Digits beyond all sense cost time by their square."""


class Document:
    """A value, and where each part of it is written."""

    def __init__(self, value: Any, text: str, number: int = 0) -> None:
        self.value = value
        """None when nothing is written, and when that is `null`."""
        self._text = text
        self._number = number
        self._place: Place | None = None
        self._looked = False

    def __repr__(self) -> str:
        return f"<Document {shown(self.value)}>"

    def locate(self, problem: str, prefix: str = "") -> str:
        """The problem with its line, if it begins with a path in this document: `prefix` and `pools[0].name: ...`."""
        if not problem.startswith(prefix):
            return problem
        rest = problem[len(prefix) :]
        line = self.line_of(rest)
        return problem if line is None else f"{prefix}line {line}: {rest}"

    def locate_all(self, problems: Iterable[str], prefix: str = "") -> list[str]:
        """As `locate`; and of very many problems the first only, with their number."""
        return [self.locate(problem, prefix) for problem in few(list(problems))]

    def line_of(self, path: str) -> int | None:
        """The line of what a path leads to, or as far as it does; None when that is nowhere. Text may follow the path."""
        place = self._root()
        line = None
        while place is not None:
            place, path = place.step(path)
            line = place.line if place is not None else line
        return line

    @property
    def line(self) -> int | None:
        """Where it begins."""
        root = self._root()
        return None if root is None else root.line

    def _root(self) -> Place | None:
        """Read again, the first time that it is asked for: only who has a problem needs it."""
        if not self._looked:
            self._looked = True
            try:
                roots = Places(self._text).documents()
                self._place = next((root for number, root in enumerate(roots) if number == self._number), None)
            except yaml.YAMLError:  # JSON that is no YAML
                pass
        return self._place


def load_document(data: bytes | str) -> Document:
    """The one document. Raises SettingsError with every problem, each with its line."""
    documents = load_documents(data)
    if len(documents) > 1:
        raise SettingsError([f"line {documents[1].line}: expected one document, this is another"])
    return documents[0] if documents else Document(None, "")


def load_json(data: bytes | str) -> Any:
    """The one JSON text, as RFC 8259 has it and as strict as YAML is read here. Raises SettingsError, with line and column."""
    text = _text(data)
    try:
        return _Json(numbers=True).read(text)
    except json.JSONDecodeError as error:
        raise SettingsError([_json_words(error)]) from None
    except RecursionError:
        raise SettingsError([_TOO_DEEP]) from None
    except ValueError as error:
        why = str(error) if isinstance(error, _NotStrict) else "expected numbers, not NaN, Infinity or very many digits"
        raise SettingsError([why]) from None


_EXPECTED: Final = {
    "Expecting value": "a value",
    "Expecting property name enclosed in double quotes": "a name in double quotes",
    "Expecting ':' delimiter": "a colon",
    "Expecting ',' delimiter": "a comma, or the end of the object or list",
    "Extra data": "the end, behind the one value",
    "Unterminated string starting at": "text with double quotes at its end, which begins here",
    "Invalid control character at": "text on one line, with control characters escaped",
}


def _json_words(error: json.JSONDecodeError) -> str:
    """`line 3, column 5: got '}' after a comma; expected a name in double quotes`."""
    text, at = error.doc, error.pos
    while at < len(text) and text[at] in " \t\r\n,":  # newer Pythons point to the comma that is too many
        at += 1
    before = text[:at].rstrip(" \t\r\n")
    if text[at : at + 1] in ("}", "]") and before.endswith(","):
        at, what = len(before) - 1, f"a comma before {text[at]}"
        expected = "none behind the last one"
    else:
        at = error.pos
        what = shown(text[at]) if at < len(text) else "the end"
        expected = _EXPECTED.get(error.msg) or "JSON: " + error.msg[:1].lower() + error.msg[1:]
    line = text.count("\n", 0, at) + 1
    return f"line {line}, column {at - text.rfind(chr(10), 0, at)}: got {what}; expected {expected}"


def load_documents(data: bytes | str, *, numbers: bool = True) -> list[Document]:
    """All documents but the empty ones. Without `numbers` they stay the text that is written. Raises SettingsError."""
    text = _text(data)
    if text.lstrip()[:1] in ("{", "["):
        # A hundred times faster, and YAML does not know all that JSON may write. What is wrong with it, YAML says with lines.
        strict = _Json(numbers)
        try:
            return [Document(strict.read(text), text)]
        except (ValueError, RecursionError) as error:
            wrong = str(error) if isinstance(error, _NotStrict) else ""
        _read(text, numbers)
        if wrong:
            raise SettingsError([wrong])
    return [Document(value, text, number) for number, value in enumerate(_read(text, numbers)) if value is not None]


def _text(data: bytes | str) -> str:
    size = len(data) if isinstance(data, bytes) or len(data) > MAX_BYTES else len(data.encode("utf-8", "surrogatepass"))
    if size > MAX_BYTES:
        raise SettingsError([f"larger than {MAX_BYTES} bytes"])
    if isinstance(data, str):
        return data.removeprefix("\ufeff")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise SettingsError([f"line {line}: expected UTF-8 text: {error.reason} at byte {error.start}"]) from None


def _read(text: str, numbers: bool) -> list[Any]:
    reader = _Yaml(text, numbers)
    try:
        values = list(reader.documents())
    except yaml.MarkedYAMLError as error:
        reader.problems.append(_words(error))
    except yaml.YAMLError as error:
        reader.problems.append(f"expected YAML or JSON: {' '.join(str(error).split())}")
    if reader.problems:
        raise SettingsError(few(reader.problems))
    return values


def _words(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    return f"{where}{'' if isinstance(error, _Refused) else 'expected YAML or JSON: '}{error.problem or error.context}"


class _Refused(yaml.MarkedYAMLError):
    """It is YAML, and not what we take."""


class _NotStrict(ValueError):
    """JSON that others would read, in another way or at a higher price."""


class _Json:
    """JSON within the bounds, without a key twice."""

    def __init__(self, numbers: bool) -> None:
        as_text: dict[str, Any] = {} if numbers else {"parse_int": str, "parse_float": str}
        self._decoder = json.JSONDecoder(object_pairs_hook=self._map, parse_constant=self._constant, **as_text)
        self._twice: str | None = None

    def read(self, text: str) -> Any:
        value = self._decoder.decode(text)
        if self._twice is not None:
            raise _NotStrict(f"key {shown(self._twice)} is there twice")
        self._check(value)
        return value

    def _map(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            self._twice = next(name for name in names if names.count(name) > 1)
        return found

    def _constant(self, name: str) -> Any:
        raise ValueError(name)  # NaN and Infinity are no JSON

    def _check(self, value: Any) -> None:
        level, depth, nodes = [value], 0, 0
        while level:
            nodes += len(level)
            inside: list[Any] = []
            for each in level:
                if isinstance(each, dict):
                    inside += each.values()
                    nodes += len(each)
                elif isinstance(each, list):
                    inside += each
            holds = any(isinstance(each, dict | list) for each in level)
            depth += holds
            if depth > MAX_DEPTH or nodes > MAX_NODES:
                raise _NotStrict(_TOO_DEEP if depth > MAX_DEPTH else _TOO_MANY)
            level = inside


_TOO_DEEP: Final = f"expected at most {MAX_DEPTH} maps and lists in each other"
_TOO_MANY: Final = f"expected at most {MAX_NODES} keys and values, with each alias counted as all that it stands for"


class _Yaml:
    """Events to plain values. `problems` are those that need not stop it; a YAMLError is one that does."""

    def __init__(self, text: str, numbers: bool) -> None:
        self.problems: list[str] = []
        self._numbers = numbers
        self._events = _events(text)
        self._anchors: dict[str, tuple[Any, int] | None] = {}
        """Value and nodes; None while it is being read."""
        self._nodes = 0

    def documents(self) -> Iterator[Any]:
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                self._anchors.clear()
                yield self._value(next(self._events), 0)

    def _value(self, event: Any, depth: int) -> Any:
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        before = self._nodes
        self._count(1, event)
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        if isinstance(event, yaml.ScalarEvent):
            value = self._scalar(event)
        else:
            kind = "seq" if isinstance(event, yaml.SequenceStartEvent) else "map"
            if event.tag not in (None, "!", _TAG + kind):
                self._say(event, f"a {'list' if kind == 'seq' else 'map'} with the tag {shown(event.tag)} is not taken")
            if depth == MAX_DEPTH:
                raise _Refused(problem=_TOO_DEEP, problem_mark=event.start_mark)
            value = self._list(depth + 1) if kind == "seq" else self._map(depth + 1)
        if event.anchor is not None:
            self._anchors[event.anchor] = (value, self._nodes - before)
        return value

    def _alias(self, event: Any) -> Any:
        known = self._anchors.get(event.anchor)
        if known is None:
            problem = "stands in itself" if event.anchor in self._anchors else "stands for nothing"
            raise _Refused(problem=f"alias {shown(event.anchor)} {problem}", problem_mark=event.start_mark)
        value, nodes = known
        self._count(nodes, event)
        return value

    def _list(self, depth: int) -> list[Any]:
        found = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            found.append(self._value(event, depth))
        return found

    def _map(self, depth: int) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        lines: dict[Any, int] = {}
        merged: list[Any] = []
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            merges = isinstance(event, yaml.ScalarEvent) and event.value == MERGE and event.implicit[0] and not event.tag
            key = self._value(event, depth)
            value_event = next(self._events)
            value = self._value(value_event, depth)
            if isinstance(key, list | dict):
                self._say(event, f"expected a name as key (got a {'map' if isinstance(key, dict) else 'list'})")
            elif merges:
                merged += self._merged(value_event, value)
            elif key in lines:
                self._say(event, f"key {shown(key)} is there twice, first on line {lines[key]}")
            else:
                lines[key] = event.start_mark.line + 1
                found[key] = value
        for each in merged:
            found = {**each, **found}
        return found

    def _merged(self, event: Any, value: Any) -> list[Any]:
        """Maps, the one that counts first. Later ones are weaker, and what stands in the map itself is strongest."""
        maps = value if isinstance(value, list) else [value]
        if not all(isinstance(each, dict) for each in maps):
            self._say(event, "expected a map to merge, or a list of them")
            return []
        return list(maps)

    def _scalar(self, event: Any) -> Any:
        text: str = event.value
        if event.tag is None:
            return _plain(text, self._numbers) if event.implicit[0] and not event.style else text
        kind = event.tag.removeprefix(_TAG)
        if kind in ("!", "str"):
            return text
        value = _plain(text, True)
        wanted: tuple[type, ...] = {"int": (int,), "float": (int, float), "bool": (bool,), "null": (type(None),)}.get(kind, ())
        if not wanted:
            self._say(event, f"a value with the tag {shown(event.tag)} is not taken")
        elif not isinstance(value, wanted) or (isinstance(value, bool) and kind != "bool"):
            self._say(event, f"expected a value of the tag !!{kind} (got {shown(text)})")
        return value if self._numbers or kind not in ("int", "float") else text

    def _count(self, nodes: int, event: Any) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            raise _Refused(problem=_TOO_MANY, problem_mark=event.start_mark)

    def _say(self, event: Any, problem: str) -> None:
        self.problems.append(f"line {event.start_mark.line + 1}: {problem}")


def _events(text: str) -> Iterator[Any]:
    return cast(Iterator[Any], iter(yaml.parse(text, PARSER)))


def _plain(text: str, numbers: bool) -> Any:
    """What is written without quotes. Raises nothing."""
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if not numbers or text[0] not in "-+.0123456789" or len(text) > _LONGEST_NUMBER:
        return text
    if _INT.fullmatch(text):
        digits = text.replace("_", "")
        sign, bare = (-1, digits[1:]) if digits[0] == "-" else (1, digits.removeprefix("+"))
        octal = len(bare) > 1 and bare[0] == "0" and bare[1] not in "bx"
        try:
            return sign * int(bare, 8 if octal else 0)
        except ValueError:  # such as 0x_
            return text
    if _FLOAT.fullmatch(text):
        return float(text.replace("_", "").lower().replace(".inf", "inf").replace(".nan", "nan"))
    return text
