"""Through a real Envoy: what a user waits for, what a server can carry, and what streamed answers cost it.

Envoy has a listener without ext_proc, and one for each server and response mode; all lead to the same backend.
"""

from __future__ import annotations

import contextlib
import json
import re
import statistics
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from extproc.demo.envoy import find_envoy
from extproc.demo.ports import free_ports
from tests.bench.backend import CHUNKS
from tests.bench.processes import Server, server
from tests.bench.recorded import MODEL, chat_body
from tests.bench.table import Row

_TIMEOUT_S = 120.0
"""For one load: more is a server that hangs."""
_TYPES = "type.googleapis.com/envoy.extensions"
_PORTS = ("--host", "127.0.0.1", "--grpc-port", "0", "--grpc-health-port", "0", "--metrics-port", "0", "--secure-serving=false")
_MODES: Mapping[str, Mapping[str, str]] = {
    "bodies": {"response_body_mode": "FULL_DUPLEX_STREAMED", "response_trailer_mode": "SEND"},
    "none": {"response_body_mode": "NONE", "response_trailer_mode": "SEND"},
}


class Listener(NamedTuple):
    """A port of Envoy's, the ext_proc server that it asks (0: none), and which answers it sends there."""

    port: int
    server: int
    mode: str = "none"


def bootstrap(listeners: list[Listener], admin: int, backend: int) -> dict[str, Any]:
    """Envoy's config."""
    servers = sorted({each.server for each in listeners if each.server})
    return {
        "admin": {"address": _address(admin)},
        "static_resources": {
            "listeners": [_listener(each) for each in listeners],
            "clusters": [_cluster("backend", backend), *(_cluster(f"ext{port}", port, http2=True) for port in servers)],
        },
    }


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _cluster(name: str, port: int, *, http2: bool = False) -> dict[str, Any]:
    most = 100_000
    cluster: dict[str, Any] = {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "circuit_breakers": {
            "thresholds": [{"max_connections": most, "max_pending_requests": most, "max_requests": most, "max_retries": most}]
        },
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(port)}}]}],
        },
    }
    if http2:
        cluster["typed_extension_protocol_options"] = {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{_TYPES}.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        }
    return cluster


def _listener(listener: Listener) -> dict[str, Any]:
    filters: list[dict[str, Any]] = []
    if listener.server:
        filters.append(
            {
                "name": "envoy.filters.http.ext_proc",
                "typed_config": {
                    "@type": f"{_TYPES}.filters.http.ext_proc.v3.ExternalProcessor",
                    "grpc_service": {"envoy_grpc": {"cluster_name": f"ext{listener.server}"}},
                    "message_timeout": "5s",
                    "processing_mode": {
                        "request_header_mode": "SEND",
                        "request_body_mode": "FULL_DUPLEX_STREAMED",
                        "request_trailer_mode": "SEND",
                        "response_header_mode": "SEND",
                        **_MODES[listener.mode],
                    },
                },
            }
        )
    filters.append({"name": "envoy.filters.http.router", "typed_config": {"@type": f"{_TYPES}.filters.http.router.v3.Router"}})
    manager = {
        "@type": f"{_TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": f"l{listener.port}",
        "http_filters": filters,
        "route_config": {
            "virtual_hosts": [
                {"name": "v", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "backend"}}]}
            ]
        },
    }
    network = {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}
    return {"address": _address(listener.port), "filter_chains": [{"filters": [network]}]}


@contextlib.contextmanager
def running_envoy(listeners: list[Listener], backend: int) -> Iterator[None]:
    """Envoy, ready."""
    admin = free_ports(1, taken=[each.port for each in listeners])[0]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "envoy.json"
        path.write_text(json.dumps(bootstrap(listeners, admin, backend)))
        command = [str(find_envoy()), "-c", str(path), "--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as envoy:
            try:
                _wait_ready(admin, envoy)
                yield
            finally:
                envoy.kill()


def _wait_ready(admin: int, envoy: subprocess.Popen[bytes]) -> None:
    while envoy.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{admin}/ready") as answer:
            if answer.status == 200:
                return
    raise RuntimeError(f"Envoy ended with {envoy.returncode}")


class Seen(NamedTuple):
    """What clients saw, and what the ext_proc server used."""

    rate: float
    """Requests per second."""
    p50_us: float
    cpu_us: float
    """Of the ext_proc server, per request."""
    p99_us: float
    times_us: tuple[int, ...]
    """Of each request, in the order of their ends."""


def drive(port: int, path: str, *, requests: int, connections: int, of: Server | None = None, model: str = MODEL) -> Seen:
    """Chat requests of 1 KB over HTTP/1.1; every one must succeed."""
    with tempfile.TemporaryDirectory() as folder:
        body, log = Path(folder) / "body", Path(folder) / "log"
        body.write_bytes(chat_body(800, model))
        before = of.cpu_s() if of else 0.0
        done = subprocess.run(
            [
                *("h2load", "--h1", "-n", str(requests), "-c", str(connections), "-t", "1", "-d", str(body)),
                *(f"--log-file={log}", "-H", "content-type: application/json", f"http://127.0.0.1:{port}{path}"),
            ],
            capture_output=True,
            text=True,
            check=True,
            timeout=_TIMEOUT_S,
        )
        used_s = (of.cpu_s() if of else 0.0) - before
        times = [int(line.split("\t")[2]) for line in log.read_text().splitlines()]
    good = re.search(r"(\d+) succeeded", done.stdout)
    codes = re.search(r"status codes: (\d+) 2xx", done.stdout)
    rate = re.search(r"([\d.]+) req/s", done.stdout)
    assert good is not None, done.stdout
    assert codes is not None, done.stdout
    assert rate is not None, done.stdout
    assert int(good[1]) == int(codes[1]) == requests, done.stdout
    p99_us = statistics.quantiles(times, n=100)[98]
    return Seen(float(rate[1]), statistics.median(times), used_s / requests * 1e6, p99_us, tuple(times))


def envoy_rows(rounds: int) -> list[Row]:
    """Both transports behind Envoy in turn, medians of `rounds`."""
    with contextlib.ExitStack() as stack:
        backend = stack.enter_context(server("tests.bench.backend"))
        servers = {
            name: stack.enter_context(server("extproc", "bbr", *_PORTS, "--transport", name)) for name in ("h2", "grpcio")
        }
        bare = stack.enter_context(server("tests.bench.bare"))
        ports = free_ports(6)
        plain, least = Listener(ports[0], 0), Listener(ports[5], bare.started["grpc"])
        listeners = {
            ("h2", "none"): Listener(ports[1], servers["h2"].started["grpc"]),
            ("grpcio", "none"): Listener(ports[2], servers["grpcio"].started["grpc"]),
            ("h2", "bodies"): Listener(ports[3], servers["h2"].started["grpc"], "bodies"),
            ("grpcio", "bodies"): Listener(ports[4], servers["grpcio"].started["grpc"], "bodies"),
        }
        stack.enter_context(running_envoy([plain, least, *listeners.values()], backend.started["port"]))
        seen: dict[str, list[Seen]] = {}

        def take(name: str, port: int, path: str, requests: int, connections: int, of: Server | None = None) -> None:
            found = drive(port, path, requests=requests, connections=connections, of=of)
            seen.setdefault(name, []).append(found)

        for round_ in range(rounds + 1):
            if round_ == 1:
                seen.clear()  # the first round warms up
            take("plain", plain.port, "/answer", 1000, 1)
            take("bare 1", least.port, "/answer", 1000, 1)
            take("bare stream none", least.port, "/stream", 200, 1, bare)
            for name, target in servers.items():
                port = listeners[name, "none"].port
                take(f"{name} 1", port, "/answer", 1000, 1, target)
                take(f"{name} 16", port, "/answer", 4000, 16, target)
                take(f"{name} stream none", port, "/stream", 200, 1, target)
                take(f"{name} stream bodies", listeners[name, "bodies"].port, "/stream", 40, 1, target)
                take(f"{name} paced bodies", listeners[name, "bodies"].port, "/paced", 10, 1, target)
                take(f"{name} bodies", listeners[name, "bodies"].port, "/answer", 500, 1, target)
        return _rows(seen)


def _rows(seen: dict[str, list[Seen]]) -> list[Row]:
    def middle(name: str, field: str) -> float:
        return float(statistics.median(getattr(each, field) for each in seen[name]))

    added = {name: middle(f"{name} 1", "p50_us") - middle("plain", "p50_us") for name in ("h2", "grpcio", "bare")}
    rows = [
        Row("p50 at 1 connection without ext_proc", middle("plain", "p50_us"), "µs"),
        Row("added by h2", added["h2"], "µs"),
        Row("added by grpcio", added["grpcio"], "µs"),
        Row("added by h2", added["h2"] / added["grpcio"], "x grpcio"),
        Row("added by a bare asyncio.Protocol that answers blindly", added["bare"] / added["grpcio"], "x grpcio"),
    ]
    for name in ("h2", "grpcio"):
        rows.append(Row(f"16 connections, {name}", middle(f"{name} 16", "rate"), "req/s"))
        rows.append(Row(f"16 connections, {name}: CPU", middle(f"{name} 16", "cpu_us"), "µs"))
    rates = [a.rate / b.rate for a, b in zip(seen["h2 16"], seen["grpcio 16"], strict=True)]
    rows.append(Row("16 connections, h2", statistics.median(rates), "x grpcio", least=3.0))
    least = middle("bare stream none", "cpu_us")
    rows.append(Row("100 chunks, bodies not sent to a bare asyncio.Protocol that answers blindly: CPU", least, "µs"))
    for name in ("h2", "grpcio"):
        none = middle(f"{name} stream none", "cpu_us")
        chunk, paced = (
            (middle(f"{name} {how} bodies", "cpu_us") - middle(f"{name} bodies", "cpu_us")) / CHUNKS
            for how in ("stream", "paced")
        )
        rows.append(Row(f"100 chunks, bodies not sent to {name}: CPU", none, "µs"))
        rows.append(Row(f"100 chunks, bodies not sent to {name}: CPU", none / least, "x bare"))
        rows.append(Row(f"a streamed chunk sent to {name}: CPU", chunk, "µs", 10 if name == "h2" else None))
        rows.append(Row(f"the same, a chunk each millisecond, {name}: CPU", paced, "µs"))
    return rows
