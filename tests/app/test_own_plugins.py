"""Plugins of installed packages: found by their entry points, guarded, and a broken one troubles only who names it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from extproc.app.build import build
from extproc.app.own_plugins import all_own_types
from extproc.settings.base import SettingsError
from extproc.settings.commands import EppSettings
from extproc.testing import candidates, cycle, request
from tests.fakes.packages import install, package

ROOT = Path(__file__).resolve().parents[2]
GOOD = """
from extproc.plugin import EndpointScorer, PluginType, Parameters

class Good(EndpointScorer):
    '''Likes one.'''
    def score(self, request, endpoint):
        return 1.0 if endpoint.key.startswith("10.0.0.2") else 0.0

class Raises(EndpointScorer):
    def score(self, request, endpoint):
        return 1 / 0

class Unmade(EndpointScorer):
    def __init__(self, parameters, kit):
        raise OSError("no disk")

class Provides(EndpointScorer):
    provides = "prompt"

ROW = PluginType("a-row", "scorer", "a row", Parameters, lambda parameters, kit: Good(parameters, kit))
RENAMED = ROW._replace(name="another")
PARSER = ROW._replace(name="a-parser", family="parser")
NOTHING = 3
"""
POINTS = {
    "good": "Good",
    "raises": "Raises",
    "unmade": "Unmade",
    "provides": "Provides",
    "a_row": "ROW",
    "renamed": "RENAMED",
    "a_parser": "PARSER",
    "nothing": "NOTHING",
    "gone": "Gone",
    "queue_scorer": "Good",
}


@pytest.fixture(autouse=True)
def _installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "good_plugins", raising=False)
    monkeypatch.syspath_prepend(str(install(tmp_path / "good", package("good-plugins", "good_plugins", GOOD, **POINTS))))
    broken = package("broken-plugins", "broken_plugins", "import no_such_module\n", broken="Broken")
    monkeypatch.syspath_prepend(str(install(tmp_path / "broken", broken)))


def epp(config: str) -> EppSettings:
    return EppSettings.model_validate({"config_text": config, "endpoints": ["10.0.0.1:8000", "10.0.0.2:8000"]})


def problems(config: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        build(epp(config))
    return caught.value.problems


def test_a_type_of_a_package_is_a_type_like_others() -> None:
    service = build(epp("plugins: [{type: good, name: mine}]"))
    (pool,) = service.serving.plugins.values()
    (shape,) = pool.shapes()
    assert (shape["name"], shape["type"], shape["roles"]) == ("mine", "good", ["scorer"])
    assert shape["state"] == {"left_out": False, "failures": {}, "last_failure": "", "state": None}


def test_one_that_raises_costs_no_pick_and_is_counted() -> None:
    service = build(epp("plugins: [{type: queue-scorer}, {type: raises}]"))
    (blueprint,) = [pool.blueprint for pool in service.serving.plugins.values()]
    scheduler = blueprint.scheduler(lambda: 0.5)
    assert scheduler.schedule(cycle(), candidates(waiting=[3, 0])).run.endpoint == "10.0.0.2:8000"
    assert {figure.name: figure.value for _, figure in scheduler.figures()} == {
        "extproc_plugin_failures_total": 1.0,
        "extproc_plugin_calls_total": 0.0,
        "extproc_plugin_seconds_total": 0.0,
        "extproc_plugin_open": 0.0,
    }


async def test_its_state_is_a_metric() -> None:
    service = build(epp("plugins: [{type: good}]"))
    found = {metric.name: metric for metric in service.telemetry.metrics() if metric is not None}
    (sample,) = found["extproc_plugin_open"].samples
    assert (sample.labels, sample.value) == ({"pool": "epp", "plugin_name": "good"}, 0.0)


def test_what_is_left_out_is_a_metric(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("extproc.scheduling.build.why_missing", {"gone-scorer": "it needs a cluster of stars"}.get)
    config = "plugins: [{type: gone-scorer, name: x}, {type: queue-scorer}]"
    service = build(epp(config).model_copy(update={"allow_missing_plugins": True}))
    found = {metric.name: metric for metric in service.telemetry.metrics() if metric is not None}
    (sample,) = found["extproc_plugins_left_out"].samples
    assert (sample.labels, sample.value) == ({"pool": "epp", "type": "gone-scorer"}, 1.0)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (
            "broken",
            "'broken' of package broken-plugins: can't be imported: ModuleNotFoundError: No module named 'no_such_module'",
        ),
        ("gone", "'gone' of package good-plugins: can't be imported: AttributeError"),
        ("renamed", "its row is called 'another'; expected the entry point's name"),
        ("a-parser", "it is a parser; an own plugin can be a filter, scorer"),
        ("nothing", "expected a class of extproc.plugin or a PluginType (good_plugins:NOTHING is int)"),
        ("provides", "it provides prompt, which plugins that come with us read"),
    ],
)
def test_what_can_not_be_had_is_told_with_its_place(kind: str, words: str) -> None:
    (problem,) = problems(f"plugins:\n- {{type: queue-scorer}}\n- {{type: {kind}}}")
    assert problem.startswith("--config-text: line 3: plugins[1].type: ")
    assert words in problem


def test_what_can_not_be_made_is_told_before_anything_listens() -> None:
    assert problems("plugins: [{type: unmade, name: mine}]") == ["plugin 'mine' can't be made: OSError: no disk"]


def test_nobody_is_troubled_by_what_no_config_names() -> None:
    build(epp("plugins: [{type: queue-scorer}]"))
    assert "broken_plugins" not in sys.modules
    assert "good_plugins" not in sys.modules


def test_types_that_come_with_us_are_ours() -> None:
    service = build(epp("plugins: [{type: queue-scorer}]"))
    (pool,) = service.serving.plugins.values()
    assert "state" not in next(pool.shapes()), "and have no guard"


def test_all_of_them() -> None:
    found, wrong = all_own_types()
    assert set(found) == {"good", "raises", "unmade", "a-row"}
    assert len(wrong) == 6


def test_the_example_in_the_docs_runs_as_written(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "own-plugins.md").read_text()
    files = dict(re.findall(r"^`([\w.]+)`[^\n]*:\n\n```\w+\n(.*?)```$", text, re.DOTALL | re.MULTILINE))
    assert set(files) == {"rack_scorer.py", "pyproject.toml", "test_rack_scorer.py", "picker.yaml"}
    folder = install(tmp_path / "rack", files)
    environ = {**os.environ, "PYTHONPATH": str(folder)}
    tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(folder), str(folder)]
    done = subprocess.run(tests, env=environ, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    check = [sys.executable, "-m", "extproc", "check", "picker.yaml"]
    done = subprocess.run(check, env=environ, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    (shown,) = re.findall(r"^picker.yaml:1.*?(?=^\$)", text, re.DOTALL | re.MULTILINE)
    for line in shown.splitlines():
        assert line.strip() == "..." or line in done.stdout.splitlines()


def test_the_short_example_in_the_docs_scores() -> None:
    text = (ROOT / "docs" / "own-plugins.md").read_text()
    (code,) = re.findall(r"```python\n(from extproc.plugin import Candidates.*?)```", text, re.DOTALL)
    module: dict[str, object] = {"__name__": "roomy"}
    exec(code, module)
    from extproc.testing import make

    plugin = make(module["Roomy"])  # type: ignore[arg-type]
    assert plugin.score(cycle(request()), candidates(in_flight=[0, 4])) == [1.0, 0.0]
