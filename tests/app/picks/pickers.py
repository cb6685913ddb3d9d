"""A real process that picks, with a pool for each config, and streams of ext_proc to it."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml
from grpc import aio

from extproc.demo.ports import free_ports
from extproc.demo.processes import Child
from extproc.names import EXT_PROC_METHOD
from extproc.pb import external_processor_pb2 as pb
from extproc.pb import processing_mode_pb2
from tests.app.picks.modelservers import ModelServers
from tests.e2e.parts import call, until
from tests.fakes.public import public_configs

DESTINATION: Final = "x-gateway-destination-endpoint"
_LB: Final = "envoy.lb"
_SERVED: Final = "x-gateway-destination-endpoint-served"
FILES: Final = {path.stem: path for path in public_configs()}


class PoolOf(NamedTuple):
    """A pool, and what it picks with."""

    scheduling: Mapping[str, Any]
    servers: Sequence[str]
    labels: Mapping[str, Mapping[str, str]] = {}
    models: Sequence[str] = ()
    """Beside the pool's own name."""


def public(stem: str) -> dict[str, Any]:
    """The body of a public config, but for where its endpoints come from: paths of somebody's pods."""
    config: dict[str, Any] = yaml.safe_load(FILES[stem].read_text())
    layer = config.get("dataLayer") or {}
    if layer.pop("discovery", None) is not None:
        plugins = [each for each in config["plugins"] if not each["type"].endswith("file-discovery")]
        config["plugins"] = [
            {name: value for name, value in each.items() if not (name == "parameters" and "caCertPath" in value)}
            for each in plugins
        ]
    return {key: value for key, value in config.items() if key not in ("apiVersion", "kind")}


class Gateway:
    """`extproc gateway`: as many pickers as there are pools, chosen by the model, which is called as the pool is."""

    def __init__(self, pools: Mapping[str, PoolOf], servers: ModelServers, directory: Path) -> None:
        self.servers = servers
        parts, routes = [], []
        for name, pool in pools.items():
            file = directory / f"{name}.endpoints.json"
            file.write_text(json.dumps({"endpoints": servers.entries(pool.servers, pool.labels)}))
            parts.append({"name": name, "endpoints": {"file": file.name}, "scheduling": dict(pool.scheduling)})
            routes.append({"models": [name, *pool.models], "pool": name})
        document = {"apiVersion": "extproc.dev/v1alpha1", "kind": "Gateway", "pools": parts, "routes": routes}
        config = directory / "gateway.json"
        config.write_text(json.dumps(document))
        self._run("gateway", [f"--config-file={config}"], directory)

    def _run(self, command: str, flags: Sequence[str], directory: Path) -> None:
        self.grpc, health, self.metrics_port = free_ports(3, taken=self.servers.ports.values())
        ports = [f"--grpc-port={self.grpc}", f"--grpc-health-port={health}", f"--metrics-port={self.metrics_port}"]
        usual = ["--host=127.0.0.1", "--secure-serving=false", "--allow-missing-plugins", "--refresh-metrics-interval=1s"]
        self._child = Child(command, [sys.executable, "-m", "extproc", command, *usual, *ports, *flags], directory)

    def __enter__(self) -> Gateway:
        self._child.start()
        try:
            until(self._ready, within_s=30, what="the picker is ready")
        except BaseException:
            self._child.stop()
            raise
        return self

    def __exit__(self, *failure: object) -> None:
        assert self._child.stop() == 0, self._child.tail()

    def _ready(self) -> bool:
        self._child.check()
        return self.page("/readyz")[0] == 200

    def page(self, path: str) -> tuple[int, str]:
        """Of its port of metrics."""
        answer = call(f"http://127.0.0.1:{self.metrics_port}", path)
        return answer.status, answer.body.decode()

    def metric(self, named: str, /, **labels: str) -> float:
        """The sum of its samples that have these labels."""
        found = 0.0
        for line in self.page(f"/metrics?name[]={named}")[1].splitlines():
            sample, _, value = line.rpartition(" ")
            begins, _, rest = sample.partition("{")
            if begins == named and all(f'{key}="{text}"' in rest for key, text in labels.items()):
                found += float(value)
        return found


class Epp(Gateway):
    """`extproc epp` with one config, as it is."""

    def __init__(self, config: Path, servers: ModelServers, directory: Path, flags: Sequence[str] = ()) -> None:
        self.servers = servers
        self._run("epp", [f"--config-file={config}", *flags], directory)


class Told(NamedTuple):
    """What the proxy was told of a request."""

    headers: Mapping[str, str]
    """That it is to set."""
    metadata: Mapping[str, Any]
    status: int = 0
    """Of an answer instead."""
    body: str = ""

    @property
    def destinations(self) -> list[str]:
        """The pick and its fallbacks."""
        return self.headers[DESTINATION].split(",")


class Asked:
    """A request on a stream of its own, as Envoy speaks in full duplex."""

    def __init__(self, channel: aio.Channel, *, answer_is_seen: bool = False) -> None:
        self._call: Any = channel.stream_stream(
            EXT_PROC_METHOD,
            request_serializer=pb.ProcessingRequest.SerializeToString,
            response_deserializer=pb.ProcessingResponse.FromString,
        )()
        modes = processing_mode_pb2.ProcessingMode
        self._answer_mode = modes.FULL_DUPLEX_STREAMED if answer_is_seen else modes.NONE

    async def send(self, body: bytes, path: str, headers: Mapping[str, str]) -> None:
        """The whole request."""
        first = pb.ProcessingRequest()
        usual = {":path": path, ":method": "POST" if body else "GET", "content-type": "application/json"}
        _add(first.request_headers.headers.headers, {**usual, **headers})
        first.protocol_config.request_body_mode = processing_mode_pb2.ProcessingMode.FULL_DUPLEX_STREAMED
        first.protocol_config.response_body_mode = self._answer_mode
        first.request_headers.end_of_stream = not body
        self._has_body = bool(body)
        await self._call.write(first)
        if body:
            second = pb.ProcessingRequest()
            second.request_body.body = body
            second.request_body.end_of_stream = True
            await self._call.write(second)

    async def told(self) -> Told:
        """The decision; waits for it."""
        answer = await self._call.read()
        if answer.HasField("immediate_response"):
            immediate = answer.immediate_response
            return Told({}, {}, immediate.status.code, immediate.body.decode())
        metadata = answer.dynamic_metadata.fields
        values = metadata[_LB].struct_value.fields if _LB in metadata else {}
        told = Told(
            _read(answer.request_headers.response.header_mutation.set_headers),
            {key: value.string_value for key, value in values.items()},
        )
        ends = not self._has_body
        while not ends:
            piece = await self._call.read()
            ends = piece.request_body.response.body_mutation.streamed_response.end_of_stream
        return told

    async def answered(self, headers: Mapping[str, str] = {}, *, served: str = "") -> dict[str, str]:
        """The response's headers come; which are set on them."""
        first = pb.ProcessingRequest()
        _add(first.response_headers.headers.headers, {":status": "200", "content-type": "application/json", **headers})
        if served:
            first.metadata_context.filter_metadata[_LB].fields[_SERVED].string_value = served
        await self._call.write(first)
        answer = await self._call.read()
        return _read(answer.response_headers.response.header_mutation.set_headers)

    async def piece(self, body: bytes, *, last: bool = False) -> dict[str, float]:
        """Of the response's body; the numbers that are told with it."""
        message = pb.ProcessingRequest()
        message.response_body.body = body
        message.response_body.end_of_stream = last
        await self._call.write(message)
        answer = await self._call.read()
        metadata = answer.dynamic_metadata.fields
        values = metadata[_LB].struct_value.fields if _LB in metadata else {}
        return {key: value.number_value for key, value in values.items()}

    async def end(self) -> None:
        """Envoy closes the stream."""
        await self._call.done_writing()
        assert await self._call.read() is aio.EOF


class Client:
    """Asks for one pool."""

    def __init__(self, channel: aio.Channel, gateway: Gateway, model: str) -> None:
        self.channel = channel
        self.gateway = gateway
        self.model = model

    async def ask(
        self,
        text: str = "hello",
        headers: Mapping[str, str] = {},
        *,
        model: str = "",
        image: bool = False,
        seen: bool = False,
        stream: bool = False,
    ) -> tuple[Asked, Told]:
        """A chat request, decided, and still under way."""
        content: Any = text
        if image:
            content = [{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": "https://a.example/b.png"}}]
        body: dict[str, Any] = {"model": model or self.model, "messages": [{"role": "user", "content": content}]}
        if stream:
            body["stream"] = True
        asked = Asked(self.channel, answer_is_seen=seen)
        await asked.send(json.dumps(body).encode(), "/v1/chat/completions", headers)
        return asked, await asked.told()

    async def pick(self, text: str = "hello", headers: Mapping[str, str] = {}, **more: Any) -> tuple[str, Told]:
        """Who is picked for a request that is answered at once: the name, and what was told."""
        asked, told = await self.ask(text, headers, **more)
        assert not told.status, told
        assert told.metadata[DESTINATION] == told.headers[DESTINATION]
        await asked.answered()
        await asked.end()
        return self.gateway.servers.name(told.destinations[0]), told


def _add(headers: Any, values: Mapping[str, str]) -> None:
    for key, value in values.items():
        header = headers.add()
        header.key = key
        header.raw_value = value.encode()


def _read(options: Any) -> dict[str, str]:
    return {option.header.key.lower(): option.header.raw_value.decode() for option in options}
