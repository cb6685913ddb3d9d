"""Events of open pages: one stream each, so many at once, none for long."""

from __future__ import annotations

import asyncio
import json
import random

import pytest
from starlette.types import Message

from extproc.api.errors import ApiError
from extproc.api.page.figures import TICK_S, Cells
from extproc.api.page.kept import BEAT_S
from extproc.api.page.live import STREAM_S, Streams
from extproc.control.changes import Create, UpdateConfig
from tests.api.page.test_figures import Looking
from tests.api.page.visitors import NAVIGATES, visiting
from tests.api.tokens import QUENTIN
from tests.control.desks import document, split


def told(data: bytes) -> dict[str, str]:
    """Of one event."""
    (line,) = [line for line in data.decode().splitlines() if line.startswith("data: ")]
    found: dict[str, str] = json.loads(line.removeprefix("data: "))
    return found


async def test_a_stream_says_everything_then_what_is_new_and_ends() -> None:
    looking = Looking()
    await looking.open()
    sent: list[bytes] = []

    async def sleep(time_s: float) -> None:
        assert 0 < time_s < 3
        looking.clock.advance(time_s)
        if len(sent) == 1:
            await looking.bench.desk.apply(UpdateConfig("chat", split(a=50, b=50)), "bob")

    async def send(data: bytes) -> None:
        sent.append(data)

    streams = Streams(looking.figures, looking.clock, sleep)
    await streams.tell(looking.figures.of(["chat"]), send)
    assert sent[0].startswith(b"retry: ")
    assert told(sent[0])["chat//version"] == "1"
    assert told(sent[1])["chat//version"] == "2"
    assert sent[3] == b": nothing new\n\n"
    beats = [told(data)["chat//beat"] for data in sent if b"//beat" in data]
    assert len(beats) == len(set(beats)) == 1 + STREAM_S // BEAT_S, "plots are drawn anew every ten seconds"
    assert len(sent) == 1 + STREAM_S // 2
    assert streams.open == 0


async def test_over_http_and_no_longer_than_the_page_is_open() -> None:
    async with visiting() as visitor:
        await visitor.bench.desk.apply(Create(document()), "alice")
        async with visitor.http.get(f"{visitor.origin}/ui/live?names=chat,nothing,%3Cscript%3E") as answer:
            assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream")
            assert answer.headers["cache-control"] == "no-store"
            assert await answer.content.readline() == b"retry: 300\n"
            cells = told(await answer.content.readline())
            assert (cells["chat//state"], cells["nothing//state"]) == ("ready", "deleted")


async def test_only_of_endpoints_that_the_visitor_may_see() -> None:
    async with visiting(QUENTIN) as visitor:
        for name in ("chat", "secret"):
            await visitor.bench.desk.apply(Create(document(name)), "alice")
        async with visitor.http.get(f"{visitor.origin}/ui/live?names=chat,secret") as answer:
            await answer.content.readline()
            assert {key.partition("/")[0] for key in told(await answer.content.readline())} == {"chat"}
        assert (await visitor.ask("GET", "/ui/live?names=secret")).status == 403


async def test_one_stream_too_many_is_told_to_come_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Streams, "full", property(lambda streams: streams.open >= 1))
    async with visiting() as visitor, visitor.http.get(f"{visitor.origin}/ui/live?names=chat") as answer:
        await answer.content.readline()
        more = await visitor.ask("GET", "/ui/live?names=chat", NAVIGATES)
        assert more.status == 503
        assert "not kept up to date" in more.text
        assert more.headers["retry-after"] == "1"


async def test_of_many_that_come_at_once_no_more_are_open_than_may_be() -> None:
    """Each counts from when it is answered, not from when its first event is made."""
    looking = Looking()
    await looking.open()
    streams = Streams(looking.figures, looking.clock, most=1)
    came = asyncio.Event()

    async def receive() -> Message:
        await came.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        await asyncio.sleep(0)

    first = asyncio.ensure_future(streams.of(looking.figures.of(["chat"]))({}, receive, send))
    await asyncio.sleep(0)
    with pytest.raises(ApiError, match="So many pages are open"):
        streams.of(looking.figures.of(["chat"]))
    came.set()
    await first
    assert streams.open == 0


async def test_what_fails_in_a_stream_is_not_taken_for_its_end() -> None:
    class Failing:
        def cells(self) -> dict[str, str]:
            raise RuntimeError("no figures")

        def changed(self, since: int) -> dict[str, str]:
            raise AssertionError

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    looking = Looking()
    streams = Streams(looking.figures, looking.clock)
    with pytest.raises(RuntimeError, match="no figures"):
        await streams.of(Failing())({}, receive, send)
    assert [message["type"] for message in sent] == ["http.response.start"]
    assert streams.open == 0


async def test_what_a_tick_brings_while_the_one_before_is_told_is_not_lost() -> None:
    """On a busy machine a page's cells take until the next tick, which another page sees first."""
    looking = Looking()
    await looking.open()
    shown = looking.figures.of(["chat"])
    sent: list[bytes] = []

    class Slow:
        def cells(self) -> Cells:
            return shown.cells()

        def changed(self, since: int) -> Cells:
            found = shown.changed(since)
            if not looking.down:
                looking.clock.advance(TICK_S)
                looking.down.add("b")
                looking.cells()
            return found

    async def sleep(time_s: float) -> None:
        looking.clock.advance(time_s)

    async def send(data: bytes) -> None:
        sent.append(data)

    await Streams(looking.figures, looking.clock, sleep).tell(Slow(), send)
    page: dict[str, str] = {}
    for data in sent[:4]:
        if b"data: " in data:
            page |= told(data)
    assert page["chat//state"] == "not ready"


async def test_pages_that_come_and_go_show_what_there_is() -> None:
    """Any number of them, begun and ended at any time, some of which read slowly: each is at its end as a new one is."""
    looking = Looking()
    await looking.open()
    chance = random.Random(1)
    for _ in range(20):
        pages: dict[int, tuple[int, dict[str, str]]] = {}
        shown = looking.figures.of(["chat"])
        for tick in range(30):
            looking.clock.advance(chance.choice((0.4, TICK_S, TICK_S, 2 * TICK_S)))
            if chance.random() < 0.5:
                looking.down ^= {"b"}
            for number in list(pages):
                if chance.random() < 0.1:
                    del pages[number]
                elif chance.random() < 0.8:  # else it is still busy with what it was told before
                    seen, cells = pages[number]
                    pages[number] = (looking.figures.tick, cells | dict(shown.changed(seen)))
            if chance.random() < 0.5:
                pages[tick] = (looking.figures.tick, dict(shown.cells()))
        looking.clock.advance(TICK_S)
        for seen, cells in pages.values():
            assert cells | dict(shown.changed(seen)) == shown.cells()
