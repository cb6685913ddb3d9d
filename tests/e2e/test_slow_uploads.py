"""Uploads and answers that take longer than the times that gateways' controllers write into a filter of ext_proc.

Envoy Gateway gives its call to an extension 10 s (`grpc_service.timeout`) and each message `messageTimeout`. Envoy 1.40 starts
neither for a body in full duplex, so both may be short here.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from extproc import names
from extproc.domain import InferenceRequest
from extproc.stages import Draft, Step
from extproc.stages.stage import NO_HOOKS
from tests.e2e import raw
from tests.e2e.front import envoy_before
from tests.e2e.upstream import Exchange, Upstream
from tests.fakes.deployment import Deployment

pytestmark = pytest.mark.e2e

SHORT_S = 0.3
PIECES = 5


class SendsTo:
    """Picks an endpoint."""

    hooks = NO_HOOKS

    def __init__(self, port: int) -> None:
        self._endpoint = f"127.0.0.1:{port}"

    def decide(self, request: InferenceRequest, draft: Draft) -> Step:
        draft.destination = self._endpoint
        draft.set_headers += ((names.DESTINATION_HEADER, self._endpoint),)
        draft.metadata += ((names.DESTINATION_HEADER, self._endpoint),)
        return None


def hurried(document: Any) -> None:
    """Every time limit of the filter is short."""
    (listener,) = document["static_resources"]["listeners"]
    (chain,) = listener["filter_chains"]
    filters = chain["filters"][0]["typed_config"]["http_filters"]
    (config,) = [each["typed_config"] for each in filters if "ExternalProcessor" in each["typed_config"]["@type"]]
    config["grpc_service"]["timeout"] = f"{SHORT_S}s"
    config["message_timeout"] = f"{SHORT_S}s"


def upload(url: str) -> bytes:
    """A body in pieces with pauses; the whole answer."""
    text = b'{"model":"m","prompt":"' + b"x" * 90_000 + b'"}'
    size = len(text) // PIECES + 1
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    with raw.connected(url) as connection:
        connection.sendall(raw.head("/v1/completions", "transfer-encoding: chunked"))
        for piece in pieces:
            connection.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
            time.sleep(SHORT_S)  # a client that is slow
        connection.sendall(b"0\r\n\r\n")
        return raw.read_until(connection, b"0\r\n\r\n")


async def test_no_time_limit_of_the_filter_cuts_a_slow_upload(envoy_binary: Path, tmp_path: Path) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.begin("application/json")
        await asyncio.sleep(2 * SHORT_S)
        await exchange.chunk(b"%d bytes" % len(exchange.body))
        await exchange.end()

    upstream = Upstream(answer)
    deployment = Deployment()
    director = deployment.director(deployment.headers(), SendsTo(next(iter(upstream.ports.values()))))
    async with (
        upstream.listening(),
        envoy_before(director, envoy_binary, tmp_path, "FULL_DUPLEX_STREAMED", ports=upstream.ports, change=hurried) as front,
    ):
        begun_s = time.monotonic()
        said = await asyncio.to_thread(upload, front.url)
        took_s = time.monotonic() - begun_s

    assert b"200 OK" in said
    assert b"90025 bytes" in said
    assert took_s > (PIECES + 2) * SHORT_S
