"""`file-discovery`: a pool that is written down in a YAML or JSON file, read once or watched.

    endpoints:
      - name: gpu-0
        address: 10.0.0.1
        port: 8000
        labels: {llm-d.ai/engine-type: vllm}

The file and the parameters are those of llm-d router's plugin of that name; IPv6 addresses and ports written as numbers
are accepted too.
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Final

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, StrictStr
from pydantic.alias_generators import to_camel

from extproc.discovery.sink import EndpointSink
from extproc.domain import Endpoint
from extproc.files.problems import Unusable
from extproc.files.watch import DEFAULT_INTERVAL_S, FileWatcher
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


def _address(text: str) -> str:
    try:
        ip = ipaddress.ip_address(text)
    except ValueError:
        raise ValueError("expected an IP address") from None
    if "%" in text:
        raise ValueError("expected an IP address without zone")
    return str(ip)


def _port(value: object) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 5:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 65535:
        raise ValueError("expected a port in 1..65535")
    return value


class _Entry(Section):
    name: Annotated[StrictStr, Field(min_length=1)]
    namespace: Annotated[StrictStr, Field(min_length=1)] = "default"
    address: Annotated[StrictStr, AfterValidator(_address)]
    port: Annotated[int, BeforeValidator(_port)]
    labels: dict[StrictStr, StrictStr] = Field(default_factory=dict)


def _map(value: object) -> object:
    if not isinstance(value, dict):
        raise ValueError("expected a map with name, address and port")
    return value


class _File(Section):
    endpoints: list[Annotated[_Entry, BeforeValidator(_map)]]


def parse_endpoints(data: bytes) -> tuple[Endpoint, ...]:
    """Read the file's bytes. Raises SettingsError with all problems, each with its line and path."""
    document = load_document(data)
    if not isinstance(document.value, dict):
        got = "nothing" if document.value is None else shown(document.value)
        raise SettingsError([f"expected a map with the key endpoints (got {got})"])
    try:
        return _endpoints(validate(_File, document.value).endpoints)
    except SettingsError as error:
        raise SettingsError(document.locate_all(error.problems)) from None


def _endpoints(entries: Sequence[_Entry]) -> tuple[Endpoint, ...]:
    endpoints: list[Endpoint] = []
    problems: list[str] = []
    seen: dict[str, str] = {}
    for index, entry in enumerate(entries):
        endpoint = Endpoint(entry.address, entry.port, entry.name, entry.namespace, entry.labels)
        path = f"endpoints[{index}]"
        for what, value in (("address and port", endpoint.key), ("name", f"{entry.namespace}/{entry.name}")):
            first = seen.setdefault(f"{what} {value}", path)
            if first is not path:
                problems.append(f"{path}: the same {what} as {first} (got {shown(value)})")
        endpoints.append(endpoint)
    if problems:
        raise SettingsError(problems)
    return tuple(endpoints)


class FileDiscovery:
    """Tells the sink the file's endpoints: in `load`, and if the file is watched, in `run` whenever they change.

    While the file is broken or gone the last good pool stays; `watcher.error_since_s` and `watcher.problems` tell.
    """

    def __init__(
        self,
        settings: FileDiscoverySettings,
        sink: EndpointSink,
        *,
        on_error: Callable[[Sequence[str]], None],
        on_heal: Callable[[], None] = lambda: None,
        interval_s: float = DEFAULT_INTERVAL_S,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._settings = settings
        self._sink = sink
        self.watcher = FileWatcher(
            settings.path,
            parse_endpoints,
            on_change=sink.replace_endpoints,
            on_error=on_error,
            on_heal=on_heal,
            interval_s=interval_s,
            max_bytes=MAX_FILE_BYTES,
            clock=clock,
            sleep=sleep,
        )

    def load(self) -> None:
        """Tell the pool for the first time. Raises SettingsError with all problems of the file."""
        try:
            endpoints = self.watcher.load()
        except Unusable as error:
            raise SettingsError(error.problems) from None
        self._sink.replace_endpoints(endpoints)

    async def run(self) -> None:
        """Return at once if the file is not watched, else never."""
        if self._settings.watch_file:
            await self.watcher.run()
