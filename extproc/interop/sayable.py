"""What Istio and the Gateway API say in the same way: conditions as headers, shadows as mirrors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from extproc import names
from extproc.interop.endpoint import EXACT, ONE_OF, Endpoint, Losses, Match, TextTest

MODEL_HEADER: Final = names.MODEL_HEADER.lower()
BY_BODY: Final = f"{names.MODEL_HEADER} says the model, which a router in front has to set, such as extproc bbr"

BY_PROXY: Final = f"{names.REGION_HEADER} says where a request comes from; a gateway with a region of its own takes that if not"


class HeaderTest(NamedTuple):
    """A condition on a header, and where it is of."""

    name: str
    test: TextTest
    where: str


def header_tests(match: Match, losses: Losses) -> list[HeaderTest]:
    """All conditions that are on headers there: the model too, which a router in front says, and the region."""
    found = [HeaderTest(name, test, f"{match.where}.headers.{name}") for name, test in match.headers]
    if match.model is not None:
        losses.remark(f"{match.where}.model", BY_BODY)
        found.append(HeaderTest(MODEL_HEADER, match.model, f"{match.where}.model"))
    if match.regions:
        losses.remark(f"{match.where}.regions", BY_PROXY)
        test = TextTest(EXACT, match.regions) if len(match.regions) == 1 else TextTest(ONE_OF, match.regions)
        found.append(HeaderTest(names.REGION_HEADER, test, f"{match.where}.regions"))
    return found


def mirrors(shares: Sequence[tuple[str, int]], endpoint: Endpoint, where: str, losses: Losses) -> list[tuple[str, float]]:
    """Who gets copies of requests with these shares, and of how many in percent. Nobody gets copies of what he serves alone."""
    found = []
    for index, shadow in enumerate(endpoint.shadows):
        own = dict(shares).get(shadow.entity, 0)
        if own == 100:
            continue
        if own:
            words = f"{shadow.entity} gets copies there of requests that it serves itself too ({where} has {own} % for it)"
            losses.differ(f"shadows[{index}]", words)
        found.append((shadow.entity, shadow.percentage))
    return found
