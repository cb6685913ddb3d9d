"""The form of an EndpointPickerConfig."""

from __future__ import annotations

import pytest

from extproc.settings.base import SettingsError
from extproc.settings.picker import DEFAULT_PICKER, EndpointPickerConfig, load_picker_config, picker_config


def problems(text: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load_picker_config(text)
    return caught.value.problems


@pytest.mark.parametrize("version", ["llm-d.ai/v1alpha1", "llm-d.ai/v1"])
def test_versions(version: str) -> None:
    config, warnings = load_picker_config(f"apiVersion: {version}\nkind: EndpointPickerConfig\n")
    assert config.api_version == version
    assert warnings == []


def test_the_deprecated_version_warns() -> None:
    _, warnings = load_picker_config("apiVersion: inference.networking.x-k8s.io/v1alpha1\nkind: EndpointPickerConfig\n")
    assert warnings == ["apiVersion: inference.networking.x-k8s.io/v1alpha1 is deprecated, use llm-d.ai/v1alpha1"]


def test_everything_that_is_understood() -> None:
    config, _ = load_picker_config(
        """
        apiVersion: llm-d.ai/v1alpha1
        kind: EndpointPickerConfig
        featureGates: [haPopulateNonLeaderDatastore, flowControl=false]
        plugins:
        - {type: queue-scorer}
        - {name: files, type: file-discovery, parameters: {path: e.yaml}}
        schedulingProfiles:
        - name: default
          plugins: [{pluginRef: queue-scorer, weight: 0.5}, {pluginRef: files}]
        dataLayer:
          injectDefaults: false
          sources: [{pluginRef: s, extractors: [{pluginRef: x}]}]
          discovery: {pluginRef: files}
        requestHandler: {parsers: [{pluginRef: openai-parser}]}
        """
    )
    assert [plugin.ref for plugin in config.plugins] == ["queue-scorer", "files"]
    assert [entry.weight for entry in config.scheduling_profiles[0].plugins] == [0.5, 1.0]
    assert config.data_layer.discovery is not None
    assert config.data_layer.discovery.ref == "files"
    assert not config.data_layer.inject_defaults


def test_discovery_in_its_newer_spelling() -> None:
    config, _ = load_picker_config("dataLayer: {discovery: {endpoints: {pluginRef: files}}}")
    assert config.data_layer.discovery is not None
    assert config.data_layer.discovery.ref == "files"


@pytest.mark.parametrize("key", ["flowcontrol", "parsers", "plugin"])
def test_what_this_version_does_not_do_is_refused(key: str) -> None:
    assert problems(f"{key}: {{}}") == [f"{key}: unknown key"]


def test_all_problems_at_once() -> None:
    told = problems(
        """
        apiVersion: v2
        kind: Other
        featureGates: [flowControl, dataLayer=true]
        plugins: [{name: x}, {type: t, weight: 1}]
        schedulingProfiles: [{plugins: [{pluginRef: x, weight: -1}, {ref: x}]}]
        unknown: 1
        """
    )
    assert told == [
        "plugins[0].type: field required",
        "plugins[1].weight: unknown key",
        "schedulingProfiles[0].name: field required",
        "schedulingProfiles[0].plugins[0].weight: input should be greater than or equal to 0 (got -1)",
        "schedulingProfiles[0].plugins[1].pluginRef: field required",
        "schedulingProfiles[0].plugins[1].ref: unknown key",
        "unknown: unknown key",
        "apiVersion: expected one of llm-d.ai/v1alpha1, llm-d.ai/v1 (got 'v2')",
        "kind: expected EndpointPickerConfig (got 'Other')",
    ]


def test_feature_gates() -> None:
    assert problems("featureGates: [flowControl, dataLayer=true, flowControl=false, nope]") == [
        "featureGates[3]: 'nope' is not available in this version",
    ]


@pytest.mark.parametrize("gate", ["dataLayer", "dataLayer=true", "prepareDataPlugins=false", "enableLegacyMetrics"])
def test_a_gate_of_what_is_always_on_is_one_warning(gate: str) -> None:
    _, warnings = load_picker_config(f"featureGates: [flowControl=false, {gate}]")
    assert warnings == [f"featureGates[1]: {gate.partition('=')[0]} has no effect, what it stands for is always on"]


@pytest.mark.parametrize(
    ("gates", "on"),
    [
        ("[]", False),
        ("[flowControl]", True),
        ("[flowControl=true]", True),
        ("[flowControl=false]", False),
        ("[flowControl, flowControl=false]", False),
        ("[dataLayer]", False),
    ],
)
def test_flow_control_is_off_unless_its_gate_is_on(gates: str, on: bool) -> None:
    config, warnings = load_picker_config(f"featureGates: {gates}")
    assert config.is_on("flowControl") is on
    assert not any("flowControl" in warning for warning in warnings)


def test_the_gate_that_upstream_has_on_is_none() -> None:
    for gate in ("haPopulateNonLeaderDatastore", "haPopulateNonLeaderDatastore=true"):
        assert load_picker_config(f"featureGates: [{gate}]")[1] == []
    assert len(load_picker_config("featureGates: [haPopulateNonLeaderDatastore=false]")[1]) == 1


def test_the_older_parser_is_one_warning() -> None:
    config, warnings = load_picker_config("plugins: [{type: openai-parser}]\nparser: {pluginRef: openai-parser}")
    assert warnings == ["parser: deprecated, use requestHandler.parsers"]
    assert config.parser_refs == [("parser.pluginRef", "openai-parser")]
    assert [each.plugin_ref for each in config.request_handler.parsers] == ["openai-parser"]
    twice = "parser: {pluginRef: a}\nrequestHandler: {parsers: [{pluginRef: b}]}"
    assert problems(twice) == ["parser: excludes requestHandler.parsers"]
    config, warnings = load_picker_config("requestHandler: {parsers: [{pluginRef: b}]}")
    assert (config.parser_refs, warnings) == ([("requestHandler.parsers[0].pluginRef", "b")], [])


@pytest.mark.parametrize("weight", [".nan", ".inf", "-0.1", "heavy"])
def test_weights_are_finite_and_not_negative(weight: str) -> None:
    (line,) = problems(f"schedulingProfiles: [{{name: d, plugins: [{{pluginRef: x, weight: {weight}}}]}}]")
    assert line.startswith("schedulingProfiles[0].plugins[0].weight: ")


@pytest.mark.parametrize(("text", "got"), [("[]", "[]"), ("text", "'text'"), ("1", "1")])
def test_a_file_that_is_no_mapping(text: str, got: str) -> None:
    assert problems(text) == [f"expected a mapping with apiVersion and kind: EndpointPickerConfig (got {got})"]


@pytest.mark.parametrize("text", ["", "{}", "---\n", "# nothing\n", "null"])
def test_nothing_is_the_default(text: str) -> None:
    assert load_picker_config(text) == (DEFAULT_PICKER, ["there is nothing in it, so the default config applies"])


def test_a_key_with_nothing_in_it_is_absent() -> None:
    text = """
        apiVersion:
        kind: ""
        featureGates:
        plugins: [{type: queue-scorer, name: "", parameters: {}}, {type: max-score-picker, parameters: }]
        schedulingProfiles:
        dataLayer: {}
        requestHandler: {parsers: }
        flowControl: {saturationDetector: {}}
        saturationDetector: {}
        """
    config, warnings = load_picker_config(text)

    assert [plugin.ref for plugin in config.plugins] == ["queue-scorer", "max-score-picker"]
    assert [plugin.parameters for plugin in config.plugins] == [None, None]
    assert config.model_copy(update={"plugins": []}) == EndpointPickerConfig.model_validate({})
    assert warnings == []
    assert problems("plugins: [{type: }]") == ["plugins[0].type: field required"]


def test_two_lists_of_plugins() -> None:
    text = "plugins: [{type: queue-scorer}]\nschedulingProfiles: []\nplugins: []\n"
    assert problems(text) == ["line 3: key 'plugins' is there twice, first on line 1"]


def test_paths_begin_where_the_config_does() -> None:
    with pytest.raises(SettingsError) as caught:
        picker_config({"apiVersion": "v2", "nope": 1, "featureGates": ["x"]}, "pools[0].scheduling.")
    assert all(line.startswith("pools[0].scheduling.") for line in caught.value.problems)
    _, warnings = picker_config({"apiVersion": "inference.networking.x-k8s.io/v1alpha1"}, "scheduling.")
    assert warnings[0].startswith("scheduling.apiVersion: ")


def test_an_alias_and_a_name_both_work() -> None:
    assert EndpointPickerConfig.model_validate({"feature_gates": []}).feature_gates == []
    assert [entry.weight for entry in DEFAULT_PICKER.scheduling_profiles[0].plugins] == [2, 1, 3, 0.55, 1, 1]
