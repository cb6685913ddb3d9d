"""Documents whose texts are in a body, whatever they are."""

from __future__ import annotations

import random
from typing import Any

from extproc.document import MARK, Document, LongTexts, Span, marks_in


def cut_out(payload: dict[str, Any], chance: random.Random) -> Document:
    """The payload, which is changed, with some of its texts in a body. None is empty; of those that might be marks, all."""
    body = bytearray(b"{")
    places: list[tuple[int, int]] = []

    def cut(value: Any) -> Any:
        if isinstance(value, str) and value and value.isascii() and (value.startswith(MARK) or chance.random() < 0.5):
            begin = len(body)
            body.extend(value.encode() + b'"')
            places.append((begin, begin + len(value)))
            return f"{MARK}{len(places) - 1}"
        if isinstance(value, dict):
            for key in value:
                value[key] = cut(value[key])
        elif isinstance(value, list):
            value[:] = [cut(each) for each in value]
        return value

    fields = cut(payload)
    texts = LongTexts([Span(bytes(body), begin, end) for begin, end in places])
    return Document(fields, texts, {name for name, value in fields.items() if marks_in(value)})
