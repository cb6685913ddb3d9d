"""InferenceModelRewrites and InferenceObjectives: made, changed, wrong, deleted."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from tests.e2e.parts import until
from tests.k8s.api import Object
from tests.k8s.cluster import Cluster
from tests.k8s.objects import ALPHA, alpha_path
from tests.k8s.picks import Client
from tests.k8s.rig import NOTICED_S, POOL, Rig, rigged

REWRITES, OBJECTIVES = "inferencemodelrewrites", "inferenceobjectives"
ERRORS = "extproc_kubernetes_object_errors"


@pytest.fixture
def rig(cluster: Cluster, namespace: str, sim_port: int, tmp_path: Path) -> Iterator[Rig]:
    with rigged(cluster, namespace, sim_port, tmp_path) as made:
        yield made


@pytest.fixture
def client(rig: Rig) -> Iterator[Client]:
    with closing(rig.client()) as made:
        yield made


def _rewrite(name: str, model: str, targets: Sequence[tuple[str, int | None]], pool: str = POOL) -> Object:
    given = [{"modelRewrite": to} | ({} if weight is None else {"weight": weight}) for to, weight in targets]
    rule = {"matches": [{"model": {"value": model}}] if model else [], "targets": given}
    spec = {"poolRef": {"name": pool}, "rules": [rule]}
    return {"apiVersion": ALPHA, "kind": "InferenceModelRewrite", "metadata": {"name": name}, "spec": spec}


def _model(client: Client, asked: str) -> str:
    """Under which name a request goes on to the model server."""
    answer = client.ask(b'{"prompt": "hello", "model": "%s", "n":  1}' % asked.encode())
    assert answer.endpoints, answer
    found = str(json.loads(answer.body)["model"])
    assert answer.body == b'{"prompt": "hello", "model": "%s", "n":  1}' % found.encode(), "other bytes are as they came"
    return found


def _becomes(client: Client, asked: str, wanted: str) -> None:
    until(lambda: _model(client, asked) == wanted, within_s=NOTICED_S, what=f"{asked} goes on as {wanted}")


def test_a_rewrite_is_made_changed_and_deleted(rig: Rig, client: Client) -> None:
    assert _model(client, "alias") == "alias"
    path = alpha_path(rig.namespace, REWRITES)
    rig.api.create(path, _rewrite("r", "alias", [("m", None)]))
    _becomes(client, "alias", "m")
    assert _model(client, "other") == "other"
    rig.api.patch(f"{path}/r", {"spec": _rewrite("r", "alias", [("m2", None)])["spec"]})
    _becomes(client, "alias", "m2")
    rig.api.delete(f"{path}/r")
    _becomes(client, "alias", "alias")


def test_weights_split_a_model(rig: Rig, client: Client) -> None:
    rig.api.create(alpha_path(rig.namespace, REWRITES), _rewrite("canary", "llama", [("llama-v1", 3), ("llama-v2", 1)]))
    until(lambda: _model(client, "llama") != "llama", within_s=NOTICED_S)
    seen = Counter(_model(client, "llama") for _ in range(400))
    assert seen.keys() == {"llama-v1", "llama-v2"}
    assert 240 < seen["llama-v1"] < 360  # 300, and seven standard deviations


def test_a_rewrite_of_another_pool_is_not_ours(rig: Rig, client: Client) -> None:
    path = alpha_path(rig.namespace, REWRITES)
    rig.api.create(path, _rewrite("theirs", "alias", [("m", None)], pool="another"))
    rig.api.create(path, _rewrite("ours", "mine", [("m", None)]))
    _becomes(client, "mine", "m")
    assert _model(client, "alias") == "alias"


def test_a_wrong_rewrite_keeps_its_last_good_state(rig: Rig, client: Client) -> None:
    path = alpha_path(rig.namespace, REWRITES)
    rig.api.create(path, _rewrite("r", "alias", [("m", None)]))
    _becomes(client, "alias", "m")
    rig.api.patch(f"{path}/r", {"spec": _rewrite("r", "alias", [("", None)])["spec"]})
    log = rig.server.wait_log("modelRewrite")
    assert rig.server.metric(ERRORS) == 1
    assert _model(client, "alias") == "m"
    line = next(line for line in log.splitlines() if "modelRewrite" in line)
    assert rig.namespace in line
    rig.api.patch(f"{path}/r", {"spec": _rewrite("r", "alias", [("m3", None)])["spec"]})
    _becomes(client, "alias", "m3")
    assert rig.server.metric(ERRORS) == 0


def test_rewrites_in_a_circle_end(rig: Rig, client: Client) -> None:
    path = alpha_path(rig.namespace, REWRITES)
    rig.api.create(path, _rewrite("there", "a", [("b", None)]))
    rig.api.create(path, _rewrite("back", "b", [("a", None)]))
    _becomes(client, "a", "b")
    _becomes(client, "b", "a")


def test_an_objective_gives_requests_its_priority(rig: Rig, client: Client) -> None:
    path = alpha_path(rig.namespace, OBJECTIVES)
    objective = {"apiVersion": ALPHA, "kind": "InferenceObjective", "metadata": {"name": "batch"}}
    rig.api.create(path, {**objective, "spec": {"poolRef": {"name": POOL}, "priority": -5}})

    def priority() -> int:
        answer = client.ask(x_gateway_inference_objective="batch", x_request_id="p")
        assert answer.endpoints, answer
        return int(rig.server.decision("p").get("priority", 0))

    until(lambda: priority() == -5, within_s=NOTICED_S)
    rig.api.patch(f"{path}/batch", {"spec": {"priority": 7}})
    until(lambda: priority() == 7, within_s=NOTICED_S)
    rig.api.delete(f"{path}/batch")
    until(lambda: priority() == 0, within_s=NOTICED_S)
