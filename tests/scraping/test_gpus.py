"""The pages of DCGM exporters: whose GPUs, how busy, and what becomes of it beside the engine's page."""

from __future__ import annotations

import pytest

from extproc.domain import Endpoint, Load
from extproc.scraping.engines import NOTHING, Missing, Why
from extproc.scraping.fetch import HttpFetcher
from extproc.scraping.gpus import Beside, Gpus
from extproc.settings.base import SettingsError, validate
from extproc.settings.engines import GPU_UTILIZATION, GpuSourceSettings
from tests.fakes.clock import FakeClock
from tests.scraping.loops import FakeSink

PAGE = b"""\
# HELP DCGM_FI_DEV_GPU_UTIL GPU utilization (in %).
# TYPE DCGM_FI_DEV_GPU_UTIL gauge
DCGM_FI_DEV_GPU_UTIL{gpu="0",UUID="GPU-1",modelName="NVIDIA H100",container="vllm",namespace="llm",pod="a"} 35
DCGM_FI_DEV_GPU_UTIL{gpu="1",UUID="GPU-2",modelName="NVIDIA H100",container="vllm",namespace="llm",pod="a"} 70
DCGM_FI_DEV_GPU_UTIL{gpu="2",UUID="GPU-3",modelName="NVIDIA H100",container="vllm",namespace="llm",pod="b"} 95
DCGM_FI_DEV_GPU_UTIL{gpu="3",UUID="GPU-4",modelName="NVIDIA H100",container="",namespace="",pod=""} 0
DCGM_FI_DEV_MEM_COPY_UTIL{gpu="0",UUID="GPU-1",modelName="NVIDIA H100",container="vllm",namespace="llm",pod="a"} 99
"""
SIDECAR = b'DCGM_FI_DEV_GPU_UTIL{gpu="0"} 12.5\nDCGM_FI_DEV_GPU_UTIL{gpu="1"} 3\n'
ENGINE = Load(waiting=1.0, attributes={"heat": 7.0})


def busy(share: float) -> tuple[Load, tuple[Missing, ...]]:
    return Load(attributes={GPU_UTILIZATION: share}), ()


def endpoint(name: str = "") -> Endpoint:
    return Endpoint("10.0.0.1", 8000, name)


class TestReader:
    @pytest.mark.parametrize(
        ("name", "page", "read"),
        [
            ("a", PAGE, busy(0.7)),
            ("a-rank-0", PAGE, busy(0.7)),
            ("b-rank-11", PAGE, busy(0.95)),
            ("", PAGE, busy(0.95)),
            ("c", PAGE, (NOTHING, ())),
            ("a", SIDECAR, busy(0.125)),
            ("a", b"", (NOTHING, ())),
            ("a", b"vllm:num_requests_waiting 3\n", (NOTHING, ())),
            ("a", b'DCGM_FI_DEV_GPU_UTIL{pod="a"} NaN\n', (Load(attributes={}), (Missing(GPU_UTILIZATION, Why.UNREADABLE),))),
            ("a", b"DCGM_FI_DEV_GPU_UTIL 101\n", (Load(attributes={}), (Missing(GPU_UTILIZATION, Why.OUT_OF_RANGE),))),
            ("a", b"DCGM_FI_DEV_GPU_UTIL -1\n", (Load(attributes={}), (Missing(GPU_UTILIZATION, Why.OUT_OF_RANGE),))),
        ],
    )
    def test_a_page(self, name: str, page: bytes, read: tuple[Load, tuple[Missing, ...]]) -> None:
        assert Gpus().reader(endpoint(name)).read(page) == read

    def test_what_is_as_before_is_the_very_same(self) -> None:
        reader = Gpus().reader(endpoint("a"))
        assert reader.read(PAGE)[0] is reader.read(PAGE + b"# another\n")[0]

    def test_a_reader_stays_as_long_as_the_pod(self) -> None:
        first = Gpus().reader(endpoint("a-rank-0"))
        assert Gpus().reader(endpoint("a-rank-0"), first) is first
        assert Gpus().reader(endpoint("b-rank-0"), first) is not first
        assert (first.wants, Gpus().reader(endpoint()).wants) == ("DCGM_FI_DEV_GPU_UTIL of pod a", "DCGM_FI_DEV_GPU_UTIL")


class TestBeside:
    def setup_method(self) -> None:
        self.clock = FakeClock()
        self.sink = FakeSink()
        self.beside = Beside(self.sink, self.clock, stale_after_s=3.0)

    def engine(self, load: Load = ENGINE) -> Load:
        self.beside.page_started("e")
        self.beside.page_read("e", load)
        return self.sink.loads["e"]

    def gpu(self, share: float = 0.5) -> None:
        self.beside.others.page_started("e")
        self.beside.others.page_read("e", Load(attributes={GPU_UTILIZATION: share}))

    def test_the_two_together(self) -> None:
        assert self.engine() is ENGINE
        self.gpu()
        assert self.engine() == Load(waiting=1.0, attributes={"heat": 7.0, GPU_UTILIZATION: 0.5})
        assert self.engine(Load(waiting=2.0)) == Load(waiting=2.0, attributes={GPU_UTILIZATION: 0.5})

    def test_the_very_same_as_long_as_both_are(self) -> None:
        """A store that hears the same object keeps what it made of it."""
        same = Load(attributes={GPU_UTILIZATION: 0.5})
        self.beside.others.page_read("e", same)
        first = self.engine()
        self.beside.others.page_read("e", same)
        assert self.engine() is first
        self.gpu(0.6)
        assert self.engine() is not first

    def test_what_is_too_old_is_unknown(self) -> None:
        self.gpu()
        self.clock.now_s += 2.9
        assert GPU_UTILIZATION in (self.engine().attributes or {})
        self.clock.now_s += 0.2
        assert self.engine() is ENGINE
        self.gpu()
        assert GPU_UTILIZATION in (self.engine().attributes or {})

    def test_an_exporter_that_is_gone_says_nothing_of_the_endpoint(self) -> None:
        self.gpu()
        self.engine()
        heard = len(self.sink.heard)
        self.beside.others.page_failed("e", "refused", down=True, alive=False)
        assert len(self.sink.heard) == heard
        self.beside.page_failed("e", "refused", down=True, alive=False)
        assert self.sink.heard[-1] == ("e", "failed refused down")

    def test_who_left_is_forgotten(self) -> None:
        self.gpu()
        self.beside.keep({"e"})
        assert GPU_UTILIZATION in (self.engine().attributes or {})
        self.beside.keep(set())
        assert self.engine() is ENGINE
        assert repr(self.beside) == "<Beside endpoints=0>"


@pytest.mark.parametrize(
    ("values", "at", "url"),
    [
        ({}, Endpoint("10.0.0.1", 8000, metrics_port=8001), "10.0.0.1:9400/metrics"),
        ({"port": 9500, "path": "/gpus"}, Endpoint("10.0.0.1", 8000), "10.0.0.1:9500/gpus"),
        ({"useNodeAddress": True}, Endpoint("10.0.0.1", 8000, node_address="10.1.0.9"), "10.1.0.9:9400/metrics"),
        ({"useNodeAddress": True}, Endpoint("10.0.0.1", 8000), "10.0.0.1:9400/metrics"),
        ({}, Endpoint("10.0.0.1", 8000, node_address="10.1.0.9"), "10.0.0.1:9400/metrics"),
        ({"useNodeAddress": True}, Endpoint("10.0.0.1", 8000, node_address="fd00::9"), "[fd00::9]:9400/metrics"),
    ],
)
def test_where_the_exporter_is(values: dict[str, object], at: Endpoint, url: str) -> None:
    target = HttpFetcher(GpuSourceSettings.model_validate(values)).target(at)
    first, host = target.request.decode().split("\r\n")[:2]
    assert host.removeprefix("Host: ") + first.split(" ")[1] == url
    assert url.startswith((f"{target.host}:", f"[{target.host}]:"))


@pytest.mark.parametrize(
    ("values", "said"),
    [({"port": 0}, "port"), ({"interval": "0s"}, "interval"), ({"useNodeAddres": True}, "useNodeAddres: unknown key")],
)
def test_what_is_wrong_is_said(values: dict[str, object], said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        validate(GpuSourceSettings, values)
    assert said in caught.value.problems[0]
