"""Settings of the simulator: defaults that fit each other, and all problems at once."""

from __future__ import annotations

from typing import Any

import pytest

from extproc.settings.base import SettingsError, validate
from extproc.settings.sim import SimSettings
from extproc.simulator.server import Simulator, engine_config


def test_the_context_is_what_the_cache_holds() -> None:
    assert SimSettings().context_tokens == 32768
    assert SimSettings(num_gpu_blocks=10).context_tokens == 160
    assert SimSettings(num_gpu_blocks=10, max_model_len=100).context_tokens == 100


def test_the_engine_is_the_one_of_the_flags() -> None:
    given = validate(
        SimSettings,
        {
            "block_size": 32,
            "num_gpu_blocks": 64,
            "max_num_seqs": 3,
            "max_num_batched_tokens": 7,
            "max_loras": 2,
            "prefix_caching": "false",
            "prefill_tokens_per_second": "100",
            "decode_step": "1ms",
            "decode_step_per_sequence": "1us",
        },
    )
    config = engine_config(given)
    assert (config.block_size, config.num_blocks, config.max_model_len, config.max_num_seqs) == (32, 64, 2048, 3)
    assert (config.max_num_batched_tokens, config.max_loras, config.prefix_caching) == (7, 2, False)
    assert (config.prefill_tokens_per_s, config.step_s, config.step_per_sequence_s) == (100.0, 0.001, 1e-6)


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"num_gpu_blocks": 10, "max_model_len": 161}, "--max-model-len 161 does not fit in the KV cache"),
        ({"port": 65535, "count": 2}, "the last port would be above 65535"),
        ({"model": ["a", "b"], "lora": ["a"]}, "'a' is named twice"),
        ({"model": []}, "at least one name is needed"),
        ({"fault": ["explode"]}, "no such fault for requests: 'explode'"),
        ({"fault": ["health:garbage"]}, "no such fault for health: 'garbage'"),
        ({"fault": ["slow=3"]}, "expected a duration"),
        ({"decode_step": "8"}, "expected a duration"),
        ({"prefill_tokens_per_second": 0}, "greater than 0"),
        ({"output_spread": 1.5}, "less than or equal to 1"),
        ({"max_num_seqs": 0}, "greater than or equal to 1"),
    ],
)
def test_what_can_not_be(values: dict[str, Any], problem: str) -> None:
    with pytest.raises(SettingsError) as raised:
        validate(SimSettings, values)
    assert problem in raised.value.problems[0]


def test_problems_of_several_flags_come_together() -> None:
    with pytest.raises(SettingsError) as raised:
        validate(SimSettings, {"port": 65535, "count": 2, "model": []})
    assert all(text in raised.value.problems[0] for text in ("above 65535", "at least one name"))


def test_several_servers_have_names_and_ports_in_order() -> None:
    named = SimSettings(port=8101, count=3, name="pool").servers()
    assert [(s.port, s.name, s.count) for s in named] == [(8101, "pool-1", 1), (8102, "pool-2", 1), (8103, "pool-3", 1)]
    free = SimSettings(port=0, count=2).servers()
    assert [(s.port, s.name) for s in free] == [(0, None), (0, None)]
    assert [Simulator(s).name for s in SimSettings(port=8101, count=2).servers()] == ["127.0.0.1:8101", "127.0.0.1:8102"]
    alone = SimSettings(name="one")
    assert alone.servers() == [alone]
