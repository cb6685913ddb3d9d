"""ConfigMaps of adapters: the router's X-Gateway-Base-Model-Name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from tests.e2e.parts import until
from tests.k8s.api import Object
from tests.k8s.cluster import Cluster
from tests.k8s.objects import ROUTER_RULES, configmaps_path
from tests.k8s.picks import Client
from tests.k8s.rig import NOTICED_S, Rig
from tests.k8s.servers import Server

LABEL = {"inference.networking.k8s.io/bbr-managed": "true"}
BASE = "x-gateway-base-model-name"
ERRORS = "extproc_kubernetes_object_errors"


@pytest.fixture
def rig(cluster: Cluster, namespace: str, sim_port: int, tmp_path: Path) -> Iterator[Rig]:
    """With a router that may read the namespace's ConfigMaps."""
    made = Rig(cluster, namespace, sim_port, tmp_path)
    made.line.mend()
    made.api.create(configmaps_path(namespace), _adapters("first", "base-0", ["adapter-0"]))
    kubeconfig = made.grant("router", ROUTER_RULES)
    flags = [f"--kubeconfig={kubeconfig}", "--adapter-configmaps=true"]
    made.server = Server("bbr", flags, tmp_path, environment={"NAMESPACE": namespace})
    try:
        made.server.start()
        made.server.wait_ready()
        yield made
        made.server.child.check()
    finally:
        made.server.stop()
        made.line.cut()


@pytest.fixture
def client(rig: Rig) -> Iterator[Client]:
    with closing(rig.client()) as made:
        yield made


def _adapters(name: str, base: str, adapters: Sequence[str] | str) -> Object:
    listed = adapters if isinstance(adapters, str) else "".join(f"- {each}\n" for each in adapters)
    return {"metadata": {"name": name, "labels": LABEL}, "data": {"baseModel": base, "adapters": listed}}


def _base(client: Client, model: str) -> str:
    answer = client.ask(b'{"model": "%s"}' % model.encode())
    assert answer.headers.get("x-gateway-model-name") == model, answer
    return answer.headers.get(BASE, "")


def _becomes(client: Client, model: str, base: str) -> None:
    until(lambda: _base(client, model) == base, within_s=NOTICED_S, what=f"the base of {model} is {base!r}")


def test_what_was_there_before_the_start_is_known_when_it_is_ready(rig: Rig, client: Client) -> None:
    assert _base(client, "adapter-0") == "base-0"
    assert _base(client, "base-0") == "base-0"


def test_a_configmap_is_made_changed_and_deleted(rig: Rig, client: Client) -> None:
    path = configmaps_path(rig.namespace)
    rig.api.create(path, _adapters("second", "base-1", ["adapter-1", "adapter-2"]))
    _becomes(client, "adapter-2", "base-1")
    rig.api.patch(f"{path}/second", _adapters("second", "base-1", ["adapter-1"]))
    _becomes(client, "adapter-2", "")
    assert _base(client, "adapter-1") == "base-1"
    rig.api.patch(f"{path}/second", {"data": {"baseModel": "base-9"}})
    _becomes(client, "adapter-1", "base-9")
    rig.api.delete(f"{path}/second")
    _becomes(client, "adapter-1", "")
    assert _base(client, "adapter-0") == "base-0"


def test_without_its_label_a_configmap_is_nobodys(rig: Rig, client: Client) -> None:
    path = configmaps_path(rig.namespace, "first")
    rig.api.patch(path, {"metadata": {"labels": dict.fromkeys(LABEL)}})
    _becomes(client, "adapter-0", "")
    rig.api.patch(path, {"metadata": {"labels": LABEL}})
    _becomes(client, "adapter-0", "base-0")


@pytest.mark.parametrize("wrong", ["- [", "a: 1", "- 5\n- {}"], ids=["bad YAML", "a map", "no names"])
def test_a_wrong_configmap_keeps_its_last_good_state(wrong: str, rig: Rig, client: Client) -> None:
    path = configmaps_path(rig.namespace, "first")
    rig.api.patch(path, {"data": {"adapters": wrong}})
    log = rig.server.wait_log(lambda text: any("first" in line and "adapters" in line for line in text.splitlines()))
    assert "Traceback" not in log
    assert rig.server.metric(ERRORS) == 1
    assert _base(client, "adapter-0") == "base-0"
    rig.api.patch(path, _adapters("first", "base-0", ["adapter-3"]))
    _becomes(client, "adapter-3", "base-0")
    assert _base(client, "adapter-0") == ""
    until(lambda: rig.server.metric(ERRORS) == 0, within_s=NOTICED_S)


def test_an_adapter_with_two_owners_stays_with_the_first(rig: Rig, client: Client) -> None:
    path = configmaps_path(rig.namespace)
    rig.api.create(path, _adapters("second", "base-1", ["adapter-0", "adapter-1"]))
    _becomes(client, "adapter-1", "base-1")
    assert _base(client, "adapter-0") == "base-0"
    log = rig.server.wait_log(lambda text: any("second" in line and "adapter-0" in line for line in text.splitlines()))
    assert "Traceback" not in log
    rig.api.delete(f"{path}/first")
    _becomes(client, "adapter-0", "base-1")


def test_the_api_server_is_away(rig: Rig, client: Client) -> None:
    rig.line.cut()
    path = configmaps_path(rig.namespace)
    rig.api.create(path, _adapters("second", "base-1", ["adapter-1"]))
    assert _base(client, "adapter-0") == "base-0"
    rig.api.delete(f"{path}/first")
    rig.line.mend()
    until(lambda: _base(client, "adapter-1") == "base-1", within_s=10)
    _becomes(client, "adapter-0", "")
