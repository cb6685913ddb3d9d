from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Final, TypeAlias

import pytest
from grpc import aio

from tests.app.picks.modelservers import ModelServers, Shown
from tests.app.picks.pickers import FILES, Client, Gateway, PoolOf, public
from tests.scheduling.test_public_configs import LABELS, REFUSED

BUSY: Final = Shown(waiting=20, running=20, kv_usage=0.95)
SERVERS: Final = {
    **{name: Shown() for name in ("a", "b", "c", "p", "q", "e")},
    "busy": BUSY,
    "tuned": Shown(running=1, adapters="tuned-1"),
}
ROLES: Final = {"a": "decode", "b": "decode", "p": "prefill", "q": "prefill", "e": "encode"}
STAGES: Final = {name: {"role": role, "llm-d.ai/role": role} for name, role in ROLES.items()}
EVERY: Final = {
    name: {**LABELS, **STAGES.get(name, {}), "disaggregatedset.x-k8s.io/role": ROLES.get(name, "decode")} for name in ROLES
}
"""Labels for which each of the public configs has somebody."""

LENGTHS: Final = {
    "plugins": [{"type": "context-length-aware", "parameters": {"label": "range"}}],
    "schedulingProfiles": [{"name": "default", "plugins": [{"pluginRef": "context-length-aware"}]}],
}
"""No public config has it."""

ClientOf: TypeAlias = Callable[[str], Client]


def families() -> dict[str, PoolOf]:
    """A pool for each family, with a public config that shows it."""
    same = ("a", "b", "c")
    decoders = {"a": {"llm-d.ai/role": "decode"}, "b": {"llm-d.ai/role": "decode"}, "p": {"llm-d.ai/role": "prefill"}}
    sets = {name: {"disaggregatedset.x-k8s.io/name": "my-set", "disaggregatedset.x-k8s.io/revision": "1"} for name in "abc"}
    roles = {"a": "decode", "b": "decode", "c": "prefill"}
    for name, role in roles.items():
        sets[name] |= {"disaggregatedset.x-k8s.io/role": role, "disaggregatedset.x-k8s.io/slice": f"slice-{name}"}
    return {
        "prefix": PoolOf(public("635738b330"), same),
        "precise-prefix": PoolOf(public("1d3dc2363b"), ("a", "b", "p"), decoders),
        "cold-in-turn": PoolOf(public("4722508abd"), same),
        "load": PoolOf(public("9e4f1db9ae"), ("a", "busy")),
        "lora": PoolOf(public("c0b10452bd"), ("a", "b", "tuned"), models=("tuned-1",)),
        "session": PoolOf(public("639aa1c047"), same),
        "label": PoolOf(public("c31e2ec65e"), same, {"b": {"role": "decode"}}),
        "leaders": PoolOf(public("982e466b6e"), same, {"c": {"leaderworkerset.sigs.k8s.io/worker-index": "0"}}),
        "role": PoolOf(public("a75529a0ae"), ("a", "b", "p", "q", "e"), STAGES),
        "rollout": PoolOf(public("f00d369145"), same, sets),
        "prefill-decode": PoolOf(public("9be629c617"), ("a", "b", "p", "q"), STAGES),
        "encode-prefill-decode": PoolOf(public("f09da04144"), ("a", "b", "p", "q", "e"), STAGES),
        "ranks": PoolOf(public("68704ffed4"), ("a", "b"), {"a": decoders["a"], "b": decoders["b"]}),
        "length": PoolOf(LENGTHS, ("a", "b"), {"a": {"range": "0-1000"}, "b": {"range": "1000-100000"}}),
        "latency": PoolOf(public("6003376d2f"), same),
        "token-load": PoolOf(public("e5a4f8ab47"), same),
        "flow": PoolOf(public("ec2db8fc1c"), ("a",)),
        "admission": PoolOf(public("093ae7e9ed"), ("a", "b")),
        "testing": PoolOf(public("d3c82422cb"), same),
        "reporter": PoolOf(public("34a515389f"), same),
        "payload-agnostic": PoolOf(public("7a112d44ee"), same),
    }


@pytest.fixture(scope="module")
def servers() -> Iterator[ModelServers]:
    with ModelServers(SERVERS) as servers:
        yield servers


@pytest.fixture(scope="module")
def gateway(servers: ModelServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One process with all of it: starting one takes longer than all that is asked of it."""
    if not FILES:
        pytest.skip("the public configs are not beside the repository")
    every = {f"every-{stem}": PoolOf(public(stem), tuple(EVERY), EVERY) for stem in FILES if stem not in REFUSED}
    with Gateway({**families(), **every}, servers, tmp_path_factory.mktemp("picks")) as gateway:
        yield gateway


@pytest.fixture
async def client_of(gateway: Gateway) -> AsyncIterator[ClientOf]:
    """Who asks for the pool of this name."""
    async with aio.insecure_channel(f"127.0.0.1:{gateway.grpc}") as channel:
        yield lambda name: Client(channel, gateway, name)
