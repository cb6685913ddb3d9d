"""Pages as they were asked for, large ones in pieces, and who is shown /debug."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from extproc.admin.server import MAX_EXPLAIN_BYTES
from extproc.admin.slices import json_list
from extproc.app.guard import debug_pages
from extproc.domain import Load
from extproc.observability.exposition import choose, exposition
from extproc.observability.instruments import Instruments
from extproc.observability.picker import PickerMetrics
from extproc.observability.pools import PoolMetrics, PoolRow
from extproc.observability.twins import MetricNames
from extproc.pool import PoolStore
from extproc.settings.server import MetricsPortSettings
from tests.admin.pages import client, get, inside, post, serving
from tests.fakes.candidates import endpoints
from tests.fakes.clock import FakeClock


def filled(children: int) -> Instruments:
    made = Instruments()
    counter = made.counter("c_total", "Counts\nof things.", ["a"])
    histogram = made.histogram("h", "Sizes.", (1.0, 2.0), ["a"])
    made.gauge("g", "Without children.", ["a"])
    for number in range(children):
        counter.child(f"\u00e9{number}").value = number
        histogram.child(str(number)).observe(1.5)
    return made


class Whole(Collector):
    def __init__(self, instruments: Instruments) -> None:
        self._instruments = instruments

    def collect(self) -> Iterator[Metric]:
        return self._instruments.collect()


class TestMetrics:
    @pytest.mark.parametrize("children", [0, 1, 333])
    @pytest.mark.parametrize("accept", ["", "application/openmetrics-text; version=1.0.0"])
    async def test_in_pieces_as_whole(self, children: int, accept: str) -> None:
        instruments = filled(children)
        registry = CollectorRegistry()
        registry.register(Whole(instruments))
        expected = (openmetrics_latest if accept else generate_latest)(registry)
        async with serving(inside(metrics=instruments.pieces)) as port:
            answer = await get(port, "/metrics", *([f"Accept: {accept}"] if accept else []))
        assert answer.body == expected
        if accept:
            parse: Any = text_string_to_metric_families
            assert list(parse(answer.body.decode()))

    async def test_by_name(self) -> None:
        async with serving(inside(metrics=filled(2).pieces)) as port:
            answer = await get(port, "/metrics?name[]=h_sum&name[]=c_total")
        lines = [line for line in answer.body.decode().splitlines() if not line.startswith("#")]
        assert [line.split("{")[0] for line in lines] == ["c_total", "c_total", "h_sum", "h_sum"]

    def test_no_piece_is_large(self) -> None:
        encode, _ = choose("")
        pieces = list(exposition(filled(5000).pieces(), encode, frozenset()))
        assert max(map(len, pieces)) < 10_000

    @pytest.mark.parametrize("names", ["both", "inference", "llm-d"])
    def test_nor_of_what_is_summed(self, names: MetricNames) -> None:
        """Families whose older name has fewer labels: no piece is made of many children, and none is missing."""
        instruments = Instruments()
        instruments.names = names
        total = instruments.counter("inference_objective_running_requests", "Now.", ["model_name", "target_model_name"])
        for number in range(500):
            total.child(f"m{number % 250}", f"t{number}").value += 1
        pieces = list(instruments.pieces())
        assert max(len(piece.samples) for piece in pieces if piece is not None) <= 50
        if names != "llm-d":
            assert pieces.count(None) == 10, "sums are made in steps"
        whole = {family.name: family for family in instruments.collect()}
        older, newer = (whole.get(name) for name in ("inference_objective_running_requests", "llm_d_epp_request_running"))
        assert (older is None, newer is None) == (names == "llm-d", names == "inference")
        assert older is None or [sample.value for sample in older.samples] == [2.0] * 250
        assert newer is None or len(newer.samples) == 500

    def test_refreshing_is_in_steps_too(self) -> None:
        instruments = Instruments()
        steps: list[int] = []

        def refresh() -> Iterator[None]:
            for number in range(3):
                steps.append(number)
                yield

        instruments.before_collect.append(refresh)
        pieces = instruments.pieces()
        assert (next(pieces), steps) == (None, [0])
        list(instruments.collect())
        assert steps == [0, 0, 1, 2]


def pool(members: int) -> PoolStore:
    store = PoolStore("p", FakeClock())
    store.replace_endpoints(endpoints(members))
    for key in store.members():
        store.page_started(key)
        store.page_read(key, Load(waiting=1, running=0, kv_usage=0.5))
    return store


@pytest.mark.parametrize("members", [0, 1, 500])
async def test_endpoints(members: int) -> None:
    async with serving(inside(stores={"p": pool(members), "q": pool(0)})) as port:
        told = (await get(port, "/debug/endpoints")).json()
    assert [each["pool"] for each in told["pools"]] == ["p", "q"]
    assert len({each["endpoint"] for each in told["pools"][0]["endpoints"]}) == members


@pytest.mark.parametrize("items", [[], [1], [{"a": [1, 2], "b": {}}, "x\ny", []]])
def test_lists_look_as_if_made_at_once(items: list[Any]) -> None:
    assert b"".join(json_list(items, 0)).decode() == json.dumps(items, indent=2)


async def test_decisions_that_there_are_not() -> None:
    async with serving() as port:
        assert (await get(port, "/debug/decisions")).json() == {"decisions": []}
        assert (await get(port, "/debug/decisions?limit=%C2%B2")).status == 400
        assert (await get(port, "/debug/decisions?limit=" + "9" * 5000)).status == 400


class TestSlices:
    async def test_others_come_between(self) -> None:
        """A page that takes a second holds nobody up."""
        turns = 0
        alone: list[int] = []
        """The turns that others had had, at each step of a page."""

        async def others() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        def metrics() -> Iterator[None]:
            for _ in range(100):
                until_s = time.perf_counter() + 0.001
                while time.perf_counter() < until_s:
                    pass
                alone.append(turns)
                yield None

        async with serving(inside(metrics=metrics)) as port:
            task = asyncio.create_task(others())
            pages = await asyncio.gather(get(port, "/metrics"), get(port, "/metrics"))
            task.cancel()
        assert [page.status for page in pages] == [200, 200]
        assert max(Counter(alone).values()) <= 20  # of 1 ms, of 200 in all; two or three on a machine that does not stand still


class TestExplain:
    @staticmethod
    def explain(*_: object) -> dict[str, Any]:
        return {"explained": True}

    async def test_a_body_that_is_too_large(self) -> None:
        said = {"error": f"body: expected at most {MAX_EXPLAIN_BYTES} bytes"}
        async with serving(inside(explain=self.explain)) as port:
            answer = await post(port, "/debug/explain", b" " * (MAX_EXPLAIN_BYTES + 1))
            assert (answer.status, answer.json()) == (413, said)
            async with client(port) as one:  # whose size is not said before
                one.say(b"POST /debug/explain HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
                for _ in range(5):
                    one.say(b"10000\r\n%s\r\n" % (b" " * 2**16))
                answer = await one.answer()
                assert (answer.status, answer.json()) == (413, said)
            assert (await post(port, "/debug/explain", b'{"body": "%s"}' % (b"x" * 200_000))).json() == {"explained": True}

    async def test_one_at_a_time(self) -> None:
        async with serving(inside(explain=self.explain)) as port:
            answers = await asyncio.gather(*(post(port, "/debug/explain", b"{}") for _ in range(30)))
        assert {answer.status for answer in answers} <= {200, 429}
        for answer in answers:
            if answer.status == 429:
                assert answer.headers["retry-after"] == "1"
                assert answer.json() == {"error": "one explanation at a time, and one is being made"}
        assert any(answer.status == 200 for answer in answers)

    @pytest.mark.parametrize(
        ("body", "why"),
        [(b"[", "not JSON"), (b"[" * 200_000, "not JSON"), (b"[]", "not an object"), (b'{"x": 1}', "unknown key")],
    )
    async def test_no_question(self, body: bytes, why: str) -> None:
        async with serving(inside(explain=self.explain)) as port:
            answer = await post(port, "/debug/explain", body)
        assert answer.status == 400
        assert answer.json()["error"].startswith(why)


class TestWhoIsShownDebug:
    async def test_off(self) -> None:
        async with serving(debug="off") as port:
            answer = await get(port, "/debug/decisions")
            assert (answer.status, answer.body) == (404, b"--debug-pages=off\n")
            assert (await get(port, "/metrics")).status == 200

    async def test_this_machine(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async with serving(debug="loopback") as port:
            assert (await get(port, "/debug/decisions")).status == 200
            monkeypatch.setattr("extproc.admin.server._LOOPBACK", frozenset())
            answer = await get(port, "/debug/decisions")
            assert answer.status == 403
            assert b"--debug-pages=on" in answer.body
            assert (await get(port, "/healthz")).status == 200

    @pytest.mark.parametrize(
        ("flag", "guarded", "shown"),
        [
            ("auto", True, "everywhere"),
            ("auto", False, "loopback"),
            ("on", False, "everywhere"),
            ("loopback", True, "loopback"),
            ("off", True, "off"),
        ],
    )
    def test_by_default(self, flag: Any, guarded: bool, shown: str) -> None:
        assert debug_pages(MetricsPortSettings(debug_pages=flag), guarded=guarded) == shown


@pytest.mark.parametrize("names", ["both", "inference", "llm-d"])
async def test_metrics_of_two_names_in_pieces(names: MetricNames) -> None:
    """Each name's samples stand together, and sums are over all."""
    instruments = Instruments()
    instruments.names = names
    telemetry = PickerMetrics(instruments)
    pools = PoolMetrics(instruments)
    load = Load(waiting=1.0, running=2.0, kv_usage=0.5, kv_usage_mean=0.5)
    known: dict[str, Any] = {"load": load, "in_flight": 3, "age_s": 0.1, "fresh": True}
    pools.watch("p", lambda: [PoolRow(f"pod-{number}", down=False, **known) for number in range(200)])
    for number in range(90):
        telemetry.model(f"m{number}")
    registry = CollectorRegistry()
    registry.register(Whole(instruments))
    async with serving(inside(metrics=instruments.pieces)) as port:
        assert (await get(port, "/metrics")).body == generate_latest(registry)
