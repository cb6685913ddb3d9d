"""The schema of configs, as another reader of schemas sees it: it takes what we take, and finds what an editor should."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from extproc.app.checking import check_file, picker_schema
from extproc.scheduling.registry import PLUGIN_TYPES
from tests.fakes.public import public_configs

PUBLIC = public_configs()
VALIDATOR = jsonschema.Draft202012Validator(picker_schema())


def problems(config: dict[str, Any]) -> list[str]:
    return [".".join(map(str, error.absolute_path)) for error in VALIDATOR.iter_errors(config)]


def test_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(picker_schema())


@pytest.mark.parametrize("name", list(PLUGIN_TYPES))
def test_has_every_type_with_its_parameters(name: str) -> None:
    plugin = {"type": name}
    assert problems({"plugins": [plugin]}) == [] or PLUGIN_TYPES[name].parameters.model_json_schema().get("required")
    assert problems({"plugins": [{**plugin, "parameters": {"noSuchParameter": 1}}]}) == ["plugins.0.parameters"]


@pytest.mark.parametrize(
    ("plugin", "path"),
    [
        ({"type": "queue-scorrer"}, "plugins.0.type"),
        ({"type": "active-request-scorer", "parameters": {"maxBusyScore": 7}}, "plugins.0.parameters"),
        ({"type": "queue-scorer", "weight": 1}, "plugins.0"),
    ],
)
def test_finds_what_is_wrong(plugin: dict[str, Any], path: str) -> None:
    assert problems({"plugins": [plugin]}) == [path]


def test_durations_are_text() -> None:
    plugin = {"type": "utilization-detector", "parameters": {"metricsStalenessThreshold": "200ms"}}
    assert problems({"plugins": [plugin]}) == []


@pytest.mark.skipif(not PUBLIC, reason="no public configs here")
@pytest.mark.parametrize("path", PUBLIC, ids=lambda path: path.stem)
def test_takes_what_loads(path: Path) -> None:
    """A config that loads may not be red in an editor."""
    if check_file(str(path), allow_missing=True).number == 0:
        config = yaml.safe_load(path.read_text())
        assert problems({key: value for key, value in config.items() if value is not None}) == []
