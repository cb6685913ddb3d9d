"""Something of everything that dashboards show: splits, shadows, an experiment, a rollout, limits, prices, feedback, faults."""

from __future__ import annotations

import contextlib
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
_NAMES: Final = ("chat", "copied", "fresh", "limited")
_USERS: Final = 2


def all_parts(endpoints: Endpoints) -> dict[str, Any]:
    """Keys of the gateway's config: flow control, a region, and a registry that nobody has started."""
    usual = gateway_config(endpoints.ports)
    return {
        "pools": [{**pool, "region": "here"} for pool in usual["pools"]],
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
    limits = [{"key": "endpoint", "calls": 1, "renewal_period": "minute"}]
    at.api("POST", "", {"name": "limited", "config": own(current=50, challenger=50), "ai_gateway": {"rate_limits": limits}})


def asked(at: Behind) -> contextlib.AbstractContextManager[None]:
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
        return True

    return users(_USERS, ask)


@contextlib.contextmanager
def faults(endpoints: Endpoints) -> Iterator[None]:
    """One model server of each pool is dead, and one of them fails."""
    endpoints.kill("llama-3")
    endpoints.kill("phi4-3")
    for name in ("llama-2", "phi4-2"):
        assert call(endpoints.url(name), "/sim/faults", {"fault": "500"}).status == 200
    try:
        yield
    finally:
        for name in ("llama-2", "phi4-2"):
            call(endpoints.url(name), "/sim/faults", method="DELETE")
