"""From an EndpointPickerConfig to a scheduler: upstream's files are accepted, and every problem is told at once."""

from __future__ import annotations

import pytest

from extproc.scheduling import Blueprint, build_scheduler
from extproc.scheduling.plugins.base import PluginType
from extproc.scheduling.plugins.parameters import NoParameters, Parameters
from extproc.scheduling.registry import PLUGIN_TYPES
from extproc.settings.base import SettingsError
from extproc.settings.picker import DEFAULT_PICKER, DEFAULT_TOLERANCE, DEFAULT_WEIGHTS, load_picker_config
from tests.fakes.candidates import candidates, choose, explained
from tests.fakes.chance import seeded
from tests.fakes.plugins import scheduler_of

UPSTREAM = """
apiVersion: {version}
kind: EndpointPickerConfig
plugins:
- type: queue-scorer
- type: kv-cache-utilization-scorer
- name: busy
  type: active-request-scorer
  parameters:
    idleThreshold: 2
    maxBusyScore: 0.5
- type: max-score-picker
  parameters:
    maxNumOfEndpoints: 2
- type: single-profile-handler
- type: openai-parser
schedulingProfiles:
- name: default
  plugins:
  - pluginRef: queue-scorer
    weight: 2
  - pluginRef: kv-cache-utilization-scorer
    weight: 0.5
  - pluginRef: busy
  - pluginRef: max-score-picker
requestHandler:
  parsers:
  - pluginRef: openai-parser
"""


class FileParameters(Parameters):
    """Of a data layer plugin that another room makes."""

    path: str


ELSEWHERE = {
    "file-discovery": PluginType("file-discovery", "data layer", "", FileParameters),
    "metrics-data-source": PluginType("metrics-data-source", "data layer", "", NoParameters),
}


def build(text: str, prefix: str = "") -> Blueprint:
    config, _ = load_picker_config(text)
    return build_scheduler(config, elsewhere=ELSEWHERE, prefix=prefix)


def problems(text: str, prefix: str = "") -> list[str]:
    with pytest.raises(SettingsError) as caught:
        build(text, prefix)
    return caught.value.problems


@pytest.mark.parametrize("version", ["llm-d.ai/v1alpha1", "llm-d.ai/v1", "inference.networking.x-k8s.io/v1alpha1"])
def test_upstreams_config(version: str) -> None:
    blueprint = build(UPSTREAM.format(version=version))
    assert blueprint.profile.name == "default"
    assert list(blueprint.profile.scorers) == [
        ("queue-scorer", 2),
        ("kv-cache-utilization-scorer", 0.5),
        ("busy", 1),
    ]
    assert blueprint.types["busy"] == "active-request-scorer"
    chooser = blueprint.scheduler(seeded())
    told = explained(chooser, candidates(waiting=[0, 9], kv_usage=[0.2, 0.2], in_flight=[4, 2]))
    assert told.candidates[0].points == {"queue-scorer": 1, "kv-cache-utilization-scorer": 0.8, "busy": 0}
    assert told.candidates[1].points["busy"] == 1
    assert len(choose(chooser, candidates(3)).positions) == 2


def test_the_default_is_upstreams_and_two_more() -> None:
    blueprint = build_scheduler(DEFAULT_PICKER)
    assert list(blueprint.profile.scorers) == [
        ("queue-scorer", 2),
        ("kv-cache-utilization-scorer", 1),
        ("prefix-cache-scorer", 3),
        ("active-request-scorer", 0.55),
        ("no-hit-lru-scorer", 1),
    ]
    assert len(choose(blueprint.scheduler(seeded()), candidates(3)).positions) == 1


def test_of_the_default_what_reads_no_page_makes_up_for_no_queue() -> None:
    """Or who hangs, and has nothing in flight, would be picked before who is known and idle."""
    weights = DEFAULT_WEIGHTS
    assert weights["active-request-scorer"] + weights["no-hit-lru-scorer"] + DEFAULT_TOLERANCE < weights["queue-scorer"]


def test_without_a_profile_every_scorer_and_the_picker_count() -> None:
    blueprint = build(
        "plugins: [{type: queue-scorer}, {type: running-requests-size-scorer}, {type: random-picker}, {type: openai-parser}]"
    )
    assert blueprint.profile.name == "default"
    assert list(blueprint.profile.scorers) == [
        ("queue-scorer", 1),
        ("running-requests-size-scorer", 1),
    ]


def test_one_type_may_have_two_instances() -> None:
    blueprint = build(
        """
        plugins:
        - {name: strict, type: active-request-scorer}
        - {name: loose, type: active-request-scorer, parameters: {idleThreshold: 9}}
        """
    )
    told = explained(blueprint.scheduler(seeded()), candidates(in_flight=[4]))
    assert told.candidates[0].points == {"strict": 0, "loose": 1}


def test_each_scheduler_has_a_state_of_its_own() -> None:
    """One blueprint serves several pools."""
    blueprint = build("plugins: [{type: running-requests-size-scorer}]")
    one, other = blueprint.scheduler(seeded()), blueprint.scheduler(seeded())
    assert choose(one, candidates(running=[3, 1], stamp="s")).positions == (1,)
    assert choose(other, candidates(running=[1, 3, 5], stamp="s")).positions == (0,)


NEEDED: dict[str, str] = {
    "by-label": "{label: role, validValues: [a], allowsNoLabel: true}",
    "decision-tree-filter": "{current: {pluginRef: told-filter}}",
    "endpoint-attribute-filter": "{attribute: a, algorithm: {type: topK, topK: {k: 1}}}",
    "endpoint-attribute-scorer": "{attributeKey: a, algorithm: {type: linear_lower_is_better}}",
    "utilization-filter": "{conditions: [{metric: waiting-queue, maxValue: 3}]}",
    "disaggregatedset-rollout-screener": "{scope: {labelSelector: a=b}, revisionGating: {mode: disabled}}",
    "header-label-affinity-scorer": "{headerName: x-slice, labelKey: slice}",
    "request-attribute-reporter": "{attributes: [{key: {name: cost}, expression: usage.total_tokens}]}",
}
"""Parameters without which a type can't be."""
BY_ROLE = ("prefill-filter", "encode-filter")
"""Types that keep only endpoints with a label."""
PROFILES = {"disagg-profile-handler": "{name: decode}", "pd-profile-handler": "{name: decode}, {name: prefill}"}
"""Of handlers that run some of a certain name."""
TOLD = "{type: told-prompt}, {type: told-match, parameters: {matched: [1, 0], total: 2}}"


@pytest.mark.parametrize("kind", sorted(name for name, plugin in PLUGIN_TYPES.items() if plugin.make))
def test_every_type_can_be_made(kind: str) -> None:
    profiles = f"\nschedulingProfiles: [{PROFILES[kind]}]" if kind in PROFILES else ""
    listed = f"{{type: {kind}, parameters: {NEEDED.get(kind, '{}')}}}, {TOLD}, {{name: told-filter, type: low-queue-filter}}"
    chooser = scheduler_of(f"plugins: [{listed}]{profiles}")
    labels = [{"llm-d.ai/role": "encode-prefill"}] * 2 if kind in BY_ROLE else []
    pool = candidates(waiting=[1, 2], running=[1, 2], kv_usage=[0.1, 0.2], labels=labels)
    assert choose(chooser, pool).positions


def test_plugins_of_other_rooms_are_checked_and_handed_over() -> None:
    blueprint = build(
        """
        plugins:
        - {name: files, type: file-discovery, parameters: {path: endpoints.yaml}}
        - {type: metrics-data-source}
        dataLayer:
          discovery: {pluginRef: files}
          sources: [{pluginRef: metrics-data-source}]
        """
    )
    assert blueprint.parameters["files"] == FileParameters(path="endpoints.yaml")
    assert blueprint.types["files"] == "file-discovery"
    assert blueprint.profile.scorers == ()


def test_parsers_and_reporters_may_be_named_in_a_profile() -> None:
    blueprint = build(
        """
        plugins: [{type: openai-parser}, {type: destination-endpoint-served-verifier}, {type: queue-scorer}]
        schedulingProfiles:
        - name: p
          plugins:
          - {pluginRef: openai-parser}
          - {pluginRef: destination-endpoint-served-verifier}
          - {pluginRef: queue-scorer}
        """
    )
    assert [name for name, _ in blueprint.profile.scorers] == ["queue-scorer"]
    at = "schedulingProfiles[0].plugins"
    assert [each for each in blueprint.warnings if "pluginRef" in each] == [
        f"{at}[0].pluginRef: 'openai-parser' is a parser, which works for all profiles; here it has no effect",
        f"{at}[1].pluginRef: 'destination-endpoint-served-verifier' is a reporter, which works for all "
        "profiles; here it has no effect",
    ]


def test_what_means_less_here_than_upstream_is_told_though_it_is_only_accepted() -> None:
    blueprint = build(
        """
        plugins: [{type: vllmgrpc-parser, name: grpc}, {type: vertexai-parser}, {type: models-data-source, name: models}]
        requestHandler: {parsers: [{pluginRef: grpc}]}
        """
    )
    told = [each.split(": ")[:2] for each in blueprint.warnings]
    assert told == [["plugins[0]", "grpc"], ["plugins[1]", "vertexai-parser"], ["plugins[2]", "models"]]


def test_a_producer_may_be_an_extractor() -> None:
    text = """
        plugins: [{type: endpoint-notification-source, name: events}, {type: told-prompt}, {type: queue-scorer}]
        dataLayer: {sources: [{pluginRef: events, extractors: [{pluginRef: REF}]}]}
        """
    scheduler_of(text.replace("REF", "told-prompt"))
    with pytest.raises(SettingsError, match="'queue-scorer' is a scorer, expected a data layer plugin"):
        scheduler_of(text.replace("REF", "queue-scorer"))


def test_every_problem_at_once_each_with_its_path() -> None:
    told = problems(
        """
        plugins:
        - {type: queue-scorr}
        - {type: active-request-scorer, parameters: {idleThreshold: -1, maxBusyScore: 2, nope: 1}}
        - {name: twice, type: max-score-picker}
        - {name: twice, type: random-picker}
        - {type: max-score-picker}
        - {type: single-profile-handler}
        - {name: handler, type: single-profile-handler}
        - {type: openai-parser}
        - {type: file-discovery}
        schedulingProfiles:
        - name: default
          plugins: [{pluginRef: missing}, {pluginRef: twice}, {pluginRef: max-score-picker}, {pluginRef: handler}]
        - {name: other}
        dataLayer:
          discovery: {pluginRef: openai-parser}
          sources: [{pluginRef: nowhere, extractors: [{pluginRef: queue-scorr}, {pluginRef: twice}]}]
        requestHandler: {parsers: [{pluginRef: file-discovery}]}
        """
    )
    expected = [
        ("plugins[0].type: ", "'queue-scorr', did you mean 'queue-scorer'?"),
        ("plugins[1].parameters.idleThreshold: ", "(got -1)"),
        ("plugins[1].parameters.maxBusyScore: ", "(got 2)"),
        ("plugins[1].parameters.nope: ", "unknown key"),
        ("plugins[3].name: ", "'twice' is used twice"),
        ("plugins[8].parameters.path: ", "field required"),
        ("schedulingProfiles: ", "exactly one profile (got default, other)"),
        ("plugins: ", "more than one profile handler: single-profile-handler, handler"),
        ("schedulingProfiles[0].plugins[0].pluginRef: ", "no plugin is called 'missing'"),
        ("schedulingProfiles[0].plugins[3].pluginRef: ", "'handler' is a profile handler"),
        ("schedulingProfiles[0].plugins: ", "more than one picker: twice, max-score-picker"),
        ("requestHandler.parsers[0].pluginRef: ", "'file-discovery' is a data layer"),
        ("dataLayer.sources[0].pluginRef: ", "no plugin is called 'nowhere'"),
        ("dataLayer.sources[0].extractors[1].pluginRef: ", "'twice' is a picker"),
        ("dataLayer.discovery.pluginRef: ", "'openai-parser' is a parser"),
    ]
    for start, end in expected:
        assert any(line.startswith(start) and end in line for line in told), (start, end, told)
    assert len(told) == len(expected)


def test_paths_begin_where_the_config_does() -> None:
    assert problems("plugins: [{type: nope}]", "pools[1].scheduling.")[0].startswith("pools[1].scheduling.plugins[0]")


def test_the_older_parser_key_is_blamed_by_its_name() -> None:
    (line,) = problems("plugins: [{type: random-picker}]\nparser: {pluginRef: random-picker}")
    assert line.startswith("parser.pluginRef: 'random-picker' is a picker")


def test_a_type_like_no_other_gets_the_list() -> None:
    (line,) = problems("plugins: [{type: xyz}]")
    assert "known types: active-request-scorer, " in line


def test_a_scorer_that_this_version_lacks_is_refused_not_ignored() -> None:
    (line,) = problems("plugins: [{type: session-cache-scorer}]")
    assert "unknown or not available in this version: 'session-cache-scorer'" in line


def test_two_pickers_without_a_profile() -> None:
    assert problems("plugins: [{type: random-picker}, {type: max-score-picker}]") == [
        "plugins: more than one picker: random-picker, max-score-picker"
    ]


def test_parameters_where_there_are_none() -> None:
    (line,) = problems("plugins: [{type: queue-scorer, parameters: {threshold: 1}}]")
    assert line == "plugins[0].parameters.threshold: unknown key"
