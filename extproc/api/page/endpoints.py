"""All endpoints: searched and paged here, so that ten thousand cost a browser no more than fifty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode

from extproc.api.answers import Answer
from extproc.api.auth import require
from extproc.api.endpoints import NAME
from extproc.api.page.live import MOST_NAMES
from extproc.api.page.visit import Visit
from extproc.control.records import EndpointRecord
from extproc.settings.tokens import Role

PAGE: Final = 50
_AT_ONCE: Final = 500
"""Records that are looked at without a pause."""
_ANY_NAME: Final = "a-name"
"""Of an endpoint that somebody could create."""


class Part(NamedTuple):
    """An entity's piece of the bar."""

    name: str
    share: int
    begins: int
    """In percent, from the left."""
    place: int
    """Which colour it has."""


def bar(shares: Mapping[str, int]) -> list[Part]:
    """The split, piece by piece."""
    parts, begins = [], 0
    for place, (name, share) in enumerate(shares.items()):
        parts.append(Part(name, share, begins, place % 8))
        begins += share
    return parts


async def listed(visit: Visit) -> Answer:
    """A page of the list, or of what was searched for."""
    asked = visit.query("q")[:256]
    found = await _found(visit, asked)
    pages = max(1, -(-len(found) // PAGE))
    number = min(max(1, visit.number("page", 1)), pages)
    shown = found[(number - 1) * PAGE : number * PAGE]
    names = [record.name for record in shown]
    cells = visit.site.figures.cells(names)
    return visit.show(
        "endpoints.html",
        rows=[_row(record) for record in shown],
        cells=cells,
        asked=asked,
        total=len(found),
        number=number,
        pages=pages,
        before=_address(asked, number - 1) if number > 1 else "",
        behind=_address(asked, number + 1) if number < pages else "",
        live=live_address(names),
        measured=visit.inside.measures is not None,
        may_create=await visit.caller.may(Role.MANAGE, _ANY_NAME),
    )


async def _found(visit: Visit, asked: str) -> list[EndpointRecord]:
    records = {record.name: record for record in visit.inside.desk.list()}
    names = await visit.caller.sees(list(records))
    if not asked:
        return [records[name] for name in names]
    wanted = asked.lower().split()
    found: list[EndpointRecord] = []
    for first in range(0, len(names), _AT_ONCE):
        async with visit.inside.slices.turn():
            found += [records[name] for name in names[first : first + _AT_ONCE] if _matches(records[name], wanted)]
    return found


def _matches(record: EndpointRecord, wanted: Sequence[str]) -> bool:
    """Whether each word is in its name, its description, its tags, or what its entities are called and name."""
    words = [record.name, record.description, record.owner]
    for entity in record.entities:
        external = entity.get("external_model") or {}
        words += [str(entity["name"]), str(entity.get("entity_name", "")), str(external.get("name", ""))]
    words += [f"{key}={value or ''}" for key, value in record.tags.items()]
    text = "\n".join(words).lower()
    return all(word in text for word in wanted)


def _row(record: EndpointRecord) -> dict[str, Any]:
    return {
        "record": record,
        "bar": bar(record.percentages),
        "has": [word for word, there in (("rules", "rules"), ("experiments", "experiments")) if record.delivery.get(there)],
    }


def _address(asked: str, number: int) -> str:
    words = {"q": asked} if asked else {}
    return "/ui/?" + urlencode(words | ({"page": str(number)} if number > 1 else {}))


def live_address(names: Sequence[str]) -> str:
    """Where a page that shows these is told what is new."""
    return "/ui/live?names=" + ",".join(names)


async def live(visit: Visit) -> Answer:
    """What is new of the endpoints that a page shows: those of them that the visitor may see."""
    asked = [name for name in visit.query("names").split(",") if NAME.fullmatch(name)][:MOST_NAMES]
    if len(asked) == 1:  # who may see one endpoint may not see the list, in Kubernetes
        await require(visit.caller, Role.VIEW, asked[0])
        return visit.site.streams.of(visit.site.figures.of(asked))
    return visit.site.streams.of(visit.site.figures.of(await visit.caller.sees(asked)))
