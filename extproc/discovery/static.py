"""A pool that is written down as a list of `host:port`: IPv4, [IPv6] and names, which are resolved again and again."""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple, TypeAlias

from extproc.discovery.sink import EndpointSink
from extproc.domain import Endpoint
from extproc.settings.base import SettingsError

DEFAULT_INTERVAL_S: Final = 5.0
DEFAULT_TIMEOUT_S: Final = 5.0

_EXPECTED: Final = "expected host:port, such as 10.0.0.1:8000, [fd00::1]:8000 or vllm.example:8000"
_NAME: Final = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)(?:\.(?!-)[A-Za-z0-9_-]{1,63}(?<!-))*\.?")
_PORT: Final = re.compile(r"[0-9]{1,5}")

Resolver: TypeAlias = Callable[[str], Awaitable[Sequence[str]]]
"""IP addresses of a name. Raises OSError when it can't tell."""


class Target(NamedTuple):
    """One entry of the list. `host` is an IP address in its canonical form, or a name in lower case."""

    host: str
    port: int

    @property
    def is_name(self) -> bool:
        return _ip(self.host) is None

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_targets(entries: str | Sequence[str], *, path: str = "endpoints") -> tuple[Target, ...]:
    """Read a list, or a text with commas between its entries. Raises SettingsError with a line for each bad entry.

    `path` is what the list is called in those lines.
    """
    if isinstance(entries, str):
        entries = [entry for part in entries.split(",") if (entry := part.strip())]
    problems: list[str] = []
    seen: dict[Target, int] = {}
    for index, entry in enumerate(entries):
        try:
            target = parse_target(entry)
        except ValueError as error:
            problems.append(f"{path}[{index}]: {error} (got {entry!r})")
            continue
        if target in seen:
            problems.append(f"{path}[{index}]: the same as {path}[{seen[target]}] (got {entry!r})")
        seen.setdefault(target, index)
    if problems:
        raise SettingsError(problems)
    return tuple(seen)


def parse_target(text: str) -> Target:
    """Read one `host:port`. Raises ValueError saying what was expected."""
    host, colon, port_text = text.strip().rpartition(":")
    if not colon or not _PORT.fullmatch(port_text):
        raise ValueError(_EXPECTED)
    port = int(port_text)
    if not 1 <= port <= 65535:
        raise ValueError("expected a port in 1..65535")
    bracketed = host.startswith("[") and host.endswith("]")
    ip = _ip(host[1:-1] if bracketed else host)
    if bracketed:
        if ip is None or ip.version != 6 or "%" in host:
            raise ValueError("expected an IPv6 address without zone between the brackets")
        return Target(str(ip), port)
    if ip is not None:
        if ip.version == 6:
            raise ValueError("expected brackets around an IPv6 address, such as [fd00::1]:8000")
        return Target(str(ip), port)
    name = host.rstrip(".")
    if not _NAME.fullmatch(host) or len(name) > 253:
        raise ValueError(_EXPECTED)
    if name.rpartition(".")[2].isdigit():
        raise ValueError("expected an IPv4 address: four numbers of 0..255")
    return Target(name.lower(), port)


def _ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


async def resolve(name: str) -> Sequence[str]:
    """Ask the system's resolver. Raises OSError when there is no such name, and when nobody answers.

    Where a name has addresses of both families only IPv4 counts: the families name the same servers, and a server that
    were in the pool twice would get twice its share.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    addresses = {family: set[str]() for family in (socket.AF_INET, socket.AF_INET6)}
    for family, _, _, _, address in found:
        text = str(address[0])
        if family in addresses and "%" not in text:  # an address with a zone means nothing to the proxy
            addresses[family].add(text)
    return sorted(addresses[socket.AF_INET] or addresses[socket.AF_INET6])


class StaticDiscovery:
    """Tells the sink the pool once, and again whenever a name's addresses change.

    A name that can't be resolved keeps the addresses it had last; one that never could has none, and is tried again.
    `on_error` gets the name and what is wrong with it when that changes, and None in its place when it is well again.
    """

    def __init__(
        self,
        targets: Sequence[Target],
        sink: EndpointSink,
        *,
        on_error: Callable[[str, str | None], None],
        resolver: Resolver = resolve,
        interval_s: float = DEFAULT_INTERVAL_S,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._targets = tuple(targets)
        self._sink = sink
        self._on_error = on_error
        self._resolver = resolver
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        self._sleep = sleep
        self._names = tuple(dict.fromkeys(target.host for target in targets if target.is_name))
        self._addresses: dict[str, tuple[str, ...]] = {}
        self._failures: dict[str, str] = {}
        self._told: tuple[Endpoint, ...] | None = None

    def __repr__(self) -> str:
        known = len(self._told or ())
        return f"<StaticDiscovery {len(self._targets)} targets, {known} endpoints, {len(self._failures)} names failing>"

    async def run(self) -> None:
        """Tell the pool; return at once if it can't change, as no target is a name, else never."""
        while True:
            if self._names:
                async with asyncio.TaskGroup() as group:
                    for name in self._names:
                        group.create_task(self._resolve(name))
            endpoints = self._endpoints()
            if endpoints != self._told:
                self._told = endpoints
                self._sink.replace_endpoints(endpoints)
            if not self._names:
                return
            await self._sleep(self._interval_s)

    async def _resolve(self, name: str) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                addresses = tuple(await self._resolver(name))
            problem = None if addresses else "no addresses"
        except TimeoutError:
            problem = f"no answer in {self._timeout_s:g} s"
        except (OSError, UnicodeError) as error:
            problem = (error.strerror if isinstance(error, OSError) else None) or str(error)
        if problem is None:
            self._addresses[name] = addresses
        if problem != self._failures.get(name):
            self._on_error(name, problem)
        if problem is None:
            self._failures.pop(name, None)
        else:
            self._failures[name] = problem

    def _endpoints(self) -> tuple[Endpoint, ...]:
        """In the order of the list. Two entries that come to the same address are one endpoint."""
        endpoints: dict[str, Endpoint] = {}
        for target in self._targets:
            addresses = self._addresses.get(target.host, ()) if target.is_name else (target.host,)
            for address in addresses:
                name = str(target) if len(addresses) == 1 else f"{target}@{address}"
                endpoint = Endpoint(address, target.port, name=name)
                endpoints.setdefault(endpoint.key, endpoint)
        return tuple(endpoints.values())
