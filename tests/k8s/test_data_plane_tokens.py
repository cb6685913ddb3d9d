"""Requests for serving endpoints with tokens of the cluster: a real API server says whose they are and what they may, a real
Envoy asks the gateway. What is granted are the commands of docs/serving-endpoints.md."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from extproc.demo.envoy import find_envoy
from extproc.demo.stack import LLAMA, POOLS
from tests.e2e.parts import Answer, Stack, call
from tests.k8s.cluster import BIN, Cluster
from tests.k8s.servers import simulator

CHAT = "/serving-endpoints/chat/invocations"
BODY = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 2}
_ROUTES = [{"served_entity_name": "current", "traffic_percentage": 100}]


class _Sims:
    """One model server in the place of all."""

    def __init__(self, port: int) -> None:
        self.ports = {each: port for pool in POOLS for each in pool.ports}


@dataclass
class Rig:
    cluster: Cluster
    namespace: str
    stack: Stack

    def kubectl(self, *arguments: str) -> None:
        flags = ["--kubeconfig", str(self.cluster.admin_config), "--namespace", self.namespace]
        subprocess.run([str(BIN / "kubectl"), *flags, *arguments], check=True, capture_output=True)

    def account(self, name: str, *, may_query: str | None = None) -> str:
        """A new ServiceAccount, and its token. `may_query`: the paths that it may post to."""
        self.kubectl("create", "serviceaccount", name)
        if may_query is not None:
            role = f"query-{self.namespace}-{name}"
            self.kubectl("create", "clusterrole", role, "--verb=post", f"--non-resource-url={may_query}")
            account = f"--serviceaccount={self.namespace}:{name}"
            self.kubectl("create", "clusterrolebinding", role, f"--clusterrole={role}", account)
        return self.cluster.service_account_token(self.namespace, name)

    def ask(self, token: str | None, path: str = CHAT, **headers: str) -> Answer:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return call(self.stack.url, path, BODY, given | ({} if token is None else {"authorization": f"Bearer {token}"}))


@pytest.fixture
def rig(cluster: Cluster, namespace: str, tmp_path: Path) -> Iterator[Rig]:
    child, port = simulator(tmp_path, host="127.0.0.1", flags=[f"--model={LLAMA.model}"])
    stack = _stack(cluster, namespace, tmp_path, port)
    made = Rig(cluster, namespace, stack)
    try:
        made.kubectl("create", "serviceaccount", "gateway")
        account = f"--serviceaccount={namespace}:gateway"
        made.kubectl("create", "clusterrolebinding", f"{namespace}-asks", "--clusterrole=system:auth-delegator", account)
        token = cluster.service_account_token(namespace, "gateway")
        cluster.write_kubeconfig(f"gateway-{namespace}", token, namespace)
        stack.start()
        yield made
    finally:
        stack.stop()
        child.stop()


def _stack(cluster: Cluster, namespace: str, directory: Path, port: int) -> Stack:
    config = cluster.directory / f"gateway-{namespace}.kubeconfig"  # written before it is started
    flags = ["--api-auth=kubernetes", f"--kubeconfig={config}"]
    stack = Stack("serving-endpoints", find_envoy(), _Sims(port), directory, flags=flags)
    path = directory / "gateway.yaml"
    endpoint = {
        "name": "chat",
        "config": {
            "served_entities": [{"name": "current", "entity_name": LLAMA.model}],
            "traffic_config": {"routes": _ROUTES},
        },
    }
    pools = [{"name": LLAMA.name, "endpoints": {"static": [f"127.0.0.1:{port}"]}}]
    routes = [{"models": [LLAMA.model], "pool": LLAMA.name}]
    config_file = json.loads(path.read_text()) | {"pools": pools, "routes": routes, "servingEndpoints": [endpoint]}
    path.write_text(json.dumps(config_file))
    return stack


def _said(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.json["error_code"]


def test_a_service_account_with_the_right_is_let_through_and_others_are_not(rig: Rig) -> None:
    ann = rig.account("ann", may_query=CHAT)
    for _ in range(2):  # asked, and remembered
        answer = rig.ask(ann)
        assert answer.status == 200, answer
        assert answer.headers["served-model-name"] == "current"
    assert rig.ask(None, x_api_key=ann).status == 200, "as Anthropic's clients send it"
    assert _said(rig.ask(rig.account("bob"))) == (403, "PERMISSION_DENIED")
    assert _said(rig.ask(rig.account("carol", may_query="/serving-endpoints/other/invocations"))) == (403, "PERMISSION_DENIED")
    assert rig.ask(rig.account("dan", may_query="/serving-endpoints/*")).status == 200, "as the docs grant it"
    assert _said(rig.ask(None)) == (401, "UNAUTHENTICATED")
    assert _said(rig.ask("no-token-of-theirs")) == (401, "UNAUTHENTICATED")
    head, _, _ = ann.rpartition(".")
    assert _said(rig.ask(f"{head}.{'A' * 342}")) == (401, "UNAUTHENTICATED"), "the same claims, signed by nobody"


def test_the_token_does_not_reach_the_model_server(rig: Rig) -> None:
    assert rig.ask(rig.account("ann", may_query=CHAT)).status == 200
    (port,) = {rig.stack.ports[each] for pool in POOLS for each in pool.ports}
    seen = call(f"http://127.0.0.1:{port}", "/sim/requests").json["requests"]
    assert len(seen) == 1
    assert "authorization" not in {name.lower() for name, _ in seen[0]["headers"]}


def test_a_token_for_somebody_else_or_of_an_account_that_is_gone_is_refused(rig: Rig) -> None:
    rig.account("ann", may_query=CHAT)
    path = f"/api/v1/namespaces/{rig.namespace}/serviceaccounts/ann/token"
    asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest"}
    spec = {"expirationSeconds": 3600, "audiences": ["vault"]}
    for_vault = str(rig.cluster.admin.create(path, asked | {"spec": spec})["status"]["token"])
    assert _said(rig.ask(for_vault)) == (401, "UNAUTHENTICATED")
    late = rig.cluster.service_account_token(rig.namespace, "ann")
    rig.kubectl("delete", "serviceaccount", "ann")
    assert _said(rig.ask(late)) == (401, "UNAUTHENTICATED")


def test_while_the_api_server_is_away_known_tokens_go_on_and_others_wait(rig: Rig) -> None:
    ann, eve = rig.account("ann", may_query=CHAT), rig.account("eve", may_query=CHAT)
    assert rig.ask(ann).status == 200
    rig.cluster.kill_server()
    try:
        assert rig.ask(ann).status == 200
        assert _said(rig.ask(eve)) == (503, "TEMPORARILY_UNAVAILABLE")
    finally:
        rig.cluster.start_server()
    assert rig.ask(eve).status == 200
