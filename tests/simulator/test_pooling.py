"""Embeddings, scores and reranking."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import openai
import pytest

from extproc.simulator.server import Simulator
from tests.simulator.helpers import fast

DOCUMENTS = ["the weather is cold", "a capital of a country", "Paris is the capital of France."]
QUERY = "capital of France"


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator(fast(model=("m",), embedding_dimensions=64)) as started:
        yield started


async def post(client: aiohttp.ClientSession, simulator: Simulator, path: str, **body: Any) -> tuple[int, Any]:
    async with client.post(f"{simulator.url}{path}", json={"model": "m", **body}) as reply:
        return reply.status, await reply.json()


class TestEmbeddings:
    async def test_by_openais_client(self, simulator: Simulator) -> None:
        """Which asks for base64 and gives floats."""
        async with openai.AsyncOpenAI(base_url=f"{simulator.url}/v1", api_key="none") as api:
            said = await api.embeddings.create(model="m", input=["hello there", "hello there", "other"])
            floats = await api.embeddings.create(model="m", input="hello there", encoding_format="float", dimensions=64)
        first, second, third = (each.embedding for each in said.data)
        assert [each.index for each in said.data] == [0, 1, 2]
        assert first == second == pytest.approx(floats.data[0].embedding)
        assert first != third
        assert len(first) == 64
        assert sum(x * x for x in first) == pytest.approx(1, abs=1e-5)
        assert (said.usage.prompt_tokens, said.usage.total_tokens) == (3 + 3 + 2, 8)

    @pytest.mark.parametrize("given", ["hell", [1, 2, 3], [[1, 2], [3]], ["a", "b"]])
    async def test_every_form_of_input(self, simulator: Simulator, client: aiohttp.ClientSession, given: object) -> None:
        status, said = await post(client, simulator, "/v1/embeddings", input=given, dimensions=7)
        assert status == 200
        assert {len(each["embedding"]) for each in said["data"]} == {7}

    @pytest.mark.parametrize("body", [{}, {"input": []}, {"input": ""}, {"input": "x", "dimensions": 0}])
    async def test_refused(self, simulator: Simulator, client: aiohttp.ClientSession, body: dict[str, Any]) -> None:
        assert (await post(client, simulator, "/v1/embeddings", **body))[0] == 400

    async def test_a_model_that_is_not_served(self, simulator: Simulator, client: aiohttp.ClientSession) -> None:
        assert (await post(client, simulator, "/v1/embeddings", input="x", model="y"))[0] == 404

    async def test_it_is_work_for_the_engine(self, simulator: Simulator, client: aiohttp.ClientSession) -> None:
        await post(client, simulator, "/v1/embeddings", input="hello there")
        async with client.get(f"{simulator.url}/metrics") as reply:
            page = await reply.text()
        assert 'vllm:prompt_tokens_total{engine="0",model_name="m"} 3.0' in page


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank"])
async def test_what_says_most_of_the_query_comes_first(simulator: Simulator, client: aiohttp.ClientSession, path: str) -> None:
    status, said = await post(client, simulator, path, query=QUERY, documents=DOCUMENTS, top_n=2)
    assert status == 200
    assert [result["index"] for result in said["results"]] == [2, 1]
    assert said["results"][0]["document"]["text"] == DOCUMENTS[2]
    scores = [result["relevance_score"] for result in said["results"]]
    assert 1 >= scores[0] > scores[1] > 0
    assert said["usage"]["total_tokens"] == said["usage"]["prompt_tokens"] > 0


async def test_documents_of_parts(simulator: Simulator, client: aiohttp.ClientSession) -> None:
    _, said = await post(client, simulator, "/rerank", query=QUERY, documents=[{"text": text} for text in DOCUMENTS])
    assert said["results"][0]["index"] == 2
    assert len(said["results"]) == 3


@pytest.mark.parametrize("path", ["/score", "/v1/score"])
@pytest.mark.parametrize("names", [("text_1", "text_2"), ("queries", "documents")])
async def test_scores(simulator: Simulator, client: aiohttp.ClientSession, path: str, names: tuple[str, str]) -> None:
    status, said = await post(client, simulator, path, **{names[0]: QUERY, names[1]: DOCUMENTS})
    assert (status, said["object"]) == (200, "list")
    assert [each["index"] for each in said["data"]] == [0, 1, 2]
    scores = [each["score"] for each in said["data"]]
    assert max(scores) == scores[2]
    _, one = await post(client, simulator, path, **{names[0]: [QUERY], names[1]: [DOCUMENTS[1]]})
    assert one["data"][0]["score"] == scores[1]


@pytest.mark.parametrize("body", [{"text_1": "a"}, {"text_1": ["a", "b"], "text_2": ["a", "b", "c"]}])
async def test_pairs_that_are_none(simulator: Simulator, client: aiohttp.ClientSession, body: dict[str, Any]) -> None:
    assert (await post(client, simulator, "/score", **body))[0] == 400


@pytest.mark.parametrize("path", ["/v1/embeddings", "/score", "/rerank", "/v1/messages", "/v1/responses"])
async def test_faults_strike_it(simulator: Simulator, client: aiohttp.ClientSession, path: str) -> None:
    async with client.post(f"{simulator.url}/sim/faults", json={"fault": "503"}) as reply:
        assert reply.status == 200
    assert (await post(client, simulator, path))[0] == 503
