"""Probes as the kubelet makes them."""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Mapping
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.k8s.api import Object


def probe(handler: Object, container: Object, address: str, ports: Mapping[int, int]) -> str:
    """What is wrong; empty when it passes. `ports`: the container's to those of this machine."""
    timeout_s = float(handler.get("timeoutSeconds", 1))
    try:
        if "grpc" in handler:
            return _grpc(f"{address}:{ports[handler['grpc']['port']]}", handler["grpc"].get("service", ""), timeout_s)
        if "httpGet" in handler:
            return _http(handler["httpGet"], address, ports[number_of(handler["httpGet"]["port"], container)], timeout_s)
        if "tcpSocket" in handler:
            port = ports[number_of(handler["tcpSocket"]["port"], container)]
            socket.create_connection((address, port), timeout_s).close()
            return ""
    except (OSError, http.client.HTTPException) as error:
        return f"{type(error).__name__}: {error}"
    raise NotImplementedError(f"a probe of another kind: {handler}")


def number_of(port: int | str, container: Object) -> int:
    """A container's port by its number or its name."""
    if isinstance(port, int):
        return port
    (found,) = [each["containerPort"] for each in container.get("ports", []) if each.get("name") == port]
    return int(found)


def _grpc(target: str, service: str, timeout_s: float) -> str:
    with grpc.insecure_channel(target, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=timeout_s)
        except grpc.RpcError as error:
            return f"{error.code().name}: {error.details()}"
    status = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    return "" if status == "SERVING" else status


def _http(handler: Object, address: str, port: int, timeout_s: float) -> str:
    if handler.get("scheme", "HTTP") == "HTTPS":
        trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        trusting.check_hostname = False
        trusting.verify_mode = ssl.CERT_NONE
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(address, port, timeout=timeout_s, context=trusting)
    else:
        connection = http.client.HTTPConnection(address, port, timeout=timeout_s)
    try:
        headers = {header["name"]: header["value"] for header in handler.get("httpHeaders", [])}
        connection.request("GET", handler.get("path", "/"), headers=headers)
        response = connection.getresponse()
        body = response.read(200)
    finally:
        connection.close()
    return "" if 200 <= response.status < 400 else f"{response.status} {body!r}"
