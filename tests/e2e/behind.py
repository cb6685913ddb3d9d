"""One address with everything behind it: Envoy, a gateway process with its API, model servers, and providers on loopback."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from extproc.demo.ports import free_ports
from extproc.demo.stack import LLAMA, PHI4
from tests.api.tokens import ALICE, ROWS
from tests.e2e.parts import Answer, Endpoints, Stack, call, until
from tests.e2e.provider import KEYS, Provider

API = "/api/2.0/serving-endpoints"
MESSAGES = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}
MODELS = {"current": "catalog.schema.model-A", "challenger": "catalog.schema.model-B"}
"""What the examples' entities name, as the gateway's routes have it."""
_API_PORT = 9080


class _Ports:
    def __init__(self, ports: dict[int, int]) -> None:
        self.ports = ports


class Behind:
    """What is behind the address, and calls to it with Alice's token."""

    def __init__(self, stack: Stack, endpoints: Endpoints, providers: Mapping[str, Provider]) -> None:
        self.url = stack.url
        self.stack = stack
        self.endpoints = endpoints
        self.providers = providers

    def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | bytes | None = None,
        token: str | None = ALICE,
        **headers: str,
    ) -> Answer:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if token is not None:
            given["authorization"] = f"Bearer {token}"
        return call(self.url, path, body, given, method=method, timeout_s=15.0)

    def api(self, method: str, path: str = "", body: Mapping[str, Any] | bytes | None = None) -> Any:
        """The document that a call of the API answers, which must be 200."""
        got = self.call(method, API + path, body)
        assert got.status == 200, got
        return got.json

    def ask(
        self, name: str = "chat", below: str = "", token: str | None = ALICE, body: Any = MESSAGES, **headers: str
    ) -> Answer:
        """One request for an endpoint, or `below` it."""
        return self.call("POST", f"/serving-endpoints/{name}{below}/invocations", MESSAGES, token, **headers)

    def served(self, keys: Sequence[str], name: str = "chat", connections: int = 16) -> dict[str, str]:
        """Which entity answers each of these users."""

        def one(key: str) -> str:
            got = self.ask(name, x_user_id=key)
            assert got.status == 200, got
            return got.headers["served-model-name"]

        with ThreadPoolExecutor(connections) as pool:
            return dict(zip(keys, pool.map(one, keys), strict=True))

    def history(self, name: str = "chat") -> dict[str, int]:
        """Each change's version, by its reason."""
        found: dict[str, int] = {}
        before = ""
        while True:
            page = self.api("GET", f"/{name}/history?limit=100{before}")
            found |= {each["reason"]: each["config_version"] for each in page["history"] if each["config_version"]}
            if not page.get("next_before"):
                return found
            before = f"&before={page['next_before']}"

    def restart(self) -> None:
        """Start the gateway that was killed, and wait for its API."""
        self.stack.servers["gateway"].start()
        self.stack.wait_server("gateway")
        until(lambda: self.call("GET", API).status == 200, what="the API answers")

    def forget(self) -> None:
        """Delete all endpoints, and let providers answer as usual."""
        for each in self.api("GET")["endpoints"]:
            self.api("DELETE", f"/{each['name']}")
        for provider in self.providers.values():
            provider.begin()


def own(kind: str = "served_model_name", **shares: Any) -> dict[str, Any]:
    """The config of an endpoint over own models, as the article has it."""
    return {
        "served_entities": [
            {"name": name, "entity_name": MODELS[name], "entity_version": "1", "workload_size": "Small"} for name in shares
        ],
        "traffic_config": split(kind, **shares),
    }


def split(kind: str = "served_model_name", **shares: Any) -> dict[str, Any]:
    return {"routes": [{kind: name, "traffic_percentage": share} for name, share in shares.items()]}


@contextlib.contextmanager
def behind(
    binary: Path,
    endpoints: Endpoints,
    directory: Path,
    *flags: str,
    silence: str = "60s",
    more: Mapping[str, Any] = {},
    pools: Sequence[Mapping[str, Any]] = (),
    routes: Sequence[Mapping[str, Any]] = (),
) -> Iterator[Behind]:
    """`flags`: more of the gateway's; `silence`: for how long a provider may say nothing; `more`: keys of its config; `pools`
    and `routes`: further ones of that.
    """

    def change(document: Any) -> None:
        static = document["static_resources"]
        for cluster in static["clusters"]:
            if cluster["name"] == "gateway":
                cluster.pop("transport_socket")

    providers = {name: Provider(name) for name in KEYS}
    (port,) = free_ports(1, taken=endpoints.ports.values())
    secrets = directory / "secrets/my"
    secrets.mkdir(parents=True)
    for name, key in KEYS.items():
        (secrets / name).write_text(key)
    tokens = directory / "tokens.yaml"
    tokens.write_text(json.dumps({"tokens": ROWS}))
    stack = Stack(
        "serving-endpoints",
        binary,
        _Ports(endpoints.ports | {_API_PORT: port}),
        directory,
        flags=[
            *("--api-port", str(port), "--api-tokens-file", str(tokens), "--secrets-dir", str(secrets.parent)),
            *("--external-allow", "127.0.0.1", "--external-timeout", silence, "--secure-serving=false", *flags),
        ],
        change=change,
    )
    config = json.loads((directory / "gateway.yaml").read_text())
    for route, pool, name in zip(config["routes"], (LLAMA, PHI4), MODELS.values(), strict=True):
        route["entities"] = [{"name": each, "version": "1", "model": pool.model} for each in (name, name.rpartition(".")[2])]
    config["pools"] += pools
    config["routes"] += routes
    (directory / "gateway.yaml").write_text(json.dumps({**config, **more}))
    with contextlib.ExitStack() as running:
        for provider in providers.values():
            running.enter_context(provider.listening())
        running.callback(stack.stop)
        stack.start()
        made = Behind(stack, endpoints, providers)
        until(lambda: made.call("GET", API).status == 200, what="the API answers")
        yield made
