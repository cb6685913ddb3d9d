"""The values of upstream's later charts, llm-d-router-gateway and llm-d-router-standalone, in ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.e2e.parts import call, until
from tests.k8s.api import Object, documents
from tests.k8s.cluster import Cluster
from tests.k8s.helm import CHARTS, container, flags, helm, kinds, only, refusal, rendered, values_of
from tests.k8s.objects import Pods
from tests.k8s.picks import Members
from tests.k8s.releases import deployed
from tests.k8s.test_chart_objects import UPSTREAM
from tests.k8s.test_migrating import levels

PICKERS: Final = pytest.mark.parametrize("chart", ["inferencepool", "standalone"])
SERVERS: Final = "modelServers: {matchLabels: {app: vllm, tier: gpu}}"


def objects_of(chart: str, text: str, more: str = "") -> list[Object]:
    """What the chart makes of `router` with these keys, and of more."""
    return rendered(chart, f"router:\n  {SERVERS}\n" + _indented(text) + more, least=False)


def _indented(text: str) -> str:
    return "".join(f"  {line}\n" for line in text.splitlines())


def _data(objects: list[Object], name: str = "default-plugins.yaml") -> Any:
    return yaml.safe_load(only(objects, "ConfigMap")["data"][name])


@PICKERS
def test_a_picker_by_its_keys(chart: str) -> None:
    objects = objects_of(
        chart,
        """\
clusterDomain: example.org
metricsPort: 9191
imagePullSecrets: [{name: registry}]
extraServicePorts: [{name: extra, port: 7000}]
epp:
  replicas: 3
  extProcPort: 9102
  grpcHealthPort: 9103
  flags: {v: 4}
  env: [{name: A, value: "1"}]
  extraContainerPorts: [{name: extra, containerPort: 7000}]
  volumes: [{name: v, emptyDir: {}}]
  volumeMounts: [{name: v, mountPath: /v}]
  affinity: {nodeAffinity: {}}
  tolerations: [{key: gpu, operator: Exists}]
  podAnnotations: {a: b}
  podSecurityContext: {runAsUser: 7}
  securityContext: {readOnlyRootFilesystem: true}
  deploymentStrategy: {type: Recreate}
  terminationGracePeriodSeconds: 200
  resources: {requests: {cpu: "8", memory: 8Gi}}
  metricsDataSource: {scheme: https, insecureSkipVerify: false}
  image: {registry: r.example, repository: mine, tag: v2, pullPolicy: Always}
""",
    )
    deployment = only(objects, "Deployment")["spec"]
    pod, ours, said = deployment["template"]["spec"], container(objects), flags(objects)
    assert (deployment["replicas"], deployment["strategy"]) == (3, {"type": "Recreate"})
    assert (said["metrics-port"], said["grpc-port"], said["grpc-health-port"], said["v"]) == ("9191", "9102", "9103", "4")
    assert {"name": "A", "value": "1"} in ours["env"]
    assert {"name": "extra", "containerPort": 7000} in ours["ports"]
    assert {"name": "extra", "port": 7000} in only(objects, "Service")["spec"]["ports"]
    assert "v" in [volume["name"] for volume in pod["volumes"]]
    assert (pod["affinity"], pod["tolerations"][0]["key"]) == ({"nodeAffinity": {}}, "gpu")
    assert (pod["securityContext"], ours["securityContext"]) == ({"runAsUser": 7}, {"readOnlyRootFilesystem": True})
    assert (pod["terminationGracePeriodSeconds"], pod["imagePullSecrets"]) == (200, [{"name": "registry"}])
    assert deployment["template"]["metadata"]["annotations"]["a"] == "b"
    assert ours["resources"] == {"requests": {"cpu": "8", "memory": "8Gi"}}, "whole, so that no limit of ours is below it"
    assert (ours["image"], ours["imagePullPolicy"]) == ("r.example/mine:v2", "Always")
    source = next(each for each in _data(objects)["plugins"] if each["type"] == "metrics-data-source")["parameters"]
    assert source == {"scheme": "https", "path": "/metrics", "insecureSkipVerify": False}


@PICKERS
def test_what_is_empty_is_left_as_it_is_here(chart: str) -> None:
    ours = f"inferenceExtension: {{podAnnotations: {{a: b}}, env: [{{name: A, value: '1'}}]}}\nrouter: {{{SERVERS}}}"
    empty = "epp: {env: [], podAnnotations: {}, podSecurityContext: {}, replicas: , image: , resources: }"
    text = f"{ours[:-1]}, {empty}, tracing: , monitoring: {{prometheus: {{auth: }}}}, proxy: , inferencePool: }}"
    assert rendered(chart, text, least=False) == rendered(chart, ours, least=False)


@PICKERS
def test_nothing_may_stand_behind_the_key(chart: str, tmp_path: Path) -> None:
    """As in a file whose values are all comments; Helm then takes the key away."""
    path = tmp_path / "values.yaml"
    path.write_text(yaml.safe_dump({**values_of(chart), "router": None}))
    more = ("--namespace", "ai", "--kube-version", "1.35.0")
    objects = documents(helm("template", "models", str(CHARTS / chart), *more, "--values", str(path)))
    assert objects == rendered(chart)


@PICKERS
def test_router_goes_before_our_own_keys_and_is_read_once(chart: str) -> None:
    """Templates share their values, and each makes sure that they have been read."""
    own = "inferenceExtension: {replicas: 5, monitoring: {prometheus: {enabled: true}}}\n"
    objects = objects_of(chart, "epp: {replicas: 0}\nmonitoring: {provider: {name: gmp}}", own)
    assert only(objects, "Deployment")["spec"]["replicas"] == 0
    assert "PodMonitoring" in kinds(objects)
    assert "ServiceMonitor" not in kinds(objects)
    off = objects_of(chart, "monitoring: {prometheus: {enabled: false}}", own)
    assert not {"PodMonitoring", "ServiceMonitor"} & kinds(off)


@PICKERS
def test_monitoring_and_tracing(chart: str) -> None:
    auth = "auth: {enabled: true, secretName: mine}, extraLabels: {release: p}"
    objects = objects_of(
        chart,
        f"monitoring: {{interval: 5s, prometheus: {{enabled: true, {auth}}}}}\n"
        "tracing: {enabled: true, otelExporterEndpoint: 'http://otel:4317', sampling: {sampler: always_on}}",
    )
    monitor = only(objects, "ServiceMonitor")
    assert monitor["metadata"]["labels"]["release"] == "p"
    (endpoint,) = monitor["spec"]["endpoints"]
    assert (endpoint["interval"], endpoint["authorization"]["credentials"]["name"]) == ("5s", "mine")
    variables = {each["name"]: each.get("value") for each in container(objects)["env"]}
    assert variables["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://otel:4317"
    assert (variables["OTEL_TRACES_SAMPLER"], variables["OTEL_TRACES_SAMPLER_ARG"]) == ("always_on", "0.1")
    gke = objects_of(chart, "monitoring: {prometheus: {enabled: true}}", "provider: {name: gke}\n")
    assert "PodMonitoring" in kinds(gke), "as upstream, without a provider of metrics"
    assert "ServiceMonitor" not in kinds(gke)
    pilot = objects_of(chart, "monitoring: {prometheus: {enabled: true}, provider: {name: gmp, gmp: {autopilot: true}}}")
    assert "gke-gmp-system" in str(pilot)


def test_a_pool_and_its_route() -> None:
    pool = "inferencePool: {failureMode: FailClosed}\ninferenceObjectives: [{name: urgent, priority: 5}]"
    servers = f"{SERVERS[:-1]}, type: triton, protocol: grpc, targetPorts: [{{number: 8000}}, 8001]}}"
    gateway = "inferenceGatewayName: gw, inferenceGatewayNamespace: infra"
    route = f"httpRoute: {{create: true, {gateway}, requestTimeout: 5s, headerMatches: {{x-a: b}}}}"
    text = f"router:\n  {servers}\n{_indented(pool)}{route}"
    objects = rendered("inferencepool", text, least=False)
    spec = only(objects, "InferencePool")["spec"]
    assert spec["selector"]["matchLabels"] == {"app": "vllm", "tier": "gpu"}
    assert (spec["targetPorts"], spec["appProtocol"]) == ([{"number": 8000}, {"number": 8001}], "kubernetes.io/h2c")
    assert spec["endpointPickerRef"]["failureMode"] == "FailClose", "upstream's README calls it FailClosed"
    assert only(objects, "InferenceObjective")["spec"]["priority"] == 5
    extractor = next(each for each in _data(objects)["plugins"] if each["type"] == "core-metrics-extractor")
    assert extractor["parameters"] == {"defaultEngine": "triton"}
    http = only(objects, "HTTPRoute")["spec"]
    assert (http["parentRefs"][0]["name"], http["parentRefs"][0]["namespace"]) == ("gw", "infra")
    (rule,) = http["rules"]
    assert rule["timeouts"] == {"request": "5s"}
    assert [header["name"] for header in rule["matches"][0]["headers"]] == ["x-a"]
    by_model = "experimentalHttpRoute: {enabled: true, modelNames: [m], baseModel: b, headerMatches: {x-a: b}}"
    matches = only(rendered("inferencepool", by_model), "HTTPRoute")["spec"]["rules"][0]["matches"]
    assert [[header["name"] for header in match["headers"]] for match in matches] == [
        ["X-Gateway-Model-Name", "x-a"],
        ["X-Gateway-Base-Model-Name", "x-a"],
    ]


def test_standalone_with_a_pool_and_without() -> None:
    pool = objects_of("standalone", "inferencePool: {failureMode: FailClose}")
    assert only(pool, "InferencePool")["spec"]["endpointPickerRef"]["failureMode"] == "FailClose"
    assert flags(pool)["pool-name"] == "models"
    labels = rendered(
        "standalone",
        f"router: {{{SERVERS[:-1]}, targetPorts: [{{number: 1}}, 2]}}, inferencePool: {{create: false}}}}",
        least=False,
    )
    assert "InferencePool" not in kinds(labels)
    said = flags(labels)
    assert (said["endpoint-selector"], said["endpoint-target-ports"]) == ("app=vllm,tier=gpu", "1,2")


def test_standalones_proxy() -> None:
    bootstrap = "admin: {address: {socket_address: {port_value: 19000}}}"
    objects = objects_of(
        "standalone",
        "proxy: {name: front, image: 'envoy:v9', args: [-c, x], env: [{name: A, value: b}], resources: {requests: {cpu: 1}},"
        f" configMap: {{name: ignored, data: {{envoy.yaml: '{bootstrap}'}}}}, presets: {{envoy: {{image: other}}}}}}",
    )
    (envoy,) = only(objects, "Deployment")["spec"]["template"]["spec"]["initContainers"]
    assert (envoy["name"], envoy["image"], envoy["args"]) == ("front", "envoy:v9", ["-c", "x"])
    assert (envoy["env"], envoy["resources"]) == ([{"name": "A", "value": "b"}], {"requests": {"cpu": 1}})
    assert only(objects, "ConfigMap")["data"]["envoy.yaml"].strip() == bootstrap
    assert (
        "initContainers"
        not in only(objects_of("standalone", "proxy: {enabled: false}"), "Deployment")["spec"]["template"]["spec"]
    )


@PICKERS
def test_upstreams_image_is_replaced(chart: str) -> None:
    for image in (
        "{registry: ghcr.io/llm-d, repository: llm-d-router-endpoint-picker, tag: v0.9.0}",
        "{registry: ghcr.io/llm-d, repository: llm-d-inference-scheduler, tag: v0.7.0}",
        "{tag: v0.9.0}",
    ):
        assert str(container(objects_of(chart, f"epp: {{image: {image}}}"))["image"]).startswith("ghcr.io/extproc/extproc:")


@PICKERS
def test_by_latency(chart: str) -> None:
    """In upstream's place and in ours; its servers are not made."""
    routed = objects_of(chart, "latencyPredictor: {enabled: true, predictionServers: {count: 4}}")
    types = {each["type"] for each in _data(routed)["plugins"]}
    assert {"predicted-latency-producer", "latency-scorer", "slo-headroom-tier-filter"} <= types
    assert len(only(routed, "Deployment")["spec"]["template"]["spec"]["containers"]) == 1
    own = objects_of(chart, "", "inferenceExtension: {latencyPredictor: {enabled: true}}\n")
    assert _data(own) == _data(routed)


@PICKERS
def test_requests_that_nobody_understands(chart: str) -> None:
    objects = objects_of(chart, "epp: {pluginsConfigFile: payload-agnostic.yaml}")
    assert flags(objects)["config-file"] == "/config/payload-agnostic.yaml"
    assert _data(objects, "payload-agnostic.yaml")["requestHandler"] == {"parsers": [{"pluginRef": "passthrough-parser"}]}


@PICKERS
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("router: {ep: {}}", "additional properties 'ep' not allowed"),
        ("router: {epp: {replica: 2}}", "additional properties 'replica' not allowed"),
        ("router: {epp: {replicas: many}}", "/router/epp/replicas"),
        ("router: {modelServers: {type: ollama}}", "/router/modelServers/type"),
        ("router: {modelServers: {targetPorts: []}}", "/router/modelServers/targetPorts"),
        ("router: {inferencePool: {failureMode: Open}}", "/router/inferencePool/failureMode"),
        ("router: {epp: {flags: {config-file: x}}}", "flags.config-file: set inferenceExtension.pluginsConfigFile instead"),
        (
            "router: {epp: {autoscaling: {targetMemoryUtilizationPercentage: 80}}}",
            "'targetMemoryUtilizationPercentage' not allowed",
        ),
    ],
)
def test_refuses(chart: str, text: str, said: str) -> None:
    assert said in refusal(chart, text)


@pytest.mark.parametrize(
    ("chart", "text", "said"),
    [
        ("inferencepool", "router: {inferencePool: {create: false}}", "which the chart standalone has"),
        (
            "inferencepool",
            "router: {epp: {pluginsConfigFile: a.yaml}}",
            "a.yaml is neither default-plugins.yaml nor payload-agn",
        ),
        ("inferencepool", "router: {proxy: {enabled: true}}", "a proxy is what the chart standalone has"),
        ("inferencepool", "provider: {gke: {preferredBackends: {enabled: true}}}", "/provider/gke/preferredBackends/enabled"),
        ("standalone", "router: {proxy: {mode: service}}", "router.proxy.mode: service is not there"),
        ("standalone", "router: {proxy: {proxyType: agentgateway}}", "router.proxy.proxyType: agentgateway is not there"),
        ("standalone", "httpRoute: {create: true}", "'httpRoute' not allowed"),
        ("standalone", "{gateway: {pools: []}, router: {inferencePool: {create: false}}}", "endpointSelector is required"),
    ],
)
def test_refuses_what_is_of_another_chart(chart: str, text: str, said: str) -> None:
    assert said in refusal(chart, text)


@pytest.mark.parametrize(
    ("chart", "name", "ignored"),
    [
        (
            "inferencepool",
            "llm-d-router-gateway, everything on",
            "tokenizer, latencyPredictor.eppEnv, latencyPredictor.predictionServers, latencyPredictor.trainingServer",
        ),
        ("standalone", "llm-d-router-standalone", "proxy.presets, proxy.failOpen, proxy.replicas"),
        ("inferencepool", "llm-d-router-gateway", ""),
    ],
)
def test_what_is_of_no_use_is_told(cluster: Cluster, namespace: str, chart: str, name: str, ignored: str) -> None:
    options = ("--namespace", namespace)
    values = UPSTREAM[chart][name]
    notes = helm("install", "mine", str(CHARTS / chart), *options, values=values, config=cluster.admin_config)
    helm("uninstall", "mine", *options, config=cluster.admin_config)
    told = "Of the values below router these are of no use here: "
    assert f"{told}{ignored}." in notes if ignored else told not in notes


STOCK: Final = [
    pytest.param(chart, values, id=name)
    for chart in ("inferencepool", "standalone")
    for name, values in UPSTREAM[chart].items()
    if name.startswith("llm-d")
]


@pytest.mark.parametrize(("chart", "values"), STOCK)
def test_stock_values_start_and_pick(
    chart: str, values: dict[str, Any], cluster: Cluster, namespace: str, tmp_path: Path, sim_port: int
) -> None:
    """A new release with a values file of theirs; requests through standalone's own Envoy reach a model server."""
    Pods(cluster.admin, namespace, Members(), sim_port).add("vllm-0", "127.0.0.21")
    release = ("mine", chart, yaml.safe_load(yaml.safe_dump(values).replace("number: 8000", f"number: {sim_port}")))
    with deployed(cluster, namespace, tmp_path, *release, deployment="mine-epp", wait=False) as (_, pods):
        until(lambda: any(pod.probe("epp", "readinessProbe") == "" for pod in pods), within_s=20, what="one is ready")
        for pod in pods:
            assert levels(pod.log("epp")) <= {"info", "warning"}, pod.log("epp")
        if chart == "standalone":
            pods[0].wait_ready()
            answer = call(
                f"http://{pods[0].address}:{pods[0].port(8081)}", "/v1/completions", {"model": "m", "prompt": "hello"}
            )
            assert answer.status == 200
