"""Names of hosts: how they are written, and their addresses, which are asked for again and again."""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, TypeAlias

DEFAULT_INTERVAL_S: Final = 5.0
DEFAULT_TIMEOUT_S: Final = 5.0

MAX_NAMES: Final = 1_000
"""In one pool."""
MAX_ADDRESSES: Final = 256
"""Of one name."""
_AT_ONCE: Final = 8
"""Names that are asked for at the same time: resolvers block threads, and there are few."""

_NAME: Final = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)(?:\.(?!-)[A-Za-z0-9_-]{1,63}(?<!-))*\.?")

Resolver: TypeAlias = Callable[[str], Awaitable[Sequence[str]]]
"""IP addresses of a name. Raises OSError when it can't tell."""


def ip_of(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """None when it is no address."""
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def parse_name(text: str) -> str | None:
    """In lower case, without the dot at the end; None when it can't be one. Raises ValueError for half an IPv4 address."""
    name = text.rstrip(".")
    if not _NAME.fullmatch(text) or len(name) > 253:
        return None
    if name.rpartition(".")[2].isdigit():
        raise ValueError("expected an IPv4 address: four numbers of 0..255")
    return name.lower()


async def resolve(name: str) -> Sequence[str]:
    """Ask the system's resolver. Raises OSError when there is no such name, and when nobody answers.

    Where a name has addresses of both families only IPv4 counts: the families name the same servers, and a server that
    were in the pool twice would get twice its share.
    """
    loop = asyncio.get_running_loop()
    answers = await loop.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    addresses = {family: set[str]() for family in (socket.AF_INET, socket.AF_INET6)}
    for family, _, _, _, address in answers:
        text = str(address[0])
        if family in addresses and "%" not in text:  # an address with a zone means nothing to the proxy
            addresses[family].add(text)
    return sorted(addresses[socket.AF_INET] or addresses[socket.AF_INET6])


class Addresses:
    """What names come to.

    A name that can't be resolved keeps the addresses it had last; one that never could has none, and is tried again.
    `on_error` gets the name and what is wrong with it when that changes, and None in its place when it is well again.
    """

    def __init__(
        self,
        *,
        on_error: Callable[[str, str | None], None],
        resolver: Resolver = resolve,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> None:
        self._on_error = on_error
        self._resolver = resolver
        self._timeout_s = timeout_s
        self._known: dict[str, tuple[str, ...]] = {}
        self._failures: dict[str, str] = {}

    @property
    def failing(self) -> int:
        """Names that could not be resolved when they were last asked for."""
        return len(self._failures)

    def of(self, name: str) -> tuple[str, ...]:
        """Empty when it was never resolved."""
        return self._known.get(name, ())

    async def refresh(self, names: Iterable[str], tell: Callable[[], None]) -> None:
        """Ask for all of them, and forget others. `tell` is called when that is done, and before, when some are slow."""
        wanted = tuple(dict.fromkeys(names))
        for table in (self._known, self._failures):
            for gone in table.keys() - set(wanted):
                del table[gone]
        places = asyncio.Semaphore(_AT_ONCE)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._resolve(name, places)) for name in wanted]
            if tasks and (await asyncio.wait(tasks, timeout=2 * self._timeout_s))[1]:
                tell()
        tell()

    async def _resolve(self, name: str, places: asyncio.Semaphore) -> None:
        async with places:
            addresses, problem = await self._ask(name)
        if addresses:
            self._known[name] = addresses
        if problem != self._failures.get(name):
            self._on_error(name, problem)
        if problem is None:
            self._failures.pop(name, None)
        else:
            self._failures[name] = problem

    async def _ask(self, name: str) -> tuple[tuple[str, ...], str | None]:
        try:
            async with asyncio.timeout(self._timeout_s):
                resolved = tuple(await self._resolver(name))
        except TimeoutError:
            return (), f"no answer in {self._timeout_s:g} s"
        except (OSError, UnicodeError) as error:
            return (), (error.strerror if isinstance(error, OSError) else None) or str(error)
        if len(resolved) > MAX_ADDRESSES:
            return resolved[:MAX_ADDRESSES], f"{len(resolved)} addresses, of which the first {MAX_ADDRESSES} count"
        return resolved, None if resolved else "no addresses"
