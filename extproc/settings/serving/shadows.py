"""`shadows` of an endpoint: copies of its requests go to another of its entities, and nobody gets their answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field, model_validator

from extproc.errors import listed
from extproc.settings.base import shown
from extproc.settings.serving.fields import Closed, Name, Text, header_name, said, whole

MOST_SHADOWS: Final = 4
"""Of an endpoint: each may copy every request."""
_USUAL_BYTES: Final = 16 * 2**10
_NOT_COPIED: Final = frozenset(
    {"host", "connection", "content-length", "transfer-encoding", "te", "upgrade", "trailer", "expect", "accept-encoding"}
    | {"keep-alive", "proxy-connection", "cookie", "x-request-id"}
)


def _number(least: float, most: float, what: str) -> BeforeValidator:
    """A number of JSON's: no text, no NaN."""

    def read(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            raise ValueError(f"expected {what}")
        return float(value)

    return BeforeValidator(read)


def _count(least: int, most: int) -> BeforeValidator:
    return whole(least, most, f"a whole number from {least} to {most}")


def _header(value: object) -> str:
    name = header_name(value)
    if name in _NOT_COPIED or name.startswith((":", "x-gateway-", "x-extproc-")):
        raise ValueError("expected a header that says nothing of the connection, and that is not made anew for a copy")
    return name


class KeptBodies(Closed):
    """`keep_bodies`: what was asked and answered is kept with each pair, in memory."""

    max_bytes: Annotated[int, _count(1, 256 * 2**10)] = _USUAL_BYTES
    """Of the request, and of each text."""
    max_age_seconds: Annotated[float, _number(1, 86400, "seconds from 1 to 86400")] = 3600.0


class Shadow(Closed):
    """One of `shadows`."""

    entity: Name
    percentage: Annotated[float, _number(0, 100, "a number from 0 to 100")]
    salt: Text | None = None
    max_in_flight: Annotated[int, _count(1, 1000)] = 8
    max_bytes: Annotated[int, _count(2**20, 2**36)] = 64 * 2**20
    max_per_second: Annotated[float, _number(0.001, 100_000, "a number from 0.001 to 100000")] = 50.0
    timeout_seconds: Annotated[float, _number(0.1, 3600, "seconds from 0.1 to 3600")] = 60.0
    max_answer_bytes: Annotated[int, _count(1024, 2**28)] = 4 * 2**20
    max_saturation: Annotated[float, _number(0.01, 1, "a number from 0.01 to 1")] = 0.7
    min_similarity: Annotated[float, _number(0, 1, "a number from 0 to 1")] | None = None
    max_difference: Annotated[float, _number(0, 1e300, "a number of at least 0")] = 1e-6
    copy_headers: Annotated[list[Annotated[str, BeforeValidator(_header)]], Field(max_length=20)] = []
    keep_bodies: KeptBodies | None = None

    @model_validator(mode="before")
    @classmethod
    def _kept(cls, values: object) -> object:
        """`keep_bodies: true` keeps them as usual, `false` does not."""
        if isinstance(values, dict) and isinstance(values.get("keep_bodies"), bool):
            return {**values, "keep_bodies": {"max_bytes": _USUAL_BYTES} if values["keep_bodies"] else None}
        return values


def check_shadows(shadows: Sequence[Mapping[str, Any]], entities: Sequence[Mapping[str, Any]], prefix: str) -> list[str]:
    """Problems of the shadows of an endpoint that has these entities."""
    path = f"{prefix}shadows"
    if shadows and any("external_model" in each for each in entities):
        words = "expected none with external models: a copy would take the client's data to a provider, at its price"
        return [said(path, f"got {len(shadows)}; {words}")]
    problems: list[str] = []
    names, taken = [each["name"] for each in entities], dict[str, int]()
    for index, shadow in enumerate(shadows):
        name, where = shadow["entity"], f"{path}[{index}].entity"
        if name not in names:
            problems.append(said(where, f"got {shown(name)}; expected one of the endpoint's served entities: {listed(names)}"))
        elif name in taken:
            problems.append(said(where, f"got {shown(name)}, which {path}[{taken[name]}] has; expected each entity once"))
        elif len(names) == 1:
            problems.append(said(where, f"got {shown(name)}, which serves every request; expected another to compare with"))
        taken.setdefault(name, index)
    return problems
