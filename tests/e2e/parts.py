"""Real processes for the e2e tests: model servers, our servers, Envoy; and a client without manners or retries."""

from __future__ import annotations

import http.client
import json
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar
from urllib.parse import urlsplit

from extproc.demo.envoy import envoy_child
from extproc.demo.ports import free_ports
from extproc.demo.processes import Child
from extproc.demo.stack import LLAMA, PHI4, POOLS, gateway_config

ENVOY, ADMIN = 10000, 9901
_START_S = 30.0
"""For a server to start: two seconds of CPU, of which a busy machine gives a part."""
JSON = {"content-type": "application/json"}
T = TypeVar("T")


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes
    fields: Sequence[tuple[str, str]] = ()
    """The headers one by one, as a name may come more than once."""

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def all(self, name: str) -> list[str]:
        """Every value of a header."""
        return [value for key, value in self.fields if key.lower() == name]

    @property
    def endpoint(self) -> str:
        return self.headers.get("x-sim-endpoint", "")


def call(
    url: str,
    path: str,
    body: bytes | Mapping[str, Any] | None = None,
    headers: Mapping[str, str] = {},
    *,
    method: str | None = None,
    timeout_s: float = 15.0,
) -> Answer:
    """One request on a connection of its own. Raises OSError or http.client.HTTPException when it gets no whole answer."""
    data = json.dumps(body).encode() if isinstance(body, Mapping) else body
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=timeout_s)
    try:
        connection.request(method or ("GET" if data is None else "POST"), path, data, {**JSON, **headers})
        response = connection.getresponse()
        content = response.read()
        fields = response.getheaders()
        return Answer(response.status, {k.lower(): v for k, v in fields}, content, fields)
    finally:
        connection.close()


def until(look: Callable[[], T], *, within_s: float = 10.0, what: str = "") -> T:
    """What `look` returns once it is true; no answer counts as false. Fails with its last word when that takes too long."""
    deadline_s = time.monotonic() + within_s
    last: object = None
    while time.monotonic() < deadline_s:
        try:
            last = found = look()
            if found:
                return found
        except (OSError, http.client.HTTPException) as error:
            last = error
        time.sleep(0.01)  # between two looks
    raise AssertionError(f"not within {within_s:.0f} s: {what or look} (last: {last!r})")


class Endpoints:
    """Six simulated model servers, each a process; killed ones can be revived on their port."""

    def __init__(self, directory: Path, more: Mapping[str, Sequence[str]] = {}) -> None:
        """`more`: further flags of a pool's servers."""
        usual = [port for pool in POOLS for port in pool.ports]
        self.ports = dict(zip(usual, free_ports(len(usual)), strict=True))
        self.children: dict[str, Child] = {}
        self.port_of: dict[str, int] = {}
        for pool in POOLS:
            for number, port in enumerate(pool.ports, start=1):
                name = f"{pool.name}-{number}"
                self.port_of[name] = self.ports[port]
                flags = ("--name", name, "--model", pool.model, "--port", str(self.ports[port]), *more.get(pool.name, ()))
                self.children[name] = Child(name, [sys.executable, "-m", "extproc", "sim", *flags], directory)

    def start(self) -> None:
        for child in self.children.values():
            child.start()
        for name in self.children:
            self._wait(name)

    def stop(self) -> None:
        for child in self.children.values():
            child.stop()

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.port_of[name]}"

    def address(self, name: str) -> str:
        return f"127.0.0.1:{self.port_of[name]}"

    def load(self, name: str, *, waiting: int = 0, kv_usage: float = 0.0) -> None:
        """Show this load on the metrics page, on top of what is true."""
        answer = call(self.url(name), "/sim/load", {"waiting": waiting, "kv_usage": kv_usage})
        assert answer.status == 200, answer

    def requests(self, name: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = call(self.url(name), "/sim/requests").json["requests"]
        return found

    def running(self, name: str) -> int:
        return int(call(self.url(name), "/sim/state").json["running"])

    def kill(self, name: str) -> None:
        self.children[name].kill()

    def revive(self, *names: str) -> None:
        for name in names:
            self.children[name].start()
        for name in names:
            self._wait(name)

    def _wait(self, name: str) -> None:
        def up() -> bool:
            self.children[name].check()
            return call(self.url(name), "/health").status == 200

        until(up, what=f"{name} is up")


def send_answers(directory: Path, mode: str) -> None:
    """Make Envoy send answers through ext_proc: `response_body_mode` in the config that `envoy_child` wrote there."""
    path = directory / "envoy.json"
    document = json.loads(path.read_text())
    manager = document["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    for each in manager["http_filters"]:
        if each["name"].endswith("ext_proc"):
            each["typed_config"]["processing_mode"]["response_body_mode"] = mode
    path.write_text(json.dumps(document))


class Ports(Protocol):
    """Whoever stands in for the model servers."""

    ports: dict[int, int]
    """By their usual ports."""


class Stack:
    """Envoy with one of our configs, and the servers that it asks."""

    def __init__(
        self,
        kind: str,
        binary: Path,
        endpoints: Ports,
        directory: Path,
        transport: str = "h2",
        *,
        answers: str = "NONE",
        flags: Sequence[str] = (),
        flags_of: Mapping[str, Sequence[str]] = {},
        change: Callable[[Any], None] = lambda document: None,
    ) -> None:
        """`answers`: the mode in which Envoy sends answers' bodies to the servers; `flags`: more of the servers', `flags_of` of
        some by their command, and `change` edits Envoy's config: together another way to connect the two."""
        self.kind = kind
        self.transport = transport
        servers = _SERVERS[kind]
        usual = [ENVOY, ADMIN, *(port for server in servers for port in server.ports)]
        taken = endpoints.ports.values()
        self.ports = dict(zip(usual, free_ports(len(usual), taken=taken), strict=True)) | endpoints.ports
        self.servers = {
            server.name: _child(
                server, self.ports, directory, ("--transport", transport, *flags, *flags_of.get(server.command, ()))
            )
            for server in servers
        }
        self.pages = {server.name: f"http://127.0.0.1:{self.ports[server.ports[2]]}" for server in servers}
        self.grpc_ports = {server.name: self.ports[server.ports[0]] for server in servers}
        self.pickers = [server.name for server in servers if server.picks]
        self.envoy = envoy_child(binary, f"{kind}.yaml", self.ports, directory, change=change)
        if answers != "NONE":
            send_answers(directory, answers)
        self.url = f"http://127.0.0.1:{self.ports[ENVOY]}"
        self._admin = f"http://127.0.0.1:{self.ports[ADMIN]}"

    def __repr__(self) -> str:
        return f"<Stack {self.kind} over {self.transport}>"

    @property
    def one_hop(self) -> bool:
        """One service decides wholly; for models that are no endpoints, serving-endpoints.yaml is that too."""
        return self.kind != "two-stage"

    def start(self) -> None:
        for child in self.servers.values():
            child.start()
        self.start_envoy()
        for name in self.servers:
            self.wait_server(name)

    def stop(self) -> None:
        self.envoy.stop()
        for child in self.servers.values():
            child.stop()

    def start_envoy(self) -> None:
        self.envoy.start()

        def up() -> bool:
            self.envoy.check()
            return call(self._admin, "/ready").status == 200

        until(up, what="Envoy is up")

    def wait_server(self, name: str) -> None:
        def ready() -> bool:
            self.servers[name].check()
            return call(self.pages[name], "/readyz").status == 200

        until(ready, within_s=_START_S, what=f"{name} is ready")

    def known(self) -> dict[str, dict[str, Any]]:
        """What the pickers know about each endpoint, by address."""
        pools = [pool for name in self.pickers for pool in call(self.pages[name], "/debug/endpoints").json["pools"]]
        return {entry["endpoint"]: entry for pool in pools for entry in pool["endpoints"]}

    def in_flight(self) -> int:
        """Requests that the pickers believe to be under way."""
        return sum(entry["in_flight"] for entry in self.known().values())

    def streams(self) -> int:
        """ExtProc streams open at our servers."""
        pages = [call(url, "/metrics?name[]=extproc_streams_inflight").body.decode() for url in self.pages.values()]
        return sum(int(float(value)) for page in pages for value in re.findall(r"^extproc_streams_inflight (\S+)", page, re.M))

    def idle(self) -> bool:
        """Nothing is under way, neither by the streams nor by the books."""
        return self.streams() == 0 and self.in_flight() == 0

    def decision(self, request_id: str) -> dict[str, Any]:
        """The decision about a request; empty when there is none."""
        for name in self.pickers:
            found = call(self.pages[name], f"/debug/decisions?request_id={request_id}").json["decisions"]
            if found:
                return dict(found[0])
        return {}

    def counted(self, *names: str) -> list[float]:
        """Samples of the pickers' metrics, each summed over its labels."""
        found = dict.fromkeys(names, 0.0)
        for server in self.pickers:
            for name, value in re.findall(
                r"^(\w+)(?:{[^}]*})? (\S+)$", call(self.pages[server], "/metrics").body.decode(), re.M
            ):
                if name in found:
                    found[name] += float(value)
        return list(found.values())

    def messages(self) -> tuple[int, int]:
        """ExtProc messages that Envoy has sent and received, over all filters."""
        page = call(self._admin, "/stats?filter=ext_proc.*stream_msgs").body.decode()
        sent = sum(map(int, re.findall(r"stream_msgs_sent: (\d+)", page)))
        return sent, sum(map(int, re.findall(r"stream_msgs_received: (\d+)", page)))


class _Server(NamedTuple):
    name: str
    command: str
    ports: tuple[int, int, int]
    """Usual ports: gRPC, health, metrics."""
    picks: bool = True
    pool: int = 0


_GATEWAY = (_Server("gateway", "gateway", (9002, 9003, 9090)),)
_SERVERS: Mapping[str, Sequence[_Server]] = {
    "one-hop": _GATEWAY,
    "serving-endpoints": _GATEWAY,
    "two-stage": (
        _Server("bbr", "bbr", (9004, 9005, 9093), picks=False),
        _Server("epp-llama", "epp", (9002, 9003, 9091), pool=0),
        _Server("epp-phi4", "epp", (9012, 9013, 9092), pool=1),
    ),
}


def _child(server: _Server, ports: Mapping[int, int], directory: Path, more: Sequence[str]) -> Child:
    flags = ["--host", "127.0.0.1", *more]
    for flag, usual in zip(("grpc-port", "grpc-health-port", "metrics-port"), server.ports, strict=True):
        flags += [f"--{flag}", str(ports[usual])]
    config = gateway_config(ports)
    if server.command == "gateway":
        path = directory / "gateway.yaml"
        path.write_text(json.dumps(config))
        flags += ["--config-file", str(path)]
    elif server.command == "epp":
        picker = {"apiVersion": "llm-d.ai/v1alpha1", "kind": "EndpointPickerConfig", **config["scheduling"]}
        endpoints = ",".join(config["pools"][server.pool]["endpoints"]["static"])
        flags += ["--config-text", json.dumps(picker), "--endpoints", endpoints]
    return Child(server.name, [sys.executable, "-m", "extproc", server.command, *flags], directory)


def chat(pool: str = "llama", text: str = "hello", **more: Any) -> dict[str, Any]:
    """A chat request for the model of a pool."""
    model = {"llama": LLAMA.model, "phi4": PHI4.model}[pool]
    return {"model": model, "max_tokens": 5, "messages": [{"role": "user", "content": text}], **more}
