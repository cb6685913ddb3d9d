"""Who is picked by each family of plugins, in a real process: public configs, model servers' pages, streams of ext_proc."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import yaml
from grpc import aio

from tests.app.picks.conftest import EVERY, ClientOf
from tests.app.picks.modelservers import ModelServers
from tests.app.picks.pickers import DESTINATION, FILES, Asked, Client, Epp, Gateway
from tests.app.running import until
from tests.scheduling.test_public_configs import REFUSED

PREFILLER, ENCODERS = "x-prefiller-host-port", "x-encoder-hosts-ports"
RANK = "x-data-parallel-host-port"
TOKEN = "x-session-token"
SELECTION = "test-epp-endpoint-selection"


def long(name: str, tokens: int = 2000) -> str:
    """A prompt that begins as no other does."""
    return f"{name}: " + "Once upon a time there was a prompt. " * (tokens // 9)


class TestCaches:
    @pytest.mark.parametrize("pool", ["prefix", "precise-prefix"])
    async def test_a_prompt_goes_where_its_beginning_went_and_others_elsewhere(self, client_of: ClientOf, pool: str) -> None:
        client = client_of(pool)
        first, _ = await client.pick(long("one"))
        assert {(await client.pick(long("one") + f"and then {number}"))[0] for number in range(6)} == {first}
        others = {(await client.pick(long(f"prompt {number}")))[0] for number in range(40)}
        assert others == ({"a", "b", "c"} if pool == "prefix" else {"a", "b"})

    async def test_prompts_that_nobody_has_seen_go_in_turn(self, client_of: ClientOf) -> None:
        client = client_of("cold-in-turn")
        picks = [(await client.pick(long(f"cold {number}")))[0] for number in range(9)]
        assert [len({*picks[at : at + 3]}) for at in (0, 3, 6)] == [3, 3, 3]

    async def test_an_adapter_goes_to_who_runs_it(self, client_of: ClientOf) -> None:
        client = client_of("lora")
        picks = [(await client.pick(long(f"tuned {number}"), model="tuned-1"))[0] for number in range(5)]
        assert picks == ["tuned"] * 5
        assert {(await client.pick(long(f"base {number}")))[0] for number in range(8)} != {"tuned"}


class TestLoad:
    async def test_who_is_busy_is_not_picked(self, client_of: ClientOf) -> None:
        client = client_of("load")
        assert {(await client.pick(long(f"one {number}")))[0] for number in range(8)} == {"a"}

    async def test_tokens_that_wait_to_be_computed_keep_others_away_until_the_first_piece(
        self, client_of: ClientOf, gateway: Gateway
    ) -> None:
        client = client_of("token-load")

        def tokens() -> float:
            return gateway.metric("extproc_inflight_tokens", pool="token-load")

        asked, told = await client.ask(long("token load", 20_000), seen=True, stream=True)
        assert tokens() > 15_000
        taken = gateway.servers.name(told.destinations[0])
        others = {(await client.pick(long(f"short {number}", 300)))[0] for number in range(6)}
        assert taken not in others
        await asked.answered({"content-type": "text/event-stream"})
        assert tokens() > 15_000, "a stream's headers come before its prompt was computed"
        await asked.piece(b"data: {}\n\n")
        assert tokens() == 0
        await asked.piece(b"", last=True)
        await asked.end()

    async def test_prompts_by_their_length(self, client_of: ClientOf) -> None:
        client = client_of("length")
        assert {(await client.pick(f"short {number}"))[0] for number in range(5)} == {"a"}
        assert {(await client.pick(long(f"{number}", 5000)))[0] for number in range(5)} == {"b"}

    async def test_a_full_pool_keeps_requests_until_one_ends(self, client_of: ClientOf, gateway: Gateway) -> None:
        """132 at its one endpoint."""
        client = client_of("flow")
        under_way = await asyncio.gather(*(client.ask(f"flow {number}") for number in range(132)))
        assert {told.destinations[0] for _, told in under_way} == {gateway.servers.address("a")}
        waiting = asyncio.create_task(client.ask("one more"))

        async def queued() -> bool:
            return gateway.metric("extproc_decisions_waiting") == 1

        await until(queued)
        assert not waiting.done()
        await under_way[0][0].end()
        asked, told = await waiting
        assert told.destinations == [gateway.servers.address("a")]
        for each in (asked, *(asked for asked, _ in under_way[1:])):
            await each.end()

    async def test_an_idle_pool_admits(self, client_of: ClientOf) -> None:
        client = client_of("admission")
        assert {(await client.pick(f"admitted {number}"))[0] for number in range(24)} == {"a", "b"}

    async def test_latency_is_learned_of_streams_that_pass_by(self, client_of: ClientOf, gateway: Gateway) -> None:
        client = client_of("latency")
        before = gateway.metric("extproc_latency_samples_total", pool="latency", type="ttft")
        asked, told = await client.ask(long("latency"), {"x-llm-d-slo-ttft-ms": "60000"}, seen=True, stream=True)
        first = gateway.servers.name(told.destinations[0])
        await asked.answered({"content-type": "text/event-stream"})
        await asked.piece(b"data: {}\n\n")
        await asked.piece(b"", last=True)
        await asked.end()
        assert gateway.metric("extproc_latency_samples_total", pool="latency", type="ttft") == before + 1
        again, _ = await client.pick(long("latency"), {"x-llm-d-slo-ttft-ms": "60000"})
        assert again == first, "who has all of it is the only one that the first filter leaves"


class TestLabels:
    @pytest.mark.parametrize(("pool", "left"), [("label", {"b"}), ("leaders", {"c"}), ("role", {"a", "b"})])
    async def test_leave_some(self, client_of: ClientOf, pool: str, left: set[str]) -> None:
        client = client_of(pool)
        assert {(await client.pick(long(f"{pool} {number}")))[0] for number in range(24)} == left

    async def test_that_a_header_asks_for(self, client_of: ClientOf) -> None:
        client = client_of("rollout")
        for name in ("a", "b", "c"):
            picks = {(await client.pick(headers={"x-disagg-slice": f"slice-{name}"}))[0] for _ in range(5)}
            assert picks == {name}
        asked, told = await client.ask(headers={"x-disagg-revision": "2"})
        assert told.status == 503
        await asked.end()


class TestStages:
    async def test_prefill_elsewhere_until_the_prompt_is_cached(self, client_of: ClientOf, gateway: Gateway) -> None:
        client = client_of("prefill-decode")
        decoder, told = await client.pick(long("staged"), {PREFILLER: "6.6.6.6:1"})
        assert decoder in ("a", "b")
        assert gateway.servers.name(told.headers[PREFILLER]) in ("p", "q")
        again, told = await client.pick(long("staged"))
        assert again == decoder
        assert PREFILLER not in told.headers

    async def test_images_are_encoded_elsewhere(self, client_of: ClientOf, gateway: Gateway) -> None:
        client = client_of("encode-prefill-decode")
        decoder, told = await client.pick(long("seen"), image=True)
        assert decoder in ("a", "b")
        assert told.headers[ENCODERS] == gateway.servers.address("e")
        assert gateway.servers.name(told.headers[PREFILLER]) in ("p", "q")
        _, told = await client.pick("no image")
        assert ENCODERS not in told.headers

    async def test_a_rank_is_reached_by_its_pods_first_port(self, client_of: ClientOf, gateway: Gateway) -> None:
        asked, told = await client_of("ranks").ask(long("ranks"))
        assert told.destinations == ["127.0.0.1:8000"]
        assert gateway.servers.name(told.headers[RANK]) in ("a", "b")
        await asked.end()


class TestHeaders:
    async def test_who_sends_a_sessions_token_comes_back(self, client_of: ClientOf, gateway: Gateway) -> None:
        client = client_of("session")
        asked, told = await client.ask("the beginning")
        first = gateway.servers.name(told.destinations[0])
        token = (await asked.answered())[TOKEN]
        await asked.end()
        assert {(await client.pick(f"and {number}", {TOKEN: token}))[0] for number in range(6)} == {first}
        assert {(await client.pick(f"another {number}"))[0] for number in range(40)} == {"a", "b", "c"}

    async def test_of_conformance_tests_name_endpoints_and_hear_who_served(self, client_of: ClientOf, gateway: Gateway) -> None:
        client = client_of("testing")
        c, a = map(gateway.servers.address, ("c", "a"))
        asked, told = await client.ask(headers={SELECTION: f"{c},{a}"})
        assert told.destinations == [c], "the first; the config's picker names one"
        assert (await asked.answered(served=a))["x-conformance-test-served-endpoint"] == a
        await asked.end()
        asked, told = await client.ask()
        assert told.status == 503
        await asked.end()

    async def test_any_request_is_drawn_where_nothing_of_it_is_read(self, client_of: ClientOf) -> None:
        client = client_of("payload-agnostic")
        assert {(await client.pick(f"any {number}"))[0] for number in range(40)} == {"a", "b", "c"}


class TestReports:
    async def test_what_an_answer_cost_is_told_with_its_end(self, client_of: ClientOf, gateway: Gateway) -> None:
        client = client_of("reporter")
        asked, _ = await client.ask("a document", seen=True)
        await asked.answered()
        assert await asked.piece(b'{"usage": {"prompt_tokens": 9, ') == {}
        assert await asked.piece(b'"completion_tokens": 5}}', last=True) == {"x-gateway-inference-request-cost": 14.0}
        await asked.end()
        asked, _ = await client.ask("events", seen=True, stream=True)
        await asked.answered({"content-type": "text/event-stream"})
        assert await asked.piece(b'data: {"usage": {"prompt_tokens": 9, "completion_tokens": 1}}\n\n') == {}
        assert await asked.piece(b"", last=True) == {"x-gateway-inference-request-cost": 10.0}
        await asked.end()
        asked, _ = await client.ask("says nothing", seen=True)
        await asked.answered()
        assert await asked.piece(b"{}", last=True) == {}
        await asked.end()
        assert gateway.metric("extproc_reported_attributes_total", pool="reporter") == 2


@pytest.mark.parametrize("stem", [stem for stem in FILES if stem not in REFUSED])
async def test_every_public_config_picks_from_its_pool(client_of: ClientOf, gateway: Gateway, stem: str) -> None:
    client = client_of(f"every-{stem}")
    inside = {gateway.servers.address(name) for name in EVERY}
    for number in range(3):
        asked, told = await client.ask(
            long(f"{stem} {number}"),
            {SELECTION: gateway.servers.address("a")},
            seen=number == 1,
            stream=number == 1,
            image=number == 2,
        )
        assert told.headers.get(RANK, told.headers.get(DESTINATION)) in inside, told
        if number == 1:
            await asked.answered({"content-type": "text/event-stream"})
            await asked.piece(b'data: {"usage": {"prompt_tokens": 9, "completion_tokens": 1}}\n\n')
            await asked.piece(b"", last=True)
        await asked.end()


def test_nothing_that_they_name_is_left_out(gateway: Gateway) -> None:
    page = gateway.page("/metrics?name[]=extproc_plugins_left_out")[1]
    assert [stem for stem in FILES if f'pool="every-{stem}"' in page] == []


async def test_the_picker_alone_with_endpoints_of_a_file(servers: ModelServers, tmp_path: Path) -> None:
    """`extproc epp` with a public config of file-discovery."""
    if not FILES:
        pytest.skip("the public configs are not beside the repository")
    file = tmp_path / "endpoints.yaml"
    file.write_text(yaml.safe_dump({"endpoints": servers.entries(["a", "b", "busy"])}))
    config = tmp_path / "picker.yaml"
    config.write_text(FILES["ae2d33f76a"].read_text().replace("/etc/epp/endpoints.yaml", str(file)))
    with Epp(config, servers, tmp_path) as picker:
        async with aio.insecure_channel(f"127.0.0.1:{picker.grpc}") as channel:
            client = Client(channel, picker, "any")
            first, _ = await client.pick(long("one"))
            assert {(await client.pick(long("one")))[0] for _ in range(4)} == {first}
            assert {(await client.pick(long(f"one {number}")))[0] for number in range(8)} == {"a", "b"}
            without_body = Asked(channel)
            await without_body.send(b"", "/v1/models", {})
            assert servers.name((await without_body.told()).destinations[0]) in ("a", "b")
            await without_body.end()
