"""Providers behind one address, asked by their own libraries: what goes out, what comes back, and who is asked next."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from tests.api.tokens import ALICE
from tests.e2e.behind import API, Behind, behind, split
from tests.e2e.parts import Endpoints
from tests.e2e.provider import Provider, Said, document, events
from tests.external import recorded

pytestmark = pytest.mark.e2e

HELLO: Any = [{"role": "user", "content": "hi"}]
TEXT = recorded.MESSAGE["content"][0]["text"]


def entity(at: Behind, provider: str, **more: Any) -> dict[str, Any]:
    """A served entity of the provider's own name."""
    host = at.providers[provider].host
    config = {
        f"{provider}_api_key": f"{{{{secrets/my/{provider}}}}}",
        f"{provider}_api_base": f"http://{host}{'/v1' if provider == 'openai' else ''}",
        **more,
    }
    model = {"name": f"{provider}-model", "provider": provider, "task": "llm/v1/chat", f"{provider}_config": config}
    return {"name": provider, "external_model": model}


def create(at: Behind, *order: str, fallback: bool = False) -> None:
    """The endpoint `mix`: all goes to the first one, the others are there to fall back to."""
    shares: dict[str, Any] = {name: 0 if position else 100 for position, name in enumerate(order)}
    at.api(
        "POST",
        "",
        {
            "name": "mix",
            "config": {
                "served_entities": [entity(at, name) for name in order],
                "traffic_config": split("served_entity_name", **shares),
            },
            "ai_gateway": {"fallback_config": {"enabled": fallback}},
        },
    )


@pytest.fixture(scope="module")
def standing(envoy_binary: Path, session_endpoints: Endpoints, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Behind]:
    with behind(envoy_binary, session_endpoints, tmp_path_factory.mktemp("providers"), silence="1s") as made:
        yield made


@pytest.fixture
def at(standing: Behind) -> Iterator[Behind]:
    """Without endpoints, and with providers that answer as usual."""
    yield standing
    standing.forget()


@pytest.fixture
def claude(at: Behind) -> Provider:
    return at.providers["anthropic"]


@pytest.fixture
def gpt(at: Behind) -> Provider:
    return at.providers["openai"]


@pytest.fixture
def chat(at: Behind) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(api_key=ALICE, base_url=f"{at.url}/serving-endpoints", max_retries=0) as client:
        yield client


@pytest.fixture
def messages(at: Behind) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(api_key=ALICE, base_url=at.url, max_retries=0) as client:
        yield client


@pytest.mark.parametrize("name", ["openai", "anthropic"])
def test_credentials_stay_where_they_belong(at: Behind, name: str) -> None:
    """The provider gets its own and nothing of the client's, the client nothing of the provider's."""
    create(at, name)
    said = {"cookie": "session=the-clients", "x_databricks_workspace_id": "123", "x_envoy_original_dst_host": "the-clients"}
    got = at.ask("mix", x_user_id="the-users-name", **said)
    assert (got.status, got.json["model"], got.headers["served-model-name"]) == (200, "mix", name)
    provider = at.providers[name]
    (sent,) = provider.sent
    assert sent.body["model"] == f"{name}-model"
    assert sent.headers["host"] == provider.host
    assert provider.key in (sent.headers.get("x-api-key"), sent.headers.get("authorization", "").removeprefix("Bearer "))
    seen = str(sent)
    assert not [each for each in (ALICE, "the-users-name", "the-clients", "x-user-id", "databricks") if each in seen]
    assert provider.key not in str(got)
    assert provider.key not in str(at.api("GET", "/mix")) + str(at.api("GET", "/mix/history"))


def test_openais_library_asks_anthropic(chat: openai.OpenAI, at: Behind, claude: Provider) -> None:
    create(at, "anthropic")
    answer = chat.chat.completions.create(model="mix", messages=HELLO, max_tokens=9)
    assert (answer.choices[0].message.content, answer.model) == (TEXT, "mix")
    assert (claude.sent[0].path, claude.sent[0].body["max_tokens"]) == ("/v1/messages", 9)


def test_openais_library_calls_tools_of_anthropic(chat: openai.OpenAI, at: Behind, claude: Provider) -> None:
    create(at, "anthropic")
    claude.begin(document(recorded.MESSAGE_TOOLS))
    tools: Any = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}]
    message = chat.chat.completions.create(model="mix", messages=HELLO, tools=tools).choices[0].message
    calls = message.tool_calls or []
    assert [call.function.name for call in calls if call.type == "function"] == ["weather", "time"]
    turns: Any = [message, *[{"role": "tool", "tool_call_id": call.id, "content": "x"} for call in calls]]
    chat.chat.completions.create(model="mix", messages=[*HELLO, *turns], tools=tools)
    assert [turn["role"] for turn in claude.sent[1].body["messages"]] == ["user", "assistant", "user"]
    assert claude.sent[1].body["tools"][0]["name"] == "weather"


def test_openais_library_streams_from_anthropic(chat: openai.OpenAI, at: Behind, claude: Provider) -> None:
    """With the usage at the end."""
    create(at, "anthropic")
    claude.begin(events(recorded.MESSAGE_STREAM))
    options: Any = {"include_usage": True}
    chunks = list(chat.chat.completions.create(model="mix", messages=HELLO, stream=True, stream_options=options))
    assert "".join(each.choices[0].delta.content or "" for each in chunks if each.choices) == TEXT
    assert {each.model for each in chunks} == {"mix"}
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 46


def test_anthropics_library_asks_openai(messages: anthropic.Anthropic, at: Behind, gpt: Provider) -> None:
    create(at, "openai")
    answer = messages.messages.create(model="mix", max_tokens=9, system="Be brief.", messages=HELLO)
    (block,) = answer.content
    assert block.type == "text"
    assert (block.text, answer.model, answer.stop_reason) == (TEXT, "mix", "end_turn")
    assert (gpt.sent[0].path, gpt.sent[0].body["messages"][0]["role"]) == ("/v1/chat/completions", "system")
    assert ALICE not in str(gpt.sent[0])


def test_anthropics_library_streams_from_openai(messages: anthropic.Anthropic, at: Behind, gpt: Provider) -> None:
    create(at, "openai")
    gpt.begin(events(recorded.CHAT_STREAM))
    with messages.messages.stream(model="mix", max_tokens=9, messages=HELLO) as stream:
        answer = stream.get_final_message()
    (block,) = answer.content
    assert block.type == "text"
    assert block.text
    assert answer.usage.output_tokens == 46


@pytest.mark.parametrize("name", ["openai", "anthropic"])
def test_a_refused_credential_is_502_and_not_quoted(at: Behind, name: str) -> None:
    create(at, name)
    provider = at.providers[name]
    provider.begin(document({"error": {"type": "x", "message": f"Incorrect API key provided: {provider.key}"}}, 401))
    got = at.ask("mix")
    assert got.status == 502
    assert provider.key not in str(got)
    assert "refused the gateway's credential" in got.body.decode()


def test_too_many_stays_with_its_pause(at: Behind, gpt: Provider) -> None:
    create(at, "openai")
    gpt.begin(document({"error": {"message": "Slow down", "type": "requests", "code": "rate_limit"}}, 429, retry_after="17"))
    got = at.ask("mix")
    assert (got.status, got.headers["retry-after"]) == (429, "17")
    assert "Slow down" in got.body.decode()


FAILURES = {
    "429": document({"error": {"message": "Slow down"}}, 429),
    "500": document({"error": {"message": "no"}}, 500),
    "cut": Said(cut=True),
    "silent": Said(silent_s=5.0),
}


@pytest.mark.parametrize("order", [("openai", "anthropic"), ("anthropic", "openai")], ids=["gpt first", "claude first"])
@pytest.mark.parametrize("fails", FAILURES)
def test_the_next_provider_answers(at: Behind, order: tuple[str, str], fails: str) -> None:
    """In the order of the list, with its own credentials and in its own dialect."""
    create(at, *order, fallback=True)
    first, second = (at.providers[name] for name in order)
    first.begin(FAILURES[fails])
    got = at.ask("mix")
    assert (got.status, got.headers["served-model-name"], got.json["model"]) == (200, order[1], "mix")
    assert got.json["choices"][0]["message"]["content"] == TEXT
    assert first.sent
    (sent,) = second.sent
    assert first.key not in str(sent)


def test_a_refused_credential_is_no_reason_to_ask_another(at: Behind, gpt: Provider, claude: Provider) -> None:
    """Nor is any other 4xx but 429."""
    create(at, "openai", "anthropic", fallback=True)
    for status, becomes in ((401, 502), (400, 400)):
        gpt.begin(document({"error": {"message": "no"}}, status))
        assert at.ask("mix").status == becomes
    assert claude.sent == []


@pytest.mark.parametrize(("says", "status"), [(Said(silent_s=5.0), 504), (Said(cut=True), 503)], ids=["silent", "cut"])
def test_without_fallback_the_failure_is_the_answer(at: Behind, gpt: Provider, says: Said, status: int) -> None:
    create(at, "openai")
    gpt.begin(says)
    got = at.ask("mix")
    assert got.status == status


def test_a_host_that_is_not_allowed_may_not_be_asked(at: Behind) -> None:
    """Plain http and addresses inside only by --external-allow, however the host is written."""
    for host in ("localhost:80", "10.0.0.1", "169.254.169.254", "[::1]"):
        config = {"served_entities": [entity(at, "openai", openai_api_base=f"http://{host}/v1")]}
        got = at.call("POST", API, {"name": "mix", "config": config})
        assert (got.status, got.json["error_code"]) == (400, "INVALID_PARAMETER_VALUE"), host
        assert "--external-allow" in got.json["message"]


def test_a_key_is_not_taken_where_a_reference_belongs(at: Behind) -> None:
    config = {"served_entities": [entity(at, "openai", openai_api_key="sk-a-raw-key-of-somebody")]}
    got = at.call("POST", API, {"name": "mix", "config": config})
    assert (got.status, got.json["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert "sk-a-raw-key" not in got.json["message"]
