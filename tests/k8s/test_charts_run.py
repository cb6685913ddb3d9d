"""What the charts render runs: with its own arguments, files, rights and probes, behind an Envoy of its own filter."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.e2e.parts import JSON, Answer, call, until
from tests.k8s.api import Object
from tests.k8s.cluster import Cluster
from tests.k8s.gateways import Filter, Gateway, Route, envoy_gateway, gke, istio, istio_pool, reached
from tests.k8s.objects import LABELS, Pods, configmaps_path, pools_path
from tests.k8s.picks import Members
from tests.k8s.releases import deployed
from tests.k8s.servers import simulators

BASE, LORA, OTHER = "meta-llama/Llama-3.1-8B-Instruct", "food-review-1", "microsoft/Phi-4-mini-instruct"
CHUNKS = 30
BY_BASE = "X-Gateway-Base-Model-Name"


_NUMBERS = itertools.count()


def _ask(gateway: Gateway | str, model: str, **more: object) -> Answer:
    url = gateway if isinstance(gateway, str) else gateway.url
    said = f"{next(_NUMBERS)} hello"  # equal prompts would stay where the first went
    body = {"model": model, "max_tokens": 5, "messages": [{"role": "user", "content": said}], **more}
    return call(url, "/v1/chat/completions", body)


def _stream_times(url: str, model: str) -> tuple[float, float]:
    """When the first piece of a streamed answer came and when the last, in seconds; it is generated for about 0.3 s."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
    body = {"model": model, "max_tokens": CHUNKS, "ignore_eos": True, "stream": True}
    body["messages"] = [{"role": "user", "content": "hello"}]
    begun_s = time.monotonic()
    with contextlib.closing(connection):
        connection.request("POST", "/v1/chat/completions", json.dumps(body), JSON)
        response = connection.getresponse()
        assert response.status == 200
        first = response.readline()
        first_s = time.monotonic() - begun_s
        rest = response.read()
    assert first.startswith(b"data: ")
    assert rest.endswith(b"data: [DONE]\n\n")
    return first_s, time.monotonic() - begun_s


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """Two servers of a base model and its adapter, each at an address of its own."""
    flags = ["--model", BASE, "--lora", LORA]
    with simulators(tmp_path_factory.mktemp("llama"), ["127.0.0.11", "127.0.0.12"], flags) as endpoints:
        yield endpoints


@pytest.fixture(scope="module")
def phi(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    with simulators(tmp_path_factory.mktemp("phi"), ["127.0.0.13"], ["--model", OTHER]) as endpoints:
        yield endpoints


def _router_filter(provider: str, objects: Sequence[Object], namespace: str) -> Filter:
    return {"istio": lambda: istio(objects, namespace), "gke": lambda: gke(objects)}.get(
        provider, lambda: envoy_gateway(objects)
    )()


@pytest.mark.parametrize("provider", ["istio", "gke", "envoy-gateway"])
def test_the_router(provider: str, cluster: Cluster, namespace: str, tmp_path: Path, llama: list[str], phi: list[str]) -> None:
    """Models and adapters by their base model, through the filter that this provider's objects stand for."""
    values: dict[str, object] = {"provider": {"name": provider}}
    adapters = {"metadata": {"name": "llama", "labels": {"inference.networking.k8s.io/bbr-managed": "true"}}}
    data = {"baseModel": BASE, "adapters": f"- {LORA}\n"}
    cluster.admin.create(configmaps_path(namespace), {**adapters, "data": data})
    with deployed(cluster, namespace, tmp_path, "bbr", "body-based-routing", values) as (objects, pods):
        asked = _router_filter(provider, objects, namespace)
        where = reached(cluster, namespace, asked.service, asked.port, pods)
        routes = [Route(BASE, llama, header=BY_BASE), Route(OTHER, phi)]
        with Gateway(tmp_path, [(asked, where)], routes) as gateway:
            answers = [_ask(gateway, model) for model in (BASE, LORA, OTHER)]
            assert [answer.status for answer in answers] == [200, 200, 200]
            assert [answer.endpoint in llama for answer in answers] == [True, True, False]
            assert _ask(gateway, "nobody's").status == 404
            before = gateway.messages()
            first_s, last_s = _stream_times(gateway.url, OTHER)
            assert gateway.messages() - before < 6, "answers' pieces are sent to a router that does not read them"
            assert last_s - first_s > 0.1, f"held back: {first_s:.2f} s, {last_s:.2f} s"


def test_the_picker_in_istio(cluster: Cluster, namespace: str, tmp_path: Path, llama: list[str]) -> None:
    """An InferencePool, its picker, and the filter that Istio makes of them."""
    port = int(llama[0].rpartition(":")[2])
    pods = Pods(cluster.admin, namespace, Members(), port)
    for number, endpoint in enumerate(llama):
        pods.add(f"vllm-{number}", endpoint.rpartition(":")[0])
    pool = {"targetPorts": [{"number": port}], "modelServers": {"matchLabels": LABELS}}
    values = {"provider": {"name": "istio"}, "inferencePool": pool}
    release = ("llama", "inferencepool", values)
    with deployed(cluster, namespace, tmp_path, *release, deployment="llama-epp") as (objects, pickers):
        asked = istio_pool(objects, cluster.admin.get(pools_path(namespace, "llama")))
        where = reached(cluster, namespace, asked.service, asked.port, pickers)
        with Gateway(tmp_path, [(asked, where)], [Route("", llama, pool=True)]) as gateway:
            answers = [_ask(gateway, BASE) for _ in range(20)]
            assert {answer.status for answer in answers} == {200}
            assert {answer.endpoint for answer in answers} == set(llama)
            pods.remove("vllm-0")
            until(lambda: _ask(gateway, BASE).endpoint == llama[1], within_s=2)
            answers = [_ask(gateway, LORA) for _ in range(10)]
            assert {answer.endpoint for answer in answers} == {llama[1]}
            first_s, last_s = _stream_times(gateway.url, BASE)
            assert last_s - first_s > 0.1, f"held back: {first_s:.2f} s, {last_s:.2f} s"


def test_router_and_picker_together(cluster: Cluster, namespace: str, tmp_path: Path, llama: list[str], phi: list[str]) -> None:
    """Two pools behind one address, as the guide has them."""
    ports = {"llama": int(llama[0].rpartition(":")[2]), "phi": int(phi[0].rpartition(":")[2])}
    for name, endpoints in (("llama", llama), ("phi", phi)):
        pods = Pods(cluster.admin, namespace, Members(), ports[name])
        for number, endpoint in enumerate(endpoints):
            pods.add(f"{name}-{number}", endpoint.rpartition(":")[0], labels={"app": name})
    with contextlib.ExitStack() as stack:
        values: dict[str, object] = {"provider": {"name": "istio"}}
        release = ("bbr", "body-based-routing", values)
        objects, routers = stack.enter_context(deployed(cluster, namespace, tmp_path, *release))
        router = istio(objects, namespace)
        pickers = []
        for name in ports:
            pool = {"targetPorts": [{"number": ports[name]}], "modelServers": {"matchLabels": {"app": name}}}
            release = (name, "inferencepool", {**values, "inferencePool": pool})
            made, pods_of = stack.enter_context(deployed(cluster, namespace, tmp_path, *release, deployment=f"{name}-epp"))
            asked = istio_pool(made, cluster.admin.get(pools_path(namespace, name)))
            pickers.append((asked, reached(cluster, namespace, asked.service, asked.port, pods_of)))
        stages = [(router, reached(cluster, namespace, router.service, router.port, routers)), *pickers]
        routes = [Route(BASE, llama, pool=True, picker=0), Route(OTHER, phi, pool=True, picker=1)]
        gateway = stack.enter_context(Gateway(tmp_path, stages, routes))
        assert {_ask(gateway, BASE).endpoint for _ in range(20)} == set(llama)
        assert {_ask(gateway, OTHER).endpoint for _ in range(3)} == set(phi)
        big = _ask(gateway, BASE, user="x" * 500_000)
        assert big.status == 200


@pytest.mark.parametrize("many", [False, True], ids=["one pool", "many models"])
def test_standalone(many: bool, cluster: Cluster, namespace: str, tmp_path: Path, llama: list[str], phi: list[str]) -> None:
    """Envoy and picker or gateway in one pod."""
    served = {"llama": (BASE, llama), "phi": (OTHER, phi)}
    pools = []
    for name, (model, endpoints) in served.items():
        port = int(endpoints[0].rpartition(":")[2])
        pods = Pods(cluster.admin, namespace, Members(), port)
        for number, endpoint in enumerate(endpoints):
            pods.add(f"{name}-{number}", endpoint.rpartition(":")[0], labels={"app": name})
        pools.append({"name": name, "models": [model], "matchLabels": {"app": name}, "targetPorts": [port]})
    first = {"targetPorts": [{"number": pools[0]["targetPorts"][0]}], "modelServers": {"matchLabels": {"app": "llama"}}}  # type: ignore[index]
    values = {"gateway": {"pools": pools}} if many else {"inferencePool": first}
    release = ("one", "standalone", values)
    with deployed(cluster, namespace, tmp_path, *release, deployment="one-epp") as (_, (pod,)):
        url = f"http://{pod.address}:{pod.port(8081)}"
        assert {_ask(url, BASE).endpoint for _ in range(20)} == set(llama)
        if many:
            assert _ask(url, OTHER).endpoint in phi
            assert _ask(url, "nobody's").status == 404
            assert {model["id"] for model in call(url, "/v1/models").json["data"]} == {BASE, OTHER}
        first_s, last_s = _stream_times(url, BASE)
        assert last_s - first_s > 0.1, f"held back: {first_s:.2f} s, {last_s:.2f} s"
