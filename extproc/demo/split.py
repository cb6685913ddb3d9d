"""The act of serving endpoints: two models behind one name, and their split changed over the API while it runs."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections import Counter
from typing import Any, Final

from extproc.demo.errors import DemoError
from extproc.demo.parts import Check, Show
from extproc.demo.stack import LLAMA, PHI4
from extproc.demo.traffic import Client

API_PATH: Final = "/api/2.0/serving-endpoints"
NAME: Final = "assistant"
CURRENT, CHALLENGER = "current", "challenger"

# By their hash 10 of 100 users are expected at 10 %, give or take 3 (one standard deviation), and 50 at 50 %, give or take 5: a
# right split is outside of these bounds less often than once in ten thousand runs.
_USERS: Final = 100
_AT_10, _AT_50 = (1, 25), (30, 70)
_AT_ONCE: Final = 8
_ALONE: Final = 5
ASK_EVERY_S: Final = 0.2


def shares(current: int, challenger: int) -> dict[str, Any]:
    """The part of a config that says the split, in percent."""
    percent = {CURRENT: current, CHALLENGER: challenger}
    routes = [{"served_entity_name": name, "traffic_percentage": share} for name, share in percent.items()]
    return {"traffic_config": {"routes": routes}}


async def told_of_a_split(client: Client, show: Show) -> list[Check]:
    """Create, ask, change, ask again, and ask one alone. Raises DemoError when the API refuses, or somebody does not answer."""
    show.step("Two models behind one name, whose split is changed while it runs", requests=False)
    models = {CURRENT: LLAMA.model, CHALLENGER: PHI4.model}
    entities = [{"name": name, "entity_name": model} for name, model in models.items()]
    config = {"served_entities": entities, **shares(90, 10)}
    await _change(client, show, "POST", API_PATH, {"name": NAME, "config": config})
    before = await _asked(client, show)
    await _change(client, show, "PUT", f"{API_PATH}/{NAME}/config", shares(50, 50))
    after = await _asked(client, show)
    path = f"/serving-endpoints/{NAME}/served-models/{CHALLENGER}/invocations"
    alone = Counter([await _served(client, path, f"user-{number}") for number in range(_ALONE)])
    show.note(f"POST {path}: {_counts(alone)}")

    few, half = (list(told.values()).count(CHALLENGER) for told in (before, after))
    lost = [user for user, entity in before.items() if entity == CHALLENGER != after[user]]
    return [
        Check(
            "a split is 90/10, then 50/50 as soon as the API has answered",
            _AT_10[0] <= few <= _AT_10[1] and _AT_50[0] <= half <= _AT_50[1],
            f"{few}, then {half} of {_USERS} users to {CHALLENGER}",
        ),
        Check("whoever had the entity whose share grew keeps it", not lost, f"{few - len(lost)} of {few} users"),
        Check("one entity can be asked alone", alone == {CHALLENGER: _ALONE}, _counts(alone)),
    ]


async def start_over(client: Client, show: Show) -> None:
    """The split as it was at first, for whoever wants to move it. Raises DemoError."""
    await _change(client, show, "PUT", f"{API_PATH}/{NAME}/config", shares(90, 10))


async def keep_asking(client: Client) -> None:
    """Some users with a request each, again and again, so that a split that is moved is seen to move. Never returns."""
    for number in itertools.count():
        body = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8, "stream": True}
        with contextlib.suppress(DemoError):  # an endpoint may be deleted, Envoy may be busy: the next one tells
            await client.call("POST", f"/serving-endpoints/{NAME}/invocations", body | {"user": f"user-{number % _USERS}"})
        await asyncio.sleep(ASK_EVERY_S)


async def _change(client: Client, show: Show, method: str, path: str, body: dict[str, Any]) -> None:
    begin_s = time.monotonic()
    reply = await client.call(method, path, body)
    if reply.status != 200:
        raise DemoError(f"{method} {path} was answered with {reply.status}: {reply.body[:300].decode(errors='replace')}")
    show.note(f"{method} {path}: {reply.status}, in force after {(time.monotonic() - begin_s) * 1e3:.0f} ms")


async def _asked(client: Client, show: Show) -> dict[str, str]:
    """Which entity each user got."""
    users = [f"user-{number}" for number in range(_USERS)]
    places = asyncio.Semaphore(_AT_ONCE)

    async def one(user: str) -> str:
        async with places:
            return await _served(client, f"/serving-endpoints/{NAME}/invocations", user)

    told = dict(zip(users, await asyncio.gather(*map(one, users)), strict=True))
    show.note(f"a request for each of {_USERS} users: {_counts(Counter(told.values()))}")
    return told


async def _served(client: Client, path: str, user: str) -> str:
    body = {"messages": [{"role": "user", "content": "Hello"}], "user": user, "max_tokens": 1}
    reply = await client.call("POST", path, body)
    if reply.status != 200:
        raise DemoError(f"POST {path} was answered with {reply.status}: {reply.body[:300].decode(errors='replace')}")
    return reply.served or "nobody"


def _counts(served: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(served.items(), reverse=True))
