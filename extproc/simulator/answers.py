"""What the simulated model says: decided completely when a request arrives, so the engine model only has to count.

An answer is words of three letters and a space, one token each, and an end token when the model stops by itself.
Prompt, seed and choice index decide it; the same prompt gets the same answer from every twin.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from extproc.simulator import tokens

_WORDS = (
    "the and you are not for all but her one our out day had hot him his how man new now old see two way who boy did "
    "its let put say she too use sun sea sky red big cat dog bee map key box cup hat jam ink oak pen win yes zoo ask "
    "fly run sit try fox owl elm ice tea bus arm ear eye leg "
)
_VOCABULARY = tuple(_WORDS[start : start + tokens.BYTES_PER_TOKEN] for start in range(0, len(_WORDS), tokens.BYTES_PER_TOKEN))
_VOCABULARY_IDS = tuple(tokens.encode([word.encode()])[0] for word in _VOCABULARY)


@dataclass(frozen=True, slots=True)
class AnswerOptions:
    """What limits an answer. `max_tokens` is at least 1 and already within the model's context."""

    max_tokens: int
    min_tokens: int = 0
    ignore_eos: bool = False
    stop: tuple[str, ...] = ()
    include_stop: bool = False
    seed: int = 0
    said: str = ""
    """What the client said last."""


@dataclass(frozen=True, slots=True)
class Answer:
    """`token_ids` are all that is generated; `text` may be less: an end token and a stop string aren't in it."""

    token_ids: tuple[int, ...]
    text: str
    finish_reason: Literal["stop", "length"]
    stop_reason: str | None = None

    def piece(self, first: int, last: int) -> str:
        """The text that the tokens `first` to `last` (counted from 1) add."""
        return self.text[(first - 1) * tokens.BYTES_PER_TOKEN : last * tokens.BYTES_PER_TOKEN]


@dataclass(frozen=True, slots=True)
class Speaker:
    """The model's voice: answers of `mean_tokens` tokens on average, spread evenly by the factor 1 ± `spread`."""

    seed: int = 0
    mean_tokens: int = 128
    spread: float = 0.5
    echo: bool = False
    """Whether it says what it was told."""

    def answer(self, prompt: Sequence[int], index: int, options: AnswerOptions) -> Answer:
        """The answer to a prompt; `index` tells the choices of one request apart."""
        if self.echo and options.said:
            return _echo(options)
        rng = random.Random(hash((self.seed, options.seed, index, *prompt)))
        natural = max(1, round(self.mean_tokens * (1 + self.spread * rng.uniform(-1, 1))), options.min_tokens + 1)
        by_itself = not options.ignore_eos and natural <= options.max_tokens
        count = natural - 1 if by_itself else options.max_tokens
        picks = rng.choices(range(len(_VOCABULARY)), k=count)
        ids = [_VOCABULARY_IDS[pick] for pick in picks]
        text = "".join(_VOCABULARY[pick] for pick in picks)
        cut = _first_stop(text, options)
        if cut is not None:
            end, stop = cut
            used = -(-end // tokens.BYTES_PER_TOKEN)
            return Answer(tuple(ids[:used]), text[: end if options.include_stop else end - len(stop)], "stop", stop)
        if by_itself:
            ids.append(tokens.END)
        return Answer(tuple(ids), text, "stop" if by_itself else "length")


def _echo(options: AnswerOptions) -> Answer:
    """What the client said, as far as it fits; its tokens are of four letters here too."""
    size = tokens.BYTES_PER_TOKEN
    words = [options.said[start : start + size] for start in range(0, len(options.said), size)]
    kept = words[: options.max_tokens]
    ids = [tokens.encode([word.encode(errors="replace")])[0] for word in kept]
    text = "".join(kept)
    cut = _first_stop(text, options)
    if cut is not None:
        end, stop = cut
        return Answer(tuple(ids[: -(-end // size)]), text[: end if options.include_stop else end - len(stop)], "stop", stop)
    if len(ids) < options.max_tokens:
        return Answer((*ids, tokens.END), text, "stop")
    return Answer(tuple(ids), text, "length")


def _first_stop(text: str, options: AnswerOptions) -> tuple[int, str] | None:
    """Where the first stop string ends that is not within the first `min_tokens` tokens, and which it is."""
    start = options.min_tokens * tokens.BYTES_PER_TOKEN
    found = [(at + len(stop), stop) for stop in options.stop if stop and (at := text.find(stop, start)) >= 0]
    return min(found, default=None)
