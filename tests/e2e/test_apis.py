"""What vLLM serves beside chat and completions, through a real Envoy and the gateway, which reads the answers' usage."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from extproc.demo.stack import LLAMA, PHI4
from tests.e2e.parts import Answer, Endpoints, Stack, call, until

pytestmark = pytest.mark.e2e

INPUT, OUTPUT = "llm_d_epp_request_input_tokens_sum", "llm_d_epp_request_output_tokens_sum"


@pytest.fixture(scope="module")
def reading_stack(
    envoy_binary: Path, session_endpoints: Endpoints, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    directory = tmp_path_factory.mktemp("apis")
    stack = Stack("one-hop", envoy_binary, session_endpoints, directory, answers="FULL_DUPLEX_STREAMED")
    try:
        stack.start()
        yield stack
    finally:
        stack.stop()


@pytest.fixture
def stack(reading_stack: Stack, endpoints: Endpoints) -> Iterator[Stack]:
    yield reading_stack
    until(reading_stack.idle, what="nothing is under way after the test")


@pytest.fixture
def client(stack: Stack) -> Iterator[openai.OpenAI]:
    http_client = openai.DefaultHttpxClient(trust_env=False)
    with openai.OpenAI(base_url=f"{stack.url}/v1", api_key="none", max_retries=0, http_client=http_client) as client:
        yield client


def tokens_of(stack: Stack, before: list[float]) -> list[float]:
    """Tokens in and out that were counted since."""
    until(stack.idle)
    return [now - then for now, then in zip(stack.counted(INPUT, OUTPUT), before, strict=True)]


def post(stack: Stack, path: str, model: str = LLAMA.model, **body: Any) -> Answer:
    answer = call(stack.url, path, {"model": model, **body})
    assert answer.status == 200, answer
    assert answer.endpoint.startswith("llama-" if model == LLAMA.model else "phi4-")
    return answer


class TestResponses:
    def test_an_answer(self, stack: Stack, client: openai.OpenAI) -> None:
        before = stack.counted(INPUT, OUTPUT)
        said = client.responses.create(model=PHI4.model, input="hello", max_output_tokens=5)
        assert (said.model, said.status, len(said.output_text)) == (PHI4.model, "incomplete", 20)
        assert said.usage is not None
        assert tokens_of(stack, before) == [said.usage.input_tokens, said.usage.output_tokens] == [6, 5]

    def test_events(self, stack: Stack, client: openai.OpenAI) -> None:
        before = stack.counted(INPUT, OUTPUT)
        with client.responses.create(model=LLAMA.model, input="hello", max_output_tokens=7, stream=True) as stream:
            events = list(stream)
        last = events[-1]
        assert last.type == "response.incomplete"
        assert (
            "".join(event.delta for event in events if event.type == "response.output_text.delta") == last.response.output_text
        )
        assert tokens_of(stack, before) == [6, 7]

    def test_a_model_that_no_route_has(self, client: openai.OpenAI) -> None:
        with pytest.raises(openai.NotFoundError, match="does not exist"):
            client.responses.create(model="nobody", input="hello")


class TestStored:
    """A response is asked for where it was made: each of the six servers knows its own and no other."""

    @staticmethod
    def make(stack: Stack, model: str, **body: Any) -> tuple[str, str]:
        """A new response's id, and who has it."""
        answer = post(stack, "/v1/responses", model, input="hello", max_output_tokens=3, **body)
        found = re.search(rb'"id": ?"(resp[^"]+)"', answer.body)
        assert found is not None, answer.body
        return found[1].decode(), answer.endpoint

    @pytest.fixture
    def made(self, stack: Stack, endpoints: Endpoints) -> dict[str, str]:
        """By id: some of each server, documents and streams. Others are shown as full, so that each gets its turn."""
        made: dict[str, str] = {}
        for model, pool in ((LLAMA.model, "llama"), (PHI4.model, "phi4")):
            for number in (1, 2, 3):
                for other in {1, 2, 3}:
                    endpoints.load(f"{pool}-{other}", waiting=0 if other == number else 50)
                until(lambda name=f"{pool}-{number}": self.only_idle(stack, endpoints, name))  # type: ignore[misc]
                made |= dict(self.make(stack, model, stream=stream) for stream in (False, True))
        for pool in ("llama", "phi4"):
            for number in (1, 2, 3):
                endpoints.load(f"{pool}-{number}")
        assert sorted(made.values()) == sorted(name for name in endpoints.children for _ in range(2))
        until(stack.idle)
        return made

    @staticmethod
    def only_idle(stack: Stack, endpoints: Endpoints, name: str) -> bool:
        """As its pool knows it."""
        known = stack.known()
        pool = name.partition("-")[0]
        waiting = {each: known[endpoints.address(each)]["signals"]["waiting"]["value"] for each in endpoints.children}
        return all((waiting[each] < 50) == (each == name) for each in waiting if each.startswith(pool))

    def test_it_goes_back(self, stack: Stack, made: dict[str, str]) -> None:
        for response_id, name in made.items():
            path = f"/v1/responses/{response_id}"
            got = call(stack.url, path)
            assert (got.status, got.endpoint, got.json["id"]) == (200, name, response_id)
            gone = call(stack.url, path, method="DELETE")
            assert (gone.status, gone.endpoint) == (200, name)
            again = call(stack.url, path)
            assert (again.status, again.endpoint) == (404, name)

    def test_a_conversation_goes_on(self, stack: Stack, made: dict[str, str]) -> None:
        for response_id, name in made.items():
            model = LLAMA.model if name.startswith("llama") else PHI4.model
            _, answered = self.make(stack, model, previous_response_id=response_id)
            assert answered == name

    @pytest.mark.parametrize("model", [LLAMA.model, PHI4.model])
    def test_what_runs_is_cancelled(self, stack: Stack, model: str) -> None:
        for _ in range(4):
            response_id, name = self.make(stack, model, background=True)
            answer = call(stack.url, f"/v1/responses/{response_id}/cancel", {})
            assert (answer.status, answer.endpoint, answer.json["id"]) == (200, name, response_id)

    def test_one_that_nobody_knows(self, stack: Stack) -> None:
        """Is asked for somewhere, and a server says so."""
        answer = call(stack.url, "/v1/responses/resp_of_somebody_else")
        assert (answer.status, answer.endpoint != "") == (404, True)


class TestMessages:
    ASKED: dict[str, Any] = {"max_tokens": 4, "messages": [{"role": "user", "content": "hello"}]}

    def test_an_answer(self, stack: Stack) -> None:
        before = stack.counted(INPUT, OUTPUT)
        said = post(stack, "/v1/messages", **self.ASKED).json
        assert (said["type"], said["stop_reason"]) == ("message", "max_tokens")
        assert tokens_of(stack, before) == [said["usage"]["input_tokens"], 4]

    def test_events(self, stack: Stack) -> None:
        before = stack.counted(INPUT, OUTPUT)
        events = post(stack, "/v1/messages", PHI4.model, stream=True, **self.ASKED).body
        assert events.startswith(b"event: message_start\n")
        assert events.rstrip().endswith(b'data: {"type":"message_stop"}')
        assert tokens_of(stack, before)[1] == 4

    def test_tokens_are_counted(self, stack: Stack) -> None:
        asked = {"messages": self.ASKED["messages"]}
        assert post(stack, "/v1/messages/count_tokens", **asked).json == {"input_tokens": 6}


class TestPooling:
    def test_embeddings(self, stack: Stack, client: openai.OpenAI) -> None:
        before = stack.counted(INPUT, OUTPUT)
        said = client.embeddings.create(model=LLAMA.model, input=["hello there", "other"])
        assert [len(each.embedding) for each in said.data] == [384, 384]
        assert said.usage.total_tokens == 5
        assert tokens_of(stack, before) == [5, 0]

    def test_many_of_them_are_longer_than_what_is_parsed(self, stack: Stack, client: openai.OpenAI) -> None:
        """Usage stands at the end of some 200 KB."""
        before = stack.counted(INPUT, OUTPUT)
        client.embeddings.create(model=LLAMA.model, input=["hello there"] * 30, encoding_format="float")
        assert tokens_of(stack, before) == [90, 0]

    @pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank"])
    def test_rerank(self, stack: Stack, path: str) -> None:
        asked = {"query": "capital of France", "documents": ["the weather", "Paris is the capital of France."]}
        said = post(stack, path, PHI4.model, **asked).json
        assert [result["index"] for result in said["results"]] == [1, 0]

    @pytest.mark.parametrize("path", ["/score", "/v1/score"])
    def test_score(self, stack: Stack, path: str) -> None:
        before = stack.counted(INPUT, OUTPUT)
        said = post(stack, path, text_1="capital", text_2=["capital", "weather"]).json
        first, second = (each["score"] for each in said["data"])
        assert first > second
        assert tokens_of(stack, before) == [said["usage"]["prompt_tokens"], 0]


def test_tokens_there_and_back(stack: Stack) -> None:
    told = post(stack, "/tokenize", prompt="hello there").json
    assert told["count"] == 3
    assert json.loads(post(stack, "/detokenize", tokens=told["tokens"]).body) == {"prompt": "hello there"}
