"""Command lines of upstream's simulator come to the settings that were meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from extproc.cli.options import read
from extproc.settings.base import SettingsError
from extproc.settings.sim import SimSettings
from extproc.settings.sim_flags import NO_EFFECT, translate


def settings(*arguments: str) -> SimSettings:
    found = read(SimSettings, "sim", arguments, {})
    assert found is not None
    return found


def test_a_deployment_of_upstream() -> None:
    """As in the manifests of the Gateway API inference extension."""
    found = settings(
        *("--model", "meta-llama/Llama-3.1-8B-Instruct", "--port", "8000", "--max-loras", "2"),
        *("--lora-modules", '{"name": "food-review-1"}', '{"name": "cad-fabricator", "path": "/x"}', "--max-num-seqs", "5"),
    )
    assert (found.model, found.lora) == (("meta-llama/Llama-3.1-8B-Instruct",), ("food-review-1", "cad-fabricator"))
    assert (found.max_loras, found.max_num_seqs, found.port) == (2, 5, 8000)


@pytest.mark.parametrize(
    ("arguments", "field", "value"),
    [
        (["--served-model-name", "a", "b", "--seed", "1"], "model", ("a", "b")),
        (["--model", "files", "--served-model-name", "a"], "model", ("a",)),
        (["--served-model-name=a", "--model=files"], "model", ("a",)),
        (["--lora-modules", "sql=/sql", "chat=/chat"], "lora", ("sql", "chat")),
        (["--lora-modules", "--seed", "1"], "lora", ()),
        (["--time-to-first-token", "200ms"], "time_to_first_token", 0.2),
        (["--time-to-first-token", "200"], "time_to_first_token", 0.2),
        (["--time-to-first-token=200ms"], "prefill_tokens_per_second", 1e12),
        (["--prefill-overhead", "50ms"], "time_to_first_token", 0.05),
        (["--prefill-time-per-token", "1ms"], "prefill_tokens_per_second", 1000),
        (["--inter-token-latency", "20ms"], "decode_step", 0.02),
        (["--inter-token-latency", "20ms"], "decode_step_per_sequence", 0),
        (
            ["--inter-token-latency", "20ms", "--max-num-seqs", "10", "--time-factor-under-load", "3"],
            "decode_step_per_sequence",
            0.004,
        ),
        (["--kv-cache-size", "77"], "num_gpu_blocks", 77),
        (["--data-parallel-size", "3"], "count", 3),
        (["--default-embedding-dimensions", "9"], "embedding_dimensions", 9),
        (["--max-request-body-size-mb", "4"], "max_body", 4 * 2**20),
        (["--no-enable-prefix-caching"], "prefix_caching", False),
        (["--enable-prefix-caching"], "prefix_caching", True),
        (["--mode", "echo"], "mode", "echo"),
    ],
)
def test_a_flag(arguments: list[str], field: str, value: object) -> None:
    assert getattr(settings(*arguments), field) == (pytest.approx(value) if isinstance(value, float) else value)


def test_a_config_file_below_the_command_line(tmp_path: Path) -> None:
    """Upstream's own example, and its newer form with what is nested."""
    file = tmp_path / "config.yaml"
    file.write_text(
        """
port: 8001
model: "Qwen/Qwen2-0.5B"
served-model-name:
- "model1"
- "model2"
max-loras: 2
max-cpu-loras: 5
max-num-seqs: 5
lora-modules:
- '{"name":"lora1","path":"/path/to/lora1"}'
- name: lora2
mode: "random"
latencies:
  time-to-first-token: 2000
  inter-token-latency: 1000
kvcache:
  kv-cache-size: 100
kv_cache_transfer_latency: 100
seed: 100100100
"""
    )
    told = translate(["--config", str(file), "--port", "9"], {})
    assert [warning.split()[0] for warning in told.warnings] == ["--max-cpu-loras", "--kv-cache-transfer-latency"]
    found = settings(f"--config={file}", "--port", "9")
    assert (found.port, found.model, found.lora) == (9, ("model1", "model2"), ("lora1", "lora2"))
    assert (found.time_to_first_token, found.decode_step, found.num_gpu_blocks) == (2.0, 1.0, 100)


def test_the_model_of_the_environment() -> None:
    assert translate([], {"SIM_MODEL": "m"}).arguments == ["--model=m"]
    assert translate(["--model", "n"], {"SIM_MODEL": "m"}).arguments == ["--model=n"]


def test_what_has_no_effect_is_said() -> None:
    told = translate(["--enable-kvcache", "--zmq-endpoint", "tcp://x:1", "--port", "1", "--fake-metrics", "{}"], {})
    assert told.arguments == ["--port", "1"]
    assert [warning.partition(" has no effect: ")[0] for warning in told.warnings] == [
        *("--enable-kvcache", "--zmq-endpoint", "--fake-metrics")
    ]
    assert all(NO_EFFECT.values())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--lora-modules", '{"path": "x"}'], "--lora-modules: expected JSON with a name"),
        (["--lora-modules", "{"], "--lora-modules: expected JSON with a name"),
        (["--self-signed-certs"], "--self-signed-certs: this simulator speaks HTTP only"),
        (["--time-to-first-token", "soon"], "--time-to-first-token: "),
        (["--inter-token-latency", "x", "--time-factor-under-load", "2"], "--inter-token-latency: "),
        (["--config", "/none"], "--config /none: "),
        (["--mode", "sing"], "--mode"),
    ],
)
def test_what_is_wrong_names_the_flag(arguments: list[str], said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        settings(*arguments)
    assert said in str(caught.value)


def test_a_config_that_is_none(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("- a\n")
    with pytest.raises(SettingsError, match="expected a map of flags"):
        translate(["--config", str(file)], {})
