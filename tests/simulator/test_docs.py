"""docs/simulator.md says what the program does. `python -m tests.simulator.test_docs` writes the table of flags anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from extproc.cli.options import env_of, flag_of
from extproc.settings.sim import SimSettings, parse_fault
from extproc.simulator import control

PAGE = Path(__file__).parents[2] / "docs" / "simulator.md"
BEGIN, END = "<!-- flags: kept true by tests/simulator/test_docs.py -->\n", "<!-- end of flags -->\n"


def table() -> str:
    lines = ["| Flag | Default | Meaning |", "|---|---|---|"]
    for field, info in SimSettings.model_fields.items():
        extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
        default = extra.get("default_text") or info.default
        shown = ",".join(default) if isinstance(default, tuple) else str(default)
        shown = shown.lower() if isinstance(default, bool) else shown
        doc = (info.description or "").replace("|", "\\|")
        lines.append(f"| `--{flag_of(field, info)}` | {shown} | {doc} |")
    return "\n".join(lines) + "\n"


def test_the_flags_are_these() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text.partition(BEGIN)[2].partition(END)[0] == table(), "run: python -m tests.simulator.test_docs"


def test_the_variables_are_named_as_the_page_says() -> None:
    for field, info in SimSettings.model_fields.items():
        assert env_of(field, info) == "EXTPROC_SIM_" + flag_of(field, info).upper().replace("-", "_")


@pytest.mark.parametrize("fault", ["slow=2s", "500", "hang", "drop", "drop-after=5", "garbage", "huge"])
def test_the_faults_are_these(fault: str) -> None:
    assert f"| `{fault}`" in PAGE.read_text(encoding="utf-8")
    parse_fault(fault, "metrics")


def test_the_figures_are_these() -> None:
    text = PAGE.read_text(encoding="utf-8")
    settings = SimSettings()
    assert f"the last {control.KEPT_REQUESTS} requests" in text
    assert (settings.decode_step, settings.decode_step_per_sequence) == (0.008, 0.0002)
    assert settings.prefill_tokens_per_second == 8000


if __name__ == "__main__":
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    PAGE.write_text(before + BEGIN + table() + END + rest.partition(END)[2], encoding="utf-8")
