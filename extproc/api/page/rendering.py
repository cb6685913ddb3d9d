"""Templates become answers, a slice of the event loop at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from extproc.api.answers import Sliced
from extproc.api.page import words
from extproc.api.page.assets import FOLDER, url_of
from extproc.slices import Slices

HTML: Final = "text/html; charset=utf-8"
_TOGETHER: Final = 64
"""Pieces of a template that are encoded at once."""


@cache
def environment() -> Environment:
    """Every value is escaped, and one that is not there is an error."""
    made = Environment(
        loader=FileSystemLoader(FOLDER.parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.globals["asset"] = url_of
    made.filters |= {
        "buckets": words.buckets,
        "clock": words.clock,
        "moment": words.moment,
        "percent": words.percent,
        "rate": words.rate,
        "seconds": words.seconds,
        "value": value,
    }
    return made


def warm() -> None:
    """Read and compile all templates, which takes some tenths of a second."""
    made = environment()
    for name in made.list_templates():
        made.get_template(name)


def value(given: object) -> str:
    """A value of a document, on one line."""
    if given is None:
        return "nothing"
    return given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)


def page(
    slices: Slices, template: str, context: Mapping[str, Any], *, status: int = 200, headers: Mapping[str, str] = {}
) -> Sliced:
    """The template with these values."""
    return Sliced(slices, _pieces(template, context), HTML, status=status, headers=headers)


def _pieces(template: str, context: Mapping[str, Any]) -> Iterator[bytes]:
    made = []
    for piece in environment().get_template(template).generate(context):
        made.append(piece)
        if len(made) >= _TOGETHER:
            yield "".join(made).encode()
            made.clear()
    yield "".join(made).encode()
