"""OpenAI's responses, seen by OpenAI's own client."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import openai
import pytest

from extproc.response.usage import DocumentUsage, StreamUsage, Usage
from extproc.simulator import responses
from extproc.simulator.server import Simulator
from tests.simulator.helpers import eventually, fast

SLOW = {"decode_step": "50ms"}


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator(fast(model=("m",), lora=("sql",))) as started:
        yield started


@pytest.fixture
async def api(simulator: Simulator) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{simulator.url}/v1", api_key="none", max_retries=0) as client:
        yield client


async def test_an_answer(api: openai.AsyncOpenAI) -> None:
    said = await api.responses.create(model="m", input="hello there", max_output_tokens=5)
    assert said.id.startswith("resp_")
    assert (said.object, said.status, said.model) == ("response", "incomplete", "m")
    assert said.incomplete_details is not None
    assert said.incomplete_details.reason == "max_output_tokens"
    assert len(said.output_text) == 20
    assert said.usage is not None
    assert (said.usage.input_tokens, said.usage.output_tokens, said.usage.total_tokens) == (7, 5, 12)


async def test_one_that_ends_by_itself_is_complete(api: openai.AsyncOpenAI) -> None:
    said = await api.responses.create(model="m", input="hello")
    assert (said.status, said.incomplete_details) == ("completed", None)


async def test_an_adapter(api: openai.AsyncOpenAI) -> None:
    assert (await api.responses.create(model="sql", input="hello")).model == "sql"


async def test_the_same_prompt_has_the_same_answer_as_a_chat(api: openai.AsyncOpenAI) -> None:
    said = await api.responses.create(model="m", instructions="be brief", input="hello", max_output_tokens=9)
    chat = await api.chat.completions.create(
        model="m",
        messages=[{"role": "system", "content": "be brief"}, {"role": "user", "content": "hello"}],
        max_completion_tokens=9,
    )
    assert said.output_text == chat.choices[0].message.content


async def test_events(api: openai.AsyncOpenAI) -> None:
    events = [event async for event in await api.responses.create(model="m", input="hello", max_output_tokens=3, stream=True)]
    kinds = [event.type for event in events]
    assert kinds == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        *["response.output_text.delta"] * 3,
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.incomplete",
    ]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    last = events[-1]
    assert last.type == "response.incomplete"
    said = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert last.response.output_text == said
    assert await api.responses.retrieve(last.response.id) == last.response


class TestStore:
    async def test_what_was_said_can_be_had_again_until_it_is_deleted(self, api: openai.AsyncOpenAI) -> None:
        said = await api.responses.create(model="m", input="hello")
        assert await api.responses.retrieve(said.id) == said
        (item,) = (await api.responses.input_items.list(said.id)).data
        assert item.type == "message"
        assert [part.text for part in item.content if part.type == "input_text"] == ["hello"]
        await api.responses.delete(said.id)
        with pytest.raises(openai.NotFoundError, match="not found"):
            await api.responses.retrieve(said.id)

    async def test_a_chat_goes_on_where_it_was(self, api: openai.AsyncOpenAI) -> None:
        first = await api.responses.create(model="m", input="hello", instructions="be brief")
        second = await api.responses.create(model="m", input="and then?", previous_response_id=first.id)
        chat = await api.chat.completions.create(
            model="m",
            messages=[
                {"role": "user", "content": "hello"},
                {"role": "assistant", "content": first.output_text},
                {"role": "user", "content": "and then?"},
            ],
        )
        assert second.output_text == chat.choices[0].message.content

    async def test_not_stored(self, api: openai.AsyncOpenAI) -> None:
        said = await api.responses.create(model="m", input="hello", store=False)
        with pytest.raises(openai.NotFoundError):
            await api.responses.retrieve(said.id)

    async def test_the_oldest_are_forgotten(self, api: openai.AsyncOpenAI, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(responses, "KEPT_RESPONSES", 2)
        first, *_, last = [await api.responses.create(model="m", input="x", max_output_tokens=1) for _ in range(3)]
        assert (await api.responses.retrieve(last.id)).id == last.id
        with pytest.raises(openai.NotFoundError):
            await api.responses.retrieve(first.id)

    async def test_ids_that_are_none(self, api: openai.AsyncOpenAI) -> None:
        with pytest.raises(openai.BadRequestError, match="Expected an ID that begins with 'resp'"):
            await api.responses.retrieve("chatcmpl-1")
        with pytest.raises(openai.NotFoundError):
            await api.responses.create(model="m", input="x", previous_response_id="resp_none")

    async def test_only_what_runs_in_the_background_can_be_cancelled(self, api: openai.AsyncOpenAI) -> None:
        said = await api.responses.create(model="m", input="hello")
        with pytest.raises(openai.BadRequestError, match="Cannot cancel a synchronous response"):
            await api.responses.cancel(said.id)


class TestBackground:
    async def test_is_asked_for_until_it_is_done(self, api: openai.AsyncOpenAI, simulator: Simulator) -> None:
        said = await api.responses.create(model="m", input="hello", max_output_tokens=3, background=True)
        assert (said.status, said.output) == ("queued", [])
        await eventually(lambda: not simulator.generation.in_flight and simulator.driver.idle)
        done = await api.responses.retrieve(said.id)
        assert (done.status, len(done.output_text)) == ("incomplete", 12)

    async def test_is_cancelled(self) -> None:
        async with (
            Simulator(fast(model=("m",), **SLOW)) as simulator,
            openai.AsyncOpenAI(base_url=f"{simulator.url}/v1", api_key="none") as api,
        ):
            said = await api.responses.create(model="m", input="hello", background=True)
            await eventually(lambda: simulator.generation.in_flight == 1)
            assert (await api.responses.cancel(said.id)).status == "cancelled"
            await eventually(lambda: not simulator.generation.in_flight)
            assert (await api.responses.retrieve(said.id)).status == "cancelled"

    @pytest.mark.parametrize("other", [{"stream": True}, {"store": False}])
    async def test_not_with(self, simulator: Simulator, client: aiohttp.ClientSession, other: dict[str, bool]) -> None:
        asked = {"model": "m", "input": "hello", "background": True, **other}
        async with client.post(f"{simulator.url}/v1/responses", json=asked) as reply:
            assert reply.status == 400
            assert (await reply.json())["error"]["param"] == "background"


@pytest.mark.parametrize(
    ("body", "status"),
    [({"model": "m"}, 400), ({"model": "x", "input": "a"}, 404), ({"model": "m", "input": "a", "max_output_tokens": 0}, 400)],
)
async def test_refused(simulator: Simulator, client: aiohttp.ClientSession, body: dict[str, object], status: int) -> None:
    async with client.post(f"{simulator.url}/v1/responses", json=body) as reply:
        assert reply.status == status
        assert (await reply.json())["error"]["code"] == status


async def test_usage_is_read_of_it(simulator: Simulator, client: aiohttp.ClientSession) -> None:
    body = {"model": "m", "input": "hello", "max_output_tokens": 3}
    async with client.post(f"{simulator.url}/v1/responses", json=body) as reply:
        document = DocumentUsage()
        document.feed(await reply.read())
        document.end()
    async with client.post(f"{simulator.url}/v1/responses", json=body | {"stream": True}) as reply:
        events = StreamUsage()
        events.feed(await reply.read())
        events.end()
    assert document.usage == events.usage == Usage(6, 3, 0)
