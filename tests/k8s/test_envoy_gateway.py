"""The router on Envoy Gateway: which requests reach it, and what is answered to those that name no model.

The charts' own HTTPRoutes, laid out in a real Envoy as that controller does it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.parts import Answer, call
from tests.k8s.cluster import Cluster
from tests.k8s.gateways import Gateway, Route, envoy_gateway
from tests.k8s.helm import CHARTS, helm, only, refusal, rendered
from tests.k8s.hosts import virtual_hosts
from tests.k8s.servers import Server, simulators

HOSTS = ("models.example.com", "api.example.com")
MODEL = "llama"
FILTER = "eg"


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    with simulators(tmp_path_factory.mktemp("sims"), ["127.0.0.31"], ["--model", MODEL]) as endpoints:
        yield endpoints


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server("bbr", ["--adapter-configmaps=false"], tmp_path_factory.mktemp("bbr"))
    server.start()
    server.wait_ready()
    yield server
    server.stop()


def gateway(directory: Path, router: Server, servers: list[str], chart: str = "", pool: str = "", own: str = "") -> Gateway:
    """`chart`: of provider.envoyGateway; `pool`: more of the pool's HTTPRoute."""
    objects = rendered("body-based-routing", f"{{provider: {{name: envoy-gateway, envoyGateway: {{{chart}}}}}}}")
    route = f"experimentalHttpRoute: {{enabled: true, modelNames: [{MODEL}], {pool}}}"
    objects += rendered("inferencepool", route, release="vllm-llama")
    asked = envoy_gateway(objects)
    hosts = virtual_hosts(objects, FILTER)
    assert asked.config["name"] == FILTER
    where = [f"127.0.0.1:{router.port}"]
    return Gateway(directory, [(asked, where)], [Route("vllm-llama", servers)], hosts=hosts)


def ask(running: Gateway, host: str, model: str = MODEL) -> Answer:
    body = {"model": model, "prompt": "hello", "max_tokens": 1}
    return call(running.url, "/v1/completions", body, {"host": host})


def test_without_hostnames(router: Server, servers: list[str], tmp_path: Path) -> None:
    with gateway(tmp_path, router, servers) as running:
        assert ask(running, "anything").status == 200
        unknown = ask(running, "anything", "nobody's")
        assert (unknown.status, unknown.json["error"]["code"]) == (404, "model_not_found")


def test_routes_with_hostnames_are_not_found_until_the_first_route_has_them(
    router: Server, servers: list[str], tmp_path: Path
) -> None:
    """What NOTES and the page warn of: an empty 404, and the router was never asked."""
    pool = f"hostnames: [{', '.join(HOSTS)}]"
    before = router.metric("extproc_streams_total")
    with gateway(tmp_path, router, servers, pool=pool) as running:
        lost = ask(running, HOSTS[0])
        assert (lost.status, lost.body) == (404, b"")
    assert router.metric("extproc_streams_total") == before
    with gateway(tmp_path, router, servers, chart=pool, pool=pool) as running:
        assert [ask(running, host).status for host in HOSTS] == [200, 200]
        assert ask(running, HOSTS[0], "nobody's").json["error"]["code"] == "model_not_found"
        assert ask(running, "elsewhere.example.com").status == 404


def test_a_wildcard_is_no_help_for_a_hostname_of_its_own(router: Server, servers: list[str], tmp_path: Path) -> None:
    """Why the value wants each hostname as it stands in the models' routes."""
    with gateway(tmp_path, router, servers, "hostnames: ['*.example.com']", f"hostnames: [{HOSTS[0]}]") as running:
        assert ask(running, HOSTS[0]).status == 404
    with gateway(tmp_path, router, servers, "hostnames: ['*.example.com']", "hostnames: ['*.example.com']") as running:
        assert ask(running, HOSTS[0]).status == 200


def test_the_list_of_models(router: Server, servers: list[str], tmp_path: Path) -> None:
    with gateway(tmp_path, router, servers) as running:
        assert call(running.url, "/v1/models").status == 404
    with gateway(tmp_path, router, servers, "models: [llama, 'food-review-1', '100%']") as running:
        answer = call(running.url, "/v1/models")
        assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
        assert answer.json["object"] == "list"
        assert [model["id"] for model in answer.json["data"]] == ["llama", "food-review-1", "100%"]
        assert {model["object"] for model in answer.json["data"]} == {"model"}
        assert ask(running, "anything").status == 200


def test_the_list_of_models_is_what_the_charts_adapters_say() -> None:
    text = "{provider: {name: envoy-gateway}, bbr: {adapters: [{baseModel: llama, adapters: [a, b]}, {baseModel: phi}]}}"
    objects = rendered("body-based-routing", text)
    (answer,) = [each for each in objects if each["kind"] == "HTTPRouteFilter" and each["metadata"]["name"] == "models-models"]
    body = answer["spec"]["directResponse"]["body"]["inline"]
    assert [name for name in ("llama", "a", "b", "phi") if f'"id":"{name}"' not in body] == []
    route = only(objects, "HTTPRoute")
    assert route["spec"]["rules"][0]["matches"] == [{"path": {"type": "Exact", "value": "/v1/models"}}], (
        "a route of one's own with the method GET goes before it"
    )


def test_a_list_that_envoy_would_not_send() -> None:
    names = ", ".join(f"model-{number:050}" for number in range(50))
    said = refusal("body-based-routing", f"provider: {{name: envoy-gateway, envoyGateway: {{models: [{names}]}}}}")
    assert "Envoy answers with at most 4096 by itself" in said
    assert "exact path /v1/models" in said


def test_more_hostnames_than_a_route_may_have() -> None:
    hosts = [f"h{number}.example.com" for number in range(20)]
    objects = rendered("body-based-routing", f"provider: {{name: envoy-gateway, envoyGateway: {{hostnames: {hosts}}}}}")
    routes = {each["metadata"]["name"]: each["spec"]["hostnames"] for each in objects if each["kind"] == "HTTPRoute"}
    assert routes == {"models-first": hosts[:16], "models-first-2": hosts[16:]}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([], "hostnames that no HTTPRoute has"),
        (["--set=provider.envoyGateway.hostnames={a.example,b.example}"], "hostnames a.example, b.example"),
        (["--set=provider.envoyGateway.firstRoute=false"], "provider.envoyGateway.firstRoute is false"),
    ],
)
def test_notes_say_whom_the_router_is_asked_for(cluster: Cluster, values: list[str], said: str) -> None:
    given = ["--dry-run=client", "--set=provider.name=envoy-gateway", *values]
    notes = helm("install", "models", str(CHARTS / "body-based-routing"), *given, config=cluster.admin_config)
    assert said in " ".join(notes.rpartition("NOTES:")[2].split())
