"""Something of everything that dashboards show: splits, shadows, an experiment, a rollout, limits, prices, feedback, faults.

Beside the usual pools there are some with one fault each, asked for by a model of the same name.
"""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from typing import Any, Final

from extproc.demo.stack import gateway_config
from tests.e2e.behind import MESSAGES, Behind, own
from tests.e2e.parts import Endpoints, call
from tests.e2e.users import users

_ROLLOUT: Final[dict[str, Any]] = {
    "baseline": "current",
    "canary": "challenger",
    "steps": [{"setWeight": 50}, {"pause": {}}],
    "metrics": [
        {"name": "ttft", "interval": 1, "compare": {"measure": "ttft", "tolerance": 5, "margin": 9, "minimumSamples": 30}}
    ],
    "noveltyPeriod": 0,
    "bakeTime": 0,
    "progressDeadline": 600,
}
_NAMES: Final = ("chat", "copied", "fresh", "limited", "lost")
_USERS: Final = 3
_DEAD, _FULL = "dead", "full"
BROKEN: Final = (_DEAD, _FULL)
"""Pools whose endpoint is not there, and which has no room."""


def all_parts(endpoints: Endpoints) -> dict[str, Any]:
    """Keys of the gateway's config: flow control, a region, and a registry that nobody has started."""
    usual = gateway_config(endpoints.ports)
    broken: dict[str, Any] = {
        _DEAD: {"static": ["127.0.0.1:9"]},
        _FULL: {"static": [endpoints.url("llama-2").removeprefix("http://")]},
    }
    pools = [*usual["pools"], *({"name": name, "endpoints": where} for name, where in broken.items())]
    return {
        "pools": [{**pool, "region": "here"} for pool in pools],
        "regions": {"self": "here", "names": ["here"]},
        "registry": {"uri": "http://127.0.0.1:1", "interval": "1s"},
        "scheduling": {**usual["scheduling"], "featureGates": ["flowControl"], "flowControl": {"enableEviction": True}},
    }


def prepare(at: Behind) -> None:
    """The serving endpoints, and a rollout of one of them."""
    priced = own(current=50, challenger=50)
    for entity in priced["served_entities"]:
        entity["price"] = {"per_request": 0.01}
    arms = [{"name": name, "weight": 20, "entity": name} for name in ("current", "challenger")]
    at.api("POST", "", {"name": "chat", "config": priced, "experiments": [{"name": "greeting", "arms": arms}]})
    shadows = [{"entity": "challenger", "percentage": 100}]
    at.api("POST", "", {"name": "copied", "config": own(current=100, challenger=0), "shadows": shadows})
    at.api("POST", "", {"name": "fresh", "config": own(current=100, challenger=0)})
    at.api("POST", "/fresh/rollouts", _ROLLOUT)
    nowhere = {"name": "nowhere", "entity_name": _FULL}
    lost = own(current=100)
    lost["served_entities"].append(nowhere)
    at.api("POST", "", {"name": "lost", "config": lost, "shadows": [{"entity": "nowhere", "percentage": 100}]})
    limits = [{"key": "endpoint", "calls": 1, "renewal_period": "minute"}]
    at.api("POST", "", {"name": "limited", "config": own(current=50, challenger=50), "ai_gateway": {"rate_limits": limits}})


@contextlib.contextmanager
def asked(at: Behind) -> Iterator[None]:
    """Users of all of them, who stream, say how good answers were, and now and then ask for what is not there."""

    def ask(number: int) -> bool:
        body = {**MESSAGES, "stream": True, "stream_options": {"include_usage": True}}
        name = _NAMES[number % len(_NAMES)]
        got = at.call("POST", f"/serving-endpoints/{name}/invocations", body, x_user_id=f"user-{number}")
        if got.status == 200 and name != "limited":
            said = {"request_id": got.headers.get("x-request-id", ""), "good": number % 3 > 0}
            at.call("POST", f"/api/2.0/serving-endpoints/{name}/feedback", said)
        if number % 10 == 0:
            at.call("POST", "/v1/chat/completions", {"model": "no-such-model", "messages": []})
            at.call("POST", "/v1/chat/completions", {"messages": []})
            at.call("POST", "/an-api-that-nobody-knows", b"no JSON", content_type="application/json")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", at.stack.grpc_ports["gateway"])) as peer:
                peer.sendall(b"GET / HTTP/1.1\r\n\r\n")  # no HTTP/2
        return True

    def ask_broken(number: int) -> bool:
        """Of a full pool nothing comes: whoever asks goes away."""
        body = json.dumps({"model": BROKEN[number % len(BROKEN)], "messages": [], "max_tokens": 1}).encode()
        with contextlib.suppress(TimeoutError):
            call(at.url, "/v1/chat/completions", body, {"content-type": "application/json"}, method="POST", timeout_s=3.0)
        return False

    with users(_USERS, ask), users(1, ask_broken):
        yield


@contextlib.contextmanager
def faults(endpoints: Endpoints) -> Iterator[None]:
    """One model server of each pool is dead, one fails, and says that it has no room, and one drops what it is sent."""
    endpoints.kill("llama-3")
    endpoints.kill("phi4-3")
    for name, fault in (("llama-2", "500"), ("phi4-2", "drop")):
        assert call(endpoints.url(name), "/sim/faults", {"fault": fault}).status == 200
    # Just full: of a pool with one that has room it is a part that leaves some.
    assert call(endpoints.url("llama-2"), "/sim/load", {"waiting": 5, "running": 4, "kv_usage": 0.1}).status == 200
    try:
        yield
    finally:
        for name in ("llama-2", "phi4-2"):
            call(endpoints.url(name), "/sim/faults", method="DELETE")
