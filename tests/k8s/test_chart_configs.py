"""Picker configs in values are looked at while rendering; no cluster needed, only helm."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from extproc.app.checking import check_file
from extproc.scheduling.plugins.missing import MISSING
from extproc.scheduling.registry import PLUGIN_TYPES
from tests.fakes.public import public_configs
from tests.k8s.helm import only, refusal, rendered

PICKERS: Final = pytest.mark.parametrize("chart", ["inferencepool", "standalone"])
WAYS: Final = ("inferenceExtension", "router.epp")
FILE: Final = "mine.yaml"
HEAD: Final = "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\n"


def as_text(config: str, way: str = WAYS[0], **more: Any) -> str:
    """Values whose config is this text."""
    inside: Any = {"pluginsConfigFile": FILE, "pluginsCustomConfig": {FILE: config}, **more}
    for key in reversed(way.split(".")):
        inside = {key: inside}
    return pools_off(inside)


def as_map(config: str, way: str = WAYS[0], **more: Any) -> str:
    """Values whose config is a map."""
    inside: Any = {"pluginsConfigFile": FILE, "pluginsConfig": yaml.safe_load(config), **more}
    for key in reversed(way.split(".")):
        inside = {key: inside}
    return pools_off(inside)


def pools_off(values: Any) -> str:
    """Without gateway.pools, as with them the picker's config is another; with a pool, which both charts then need."""
    values.setdefault("inferencePool", {"modelServers": {"matchLabels": {"app": "vllm"}}})
    return yaml.safe_dump(values)


GONE: Final = sorted(set(MISSING) - set(PLUGIN_TYPES))
"""Types that can't be had."""
WRONG: Final = [
    ("plugins: [{type: queue-scorrer}]", "plugins[0].type: unknown: queue-scorrer"),
    ("plugins: [{name: q}]", "plugins[0].type: field required"),
    ("plugins: [{type: queue-scorer}, {type: queue-scorer}]", "plugins[1].name: queue-scorer is there already"),
    ("plugins: [{type: queue-scorer, weight: 1}]", "plugins[0].weight: unknown key (there are: name, parameters, type)"),
    ("plugins: [{type: active-request-scorer, parameters: {maxBusyScore: 7}}]",
     "plugins[0].parameters.maxBusyScore: expected at most 1"),
    ("plugins: [{type: max-score-picker, parameters: {maxNumOfEndpoints: many}}]",
     "plugins[0].parameters.maxNumOfEndpoints: expected a whole number (got \"many\")"),
    ("plugins: [{type: queue-scorer}]\nschedulingProfiles: [{name: p, plugins: [{pluginRef: q}]}]",
     "schedulingProfiles[0].plugins[0].pluginRef: no plugin is called q (there are: queue-scorer)"),
    ("plugins: [{type: queue-scorer}]\nschedulingProfiles: [{name: p, plugins: [{pluginRef: queue-scorer, weight: -1}]}]",
     "schedulingProfiles[0].plugins[0].weight: expected at least 0 (got -1)"),
    *((f"plugins: [{{type: {name}}}]", f"plugins[0].type: {name} can't be had") for name in GONE),
]  # fmt: skip


@PICKERS
@pytest.mark.parametrize("way", WAYS)
def test_of_a_text_everything_is_said_with_its_path(chart: str, way: str) -> None:
    for config, said in WRONG:
        message = refusal(chart, as_text(HEAD + config, way), least=False)
        assert f"{way}.pluginsCustomConfig.{FILE}.{said}" in message
    message = refusal(chart, as_text(HEAD + "plugins: [{type: a}, {type: b}]\nplugin: []"), least=False)
    for path in ("plugin: unknown key", "plugins[0].type", "plugins[1].type"):
        assert f"{FILE}.{path}" in message, "all at once"


@PICKERS
@pytest.mark.parametrize("way", WAYS)
def test_of_a_map_everything_is_said_with_its_path(chart: str, way: str) -> None:
    """By the chart's schema, or as of a text."""
    for config, said in WRONG:
        message = refusal(chart, as_map(config, way), least=False)
        path, _, why = said.partition(": ")
        if f"{way}.pluginsConfig.{said}" not in message:
            place = f"/{way}.pluginsConfig.{path}".replace("[", "/").replace("]", "").replace(".", "/")
            parent, _, last = place.rpartition("/")
            assert f"'{place}'" in message or (f"'{parent}'" in message and f"'{last}'" in message), (message, why)


@PICKERS
def test_what_is_no_config_at_all(chart: str) -> None:
    said = refusal(chart, as_text("- 1\n- 2"), least=False)
    assert f"inferenceExtension.pluginsCustomConfig.{FILE}: expected a map in YAML" in said
    assert "plugins: expected a map or" not in said
    assert "kind: expected one of EndpointPickerConfig" in refusal(chart, as_text("kind: Pod\nplugins: []"), least=False)
    assert "plugins: expected a list (got 3)" in refusal(chart, as_text(f"{HEAD}plugins: 3"), least=False)


@PICKERS
def test_other_files_beside_it_are_not_looked_at(chart: str) -> None:
    files = {FILE: HEAD, "endpoints.yaml": "endpoints: [{name: a}]", "notes.txt": "a: ["}
    (config,) = [
        each for each in rendered(chart, as_text("", pluginsCustomConfig=files), least=False) if each["kind"] == "ConfigMap"
    ]
    assert files.items() <= config["data"].items()


@PICKERS
def test_types_of_ones_own(chart: str) -> None:
    config = f"{HEAD}plugins: [{{type: rack-scorer, parameters: {{label: rack}}}}]"
    assert "is named in inferenceExtension.ownPluginTypes" in refusal(chart, as_text(config), least=False)
    for made in (as_text, as_map):
        assert rendered(chart, made(config, ownPluginTypes=["rack-scorer"]), least=False)


@PICKERS
@pytest.mark.parametrize(
    "more", [{"flags": {"allow-missing-plugins": True}}, {"env": [{"name": "ALLOW_MISSING_PLUGINS", "value": "true"}]}]
)
def test_types_that_cannot_be_had_where_that_is_allowed(chart: str, more: dict[str, Any]) -> None:
    assert rendered(
        chart, as_text(f"{HEAD}{yaml.safe_dump({'plugins': [{'type': name} for name in GONE]})}", **more), least=False
    )


@PICKERS
def test_a_map_becomes_the_file(chart: str) -> None:
    config = f"{HEAD}plugins: [{{type: approx-prefix-cache-producer, parameters: {{lruCapacityPerServer: 1000000}}}}]"
    for way in WAYS:
        data = only(rendered(chart, as_map(config, way), least=False), "ConfigMap")["data"]
        assert yaml.safe_load(data[FILE]) == yaml.safe_load(config), "with numbers as they were"
        default = yaml.safe_load(as_map(config, way))
        (default[way.split(".")[0]] if way == WAYS[0] else default["router"]["epp"]).pop("pluginsConfigFile")
        data = only(rendered(chart, yaml.safe_dump(default), least=False), "ConfigMap")["data"]
        assert yaml.safe_load(data["default-plugins.yaml"]) == yaml.safe_load(config)
    both = as_map(config, pluginsCustomConfig={FILE: HEAD})
    assert f"is the file {FILE}, which is in inferenceExtension.pluginsCustomConfig, too" in refusal(chart, both, least=False)


def test_of_the_gateway() -> None:
    assert "/gateway/scheduling" in refusal("standalone", "gateway: {scheduling: {plugins: [{type: a, typo: 1}]}}")
    assert "gateway.scheduling.plugins[0].type: unknown: a" in refusal(
        "standalone", "gateway: {scheduling: {plugins: [{type: a}]}}"
    )
    pool = "{name: a, models: [m], matchLabels: {a: b}, scheduling: {plugins: [{type: a}]}}"
    said = refusal("standalone", f"gateway: {{pools: [{pool}]}}")
    assert "gateway.pools[0].scheduling.plugins[0].type: unknown: a" in said


def test_every_type_and_its_older_names_are_known() -> None:
    names = [name for row in PLUGIN_TYPES.values() for name in (row.name, *row.older)]
    plugins = [{"type": name, "parameters": {"noSuchParameter": 1}} for name in names]
    said = refusal("inferencepool", as_text(HEAD + yaml.safe_dump({"plugins": plugins})), least=False)
    assert "unknown:" not in said.replace("unknown key", "")
    for index, name in enumerate(names):
        assert f"plugins[{index}].parameters.noSuchParameter: unknown key" in said, name


@pytest.mark.skipif(not public_configs(), reason="no public configs here")
def test_public_configs_are_refused_just_when_they_would_not_start() -> None:
    """Nothing that runs is refused; what doesn't is, as far as its form and its names go."""
    good: dict[str, str] = {}
    bad: dict[str, str] = {}
    for path in public_configs():
        (good if check_file(str(path), allow_missing=True).number == 0 else bad)[path.name] = path.read_text()
    assert len(good) > 70
    files = {"allow-missing-plugins": True}
    assert rendered("inferencepool", as_text("", pluginsCustomConfig={**good, FILE: HEAD}, flags=files), least=False)
    for name, text in bad.items():
        assert f"pluginsCustomConfig.{FILE}" in refusal("inferencepool", as_text(text, flags=files), least=False), name


def test_the_charts_form_is_small() -> None:
    """A release is kept in a Secret, which may have a megabyte, with all files of its chart."""
    for chart in ("inferencepool", "standalone"):
        folder = Path(__file__).resolve().parents[2] / "charts" / chart
        assert (folder / "files" / "picker-config.json").stat().st_size < 64 * 1024
        assert json.loads((folder / "files" / "picker-config.json").read_text())["parameters"]
