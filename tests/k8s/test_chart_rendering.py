"""What the charts make of their values; no cluster needed, only helm."""

from __future__ import annotations

import importlib
import json
from typing import Any

import pytest
import yaml

from tests.k8s.helm import CHARTS, NAMES, container, flags, helm, kinds, only, refusal, rendered

RESTRICTED = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
PATHS = {"body-based-routing": "bbr", "inferencepool": "inferenceExtension", "standalone": "inferenceExtension"}
EVERY = pytest.mark.parametrize("chart", NAMES)


def under(chart: str, text: str) -> str:
    """Values of the component, which each chart has under a key of its own."""
    return yaml.safe_dump({PATHS[chart]: yaml.safe_load(text)})


@EVERY
def test_lint_is_strict_and_silent(chart: str) -> None:
    assert "0 chart(s) failed" in helm("lint", "--strict", str(CHARTS / chart))


@EVERY
def test_a_package_is_complete(chart: str, tmp_path: Any) -> None:
    helm("package", str(CHARTS / chart), "--destination", str(tmp_path))
    (package,) = tmp_path.iterdir()
    assert "bbr.port" in helm("show", "readme", str(package)) or chart != "body-based-routing"
    assert helm("show", "values", str(package)) == (CHARTS / chart / "values.yaml").read_text() + "\n"


@EVERY
def test_the_command_line_is_ours(chart: str) -> None:
    """Subcommand and flags are known to it: a typo would be an exit code 2 in the cluster."""
    objects = rendered(chart, under(chart, "{tracing: {enabled: true}, tls: {secretName: t, clientCaSecretName: c}}"))
    command, *arguments = container(objects)["args"]
    click_command = importlib.import_module(f"extproc.cli.{command}").COMMAND
    with click_command.make_context(command, list(arguments)) as context:
        assert not context.args, "unknown arguments"


@EVERY
def test_runs_as_nobody_with_nothing(chart: str) -> None:
    objects = rendered(chart)
    pod = only(objects, "Deployment")["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for each in [*pod["containers"], *pod.get("initContainers", [])]:
        assert each["securityContext"] == RESTRICTED
        assert each["resources"]["requests"]
        assert each["resources"]["limits"]["memory"]
        assert "cpu" not in each["resources"]["limits"]
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            assert each[probe]


@EVERY
def test_probes_ask_upstreams_services(chart: str) -> None:
    ours = container(rendered(chart))
    port = {"body-based-routing": 9005}.get(chart, 9003)
    assert ours["livenessProbe"]["grpc"] == ours["startupProbe"]["grpc"] == {"port": port, "service": "liveness"}
    assert ours["readinessProbe"]["grpc"] == {"port": port, "service": "readiness"}
    other = container(rendered(chart, under(chart, "{livenessProbe: {httpGet: {path: /healthz, port: metrics}}}")))
    assert other["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "metrics"}
    assert "grpc" not in other["livenessProbe"]
    assert "startupProbe" not in container(rendered(chart, under(chart, "{startupProbe: {enabled: false}}")))


@EVERY
def test_the_grace_period_holds_the_drain(chart: str) -> None:
    def grace(text: str) -> int:
        return int(
            only(rendered(chart, under(chart, text)), "Deployment")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
        )

    assert grace("{drainTimeoutSeconds: 60, shutdownDelaySeconds: 10}") == 75
    assert grace("{drainTimeoutSeconds: 60, shutdownDelaySeconds: 10, terminationGracePeriodSeconds: 90}") == 90
    said = refusal(
        chart, under(chart, "{drainTimeoutSeconds: 60, shutdownDelaySeconds: 10, terminationGracePeriodSeconds: 74}")
    )
    assert "terminationGracePeriodSeconds is 74, but shutdownDelaySeconds + drainTimeoutSeconds + 5 is 75" in said


@EVERY
def test_dashboards_for_grafanas_sidecar(chart: str) -> None:
    def dashboards(values: str) -> list[Any]:
        objects = rendered(chart, under(chart, f"{{monitoring: {{dashboards: {values}}}}}"))
        return [each for each in objects if each["kind"] == "ConfigMap" and "-extproc-" in each["metadata"]["name"]]

    assert dashboards("{}") == []
    files = {path.name: json.loads(path.read_text()) for path in (CHARTS / chart / "dashboards").iterdir()}
    made = dashboards("{enabled: true}")
    assert {name: json.loads(text) for each in made for name, text in each["data"].items()} == files
    assert {each["metadata"]["labels"]["grafana_dashboard"] for each in made} == {"1"}
    assert {each["metadata"]["namespace"] for each in made} == {"ai"}
    own = (
        "{enabled: true, labels: {grafana_dashboard: null, team: a}, annotations: {grafana_folder: models}, namespace: grafana}"
    )
    for each in dashboards(own):
        assert each["metadata"]["labels"]["team"] == "a"
        assert each["metadata"]["annotations"] == {"grafana_folder": "models"}
        assert each["metadata"]["namespace"] == "grafana"


@EVERY
def test_everything_that_a_pod_may_have(chart: str) -> None:
    objects = rendered(
        chart,
        under(
            chart,
            """
            env: [{name: A, value: "1"}]
            extraEnv: [{name: B, value: "2"}]
            extraEnvFrom: [{secretRef: {name: keys}}]
            volumes: [{name: v, emptyDir: {}}]
            extraVolumes: [{name: w, emptyDir: {}}]
            volumeMounts: [{name: v, mountPath: /v}]
            extraVolumeMounts: [{name: w, mountPath: /w}]
            extraArgs: ["--host=::"]
            flags: {v: 4, max-body-bytes: 100000000, request-timeout: 60s, reuse-port: false}
            nodeSelector: {pool: cpu}
            affinity: {nodeAffinity: {}}
            tolerations: [{key: gpu, operator: Exists}]
            topologySpreadConstraints: [{maxSkew: 2, topologyKey: zone, whenUnsatisfiable: DoNotSchedule}]
            priorityClassName: system-cluster-critical
            imagePullSecrets: [{name: registry}]
            podAnnotations: {a: b}
            podLabels: {c: d}
            deployment: {annotations: {e: f}, labels: {g: h}}
            service: {annotations: {i: j}, labels: {k: l}}
            serviceAccount: {name: somebody, annotations: {m: o}}
            """,
        ),
    )
    deployment = only(objects, "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    ours = container(objects)
    assert {"name": "A", "value": "1"} in ours["env"]
    assert {"name": "B", "value": "2"} in ours["env"]
    assert ours["envFrom"] == [{"secretRef": {"name": "keys"}}]
    assert {"v", "w"} <= {volume["name"] for volume in pod["volumes"]}
    assert {"/v", "/w"} <= {mount["mountPath"] for mount in ours["volumeMounts"]}
    assert ours["args"][-1] == "--host=::"
    given = flags(objects)
    assert (given["v"], given["max-body-bytes"], given["reuse-port"]) == ("4", "100000000", "false")
    assert pod["nodeSelector"] == {"pool": "cpu"}
    assert pod["affinity"] == {"nodeAffinity": {}}
    assert pod["tolerations"][0]["key"] == "gpu"
    assert pod["topologySpreadConstraints"][0]["topologyKey"] == "zone"
    assert pod["priorityClassName"] == "system-cluster-critical"
    assert pod["imagePullSecrets"] == [{"name": "registry"}]
    assert deployment["spec"]["template"]["metadata"]["annotations"]["a"] == "b"
    assert deployment["spec"]["template"]["metadata"]["labels"]["c"] == "d"
    assert deployment["metadata"]["annotations"]["e"] == "f"
    assert deployment["metadata"]["labels"]["g"] == "h"
    service = only(objects, "Service")
    assert service["metadata"]["annotations"]["i"] == "j"
    assert service["metadata"]["labels"]["k"] == "l"
    assert pod["serviceAccountName"] == "somebody" == only(objects, "ServiceAccount")["metadata"]["name"]


@EVERY
def test_flags_as_upstreams_first_charts_have_them(chart: str) -> None:
    """v1.0 and v1.1: a list of names and values."""
    pairs = "{name: v, value: 4}, {name: metrics-endpoint-auth, value: false}, {name: --max-body-bytes, value: 100000000}"
    listed = f"{{flags: [{pairs}]}}"
    given = flags(rendered(chart, under(chart, listed)))
    assert (given["v"], given["metrics-endpoint-auth"], given["max-body-bytes"]) == ("4", "false", "100000000")
    assert "flags.grpc-port: set " in refusal(chart, under(chart, "{flags: [{name: grpc-port, value: 1}]}"))


@EVERY
def test_images_in_every_form(chart: str) -> None:
    def image(text: str) -> str:
        return str(container(rendered(chart, under(chart, f"{{image: {text}}}")))["image"])

    version = yaml.safe_load((CHARTS / chart / "Chart.yaml").read_text())["appVersion"]
    assert image("{}") == f"ghcr.io/extproc/extproc:{version}"
    assert image("{registry: r.example, repository: a/b, tag: v2}") == "r.example/a/b:v2"
    assert image("{hub: r.example/old, name: bbr, tag: v1}") == "r.example/old/bbr:v1"
    for upstream in (
        "{registry: registry.k8s.io, repository: gateway-api-inference-extension/epp, tag: v1.5.0}",
        "{hub: mirror.example/gateway-api-inference-extension, name: bbr, tag: v1.0.1}",
    ):
        assert image(upstream) == f"ghcr.io/extproc/extproc:{version}", "it would not start with our arguments"
    digest = "sha256:" + "a" * 64
    assert image(f"{{tag: v1, digest: '{digest}'}}") == f"ghcr.io/extproc/extproc@{digest}"


@EVERY
def test_two_releases_share_no_name(chart: str) -> None:
    everything = under(
        chart,
        "{monitoring: {prometheus: {enabled: true}, gke: {enabled: true}}, networkPolicy: {enabled: true},"
        " podDisruptionBudget: {enabled: true}, autoscaling: {enabled: true}}",
    )
    names = [
        {
            (each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"])
            for each in rendered(chart, everything, release=release, namespace=namespace)
        }
        for release, namespace in (("one", "ai"), ("two", "ai"), ("one", "other"))
    ]
    assert not names[0] & names[1]
    assert not names[0] & names[2]
    assert len(names[0]) > 10
    selectors = [only(rendered(chart, release=release), "Service")["spec"]["selector"] for release in ("one", "two")]
    assert selectors[0] != selectors[1]


@EVERY
def test_rights_to_review_tokens_only_with_metrics_authentication(chart: str) -> None:
    on, off = (
        rendered(chart, under(chart, f"{{monitoring: {{prometheus: {{enabled: true, auth: {{enabled: {value}}}}}}}}}"))
        for value in ("true", "false")
    )
    assert flags(on)["metrics-endpoint-auth"] == "true"
    assert flags(off)["metrics-endpoint-auth"] == "false"
    reviews = [rule for role in on if role["kind"] == "ClusterRole" for rule in role["rules"]]
    assert {resource for rule in reviews for resource in rule.get("resources", [])} == {"tokenreviews", "subjectaccessreviews"}
    assert "ClusterRole" not in kinds(off)
    assert "Secret" not in kinds(off)
    credentials = only(on, "ServiceMonitor")["spec"]["endpoints"][0]["authorization"]["credentials"]
    assert credentials["name"] == only(on, "Secret")["metadata"]["name"]
    assert "authorization" not in only(off, "ServiceMonitor")["spec"]["endpoints"][0]
    by_flag = rendered(chart, under(chart, "{flags: {metrics-endpoint-auth: false}}"))
    assert "ClusterRole" not in kinds(by_flag), "upstream's way to turn it off"


@EVERY
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{replicas: many}", "got string, want integer"),
        ("{replicaCount: 2}", "additional properties 'replicaCount' not allowed"),
        ("{metricsPort: 99999}", "maximum: got 99,999, want 65,535"),
        ("{image: {pullPolicy: Sometimes}}", "value must be one of 'Always', 'IfNotPresent', 'Never'"),
        ("{flags: {grpc-port: 1}}", "flags.grpc-port: set "),
        ("{flags: {drain-timeout: 1m}}", "drainTimeoutSeconds instead"),
        ("{monitoring: {interval: often}}", "does not match pattern"),
    ],
)
def test_a_wrong_value_is_refused_by_name(chart: str, text: str, said: str) -> None:
    message = refusal(chart, under(chart, text))
    assert said in message
    assert PATHS[chart] in message
