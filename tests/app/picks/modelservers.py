"""Pages of model servers, as vLLM shows them, on ports of their own: what a picker sees of servers that only it asks."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

_ANSWER: Final = "HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=0.0.4\r\ncontent-length: {}\r\n\r\n{}"


class Shown(NamedTuple):
    """A model server, as its page says."""

    waiting: int = 0
    running: int = 0
    kv_usage: float = 0.0
    adapters: str = ""
    """Those that run, comma separated."""

    def page(self) -> bytes:
        """What `GET /metrics` answers."""
        labels = f'max_lora="4",running_lora_adapters="{self.adapters}",waiting_lora_adapters=""'
        text = (
            f'vllm:num_requests_waiting{{model_name="m"}} {self.waiting}\n'
            f'vllm:num_requests_running{{model_name="m"}} {self.running}\n'
            f'vllm:kv_cache_usage_perc{{model_name="m"}} {self.kv_usage}\n'
            f"vllm:lora_requests_info{{{labels}}} 1\n"
            'vllm:cache_config_info{block_size="16",num_gpu_blocks="4096"} 1\n'
        )
        return _ANSWER.format(len(text), text).encode()


class _Page(asyncio.Protocol):
    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while b"\r\n\r\n" in self._received:
            self._received = self._received.partition(b"\r\n\r\n")[2]
            self._transport.write(self._answer)


class ModelServers:
    """Some of them, by name, in a thread of their own, as the tests of a module each have another event loop."""

    def __init__(self, servers: Mapping[str, Shown]) -> None:
        self._servers = servers
        self.ports: dict[str, int] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="model servers")

    def __enter__(self) -> ModelServers:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)
        return self

    def __exit__(self, *failure: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def address(self, name: str) -> str:
        """As pickers name it."""
        return f"127.0.0.1:{self.ports[name]}"

    def name(self, address: str) -> str:
        """Whose address it is."""
        return {self.address(name): name for name in self.ports}[address]

    def entries(self, names: Iterable[str], labels: Mapping[str, Mapping[str, str]] = {}) -> list[dict[str, object]]:
        """Of a file of endpoints."""
        return [
            {"name": name, "address": "127.0.0.1", "port": self.ports[name], "labels": dict(labels.get(name, {}))}
            for name in names
        ]

    async def _listen(self) -> None:
        self._listening = []
        for name, shown in self._servers.items():
            answer = shown.page()
            server = await self._loop.create_server(lambda answer=answer: _Page(answer), "127.0.0.1", 0)  # type: ignore[misc]
            self.ports[name] = server.sockets[0].getsockname()[1]
            self._listening.append(server)

    async def _close(self) -> None:
        for server in self._listening:
            server.close()
        others = asyncio.all_tasks(self._loop) - {asyncio.current_task()}
        for task in others:
            task.cancel()
