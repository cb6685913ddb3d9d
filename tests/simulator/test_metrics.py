"""The page is that of a real server in everything but its values, and the values are those of the engine model."""

from __future__ import annotations

import gzip
import re
from typing import Any

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from extproc.simulator.engine import Engine, EngineConfig, Sequence
from extproc.simulator.exposition import Family
from extproc.simulator.metrics import SimMetrics, SyntheticLoad
from tests.fakes.clock import FakeClock
from tests.simulator.helpers import rows

REAL = rows("vllm-0.32-families.jsonl")
SAMPLE = re.compile(r"(\S+?)(?:\{(.*)\})? (\S+)")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


class Bench:
    """An engine with its metrics, driven by hand."""

    def __init__(self, *, loras: bool = False, **config: Any) -> None:
        self.clock = FakeClock()
        self.engine = Engine(EngineConfig(**({"max_model_len": 1024, "block_size": 4, "step_s": 1.0} | config)))
        self.metrics = SimMetrics(self.engine, "tiny", loras=loras, wall_clock=self.clock)
        self.metrics.http("/tokenize", "POST", 200, 0.01, 10, 20)

    def add(self, *sequences: Sequence) -> None:
        for sequence in sequences:
            self.engine.add(sequence, self.clock.now_s)

    def step(self) -> None:
        step = self.engine.schedule(self.clock.now_s)
        assert step is not None
        self.clock.now_s = step.ends_s
        self.metrics.record(self.engine.finish(step))

    def values(self) -> dict[str, float]:
        """Samples by the text of their name and labels, without model and engine."""
        found = {}
        for line in self.metrics.page().decode().splitlines():
            if not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                short = re.sub(r'(engine="0"|model_name="tiny"),?', "", name).replace(",}", "}").removesuffix("{}")
                found[short.removeprefix("vllm:")] = float(value)
        return found


def families(page: str) -> list[dict[str, Any]]:
    """The page in the form of the recorded one."""
    found: list[dict[str, Any]] = []
    for line in page.splitlines():
        _, _, rest = line.partition(" ")
        if line.startswith("# HELP "):
            name, _, text = rest.partition(" ")[2].partition(" ")
            found.append({"name": name, "help": text, "labels": [], "le": [], "values": {}})
        elif line.startswith("# TYPE "):
            found[-1]["type"] = rest.split()[2]
        else:
            match = SAMPLE.fullmatch(line)
            assert match is not None, line
            labels = LABEL.findall(match[2] or "")
            found[-1]["labels"] = [name for name, _ in labels if name != "le"]
            for name, value in labels:
                if name == "le" and value not in found[-1]["le"]:
                    found[-1]["le"].append(value)
                if name in ("reason", "source", "sleep_state", "finished_reason", "engine"):
                    known = found[-1]["values"].setdefault(name, [])
                    known.extend([value] if value not in known else [])
    return found


def test_families_types_labels_and_edges_are_the_real_ones() -> None:
    ours = families(Bench().metrics.page().decode())
    assert [family["name"] for family in ours] == [family["name"] for family in REAL]
    for mine, real in zip(ours, REAL, strict=True):
        assert mine == {"le": [], "values": {}} | real


def test_adapters_add_their_family() -> None:
    plain, adapters = Bench(), Bench(loras=True)
    names = [f["name"] for f in families(adapters.metrics.page().decode())]
    assert set(names) - {f["name"] for f in families(plain.metrics.page().decode())} == {"vllm:lora_requests_info"}
    assert names[names.index("vllm:lora_requests_info") + 1] == "vllm:cache_config_info"


def test_both_ways_to_the_page_are_the_same() -> None:
    """prometheus_client writes what our own lines say, but for the process figures that move in between."""
    bench = Bench(loras=True)
    bench.add(Sequence(10, 3, lora="a"), Sequence(10, 3))
    for _ in range(3):
        bench.step()
    bench.metrics.set_load(SyntheticLoad(waiting_loras=('we"ird\\',)))
    ours = re.sub(r"(?m)^process_.*", "", bench.metrics.page().decode())
    theirs = re.sub(r"(?m)^process_.*", "", generate_latest(bench.metrics.registry).decode())
    moving = re.compile(r"(?m)^python_gc.*\n")
    assert moving.sub("", ours) == moving.sub("", theirs)
    assert list(text_string_to_metric_families(ours))


def test_gauges_show_queue_batch_and_cache() -> None:
    bench = Bench(max_num_seqs=2, num_blocks=8, max_model_len=32)
    bench.add(*(Sequence(7, 9) for _ in range(5)))
    before = bench.values()
    assert (before["num_requests_running"], before["num_requests_waiting"]) == (0, 5)
    bench.engine.schedule(0.0)
    during = bench.values()
    assert (during["num_requests_running"], during["num_requests_waiting"]) == (2, 3)
    assert during["kv_cache_usage_perc"] == 0.5
    assert during['num_requests_waiting_by_reason{reason="capacity"}'] == 3


def test_synthetic_load_is_added_to_what_is_shown() -> None:
    bench = Bench(num_blocks=8, max_model_len=32)
    bench.add(Sequence(16, 2))
    bench.engine.schedule(0.0)
    bench.metrics.set_load(SyntheticLoad(waiting=5, running=8, kv_usage=0.7))
    values = bench.values()
    assert (values["num_requests_running"], values["num_requests_waiting"]) == (9, 5)
    assert values['num_requests_waiting_by_reason{reason="capacity"}'] == 5
    assert values["kv_cache_usage_perc"] == 1.0
    bench.metrics.set_load(SyntheticLoad())
    assert bench.values()["kv_cache_usage_perc"] == 0.5


def test_a_request_leaves_its_figures() -> None:
    bench = Bench(step_per_sequence_s=0.0, prefill_tokens_per_s=1e9)
    first = Sequence(10, 3, block_hashes=[1, 2], finish_reason="stop", max_tokens=50)
    second = Sequence(10, 2, block_hashes=[1, 2], max_tokens=2)
    for one in (first, second):
        bench.add(one)
        while bench.engine.has_work:
            bench.step()
        bench.metrics.group_finished([one])
    values = bench.values()
    expected = {
        "prompt_tokens_total": 20,
        'prompt_tokens_by_source_total{source="local_compute"}': 12,
        'prompt_tokens_by_source_total{source="local_cache_hit"}': 8,
        "prompt_tokens_cached_total": 8,
        'prompt_tokens_cached_by_source_total{source="device"}': 8,
        "prefix_cache_queries_total": 20,
        "prefix_cache_hits_total": 8,
        "generation_tokens_total": 5,
        'request_success_total{finished_reason="stop"}': 1,
        'request_success_total{finished_reason="length"}': 1,
        "iteration_tokens_total_count": 5,
        "iteration_tokens_total_sum": 12 + 5,
        "time_to_first_token_seconds_count": 2,
        "time_to_first_token_seconds_sum": 2,
        "inter_token_latency_seconds_count": 3,
        "e2e_request_latency_seconds_sum": 5,
        "request_decode_time_seconds_sum": 3,
        "request_prefill_time_seconds_sum": 2,
        "request_inference_time_seconds_sum": 5,
        "request_queue_time_seconds_sum": 0,
        "request_time_per_output_token_seconds_sum": 2,
        "request_params_max_tokens_sum": 52,
        "request_max_num_generation_tokens_sum": 5,
        "request_params_n_sum": 2,
        "request_prefill_kv_computed_tokens_sum": 12,
        'request_prompt_tokens_bucket{le="5.0"}': 0,
        'request_prompt_tokens_bucket{le="10.0"}': 2,
    }
    assert {name: round(values[name], 5) for name in expected} == expected


def test_preemptions_are_counted() -> None:
    bench = Bench(num_blocks=5, max_model_len=20)
    bench.add(Sequence(8, 8), Sequence(8, 5))
    while bench.engine.has_work:
        bench.step()
    values = bench.values()
    assert (values["num_preemptions_total"], values["request_num_preemptions_sum"]) == (1, 1)


def test_each_mix_of_adapters_is_a_series_with_the_time_it_was_last_true() -> None:
    bench = Bench(loras=True, max_loras=1, step_per_sequence_s=0.0, prefill_tokens_per_s=1e9)
    bench.add(Sequence(4, 2, lora="a"), Sequence(4, 1, lora="b"))
    start = bench.clock.now_s
    while bench.engine.has_work:
        bench.step()
    info = {k: v - start for k, v in bench.values().items() if k.startswith("lora_requests_info")}
    head = 'lora_requests_info{max_lora="1",running_lora_adapters='
    assert {name: round(value, 3) for name, value in info.items()} == {
        head + '"a",waiting_lora_adapters="b"}': 1,
        head + '"",waiting_lora_adapters="b"}': 2,
        head + '"",waiting_lora_adapters=""}': 3,
    }
    deferred = Bench(loras=True, max_loras=1)
    deferred.add(Sequence(4, 2, lora="a"), Sequence(4, 1, lora="b"))
    deferred.step()
    assert deferred.values()['num_requests_waiting_by_reason{reason="deferred"}'] == 1


def test_http_figures() -> None:
    bench = Bench()
    bench.metrics.http("/v1/completions", "POST", 404, 0.2, 100, 50)
    values = bench.values()
    assert values['http_requests_total{handler="/v1/completions",method="POST",status="4xx"}'] == 1
    assert values['http_request_size_bytes_sum{handler="/v1/completions"}'] == 100
    assert values['http_response_size_bytes_sum{handler="/v1/completions"}'] == 50
    assert values['http_request_duration_seconds_bucket{handler="/v1/completions",le="0.1",method="POST"}'] == 0
    assert values["http_request_duration_highr_seconds_count"] == 2


def test_a_page_can_be_cut_down_compressed_and_openmetrics() -> None:
    metrics = Bench().metrics
    body, headers = metrics.negotiated(["vllm:num_requests_waiting", "vllm:prompt_tokens_total"], "", "")
    assert {f.name for f in text_string_to_metric_families(body.decode())} == {
        "vllm:num_requests_waiting",
        "vllm:prompt_tokens",
    }
    assert headers == {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
    body, headers = metrics.negotiated([], "application/openmetrics-text; version=1.0.0", "gzip")
    assert headers["Content-Type"].startswith("application/openmetrics-text")
    assert gzip.decompress(body).endswith(b"# EOF\n")


def test_a_family_is_one_kind_of_thing() -> None:
    family = Family("gauge", "g", "help")
    family.value()
    with pytest.raises(AssertionError, match="g"):
        family.distribution()
