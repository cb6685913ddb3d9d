"""A pool that is written down as a list of `host:port`: IPv4, [IPv6] and names, which are resolved again and again."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

from extproc.discovery.names import (
    DEFAULT_INTERVAL_S,
    DEFAULT_TIMEOUT_S,
    MAX_NAMES,
    Addresses,
    Resolver,
    ip_of,
    parse_name,
    resolve,
)
from extproc.discovery.sink import EndpointSink
from extproc.domain import Endpoint
from extproc.settings.base import SettingsError, shown

_EXPECTED: Final = "expected host:port, such as 10.0.0.1:8000, [fd00::1]:8000 or vllm.example:8000"
_PORT: Final = re.compile(r"[0-9]{1,5}")


class Target(NamedTuple):
    """One entry of the list. `host` is an IP address in its canonical form, or a name in lower case."""

    host: str
    port: int

    @property
    def is_name(self) -> bool:
        return ip_of(self.host) is None

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
            problems.append(f"{path}[{index}]: {error} (got {shown(entry)})")
            continue
        if target in seen:
            problems.append(f"{path}[{index}]: the same as {path}[{seen[target]}] (got {shown(entry)})")
        seen.setdefault(target, index)
    if len(names := {target.host for target in seen if target.is_name}) > MAX_NAMES:
        problems.append(f"{path}: expected at most {MAX_NAMES} names to resolve (got {len(names)})")
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
    ip = ip_of(host[1:-1] if bracketed else host)
    if bracketed:
        if ip is None or ip.version != 6 or "%" in host:
            raise ValueError("expected an IPv6 address without zone between the brackets")
        return Target(str(ip), port)
    if ip is not None:
        if ip.version == 6:
            raise ValueError("expected brackets around an IPv6 address, such as [fd00::1]:8000")
        return Target(str(ip), port)
    name = parse_name(host)
    if name is None:
        raise ValueError(_EXPECTED)
    return Target(name, port)


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
        self._interval_s = interval_s
        self._sleep = sleep
        self._addresses = Addresses(on_error=on_error, resolver=resolver, timeout_s=timeout_s)
        self._names = tuple(dict.fromkeys(target.host for target in targets if target.is_name))
        self._told: tuple[Endpoint, ...] | None = None

    def __repr__(self) -> str:
        known = len(self._told or ())
        return f"<StaticDiscovery {len(self._targets)} targets, {known} endpoints, {self._addresses.failing} names failing>"

    async def run(self) -> None:
        """Tell the pool; return at once if it can't change, as no target is a name, else never."""
        await self._addresses.refresh(self._names, self._tell)
        while self._names:
            await self._sleep(self._interval_s)
            await self._addresses.refresh(self._names, self._tell)

    def _tell(self) -> None:
        endpoints = self._endpoints()
        if endpoints != self._told:
            self._told = endpoints
            self._sink.replace_endpoints(endpoints)

    def _endpoints(self) -> tuple[Endpoint, ...]:
        """In the order of the list. Two entries that come to the same address are one endpoint."""
        endpoints: dict[str, Endpoint] = {}
        for target in self._targets:
            addresses = self._addresses.of(target.host) if target.is_name else (target.host,)
            for address in addresses:
                name = str(target) if len(addresses) == 1 else f"{target}@{address}"
                endpoint = Endpoint(address, target.port, name=name)
                endpoints.setdefault(endpoint.key, endpoint)
        return tuple(endpoints.values())
