from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from extproc.domain import Load
from extproc.scraping.engines import BUILT_IN, NOTHING, Engines, Extractor, Missing, Why
from extproc.settings.base import SettingsError
from extproc.settings.engines import (
    KV_USAGE_OF_CLUSTER,
    QUEUE_OF_CLUSTER,
    ClusterMetricsSettings,
    ClusterSourceSettings,
    CoreMetricsSettings,
)

VLLM_PAGE = (Path(__file__).parent / "data" / "vllm-0.32-metrics.txt").read_bytes()
STARTED_S = 1795214171.2
LORA = 'vllm:lora_requests_info{{max_lora="{}",running_lora_adapters="{}",waiting_lora_adapters="{}"}} {}\n'


def engines(**parameters: Any) -> Engines:
    return Engines(CoreMetricsSettings.model_validate(parameters))


def extractor(engine: str = "vllm", **parameters: Any) -> Extractor:
    return engines(**parameters).of({"llm-d.ai/engine-type": engine})


def read(page: str, engine: str = "vllm") -> Load:
    return extractor(engine).read(page.encode())[0]


def missing(page: str, engine: str = "vllm") -> set[tuple[str, str]]:
    return {(signal, str(why)) for signal, why in extractor(engine).read(page.encode())[1]}


def test_a_real_page_of_vllm() -> None:
    load, lacking = extractor().read(VLLM_PAGE)

    assert load == Load(
        waiting=0.0, running=0.0, kv_usage=0.0, kv_usage_mean=0.0, kv_block_size=128, kv_blocks=16384, started_s=STARTED_S
    )
    assert lacking == ()


PAGES = {
    "sglang": """\
sglang:num_queue_reqs{model_name="m"} 4.0
sglang:num_running_reqs{model_name="m"} 2.0
sglang:token_usage{model_name="m"} 0.28
sglang:cache_config_info{num_pages="1024",page_size="64"} 1.0
""",
    "trtllm-serve": """\
trtllm_num_requests_waiting{engine_type="trtllm"} 4.0
trtllm_num_requests_running{engine_type="trtllm"} 2.0
trtllm_kv_cache_utilization{engine_type="trtllm"} 0.28
trtllm_kv_cache_tokens_per_block{engine_type="trtllm"} 64
trtllm_kv_cache_max_blocks{engine_type="trtllm"} 1024
""",
    "triton-tensorrt-llm": """\
nv_trt_llm_request_metrics{model="m",request_type="context",version="1"} 1
nv_trt_llm_request_metrics{model="m",request_type="scheduled",version="1"} 2
nv_trt_llm_request_metrics{model="m",request_type="max",version="1"} 512
nv_trt_llm_request_metrics{model="m",request_type="waiting",version="1"} 4
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="fraction",model="m",version="1"} 0.28
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="tokens_per",model="m",version="1"} 64
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="used",model="m",version="1"} 287
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="max",model="m",version="1"} 1024
""",
}


@pytest.mark.parametrize("engine", PAGES)
def test_the_words_of_engines(engine: str) -> None:
    load, lacking = extractor(engine).read(PAGES[engine].encode())

    assert load == Load(waiting=4.0, running=2.0, kv_usage=0.28, kv_usage_mean=0.28, kv_block_size=64, kv_blocks=1024)
    assert lacking == ()


def test_triton_says_nothing_of_a_cache() -> None:
    page = 'nv_inference_pending_request_count{model="a"} 3\nnv_inference_exec_count{model="a"} 7\n'

    assert read(page, "triton") == Load(waiting=3.0, running=7.0)
    assert missing(page, "triton") == set()


def test_what_is_absent_is_unknown_and_not_zero() -> None:
    page = "vllm:num_requests_running 3\n"

    assert read(page) == Load(running=3.0)
    assert missing(page) == {
        ("waiting", "absent"),
        ("kv_usage", "absent"),
        ("kv_block_size", "absent"),
        ("kv_blocks", "absent"),
    }


@pytest.mark.parametrize("page", ["", "<html>It works!</html>", '{"error": "not found"}', PAGES["sglang"]])
def test_a_page_of_something_else_says_nothing(page: str) -> None:
    assert read(page) == NOTHING


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("NaN", "unreadable"),
        ("many", "unreadable"),
        ("-1", "out_of_range"),
        ("-0.001", "out_of_range"),
        ("+Inf", "out_of_range"),
        ("1e30", "out_of_range"),
    ],
)
@pytest.mark.parametrize(
    ("signal", "family"),
    [
        ("waiting", "vllm:num_requests_waiting"),
        ("running", "vllm:num_requests_running"),
        ("kv_usage", "vllm:kv_cache_usage_perc"),
    ],
)
def test_a_value_that_cannot_be_is_unknown(signal: str, family: str, value: str, why: str) -> None:
    page = f"{family} {value}\nvllm:cache_config_info 1\n"

    assert getattr(read(page), signal) is None
    assert (signal, why) in missing(page)


@pytest.mark.parametrize(
    ("value", "share"),
    [("0", 0.0), ("-0.0", 0.0), ("0.5", 0.5), ("1", 1.0), ("1.0000001", 1.0), ("1.01", None), ("37.5", None)],
)
def test_a_share_of_the_cache(value: str, share: float | None) -> None:
    page = f"vllm:kv_cache_usage_perc {value}\n"

    assert read(page).kv_usage == share
    assert (("kv_usage", "out_of_range") in missing(page)) == (share is None)


def test_pages_of_older_vllm_are_read_without_a_flag() -> None:
    assert read("vllm:gpu_cache_usage_perc 0.25\n").kv_usage == 0.25
    assert ("kv_usage", "absent") not in missing("vllm:gpu_cache_usage_perc 0.25\n")
    both = "vllm:gpu_cache_usage_perc 0.25\nvllm:kv_cache_usage_perc 0.5\n"
    assert read(both).kv_usage == 0.5
    assert ("kv_usage", "absent") in missing("vllm:num_requests_waiting 1\n")


class TestSeveralEnginesBehindOnePort:
    def test_sums_and_the_fullest_cache(self) -> None:
        page = """\
vllm:num_requests_waiting{engine="0",model_name="m"} 3.0
vllm:num_requests_waiting{engine="1",model_name="m"} 4.0
vllm:num_requests_running{engine="0",model_name="m"} 1.0
vllm:num_requests_running{engine="1",model_name="m"} 1.0
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="m"} 0.75
vllm:cache_config_info{engine="0",block_size="16",num_gpu_blocks="1000"} 1.0
vllm:cache_config_info{engine="1",block_size="16",num_gpu_blocks="1001"} 1.0
"""
        assert read(page) == Load(waiting=7.0, running=2.0, kv_usage=0.75, kv_usage_mean=0.5, kv_block_size=16, kv_blocks=2001)
        assert missing(page) == set()

    def test_a_full_rank_among_empty_ones_is_not_hidden(self) -> None:
        shares = (0.9, *[0.0] * 3)
        page = "".join(f'vllm:kv_cache_usage_perc{{engine="{rank}"}} {share}\n' for rank, share in enumerate(shares))
        load = read(page)

        assert [load.kv_usage, load.kv_usage_mean] == pytest.approx([0.9, 0.225])

    def test_one_unknown_makes_all_unknown(self) -> None:
        page = 'vllm:num_requests_waiting{engine="0"} 3\nvllm:num_requests_waiting{engine="1"} NaN\n'

        assert read(page).waiting is None
        assert ("waiting", "unreadable") in missing(page)

    def test_block_sizes_that_differ(self) -> None:
        page = """\
vllm:cache_config_info{block_size="16",num_gpu_blocks="1000"} 1.0
vllm:cache_config_info{block_size="32",num_gpu_blocks="1001"} 1.0
"""
        assert read(page) == Load(kv_blocks=2001)
        assert ("kv_block_size", "different") in missing(page)


@pytest.mark.parametrize("number", ["None", "", "-1", "0", "16.0", "99999999999"])
def test_cache_labels_that_are_no_numbers(number: str) -> None:
    page = f'vllm:cache_config_info{{block_size="{number}",num_gpu_blocks="5"}} 1.0\n'

    assert read(page) == Load(kv_blocks=5)
    assert ("kv_block_size", "unreadable") in missing(page)


@pytest.mark.parametrize("number", ["0", "-1", "16.5", "NaN"])
def test_cache_values_that_are_no_whole_numbers(number: str) -> None:
    page = f"trtllm_kv_cache_tokens_per_block {number}\ntrtllm_kv_cache_max_blocks 5\n"

    assert read(page, "trtllm-serve") == Load(kv_blocks=5)
    assert "kv_block_size" in {signal for signal, _ in missing(page, "trtllm-serve")}


class TestLora:
    def test_the_newest_series_counts(self) -> None:
        page = LORA.format(4, "old", "older", "1.7e9") + LORA.format(4, "a, b ,c", "d", "1.8e9") + LORA.format(4, "", "", "0")
        assert read(page) == Load(running_loras=("a", "b", "c"), waiting_loras=("d",), max_loras=4)
        assert not {signal for signal, _ in missing(page)} & {"running_loras", "max_loras"}

    def test_no_adapters(self) -> None:
        assert read(LORA.format(1, "", "", 5)) == Load(running_loras=(), waiting_loras=(), max_loras=1)

    def test_a_time_that_is_no_number_is_older_than_any(self) -> None:
        page = LORA.format(4, "a", "", "NaN") + LORA.format(4, "b", "", "0")

        assert read(page).running_loras == ("b",)

    def test_no_time_at_all(self) -> None:
        page = LORA.format(4, "a", "", "NaN")

        assert read(page) == NOTHING
        assert ("running_loras", "unreadable") in missing(page)

    def test_labels_that_say_nothing(self) -> None:
        page = 'vllm:lora_requests_info{max_lora="many"} 5\n'

        assert read(page) == NOTHING
        assert {("running_loras", "unreadable"), ("max_loras", "unreadable")} <= missing(page)

    def test_adapters_without_their_limit(self) -> None:
        page = 'vllm:lora_requests_info{running_lora_adapters="a",waiting_lora_adapters=""} 5\n'

        assert read(page) == Load(running_loras=("a",), waiting_loras=())


class TestWhichEngine:
    def test_by_label(self) -> None:
        assert engines().of({"llm-d.ai/engine-type": "sglang"}).engine == "sglang"

    def test_by_the_legacy_label(self) -> None:
        assert engines().of({"inference.networking.k8s.io/engine-type": "sglang"}).engine == "sglang"

    def test_the_new_label_goes_first(self) -> None:
        labels = {"llm-d.ai/engine-type": "triton", "inference.networking.k8s.io/engine-type": "sglang"}

        assert engines().of(labels).engine == "triton"

    def test_a_label_of_the_users_choice_is_the_only_one(self) -> None:
        chosen = engines(engineLabelKey="engine")

        assert chosen.of({"engine": "sglang"}).engine == "sglang"
        assert chosen.of({"inference.networking.k8s.io/engine-type": "sglang"}).engine == "vllm"

    @pytest.mark.parametrize("labels", [{}, {"llm-d.ai/engine-type": "unheard-of"}, {"llm-d.ai/engine-type": ""}])
    def test_the_default(self, labels: dict[str, str]) -> None:
        assert engines().of(labels).engine == "vllm"
        assert engines(defaultEngine="sglang").of(labels).engine == "sglang"

    def test_a_default_that_nobody_knows(self) -> None:
        with pytest.raises(SettingsError) as caught:
            Engines(CoreMetricsSettings.model_validate({"defaultEngine": "vlm"}), path="plugins[2].parameters.")

        assert caught.value.problems == [
            "plugins[2].parameters.defaultEngine: expected one of vllm, sglang, trtllm-serve, triton-tensorrt-llm, triton "
            "(got 'vlm')"
        ]

    def test_the_same_extractor_each_time(self) -> None:
        some = engines()

        assert some.of({}) is some.of({"a": "b"})
        assert repr(some.of({})) == "<Extractor vllm>"


class TestEnginesOfTheUser:
    def test_a_new_engine(self) -> None:
        config = {"name": "mine", "queuedRequestsSpec": 'queue{kind="a"}', "kvUsageSpec": "cache{x=1,y=2}"}
        mine = extractor("mine", engineConfigs=[config])
        page = b'queue{kind="a"} 1\nqueue{kind="b"} 2\nqueue 3\ncache{x="1",y="2",z="3"} 0.5\ncache{x="1"} 0.7\n'

        assert mine.read(page) == (Load(waiting=1.0, kv_usage=0.5, kv_usage_mean=0.5), ())

    def test_a_built_in_name_replaces_all_of_that_engine(self) -> None:
        mine = extractor("vllm", engineConfigs=[{"name": "vllm", "runningRequestsSpec": "my_running"}])

        assert mine.read(VLLM_PAGE + b"my_running 9\n") == (Load(running=9.0, started_s=STARTED_S), ())

    def test_it_may_be_the_default(self) -> None:
        some = engines(defaultEngine="mine", engineConfigs=[{"name": "mine", "runningRequestsSpec": "r"}])

        assert some.of({}).engine == "mine"

    def test_labels_of_the_cache(self) -> None:
        config = {
            "name": "mine",
            "cacheInfoSpec": "info",
            "cacheBlockSizeLabelName": "size",
            "cacheNumBlocksLabelName": "count",
        }
        page = b'info{size="8",count="100"} 1\n'

        assert extractor("mine", engineConfigs=[config]).read(page) == (Load(kv_block_size=8, kv_blocks=100), ())

    def test_a_spec_of_its_own_goes_before_the_label(self) -> None:
        config = {"name": "mine", "cacheInfoSpec": "info", "cacheBlockSizeSpec": "size"}
        page = b'info{block_size="8",num_gpu_blocks="100"} 1\nsize 16\n'

        assert extractor("mine", engineConfigs=[config]).read(page) == (Load(kv_block_size=16, kv_blocks=100), ())


def test_built_in_engines_have_the_names_upstream_gives_them() -> None:
    assert [config.name for config in BUILT_IN] == ["vllm", "sglang", "trtllm-serve", "triton-tensorrt-llm", "triton"]


WORDS = st.sampled_from(
    [b"vllm:num_requests_waiting", b"vllm:kv_cache_usage_perc", b"vllm:lora_requests_info", b"vllm:cache_config_info"]
)
RUBBISH = st.one_of(st.binary(max_size=40), st.text('{}"\\=,a 1.\n', max_size=30).map(str.encode))


@given(st.lists(st.tuples(WORDS, RUBBISH), max_size=6))
@settings(max_examples=300, deadline=None)
def test_whatever_a_page_is_the_load_is_sane(lines: list[tuple[bytes, bytes]]) -> None:
    page = b"\n".join(name + rest for name, rest in lines)

    load, lacking = extractor().read(page)

    assert load.waiting is None or 0 <= load.waiting <= 6e9
    assert load.kv_usage is None or 0 <= load.kv_usage <= 1
    assert load.kv_block_size is None or load.kv_block_size > 0
    assert all(problem.signal in Load._fields for problem in lacking)


@given(st.integers(0, len(VLLM_PAGE)), st.integers(0, 200), st.binary(max_size=20))
@settings(max_examples=150, deadline=None)
def test_a_page_with_a_hole_in_it(start: int, length: int, filling: bytes) -> None:
    page = VLLM_PAGE[:start] + filling + VLLM_PAGE[start + length :]

    load, lacking = extractor().read(page)

    for signal in ("waiting", "running", "kv_usage", "kv_block_size", "kv_blocks"):
        assert getattr(load, signal) is not None or any(problem.signal == signal for problem in lacking)


def test_missing_reads_well_in_a_label() -> None:
    assert f"{Missing('waiting', Why.ABSENT).why}" == "absent"


class TestStart:
    """When the process behind a page was started."""

    @pytest.mark.parametrize("value", ["NaN", "-1", "0", "+Inf", ""])
    def test_nonsense_is_as_if_absent(self, value: str) -> None:
        assert load(f"vllm:num_requests_running 1\nprocess_start_time_seconds {value}\n").started_s is None

    def test_of_several_processes_the_newest_counts(self) -> None:
        page = 'vllm:num_requests_running 1\nprocess_start_time_seconds{pid="1"} 10\nprocess_start_time_seconds{pid="2"} 20\n'
        assert load(page).started_s == 20

    def test_it_alone_is_no_page_of_an_engine(self) -> None:
        assert load("process_start_time_seconds 10\n") == Load()


def load(page: str) -> Load:
    return extractor().read(page.encode())[0]


CUSTOM = {
    "name": "mine",
    "queuedRequestsSpec": "queue",
    "customMetrics": [
        {"attributeKey": "depth", "metricSpec": "queue_depth{tier=gold}"},
        {"attributeKey": "heat", "metricSpec": "heat"},
        {"attributeKey": "unread", "metricSpec": "unread"},
        {"attributeKey": "rare", "metricSpec": "rare", "optional": True},
    ],
}


def custom(page: str, *wanted: str) -> tuple[Load, set[tuple[str, str]]]:
    settings = CoreMetricsSettings.model_validate({"defaultEngine": "mine", "engineConfigs": [CUSTOM]})
    load, lacking = Engines(settings, wanted=wanted).of({}).read(page.encode())
    return load, {(signal, str(why)) for signal, why in lacking}


def test_custom_metrics_become_attributes() -> None:
    gold = 'queue_depth{tier="bronze"} 9\nqueue_depth{tier="gold"} 4\nqueue_depth{tier="gold",rank="1"} 7\n'
    page = f"queue 3\n{gold}heat -0.5\nunread 1\n"
    load, lacking = custom(page, "depth", "heat", "rare")
    assert load.attributes == {"depth": 4.0, "heat": -0.5}, "of several series the first"
    assert load.waiting == 3
    assert lacking == set()


def test_what_no_plugin_reads_is_not_looked_for() -> None:
    settings = CoreMetricsSettings.model_validate({"defaultEngine": "mine", "engineConfigs": [CUSTOM]})
    found = Engines(settings, wanted=["heat"])
    assert found.attributes == {"depth", "heat", "unread", "rare"}
    assert b"heat" in found.of({}).scanner.families
    assert b"unread" not in found.of({}).scanner.families
    assert custom("queue 3\nheat 1\n")[0].attributes is None


def test_what_a_page_does_not_say_of_attributes_is_told() -> None:
    load, lacking = custom("queue 3\nheat NaN\n", "depth", "heat", "rare")
    assert load.attributes is None
    assert lacking == {("depth", "absent"), ("heat", "unreadable")}


def test_what_a_clusters_picker_says_of_its_pool() -> None:
    words = ClusterMetricsSettings.model_validate({"queueSizeMetric": "queue{pool=p}"}).engines()
    wanted = [KV_USAGE_OF_CLUSTER, QUEUE_OF_CLUSTER]
    page = b'llm_d_epp_average_kv_cache_utilization{name="p"} 0.25\nqueue{pool="q"} 1\nqueue{pool="p"} 7\n'
    load, lacking = Engines(words, wanted=wanted).of({}).read(page)
    assert (load.waiting, load.kv_usage) == (7.0, 0.25)
    assert load.attributes == {KV_USAGE_OF_CLUSTER: 0.25, QUEUE_OF_CLUSTER: 7.0}
    assert lacking == ()
    with pytest.raises(ValidationError, match="expected a metric"):
        ClusterMetricsSettings.model_validate({"queueSizeMetric": "a b"})


def test_certificates_of_clusters_are_checked() -> None:
    source = ClusterSourceSettings.model_validate({})
    assert (source.scheme, source.verify) == ("https", True)
    assert not ClusterSourceSettings.model_validate({"insecureSkipVerify": True}).verify
