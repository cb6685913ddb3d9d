"""What the chart standalone makes of its values; no cluster needed, only helm."""

from __future__ import annotations

import pytest
import yaml

from extproc.cli.options import from_text
from extproc.settings.commands import GatewaySettings
from extproc.settings.gateway import load_gateway_config
from tests.k8s.helm import container, flags, kinds, only, refusal, rendered


def test_many_models() -> None:
    text = """
    gateway:
      pools:
        - {name: llama, models: [llama, llama-chat], matchLabels: {app: llama}, targetPorts: [8000, 8001]}
        - {name: phi, models: [phi], inferencePool: phi, namespace: research}
        - {name: far, models: [far], static: ["10.0.0.1:8000"]}
      adapters: {llama: [llama-chat]}
    """
    objects = rendered("standalone", text)
    config = yaml.safe_load(only(objects, "ConfigMap")["data"]["gateway.yaml"])
    assert [pool["name"] for pool in config["pools"]] == ["llama", "phi", "far"]
    assert config["pools"][0]["endpoints"] == {"kubernetes": {"selector": {"app": "llama"}, "targetPorts": [8000, 8001]}}
    assert config["routes"][0] == {"models": ["llama", "llama-chat"], "pool": "llama"}
    roles = {each["metadata"]["namespace"]: each["rules"] for each in objects if each["kind"] == "Role"}
    assert set(roles) == {"ai", "research"}
    assert not any("inferencepools" in rule["resources"] for rule in roles["ai"])
    assert any("inferencepools" in rule["resources"] for rule in roles["research"])
    assert not kinds(objects) & {"InferencePool", "HTTPRoute", "Gateway"}, "no Gateway API needed"


def test_the_gateway_reads_its_config() -> None:
    objects = rendered("standalone", "{gateway: {pools: [{name: a, models: [m], static: ['127.0.0.1:1']}]}}")
    load_gateway_config(only(objects, "ConfigMap")["data"]["gateway.yaml"])


def test_pools_of_the_same_models_are_one_route_where_there_are_regions() -> None:
    regions = "regions: {self: west, names: [west, north], costs: {west: {north: 2}}}"
    pools = ", ".join(
        f"{{name: {name}, models: {models}, region: {region}, static: ['127.0.0.1:1']}}"
        for name, models, region in (("one", "[m]", "west"), ("two", "[k]", "west"), ("three", "[m]", "north"))
    )
    objects = rendered("standalone", f"{{gateway: {{{regions}, pools: [{pools}]}}}}")
    config = load_gateway_config(only(objects, "ConfigMap")["data"]["gateway.yaml"])
    assert [(route.models, route.pool, route.beside) for route in config.routes] == [
        (["m"], "one", ("three",)),
        (["k"], "two", ()),
    ]
    assert [pool.region for pool in config.pools] == ["west", "west", "north"]
    assert config.regions is not None
    assert config.regions.costs == {"west": {"north": 2.0}}


def test_upstreams_keys() -> None:
    picker = rendered(
        "standalone",
        "inferenceExtension: {endpointsServer: {createInferencePool: false, "
        "endpointSelector: 'app=vllm', targetPorts: '8000,8001'}}",
        least=False,
    )
    assert container(picker)["args"][0] == "epp"
    assert (flags(picker)["endpoint-selector"], flags(picker)["endpoint-target-ports"]) == ("app=vllm", "8000,8001")
    assert "InferencePool" not in kinds(picker)
    pool = rendered("standalone", "inferencePool: {modelServers: {matchLabels: {app: vllm}}}", least=False)
    assert flags(pool)["pool-name"] == "models"
    assert only(pool, "InferencePool")


def test_envoy_starts_first_and_stops_last() -> None:
    pod = only(rendered("standalone"), "Deployment")["spec"]["template"]["spec"]
    (envoy,) = pod["initContainers"]
    assert envoy["restartPolicy"] == "Always"
    assert "/healthcheck/fail" in pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][2]


def test_without_envoy() -> None:
    objects = rendered("standalone", "inferenceExtension: {sidecar: {enabled: false}}")
    assert "initContainers" not in only(objects, "Deployment")["spec"]["template"]["spec"]
    assert "envoy.yaml" not in only(objects, "ConfigMap")["data"]
    assert [port["name"] for port in only(objects, "Service")["spec"]["ports"]] == [
        "grpc-ext-proc",
        "grpc-health",
        "http-metrics",
    ]


def settings_of(said: dict[str, str]) -> GatewaySettings:
    """What our command line makes of them. Raises SettingsError as it would."""
    return from_text(GatewaySettings, {flag.replace("-", "_"): value for flag, value in said.items()}, {}, [])


SERVING = "servingEndpoints: {enabled: true, api: {tokensSecretName: tok}%s}"


def test_serving_endpoints_lie_in_sqlite_on_a_volume_and_are_made_at_envoys_address() -> None:
    objects = rendered("standalone", SERVING % "")
    settings = settings_of(flags(objects))
    assert (settings.api_port, settings.api_bind_address, settings.api_auth_mode) == (9080, "127.0.0.1", "tokens")
    deployment = only(objects, "Deployment")["spec"]
    assert deployment["strategy"] == {"type": "Recreate"}, "one pod has the volume"
    volumes = {each["name"]: each for each in deployment["template"]["spec"]["volumes"]}
    claim = only(objects, "PersistentVolumeClaim")["metadata"]["name"]
    assert volumes["state"]["persistentVolumeClaim"] == {"claimName": claim}
    mounts = {each["name"]: each["mountPath"] for each in container(objects)["volumeMounts"]}
    assert settings.database_url == f"sqlite:///{mounts['state']}/state.db"
    assert str(settings.api_tokens_file) == f"{mounts['api-tokens']}/tokens.yaml"
    envoy = yaml.safe_load(only(objects, "ConfigMap")["data"]["envoy.yaml"])
    assert [each["name"] for each in envoy["static_resources"]["listeners"]] == ["ready", "clients", "attempts"]
    assert "http-api" not in [port["name"] for port in only(objects, "Service")["spec"]["ports"]]


def test_several_replicas_with_a_database_and_the_clusters_rights() -> None:
    text = """
    inferenceExtension: {replicas: 3}
    servingEndpoints:
      enabled: true
      api: {auth: kubernetes, servicePort: 80}
      database: {secretName: db}
      external: {allow: ["vllm.lan:8000"], secretMounts: [openai], secretsNamespace: keys, secretNames: [anthropic]}
      configMaps: {enabled: true, namespace: teams}
    """
    objects = rendered("standalone", text)
    assert not kinds(objects) & {"PersistentVolumeClaim"}
    assert only(objects, "Deployment")["spec"]["strategy"]["type"] == "RollingUpdate"
    said = flags(objects)
    assert "database-url" not in said, "a password would be seen"
    (url,) = (each for each in container(objects)["env"] if each["name"] == "EXTPROC_DATABASE_URL")
    assert url["valueFrom"] == {"secretKeyRef": {"name": "db", "key": "url"}}
    settings = settings_of(said)
    assert (settings.api_bind_address, settings.api_auth_mode) == ("0.0.0.0", "kubernetes")
    assert settings.endpoint_configmaps
    ports = {port["name"]: port for port in only(objects, "Service")["spec"]["ports"]}
    assert (ports["http-api"]["port"], ports["http-api"]["targetPort"]) == (80, 9080)
    rules = {each["metadata"]["namespace"]: each["rules"] for each in objects if each["kind"] == "Role"}
    assert rules["keys"] == [{"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["anthropic"], "verbs": ["get"]}]
    assert rules["teams"] == [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list", "watch"]}]
    bound = [each["roleRef"]["name"] for each in objects if each["kind"] == "ClusterRoleBinding"]
    assert "system:auth-delegator" in bound


def test_declared_endpoints_need_neither_api_nor_database() -> None:
    serving = "servingEndpoints: {enabled: true, api: {enabled: false}, configMaps: {enabled: true}}"
    objects = rendered("standalone", "{inferenceExtension: {replicas: 2}, " + serving + "}")
    assert "PersistentVolumeClaim" not in kinds(objects)
    assert not {"api-port", "database-url"} & set(flags(objects))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{inferenceExtension: {replicas: 2}, " + SERVING % "" + "}", "SQLite is for one replica"),
        ("{inferenceExtension: {autoscaling: {enabled: true}}, " + SERVING % "" + "}", "SQLite is for one replica"),
        ("{inferenceExtension: {replicas: 2}, " + SERVING % ", database: {url: 'memory:'}" + "}", "memory: is for one replica"),
        (SERVING % ", database: {url: 'sqlite:///x.db'}", "leave it empty for SQLite"),
        (SERVING % ", external: {secretsNamespace: keys}", "secretNames is required"),
        ("servingEndpoints: {enabled: true}", "tokensSecretName is required"),
        ("servingEndpoints: {enabled: true, api: {tokensSecretName: t, port: 9090}}", "is another port of the pod"),
        ("{inferenceExtension: {flags: {api-port: 1}}, " + SERVING % "" + "}", "servingEndpoints"),
        ("gateway: {pools: [{name: a, models: [m]}]}", "expected one of matchLabels, inferencePool and static, got 0"),
        ("gateway: {pools: [{name: a, models: []}]}", "minItems"),
        ("gateway: {pools: [{name: a, matchLabels: {a: b}}]}", "missing property 'models'"),
        (
            "gateway: {scheduling: {plugins: [{type: max-score-picker, parameters: {maxNumOfEndpoints: 2}}]}}",
            "takes one address",
        ),
        ("inferenceExtension: {listenPort: 9901}", "must differ"),
        ("inferenceExtension: {sidecar: {proxyType: agentgateway}}", "value must be 'envoy'"),
    ],
)
def test_refuses(text: str, said: str) -> None:
    assert said in refusal("standalone", text)


def test_says_what_it_needs() -> None:
    assert "which pods? Set gateway.pools" in refusal("standalone", "", least=False)
