"""Answers that pass through us: Envoy with `response_body_mode` set, as gateways do it that send every body."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from extproc import names
from extproc.domain import Decision
from extproc.protocol import Decide, Event
from extproc.response import AnswerReader
from extproc.transport import codec
from tests.e2e import raw
from tests.e2e.front import envoy_before
from tests.e2e.parts import Answer, call
from tests.e2e.scripted import Answering, Script, scripted
from tests.fakes.decider import FakeDecider

pytestmark = pytest.mark.e2e

CHAT = "/v1/chat/completions"
FDS = "FULL_DUPLEX_STREAMED"


class Passage:
    """Envoy, a server of ours with a reader, and a scripted model server."""

    def __init__(self, url: str, port: int) -> None:
        self.url = url
        self._port = port

    async def answer(self, script: Script) -> Answer:
        """The answer to one request."""
        with scripted(self._port, script):
            return await asyncio.to_thread(call, self.url, CHAT, b'{"model":"client"}')

    async def read(self, script: Script, reading: object) -> None:
        """Run `reading` in a thread while the script answers."""
        with scripted(self._port, script):
            assert callable(reading)
            await asyncio.to_thread(reading)


@contextlib.asynccontextmanager
async def passage(
    binary: Path, directory: Path, mode: str, restore: tuple[str, str] | None = ("served", "the-client's-name")
) -> AsyncIterator[Passage]:
    def decide(question: Decide) -> Decision:
        destination = ((names.DESTINATION_HEADER, f"127.0.0.1:{front.upstream}"),)
        reader = None if restore is None else AnswerReader(None, restore)
        return Decision(destination, metadata=destination, reader=reader)

    decider = FakeDecider(decide)
    async with envoy_before(decider, binary, directory, mode) as front:
        yield Passage(front.url, front.upstream)
        async with asyncio.timeout(5):
            while len(decider.ended) < len(decider.asked):  # noqa: ASYNC110
                await asyncio.sleep(0.01)  # Envoy's last word
        assert len(decider.ended) == len(decider.asked)


DOCUMENT = json.dumps({"id": "1", "model": "served", "choices": [{"text": 'a "model": "served"'}]}).encode()
RESTORED = DOCUMENT.replace(b'"model": "served", "choices', b'"model": "the-client\'s-name", "choices')


@pytest.mark.parametrize("mode", [FDS, "STREAMED", "BUFFERED", "BUFFERED_PARTIAL"])
async def test_the_clients_name_is_restored(envoy_binary: Path, tmp_path: Path, mode: str) -> None:
    def document(answering: Answering) -> None:
        answering.head("application/json", content_length=str(len(DOCUMENT)))
        answering.write(DOCUMENT)

    async with passage(envoy_binary, tmp_path, mode) as through:
        answer = await through.answer(document)
        assert (answer.status, answer.body) == (200, RESTORED)


async def test_a_name_that_is_cut_over_pieces_is_restored(envoy_binary: Path, tmp_path: Path) -> None:
    """And what is held back is set free by trailers."""

    def in_pieces(answering: Answering) -> None:
        answering.head("application/json", transfer_encoding="chunked", trailer="x-checksum")
        for at in range(0, len(DOCUMENT), 7):
            answering.chunk(DOCUMENT[at : at + 7])
        answering.chunk(b'"mod')
        answering.chunk(b"")
        answering.write(b"x-checksum: 4711\r\n\r\n")

    async with passage(envoy_binary, tmp_path, FDS) as through:
        answer = await through.answer(in_pieces)
        assert (answer.status, answer.body) == (200, RESTORED + b'"mod')


async def test_compressed_answers_pass(envoy_binary: Path, tmp_path: Path) -> None:
    def compressed(answering: Answering) -> None:
        answering.head("application/json", content_length=str(len(DOCUMENT)), content_encoding="x-unknown")
        answering.write(DOCUMENT)

    async with passage(envoy_binary, tmp_path, FDS) as through:
        assert (await through.answer(compressed)).body == DOCUMENT


@pytest.mark.parametrize("restore", [None, ("served", "client")])
async def test_pieces_are_not_held_back(envoy_binary: Path, tmp_path: Path, restore: tuple[str, str] | None) -> None:
    """The model server writes the next event only when the client has the last one."""
    seen = threading.Semaphore(0)
    event = b'data: {"model":"served","n":%03d}\n\n'

    def in_step(answering: Answering) -> None:
        answering.head("text/event-stream", transfer_encoding="chunked")
        for number in range(100):
            answering.chunk(event % number)
            assert seen.acquire(timeout=5), number
        answering.chunk(b"")
        answering.write(b"\r\n")

    async with passage(envoy_binary, tmp_path, FDS, restore) as through:

        def client() -> None:
            with raw.connected(through.url) as connection:
                connection.sendall(raw.head(CHAT, "content-length: 2") + b"{}")
                for number in range(100):
                    wanted = event % number
                    if restore is not None:
                        wanted = wanted.replace(b"served", b"client")
                    raw.read_until(connection, wanted)
                    seen.release()
                raw.read_until(connection, b"0\r\n\r\n")

        await through.read(in_step, client)


@pytest.mark.parametrize("restore", [None, ("served", "client")])
@pytest.mark.parametrize("trailers", [False, True])
async def test_a_large_answer_is_intact(
    envoy_binary: Path, tmp_path: Path, restore: tuple[str, str] | None, trailers: bool
) -> None:
    document = b'{"model": "client", "data": "' + os.urandom(5 << 19).hex().encode() + b'"}'

    def large(answering: Answering) -> None:
        if not trailers:
            answering.head("application/json", content_length=str(len(document)))
            answering.write(document)
            return
        answering.head("application/json", transfer_encoding="chunked", trailer="x-checksum")
        for at in range(0, len(document), 100_000):
            answering.chunk(document[at : at + 100_000])
        answering.chunk(b"")
        answering.write(b"x-checksum: 4711\r\n\r\n")

    async with passage(envoy_binary, tmp_path, FDS, restore) as through:
        answer = await through.answer(large)
        assert answer.status == 200
        assert answer.body == document


async def test_what_envoy_sends_is_read_by_hand(envoy_binary: Path, tmp_path: Path) -> None:
    by_protobuf: list[str] = []
    usual = codec._by_protobuf

    def noting(raw: bytes) -> Event:
        event = usual(raw)
        by_protobuf.append(type(event).__name__)
        return event

    def document(answering: Answering) -> None:
        answering.head("application/json", content_length=str(len(DOCUMENT)))
        answering.write(DOCUMENT)

    with mock.patch.object(codec, "_by_protobuf", noting):
        async with passage(envoy_binary, tmp_path, FDS) as through:
            assert (await through.answer(document)).status == 200
    assert by_protobuf == []


@pytest.mark.parametrize("mode", [FDS, "STREAMED", "BUFFERED", "BUFFERED_PARTIAL"])
async def test_a_stream_that_begins_with_the_response(envoy_binary: Path, tmp_path: Path, mode: str) -> None:
    """With the request's phase off, what Envoy says of its modes comes with the response's headers. An answer in another mode
    than Envoy's is spurious to it, and ends the stream.
    """

    def responses_only(document: Any) -> None:
        manager = document["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
        modes = manager["http_filters"][0]["typed_config"]["processing_mode"]
        modes |= {"request_header_mode": "SKIP", "request_body_mode": "NONE", "request_trailer_mode": "SKIP"}
        cluster = next(each for each in document["static_resources"]["clusters"] if each["name"] == "endpoints")
        del cluster["load_balancing_policy"]
        assignment = cluster["load_assignment"]["endpoints"][0]
        assignment["lb_endpoints"] = assignment["lb_endpoints"][:1]

    def document(answering: Answering) -> None:
        answering.head("application/json", content_length=str(len(DOCUMENT)))
        answering.write(DOCUMENT)

    decider = FakeDecider(lambda question: Decision())
    async with envoy_before(decider, envoy_binary, tmp_path, mode, change=responses_only) as front:
        with scripted(front.upstream, document):
            answer = await asyncio.to_thread(call, front.url, CHAT, b"{}")
        stats = (await asyncio.to_thread(call, front.admin, "/stats?filter=ext_proc")).body.decode()
    assert (answer.status, answer.body) == (200, DOCUMENT)
    assert decider.asked == []
    told = dict(line.split(": ") for line in stats.splitlines() if ": " in line)
    spurious = {name: value for name, value in told.items() if "spurious" in name or "failed" in name}
    assert spurious
    assert set(spurious.values()) == {"0"}, spurious
