"""Four bytes are a token: lengths, round trips, and prefixes that stay prefixes."""

from __future__ import annotations

import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from extproc.simulator import tokens

TEXTS = st.text(max_size=60)


@given(TEXTS)
def test_text_comes_back(text: str) -> None:
    ids = tokens.encode([text.encode()])
    assert tokens.decode(ids) == text
    assert len(ids) == tokens.length([text.encode()]) == -(-len(text.encode()) // 4)


@given(st.lists(st.binary(max_size=4), min_size=2, max_size=2, unique=True))
def test_different_texts_are_different_tokens(texts: list[bytes]) -> None:
    assert tokens.encode([texts[0]]) != tokens.encode([texts[1]])


@given(st.lists(st.builds(lambda t: {"role": "user", "content": t}, TEXTS), max_size=4), TEXTS)
def test_a_turn_more_keeps_the_tokens_of_the_chat(messages: list[dict[str, str]], text: str) -> None:
    before = tokens.encode(tokens.chat_segments(messages, generate=False))
    after = tokens.encode(tokens.chat_segments([*messages, {"role": "user", "content": text}]))
    assert after[: len(before)] == before
    assert after[-1] == tokens.ASSISTANT


def test_what_was_generated_is_the_same_as_history() -> None:
    chat = [{"role": "user", "content": "hello"}]
    said = tokens.encode([b"the sun ate "])
    prompt = tokens.encode(tokens.chat_segments(chat))
    again = tokens.encode(tokens.chat_segments([*chat, {"role": "assistant", "content": "the sun ate "}]))
    assert again[: len(prompt) + len(said) + 1] == [*prompt, *said, tokens.END]


def test_parts_of_a_message() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:"}}
    parts = [{"type": "text", "text": "what is"}, image, "bare"]
    segments = tokens.chat_segments([{"role": "user", "content": parts}], tools=[{"name": "f"}])
    assert segments == [
        *(tokens.BEGIN, tokens.SYSTEM, b'[{"name":"f"}]', tokens.END),
        *(tokens.USER, b"what is", b'{"type":"image_url","image_url":{"url":"data:"}}', b'"bare"', tokens.END),
        tokens.ASSISTANT,
    ]


def test_odd_messages() -> None:
    call = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}
    segments = tokens.chat_segments([call, {"content": "x"}], generate=False)
    assert segments == [
        *(tokens.BEGIN, tokens.ASSISTANT, b'[{"id":"1"}]', tokens.END, tokens.OTHER, b"x", tokens.END),
    ]


def test_ids_that_no_text_has_stand_for_nothing() -> None:
    assert tokens.decode([tokens.USER, 15, 2**40, *tokens.encode([b"ok"])]) == "ok"
    assert [tokens.token_text(t) for t in (tokens.USER, 15, *tokens.encode([b"ok"]))] == ["<|user|>", "", "ok"]


@given(st.lists(st.integers(0, 2**32), max_size=70), st.integers(1, 8), st.integers(0, 70))
def test_a_block_hash_stands_for_everything_before(ids: list[int], size: int, at: int) -> None:
    hashes = tokens.block_hashes(ids, size)
    assert len(hashes) == len(ids) // size
    if at < len(ids):
        changed = [*ids[:at], ids[at] + 1, *ids[at + 1 :]]
        same = tokens.block_hashes(changed, size)
        block = at // size
        assert same[:block] == hashes[:block]
        assert not set(same[block:]) & set(hashes[block:])


def test_salt_keeps_caches_apart() -> None:
    ids = list(range(64))
    plain, adapter, other = (set(tokens.block_hashes(ids, 16, salt)) for salt in ("", "a", "b"))
    assert not plain & adapter
    assert not adapter & other


def test_hashes_are_the_same_in_every_process() -> None:
    code = "from extproc.simulator import tokens; print(tokens.block_hashes(range(32), 16, 'a'))"
    run = subprocess.run([sys.executable, "-c", code], env={"PYTHONHASHSEED": "1"}, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == str(tokens.block_hashes(list(range(32)), 16, "a"))
