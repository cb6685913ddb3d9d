"""`extproc check` as a command: what it prints, and its exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from extproc.cli import main

ROOT = Path(__file__).resolve().parents[2]
BAD = "plugins:\n- {type: queue-scorrer}\n"
GOOD = "plugins: [{type: queue-scorer}, {type: active-request-scorer, name: busy}]\n"


def run(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(main, ["check", *arguments], input=stdin)


def test_a_right_config_is_described(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_text(GOOD)
    done = run(str(path))
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        f"{path}:1: EndpointPickerConfig: ok",
        "  profile default: queue-scorer × 1 + busy × 1 → max-score-picker (default)",
        "  profile handler: single-profile-handler; saturation detector: utilization-detector",
        "  queue-scorer (scorer)",
        "  busy (active-request-scorer, scorer): idleThreshold 0, maxBusyScore 1.0",
    ]


def test_flow_control_is_described_and_checked() -> None:
    listed = "plugins: [{type: queue-scorer}, {type: round-robin-fairness-policy}]\n"
    band = "flowControl: {defaultPriorityBand: {fairnessPolicyRef: round-robin-fairness-policy}}\n"
    told = run("-", stdin="featureGates: [flowControl]\n" + listed + band).stdout
    assert "  flow control: fcfs-ordering-policy, round-robin-fairness-policy, static-usage-limit-policy\n" in told
    off = run("-", stdin=listed + band).stdout
    assert "flowControl: defaultPriorityBand: no effect without the feature gate flowControl" in off
    wrong = run("-", stdin=listed + band.replace("round-robin", "square-robin"))
    assert wrong.exit_code == 1
    assert (
        "flowControl.defaultPriorityBand.fairnessPolicyRef: no plugin is called 'square-robin-fairness-policy'" in wrong.stdout
    )


def test_problems_are_lines_as_compilers_write_them() -> None:
    done = run("-", stdin=BAD)
    assert done.exit_code == 1
    assert done.stdout.splitlines()[1:] == [
        "standard input:2: plugins[0].type: unknown or not available in this version: 'queue-scorrer', "
        "did you mean 'queue-scorer'?",
        "1 problem",
    ]


def test_several_files_are_one_answer(tmp_path: Path) -> None:
    gone = tmp_path / "gone.yaml"
    done = run(str(ROOT / "docs/examples/gateway.yaml"), str(gone))
    assert done.exit_code == 1
    assert "pool llama" in done.stdout
    assert done.stdout.splitlines()[-2:] == [f"{gone}: No such file or directory", "1 problem"]


def test_json() -> None:
    done = run("--output", "json", "-", stdin=BAD + "---\n" + GOOD)
    told = json.loads(done.stdout)
    assert (done.exit_code, told["problems"]) == (1, 1)
    wrong, right = told["files"][0]["parts"]
    assert wrong["problems"][0]["line"] == 2
    assert [each["name"] for each in right["picker"]["plugins"]] == ["queue-scorer", "busy"]


def test_the_schema_is_the_one_in_the_docs() -> None:
    done = run("--schema")
    assert done.exit_code == 0
    assert json.loads(done.stdout) == json.loads((ROOT / "docs/schema/endpoint-picker-config.json").read_text())


@pytest.mark.parametrize("arguments", [[], ["--schema", "f.yaml"], ["--output", "xml", "f"], ["--nope"]])
def test_wrong_usage(arguments: list[str]) -> None:
    assert run(*arguments).exit_code == 2
