"""What the inference extension's conformance tests want of a picker. For tests: who sends a header says who serves."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Final

from extproc import names
from extproc.candidates import Candidates, Column
from extproc.scheduling import columns
from extproc.scheduling.cycle import Cycle
from extproc.scheduling.plugins.base import FILTER, REPORTER, SCORER, PluginType, Scheduled
from extproc.scheduling.plugins.parameters import NoParameters

_FOR_TESTS: Final = "is for tests: a client's header says which endpoint serves; not for production"


class TestingFilter:
    """`header-based-testing-filter`. Points fall with an endpoint's place in the header, so that the first is picked."""

    fixed = False
    by_load = False
    per_snapshot = False

    def keep(self, cycle: Cycle, candidates: Candidates) -> Sequence[int] | None:
        request = cycle.asked
        named = request.head.text(names.TEST_SELECTION_HEADER)
        if not named.strip() and not request.body_bytes:
            return None
        return _named(named, candidates)

    def score(self, cycle: Cycle, candidates: Candidates) -> Column:
        points = [0.0] * len(candidates)
        order = _named(cycle.asked.head.text(names.TEST_SELECTION_HEADER), candidates)
        for place, position in enumerate(order):
            points[position] = 1.0 - place / len(order)
        return columns.like(candidates.in_flight, points)


class ServedVerifier:
    """`destination-endpoint-served-verifier`."""

    def dress(self, cycle: Cycle, scheduled: Scheduled) -> Scheduled:
        return scheduled._replace(served_header=names.TEST_SERVED_HEADER)


def _named(text: str, candidates: Candidates) -> list[int]:
    """Whom the header names, in its order, each once."""
    found: dict[int, None] = {}
    for item in text.split(","):
        address, port = _address(item.strip())
        if not address:
            continue
        for position, endpoint in enumerate(candidates.endpoints):
            if endpoint.address == address and port in (0, endpoint.port):
                found.setdefault(position)
    return list(found)


def _address(item: str) -> tuple[str, int]:
    """Of `ip`, `ip:port`, `[ip]` and `[ip]:port`; port 0 for none; ('', 0) for anything else."""
    host, port = item, ""
    if item.startswith("["):
        host, _, rest = item[1:].partition("]")
        if rest and not rest.startswith(":"):
            return "", 0
        port = rest[1:]
    elif item.count(":") == 1:
        host, _, port = item.partition(":")
    try:
        address = str(ipaddress.ip_address(host))
    except ValueError:
        return "", 0
    if not port:
        return address, 0
    return (address, int(port)) if port.isascii() and port.isdigit() and 0 < int(port[:6]) <= 65535 else ("", 0)


TYPES: Final = (
    PluginType(
        "header-based-testing-filter",
        FILTER,
        f"for tests: keeps whom the header `{names.TEST_SELECTION_HEADER}` lists as `ip` or `ip:port`, the first before the "
        "others; without it nobody, and of a request without a body everybody",
        NoParameters,
        lambda parameters, kit: TestingFilter(),
        roles=(SCORER,),
        note=lambda parameters: _FOR_TESTS,
    ),
    PluginType(
        "destination-endpoint-served-verifier",
        REPORTER,
        f"for tests: the response's header `{names.TEST_SERVED_HEADER}` says which endpoint answered, by the proxy's metadata",
        NoParameters,
        lambda parameters, kit: ServedVerifier(),
        note=lambda parameters: "is for tests: it tells clients which endpoint served them",
    ),
)
