"""What is asked, and when: conversations that are laid out beforehand from a seed, the same for every policy.

Open loop: a turn has its time from the beginning. It is sent then, or when the answer before it is complete, if that comes
later, as nobody goes on with a conversation before. Texts are hexadecimal noise, of which four bytes are a token to the
simulated servers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Final, NamedTuple, TypeAlias

BYTES_PER_TOKEN: Final = 4
ANSWER_TOKENS: Final = 32
MODEL: Final = "sim"

Message: TypeAlias = Mapping[str, str]


class Turn(NamedTuple):
    """What a user says."""

    at_s: float
    """From the beginning of the load."""
    text: str


class Conversation(NamedTuple):
    """Turns that each bring all before them along."""

    system: str
    """'' for none."""
    turns: tuple[Turn, ...]

    def messages(self, answers: Sequence[str]) -> list[Message]:
        """Of the turn behind so many answers."""
        said: list[Message] = [{"role": "system", "content": self.system}] if self.system else []
        for turn, answer in zip(self.turns, answers, strict=False):
            said += [{"role": "user", "content": turn.text}, {"role": "assistant", "content": answer}]
        return [*said, {"role": "user", "content": self.turns[len(answers)].text}]


Workload: TypeAlias = Sequence[Conversation]


def body_of(messages: Sequence[Message]) -> dict[str, object]:
    """A streamed chat request for an answer of a fixed length."""
    return {
        "model": MODEL,
        "messages": list(messages),
        "max_tokens": ANSWER_TOKENS,
        "ignore_eos": True,
        "stream": True,
    }


def noise(chance: Random, tokens: int) -> str:
    """A text that has nothing in common with any other."""
    return chance.randbytes(tokens * BYTES_PER_TOKEN // 2).hex()


def shared_prefixes(
    seed: int, *, groups: int = 30, users: int = 2, turns: int = 5, within_s: float = 12.0, pause_s: float = 1.2
) -> Workload:
    """Groups whose users share a system prompt of 1,000 to 2,000 tokens. Conversations begin at any time `within_s`, and the
    next turn comes after an exponential pause, `pause_s` on average."""
    chance = Random(f"shared {seed}")
    systems = [noise(chance, chance.randint(1000, 2000)) for _ in range(groups)]
    made = []
    for system in [each for each in systems for _ in range(users)]:
        at_s = chance.uniform(0.0, within_s)
        said = []
        for _ in range(turns):
            said.append(Turn(at_s, noise(chance, chance.randint(20, 60))))
            at_s += chance.expovariate(1 / pause_s)
        made.append(Conversation(system, tuple(said)))
    return made


def nothing_shared(
    seed: int,
    *,
    requests: int = 300,
    within_s: float = 13.0,
    shortest: int = 200,
    longest: int = 2800,
    begins: int = 0,
) -> Workload:
    """Single requests of so many tokens whose prompts have nothing in common but so many tokens at their beginning."""
    chance = Random(f"nothing {seed}")
    beginning = noise(chance, begins)
    return [
        Conversation("", (Turn(chance.uniform(0.0, within_s), beginning + noise(chance, chance.randint(shortest, longest))),))
        for _ in range(requests)
    ]


def one_prompt(seed: int, *, requests: int = 300, within_s: float = 10.0) -> Workload:
    """Single requests that all have the same system prompt of 1,500 tokens, and 50 to 400 of their own."""
    chance = Random(f"one {seed}")
    system = noise(chance, 1500)
    return [
        Conversation(system, (Turn(chance.uniform(0.0, within_s), noise(chance, chance.randint(50, 400))),))
        for _ in range(requests)
    ]


def burst(seed: int, *, requests: int = 500, groups: int = 30, interval_s: float = 0.05) -> Workload:
    """All within one interval of the pages, in groups that share a system prompt."""
    chance = Random(f"burst {seed}")
    systems = [noise(chance, chance.randint(1000, 2000)) for _ in range(groups)]
    return [
        Conversation(systems[number % groups], (Turn(chance.uniform(0.0, interval_s), noise(chance, 40)),))
        for number in range(requests)
    ]


def requests_of(workload: Workload) -> int:
    """How many there are."""
    return sum(len(each.turns) for each in workload)
