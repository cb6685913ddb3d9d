"""`file-discovery`: a pool that is written down in a YAML or JSON file, read once or watched.

    endpoints:
      - name: gpu-0
        address: 10.0.0.1
        port: 8000
        labels: {llm-d.ai/engine-type: vllm}

The file and the parameters are those of llm-d router's plugin of that name. IPv6 addresses and ports written as numbers
are accepted too; so are names as addresses, which are resolved again and again, and `metricsPort`, where the endpoint's page
of metrics is when it is not at `port`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Annotated, Final

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, StrictStr
from pydantic.alias_generators import to_camel

from extproc.discovery.names import DEFAULT_INTERVAL_S as NAMES_INTERVAL_S
from extproc.discovery.names import MAX_NAMES, Addresses, Resolver, ip_of, parse_name, resolve
from extproc.discovery.sink import EndpointSink
from extproc.domain import Endpoint
from extproc.files.problems import Unusable
from extproc.files.watch import DEFAULT_INTERVAL_S, FileWatcher
from extproc.scheduling.plugins.base import PluginType
from extproc.settings.base import Section, SettingsError, shown, validate
from extproc.settings.document import load_document

MAX_FILE_BYTES: Final = 2**20


class FileDiscoverySettings(Section):
    """Parameters of `file-discovery`."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=False)

    path: str = Field(min_length=1)
    """The file, of at most 1 MiB."""
    watch_file: bool = False
    """Read it again when it changes."""


class ClusterDiscoverySettings(FileDiscoverySettings):
    """Parameters of `multicluster-file-discovery`."""


TYPES: Final = (
    PluginType("file-discovery", "data layer", "endpoints from a file", FileDiscoverySettings),
    PluginType(
        "multicluster-file-discovery",
        "data layer",
        "clusters from such a file, by address or name",
        ClusterDiscoverySettings,
        note=lambda parameters: (
            "a cluster's page is read at its own address, and at metricsPort where the file says so; labels metricsAddress and "
            "metricsPort are not looked at"
        ),
    ),
)


def _address(text: str) -> str:
    if "%" in text:
        raise ValueError("expected an address without zone")
    ip = ip_of(text)
    host = str(ip) if ip is not None else parse_name(text)
    if host is None:
        raise ValueError("expected an IP address or a host's name")
    return host


def _port(value: object) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 5:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 65535:
        raise ValueError("expected a port in 1..65535")
    return value


class Entry(Section):
    """A line of the file. `address` is an IP address in its one spelling, or a name in lower case."""

    name: Annotated[StrictStr, Field(min_length=1)]
    namespace: Annotated[StrictStr, Field(min_length=1)] = "default"
    address: Annotated[StrictStr, AfterValidator(_address)]
    port: Annotated[int, BeforeValidator(_port)]
    metrics_port: Annotated[int, BeforeValidator(_port)] | None = Field(None, alias="metricsPort")
    labels: dict[StrictStr, StrictStr] = Field(default_factory=dict)

    @property
    def is_name(self) -> bool:
        return ip_of(self.address) is None

    @property
    def where(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"

    def at(self, address: str, *, alone: bool) -> Endpoint:
        """As the endpoint that it is at one of its addresses."""
        name = self.name if alone else f"{self.name}@{address}"
        return Endpoint(address, self.port, name, self.namespace, self.labels, self.metrics_port)


def _map(value: object) -> object:
    if not isinstance(value, dict):
        raise ValueError("expected a map with name, address and port")
    return value


class _File(Section):
    endpoints: list[Annotated[Entry, BeforeValidator(_map)]]


def parse_entries(data: bytes) -> tuple[Entry, ...]:
    """Read the file's bytes. Raises SettingsError with all problems, each with its line and path."""
    document = load_document(data)
    if not isinstance(document.value, dict):
        got = "nothing" if document.value is None else shown(document.value)
        raise SettingsError([f"expected a map with the key endpoints (got {got})"])
    try:
        return _checked(validate(_File, document.value).endpoints)
    except SettingsError as error:
        raise SettingsError(document.locate_all(error.problems)) from None


def _checked(entries: Sequence[Entry]) -> tuple[Entry, ...]:
    problems: list[str] = []
    seen: dict[str, str] = {}
    for index, entry in enumerate(entries):
        path = f"endpoints[{index}]"
        for what, value in (("address and port", entry.where), ("name", f"{entry.namespace}/{entry.name}")):
            first = seen.setdefault(f"{what} {value}", path)
            if first is not path:
                problems.append(f"{path}: the same {what} as {first} (got {shown(value)})")
    if len(names := {entry.address for entry in entries if entry.is_name}) > MAX_NAMES:
        problems.append(f"endpoints: expected at most {MAX_NAMES} names to resolve (got {len(names)})")
    if problems:
        raise SettingsError(problems)
    return tuple(entries)


class FileDiscovery:
    """Tells the sink the file's endpoints: in `load` when none is a name, else in `run`, and there whenever they change.

    While the file is broken or gone the last good pool stays, and a name that does not resolve keeps its last addresses.
    `on_good` is called whenever the file has become good, `on_name` as `Addresses` calls its `on_error`.
    """

    def __init__(
        self,
        settings: FileDiscoverySettings,
        sink: EndpointSink,
        *,
        on_error: Callable[[Sequence[str]], None],
        on_good: Callable[[], None] = lambda: None,
        on_name: Callable[[str, str | None], None] = lambda name, problem: None,
        resolver: Resolver = resolve,
        interval_s: float = DEFAULT_INTERVAL_S,
        names_interval_s: float = NAMES_INTERVAL_S,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._settings = settings
        self._sink = sink
        self._on_good = on_good
        self._names_interval_s = names_interval_s
        self._sleep = sleep
        self._addresses = Addresses(on_error=on_name, resolver=resolver)
        self._entries: tuple[Entry, ...] = ()
        self._names: tuple[str, ...] = ()
        self._changed = asyncio.Event()
        self._told: list[tuple[str, str, str, Mapping[str, str], int | None]] | None = None
        self.watcher = FileWatcher(
            settings.path,
            parse_entries,
            on_change=self._take,
            on_error=on_error,
            on_heal=on_good,
            interval_s=interval_s,
            max_bytes=MAX_FILE_BYTES,
            clock=clock,
            sleep=sleep,
        )

    def load(self) -> None:
        """Read the file for the first time. Raises SettingsError with all problems of the file."""
        try:
            entries = self.watcher.load()
        except Unusable as error:
            raise SettingsError(error.problems) from None
        self._take(entries)

    async def run(self) -> None:
        """Return at once if the file is not watched and has no names, else never."""
        async with asyncio.TaskGroup() as group:
            if self._settings.watch_file:
                group.create_task(self.watcher.run())
            if self._settings.watch_file or self._names:
                group.create_task(self._resolve())

    async def _resolve(self) -> None:
        while True:
            self._changed.clear()
            if self._names:
                await self._addresses.refresh(self._names, partial(self._tell, self._entries))
            waits = [asyncio.create_task(self._wait_for_change())]
            if self._names:
                waits.append(asyncio.create_task(self._pause()))
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in waits:
                    task.cancel()

    async def _wait_for_change(self) -> None:
        await self._changed.wait()

    async def _pause(self) -> None:
        await self._sleep(self._names_interval_s)

    def _take(self, entries: tuple[Entry, ...]) -> None:
        self._entries = entries
        self._names = tuple(dict.fromkeys(entry.address for entry in entries if entry.is_name))
        self._on_good()
        if not self._names:
            self._tell(entries)
        self._changed.set()

    def _tell(self, entries: tuple[Entry, ...]) -> None:
        """In the order of the file. Two entries that come to the same address are one endpoint.

        Nothing is told of entries that the file no longer has, nor that the pool is empty because no name resolves.
        """
        found: dict[str, Endpoint] = {}
        for entry in entries:
            addresses = self._addresses.of(entry.address) if entry.is_name else (entry.address,)
            for address in addresses:
                endpoint = entry.at(address, alone=len(addresses) == 1)
                found.setdefault(endpoint.key, endpoint)
        if entries is not self._entries or (entries and not found):
            return
        now = [(each.key, each.name, each.namespace, each.labels, each.metrics_port) for each in found.values()]
        if now != self._told:
            self._told = now
            self._sink.replace_endpoints(tuple(found.values()))
