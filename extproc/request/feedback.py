"""The header in which a client says how good earlier answers were: `ID;good, ID;bad, ID;score=0.8`."""

from __future__ import annotations

import re
from typing import Final

MOST: Final = 10
"""Of one header; what follows is not read."""
_ONE: Final = re.compile(
    rb"[ \t]*([!-+\--:<-~]{1,256})[ \t]*;[ \t]*(?:(good)|(bad)|score=(0(?:\.[0-9]{1,6})?|1(?:\.0{1,6})?))[ \t]*"
)
"""The id has neither commas, semicolons nor blanks; a score is from 0 to 1."""


def feedback_of(header: bytes) -> list[tuple[bytes, float] | None]:
    """Each request's id and score; None for what can't be read."""
    found: list[tuple[bytes, float] | None] = []
    for part in header.split(b",", MOST)[:MOST]:
        match = _ONE.fullmatch(part)
        if match is None:
            found.append(None)
        elif match[2] is not None:
            found.append((match[1], 1.0))
        elif match[3] is not None:
            found.append((match[1], 0.0))
        else:
            found.append((match[1], float(match[4])))
    return found
