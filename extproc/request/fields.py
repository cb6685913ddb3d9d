"""Other fields of a body than its model, as the values of headers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from extproc.media import has_controls

MAX_FIELD_BYTES: Final = 4096
"""Longest value that becomes a header: Envoy fails a request whose headers outgrow its limit (60 KiB unless set)."""


def field_text(payload: Mapping[str, object] | None, field: str) -> str:
    """The text of a field on top of a JSON object: a string as it is, a number or boolean as in JSON.

    '' when there is none, or when it can't be a header's value: an object, a list, null, too long, control characters.
    """
    value = None if payload is None else payload.get(field)
    if isinstance(value, int | float):
        with suppress(ValueError):  # NaN and Infinity have no text in JSON, and very long integers none in Python
            value = json.dumps(value, allow_nan=False)
    if not isinstance(value, str):
        return ""
    try:
        size = len(value.encode())
    except UnicodeEncodeError:  # half a surrogate pair
        return ""
    if size > MAX_FIELD_BYTES or has_controls(value):
        return ""
    return value
