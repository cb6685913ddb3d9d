"""The servers by themselves, with nothing of ours in between: when this fails, look at vLLM, not at the gateway."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import openai
import pytest

from .conftest import MODEL_A, MODEL_B, Fleet
from .servers import BLOCK_TOKENS, KV_BLOCKS, LETTER_IDS, MAX_SEQUENCES, Load, Server

IDLE = Load(waiting=0, running=0, kv_usage=0.0)


def client(server: Server) -> openai.OpenAI:
    return openai.OpenAI(base_url=server.base_url, api_key="none", max_retries=0)


def ask(server: Server, text: str, max_tokens: int, *, by: openai.OpenAI | None = None) -> openai.types.chat.ChatCompletion:
    return (by or client(server)).chat.completions.create(
        model=server.spec.served_model_name,
        messages=[{"role": "user", "content": text}],
        max_tokens=max_tokens,
        extra_body={"allowed_token_ids": LETTER_IDS},
    )


def wait_for(server: Server, wanted: Callable[[Load], bool], within_s: float = 60.0) -> Load:
    deadline = time.monotonic() + within_s
    while not wanted(load := server.load()):
        assert time.monotonic() < deadline, f"{server.name} is still at {load}"
        time.sleep(0.01)
    return load


@pytest.mark.parametrize(("which", "model"), [("a", MODEL_A), ("a_twin", MODEL_A), ("b", MODEL_B)])
def test_serves_its_model_under_its_name(fleet: Fleet, which: str, model: str) -> None:
    server: Server = getattr(fleet, which)
    assert [served.id for served in client(server).models.list()] == [model]
    answer = ask(server, "hello", 8)
    assert answer.model == model
    assert (answer.choices[0].message.content or "").isalpha()
    assert answer.usage is not None
    # begin, user, five bytes, end, assistant
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (9, 8)


def test_twins_say_the_same(fleet: Fleet) -> None:
    said = [ask(server, "which of you is it?", 16).choices[0].message.content for server in (fleet.a, fleet.a_twin)]
    assert said[0] == said[1]


def test_the_other_model_is_unknown(fleet: Fleet) -> None:
    with pytest.raises(openai.NotFoundError):
        client(fleet.b).chat.completions.create(model=MODEL_A, messages=[{"role": "user", "content": "hello"}])


def test_a_stream_ends_with_its_usage(fleet: Fleet) -> None:
    chunks = list(
        client(fleet.b).chat.completions.create(
            model=MODEL_B,
            messages=[{"role": "user", "content": "hello"}],
            max_tokens=8,
            stream=True,
            stream_options={"include_usage": True},
            extra_body={"allowed_token_ids": LETTER_IDS},
        )
    )
    # A server that is behind puts several tokens into one chunk, so letters are counted, not chunks.
    assert len("".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)) == 8
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 8


def test_load_follows_the_requests(fleet: Fleet) -> None:
    """More clients than requests run at once: some wait, the cache fills, and all of it is gone when they stop."""
    enough = threading.Event()
    shared = client(fleet.a)

    def keep_asking(who: str) -> None:
        while not enough.is_set():
            ask(fleet.a, who + "x" * 400, 500, by=shared)

    clients = [threading.Thread(target=keep_asking, args=(who,)) for who in "abcdefghijklmnop"]
    for each in clients:
        each.start()
    try:
        busy = wait_for(fleet.a, lambda load: load.running == MAX_SEQUENCES and load.waiting > 0 and load.kv_usage > 0.4)
        assert busy.kv_usage <= 1
        assert fleet.a_twin.load() == IDLE
    finally:
        enough.set()
        for each in clients:
            each.join()
    wait_for(fleet.a, lambda load: load == IDLE)


def test_one_page_whole_or_filtered(fleet: Fleet) -> None:
    whole = fleet.a.metrics()
    filtered = fleet.a.metrics("vllm:num_requests_running", "vllm:cache_config_info")
    assert len(whole) > 40_000 > 2_000 > len(filtered)
    families = {line.split()[2] for line in filtered.splitlines() if line.startswith("# TYPE")}
    assert families == {"vllm:num_requests_running", "vllm:cache_config_info"}
    assert f'block_size="{BLOCK_TOKENS}"' in filtered
    assert f'num_gpu_blocks="{KV_BLOCKS}"' in filtered
