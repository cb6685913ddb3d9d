"""A JSON object whose long texts are still where they came in: in the request's body.

A long prompt is most of its body, and most of what asks for a request's fields asks for others. So a long text becomes one of
Python's only when somebody looks at a field that has it; until then a mark stands in its place. Whoever can do with where a
text is (`prefix.prompt`, which hashes it) asks for `fields`, and finds the marks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

MARK: Final = "\x7f"
"""How a mark begins, and no other string in `Document.fields`; its number follows."""


class Span:
    """A part of bytes, without a copy of it; all of those live as long. Immutable by convention."""

    __slots__ = ("begin", "data", "end")

    def __init__(self, data: bytes, begin: int, end: int) -> None:
        """0 ≤ begin ≤ end ≤ len(data)."""
        self.data = data
        self.begin = begin
        self.end = end

    def __len__(self) -> int:
        return self.end - self.begin

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Span) and self.view() == other.view()

    def __hash__(self) -> int:
        return hash(self.view())

    def upto(self, size: int) -> Span:
        """Its first bytes."""
        return Span(self.data, self.begin, self.begin + size)

    def view(self) -> memoryview:
        """Itself, as what takes bytes takes it."""
        return memoryview(self.data)[self.begin : self.end]


def joined(pieces: Sequence[bytes | Span]) -> bytes:
    """The pieces as one."""
    return b"".join([piece if isinstance(piece, bytes) else piece.view() for piece in pieces])


class LongTexts:
    """The texts of one body, by their marks: ASCII that means itself in a string of JSON."""

    __slots__ = ("_spans",)

    def __init__(self, spans: Sequence[Span]) -> None:
        self._spans = spans

    def span(self, mark: str) -> Span:
        """Where the text is."""
        return self._spans[int(mark[1:])]

    def filled(self, value: object) -> object:
        """The value with its texts in place of their marks. What holds them is changed; all of it is looked through."""
        around = [value]
        for holder, place, mark in _marks(around):
            holder[place] = str(self.span(mark).view(), "ascii")
        return around[0]


def marks_in(value: object) -> int:
    """How many there are, as values at any depth."""
    return sum([1 for _ in _marks([value])])


def _marks(value: list[object]) -> Iterator[tuple[Any, Any, str]]:
    """What holds a mark, at which key or index, and the mark. It may be set to something else meanwhile."""
    holders: list[Any] = [value]
    while holders:
        holder = holders.pop()
        for place, held in holder.items() if isinstance(holder, dict) else enumerate(holder):
            if isinstance(held, str):
                if held.startswith(MARK):
                    yield holder, place, held
            elif isinstance(held, (dict, list)):
                holders.append(held)


class Document(Mapping[str, object]):
    """The object. Reads like a dict; a field that is read has all its texts from then on. One thread at a time."""

    __slots__ = ("_unfilled", "fields", "texts")

    def __init__(self, fields: dict[str, object], texts: LongTexts, unfilled: set[str]) -> None:
        """`unfilled` are the names of all fields that have marks."""
        self.fields = fields
        """As they are now, maybe with marks."""
        self.texts = texts
        self._unfilled = unfilled

    def __getitem__(self, name: str) -> object:
        if name in self._unfilled:
            self._fill(name)
        return self.fields[name]

    def _fill(self, name: str) -> None:
        self._unfilled.discard(name)
        self.fields[name] = self.texts.filled(self.fields[name])

    def get(self, name: str, default: Any = None) -> Any:
        return self[name] if name in self.fields else default

    def __iter__(self) -> Iterator[str]:
        return iter(self.fields)

    def __len__(self) -> int:
        return len(self.fields)

    def __contains__(self, name: object) -> bool:
        return name in self.fields

    def __repr__(self) -> str:
        return f"<Document of {len(self.fields)} fields>"

    def whole(self) -> dict[str, object]:
        """Itself as a dict, always the same."""
        for name in list(self._unfilled):
            self._fill(name)
        return self.fields


def as_dict(payload: Mapping[str, object] | None) -> Mapping[str, object] | None:
    """A payload for whoever takes nothing else than a dict. To ask whether it is a Document is for compiled code only: outside
    of it any mapping is an instance of a compiled class that has an abstract base."""
    return payload.whole() if isinstance(payload, Document) else payload
