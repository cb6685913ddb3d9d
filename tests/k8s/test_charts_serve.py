"""What the chart of a pool promises beside picks: a second replica, guarded metrics, answers that nothing cuts."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.e2e.parts import JSON, call, until
from tests.k8s.cluster import Cluster
from tests.k8s.gateways import Gateway, Route, istio_pool, reached
from tests.k8s.kubelet import Pod
from tests.k8s.objects import LABELS, Pods, pools_path
from tests.k8s.picks import Members
from tests.k8s.releases import deployed
from tests.k8s.rig import NOTICED_S
from tests.k8s.servers import simulators

CHUNKS = 900
"""Of a streamed answer, that takes about nine seconds: more than the chart's picker goes on before it drains."""
MODEL = "m"


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """Two model servers, each at an address of its own."""
    with simulators(tmp_path_factory.mktemp("sims"), ["127.0.0.21", "127.0.0.22"], ["--model", MODEL]) as endpoints:
        yield endpoints


def _values(servers: list[str], **picker: object) -> dict[str, object]:
    ports = [{"number": int(servers[0].rpartition(":")[2])}]
    pool = {"targetPorts": ports, "modelServers": {"matchLabels": LABELS}}
    return {"provider": {"name": "istio"}, "inferencePool": pool, "inferenceExtension": picker}


def _model_servers(cluster: Cluster, namespace: str, servers: list[str]) -> Pods:
    pods = Pods(cluster.admin, namespace, Members(), int(servers[0].rpartition(":")[2]))
    for number, endpoint in enumerate(servers):
        pods.add(f"vllm-{number}", endpoint.rpartition(":")[0])
    return pods


def _leads(pod: Pod) -> bool:
    (name,) = pod.containers
    return pod.children[name].pid is not None and pod.probe(name, "readinessProbe") == ""


def test_two_replicas_of_which_one_leads(cluster: Cluster, namespace: str, tmp_path: Path, servers: list[str]) -> None:
    """With the chart's own rights on the Lease; the follower is not ready, which is what keeps a gateway away from it."""
    _model_servers(cluster, namespace, servers)
    release = ("llama", "inferencepool", _values(servers, replicas=2))
    with deployed(cluster, namespace, tmp_path, *release, deployment="llama-epp", wait=False) as (_, pods):
        until(lambda: any(map(_leads, pods)), within_s=20, what="one leads")
        time.sleep(1)  # time for the other one to do wrong
        (leader,) = [pod for pod in pods if _leads(pod)]
        (follower,) = [pod for pod in pods if pod is not leader]
        assert follower.probe("epp", "livenessProbe") == ""
        with ThreadPoolExecutor(1) as kubelet:
            told_s = time.monotonic()
            codes = kubelet.submit(leader.stop)
            until(lambda: _leads(follower), within_s=5, what="the other one leads")
            took_s = time.monotonic() - told_s
            assert codes.result() == {"epp": 0}
    print(f"pod of the leader deleted: the other one ready after {took_s * 1000:.0f} ms")
    assert took_s < 1.0


def test_metrics_are_for_those_with_the_right(cluster: Cluster, namespace: str, tmp_path: Path, servers: list[str]) -> None:
    monitoring = {"prometheus": {"enabled": True, "auth": {"enabled": True}}}
    release = ("llama", "inferencepool", _values(servers, monitoring=monitoring))
    with deployed(cluster, namespace, tmp_path, *release, deployment="llama-epp") as (_, (pod,)):
        page = f"http://{pod.address}:{pod.port(9090)}"

        def status(account: str) -> int:
            token = cluster.service_account_token(namespace, account)
            return call(page, "/metrics", headers={"authorization": f"Bearer {token}"}).status

        assert call(page, "/metrics").status == 401
        assert call(page, "/metrics", headers={"authorization": "Bearer nobody"}).status == 401
        assert status("llama-epp") == 403
        assert status("llama-epp-metrics-reader") == 200
        assert call(page, "/healthz").status == 200


def test_answers_under_way_outlive_changes_of_the_pool(
    cluster: Cluster, namespace: str, tmp_path: Path, servers: list[str]
) -> None:
    """Pods leave, the selector changes, the picker is stopped: the answers that began before go on to their ends."""
    pods = _model_servers(cluster, namespace, servers)
    release = ("llama", "inferencepool", _values(servers))
    with deployed(cluster, namespace, tmp_path, *release, deployment="llama-epp") as (objects, pickers):
        path = pools_path(namespace, "llama")
        asked = istio_pool(objects, cluster.admin.get(path))
        where = reached(cluster, namespace, asked.service, asked.port, pickers)
        with Gateway(tmp_path, [(asked, where)], [Route("", servers, pool=True)]) as gateway, ThreadPoolExecutor(8) as clients:
            answers = [clients.submit(_streamed, gateway.url) for _ in range(6)]
            until(lambda: _running(servers) == 6, what="all are being answered")
            pods.remove("vllm-0")
            time.sleep(NOTICED_S / 2)
            cluster.admin.patch(path, {"spec": {"selector": {"matchLabels": {"app": "another"}}}})
            until(lambda: _status(gateway.url) == 503, within_s=NOTICED_S, what="the pool is empty")
            assert _running(servers) == 6, "too slow: answers had ended before the picker was stopped"
            codes = pickers[0].stop()
            chunks = [answer.result() for answer in answers]
    assert codes == {"epp": 0}
    assert chunks == [CHUNKS] * 6


def _running(servers: list[str]) -> int:
    return sum(int(call(f"http://{server}", "/sim/state").json["running"]) for server in servers)


def _status(url: str) -> int:
    return call(url, "/v1/completions", {"model": MODEL, "prompt": "hello", "max_tokens": 1}).status


def _streamed(url: str) -> int:
    """How many tokens came; raises when the answer is cut."""
    body = {"model": MODEL, "prompt": "hello", "max_tokens": CHUNKS, "ignore_eos": True, "stream": True}
    with closing(http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)) as connection:
        connection.request("POST", "/v1/completions", json.dumps(body), JSON)
        response = connection.getresponse()
        assert response.status == 200
        lines = [line for line in response.read().split(b"\n\n") if line]
    assert lines.pop() == b"data: [DONE]"
    return len(lines)
