"""Files are told apart by what is in them, and every problem has its line, its path, the value and what was expected."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from extproc.app.checking import Report, check_file, check_text
from tests.fakes.public import public_configs

ROOT = Path(__file__).resolve().parents[3]
SHIPPED = sorted([*(ROOT / "docs").rglob("*.yaml"), *(ROOT / "charts").glob("*/values.yaml")])
PUBLIC = public_configs()


def check(text: str, *, allow_missing: bool = False) -> Report:
    return check_text("f.yaml", text.encode(), allow_missing=allow_missing)


def problems(text: str) -> list[str]:
    report = check(text)
    return [*report.problems, *(problem for part in report.parts for problem in part.problems)]


def kinds(text: str) -> list[str]:
    return [part.kind for part in check(text).parts]


PICKER = """\
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: queue-scorrer
- type: active-request-scorer
  parameters: {maxBusyScore: 7}
schedulingProfiles:
- name: default
  plugins:
  - pluginRef: nobody
"""


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_we_ship_is_right(path: Path) -> None:
    report = check_file(str(path))
    assert (report.number, report.problems) == (0, ())
    assert report.parts


@pytest.mark.skipif(not PUBLIC, reason="no public configs here")
def test_public_configs_are_told_for_what_they_are() -> None:
    for path in PUBLIC:
        report = check_file(str(path), allow_missing=True)
        assert [part.kind for part in report.parts] == ["EndpointPickerConfig"], path
        assert (report.parts[0].picker is None) == bool(report.number), path


class TestKinds:
    @pytest.mark.parametrize(
        ("text", "kind"),
        [
            ("plugins: [{type: queue-scorer}]", "EndpointPickerConfig"),
            ("kind: EndpointPickerConfig", "EndpointPickerConfig"),
            ("pools: []\nroutes: []", "Gateway"),
            ("apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway", "Gateway"),
            ("kind: Deployment", "Deployment"),
            ("servingEndpoints: []", "serving endpoints"),
            ("- {name: a}", "serving endpoints"),
            ("name: a\nconfig: {}", "serving endpoints"),
            ("base: [one, two]", "adapters"),
            ("endpoints: [{name: a, address: 10.0.0.1, port: 1}]", "file-discovery"),
            ("router: {epp: {}}", "chart values"),
            ("a: {b: [{pluginsCustomConfig: {}}]}", "chart values"),
            ("router: {modelServers: null}\nhttpRoute: {create: true}", "chart values"),
            ("kind: ConfigMap\ndata: {x: y}", "ConfigMap"),
            ("kind: ConfigMap\ndata: {baseModel: m, adapters: '[a]'}", "adapters"),
            ("x: 1", "unknown"),
            ("[1, 2]", "unknown"),
        ],
    )
    def test_by_what_is_in_it(self, text: str, kind: str) -> None:
        assert kinds(text) == [kind]

    def test_documents_and_lists_may_be_of_several(self) -> None:
        pool = "{apiVersion: inference.networking.k8s.io/v1, kind: InferencePool, metadata: {name: p}, spec: {}}"
        text = f"{PICKER}---\nkind: List\nitems:\n- {{kind: Secret}}\n- {pool}\n"
        report = check(text)
        assert [part.kind for part in report.parts] == ["EndpointPickerConfig", "Secret", "InferencePool"]
        assert report.parts[2].problems == (
            "line 15: items[1].spec.selector.matchLabels: expected at least one label (got None)",
            "line 15: items[1].spec.targetPorts: expected 1 to 8 ports (got 0)",
        )
        assert report.parts[1].notes == ("not ours, and not looked at",)

    def test_nothing_is_a_problem(self) -> None:
        assert problems("") == ["there is nothing in it"]
        assert problems("a: [") == ["line 2, column 1: expected YAML or JSON: did not find expected node content"]

    def test_an_empty_config_in_values_is_one(self) -> None:
        assert problems('{"pluginsCustomConfig": {"a.yaml": ""}}') == ["pluginsCustomConfig.a.yaml: there is nothing in it"]

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=9),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(
                        [
                            "kind",
                            "plugins",
                            "data",
                            "items",
                            "pools",
                            "name",
                            "config",
                            "gateway",
                            "pluginsConfig",
                            "pluginsCustomConfig",
                        ]
                    ),
                    inner
                    | st.sampled_from(["ConfigMap", "List", "InferencePool", "EndpointPickerConfig", "kind: List\nitems: []"]),
                    max_size=4,
                )
            ),
            max_leaves=12,
        )
    )
    @example({"kind": "List", "items": []})
    def test_any_document_gets_an_answer(self, value: object) -> None:
        report = check_text("f", json.dumps(value).encode())
        assert report.number or report.parts


class TestProblems:
    def test_of_a_picker(self) -> None:
        told = problems(PICKER)
        assert told == [
            "line 4: plugins[0].type: unknown or not available in this version: 'queue-scorrer', did you mean 'queue-scorer'?",
            "line 6: plugins[1].parameters.maxBusyScore: input should be less than or equal to 1 (got 7)",
            "line 10: schedulingProfiles[0].plugins[0].pluginRef: no plugin is called 'nobody' "
            "(there are: queue-scorrer, active-request-scorer)",
        ]

    def test_of_a_text_in_values_have_the_lines_of_the_file(self) -> None:
        block = "".join(f"        {line}\n" for line in PICKER.splitlines())
        text = f"router:\n  epp:\n    pluginsCustomConfig:\n      a.yaml: |\n{block}"
        told = problems(text)
        assert [problem.split(": ")[:3] for problem in told] == [
            ["line 8", "router.epp.pluginsCustomConfig.a.yaml", "plugins[0].type"],
            ["line 10", "router.epp.pluginsCustomConfig.a.yaml", "plugins[1].parameters.maxBusyScore"],
            ["line 14", "router.epp.pluginsCustomConfig.a.yaml", "schedulingProfiles[0].plugins[0].pluginRef"],
        ]

    def test_of_a_text_between_quotes_have_the_lines_of_the_text(self) -> None:
        text = 'kind: ConfigMap\ndata:\n  a.yaml: "kind: EndpointPickerConfig\\nplugins: 3\\n"\n'
        assert problems(text) == ["data.a.yaml: line 2 of the text: plugins: input should be a valid list (got 3)"]

    def test_of_values(self) -> None:
        text = "router: {epp: {pluginsConfigFile: b.yaml, pluginsCustomConfig: {a.yaml: {plugins: []}, c.yaml: 'x: 1'}}}"
        report = check(text)
        told = [problem for part in report.parts for problem in part.problems]
        assert told[0].startswith("line 1: router.epp.pluginsCustomConfig.a.yaml: expected a config as text")
        assert "expected a picker's config" in told[1]
        assert report.parts[0].warnings == (
            "line 1: router.epp.pluginsConfigFile: 'b.yaml' is not in pluginsCustomConfig (there is: a.yaml, c.yaml)",
        )

    def test_of_maps_in_values(self) -> None:
        """As upstream's later charts have them, and as our gateway's are."""
        text = """\
router:
  epp:
    pluginsConfigFile: mine.yaml
    pluginsConfig:
      plugins:
      - {type: queue-scorrer}
    pluginsCustomConfig:
      other.yaml: |
        plugins: [{type: queue-scorer}]
gateway:
  scheduling:
    plugins: [{type: random-picker, parameters: {maxNumOfEndpoints: none}}]
  pools:
  - {name: a, models: [m], scheduling: {plugins: 3}}
"""
        assert problems(text) == [
            "line 6: router.epp.pluginsConfig.plugins[0].type: unknown or not available in this version: 'queue-scorrer', "
            "did you mean 'queue-scorer'?",
            "line 14: gateway.pools[0].scheduling.plugins: input should be a valid list (got 3)",
            "line 12: gateway.scheduling.plugins[0].parameters.maxNumOfEndpoints: input should be a valid integer, "
            "unable to parse string as an integer (got 'none')",
        ]
        assert [warning for part in check(text).parts for warning in part.warnings] == []

    def test_of_a_map_that_is_a_file_that_is_there(self) -> None:
        text = "inferenceExtension: {pluginsConfig: {plugins: []}, pluginsCustomConfig: {default-plugins.yaml: 'plugins: []'}}"
        (told,) = problems(text)
        assert told.startswith(
            "line 1: inferenceExtension.pluginsConfig: it is the file 'default-plugins.yaml', which is in plu"
        )
        assert problems("router: {epp: {pluginsConfig: [1]}}") == [
            "line 1: router.epp.pluginsConfig: expected a config as a map (got [1])"
        ]

    def test_of_objects(self) -> None:
        text = """
apiVersion: llm-d.ai/v1
kind: InferenceObjective
metadata: {name: o}
spec: {priority: high, poolRef: {name: p}}
"""
        assert problems(text) == [
            "line 2: apiVersion: expected llm-d.ai/v1alpha2 or inference.networking.x-k8s.io/v1alpha2 (got 'llm-d.ai/v1')",
            "line 5: spec.priority: expected a whole number of 32 bits (got 'high')",
        ]

    def test_of_serving_endpoints(self) -> None:
        text = """\
servingEndpoints:
- name: chat
  config:
    served_entities: [{name: a, entity_name: m}, {name: b, entity_name: n}]
    traffic_config: {routes: [{served_entity_name: a, traffic_percentage: 90}]}
- name: chat
  config: {served_entities: [{name: a, entity_name: m}]}
- name: chat
  config: {served_entities: [{name: a, entity_name: m}]}
"""
        assert problems(text) == [
            "line 5: servingEndpoints[0].config.traffic_config.routes: got 90 = 90; expected shares that add up to 100",
            "line 8: servingEndpoints[2].name: got 'chat', which is there already; expected a name of its own",
        ]

    def test_of_adapters_across_documents(self) -> None:
        assert problems("a: [x]\n---\nb: [x]\n") == ["line 3: b: adapter 'x' belongs to both 'a' and 'b'"]

    def test_of_a_gateway_are_said_once_for_all_pools(self) -> None:
        text = """\
apiVersion: extproc.dev/v1alpha1
kind: Gateway
pools:
- {name: a, endpoints: {static: ["nowhere"]}}
- {name: b, endpoints: {static: ["10.0.0.1:80"]}}
routes: [{models: [m], pool: c}]
scheduling: {plugins: [{type: nope-scorer}]}
"""
        told = problems(text)
        assert [problem.split(": ")[:2] for problem in told] == [
            ["line 6", "routes[0].pool"],
            ["line 4", "pools[0].endpoints.static[0]"],
            ["line 7", "scheduling.plugins[0].type"],
        ]

    def test_of_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        assert check_file(str(tmp_path / "x")).problems == ("No such file or directory",)


class TestDescription:
    def test_of_a_picker(self) -> None:
        text = """
plugins:
- {type: active-request-scorer, name: busy, parameters: {idleThreshold: 2}}
- {type: random-picker}
- {type: kv-cache-utilization-scorer}
- {type: core-metrics-extractor}
schedulingProfiles: [{name: p, plugins: [{pluginRef: busy, weight: 2}]}]
saturationDetector: {queueDepthThreshold: 9}
"""
        (part,) = check(text).parts
        assert part.warnings == (
            "line 8: saturationDetector: deprecated, use flowControl.saturationDetector.pluginRef and a plugin",
        )
        picker = part.picker
        assert picker is not None
        assert picker["profiles"] == [
            {
                "name": "p",
                "filters": [],
                "scorers": [{"name": "busy", "weight": 2.0}],
                "picker": "max-score-picker",
                "picker_is_default": True,
            }
        ]
        assert picker["not_used"] == ["random-picker", "kv-cache-utilization-scorer"]
        busy = picker["plugins"][0]
        assert (busy["name"], busy["type"], busy["parameters"]["idleThreshold"]) == ("busy", "active-request-scorer", 2)
        assert picker["data_layer"]["core-metrics-extractor"]["parameters"]["defaultEngine"] == "vllm"

    def test_of_what_is_left_out(self, monkeypatch: pytest.MonkeyPatch) -> None:
        why = {"gone-scorer": "it needs a cluster of stars"}.get
        monkeypatch.setattr("extproc.scheduling.build.why_missing", why)
        text = "plugins: [{type: gone-scorer}, {type: queue-scorer}]"
        assert problems(text) == [
            "line 1: plugins[0].type: gone-scorer is not available: it needs a cluster of stars; "
            "--allow-missing-plugins leaves it out"
        ]
        (part,) = check(text, allow_missing=True).parts
        assert part.picker is not None
        assert part.picker["left_out"] == {"gone-scorer": "it needs a cluster of stars"}
