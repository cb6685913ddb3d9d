"""The load, against a simulated server in this process; and the configs of the other parts."""

from __future__ import annotations

import asyncio
import json
from hashlib import sha256
from pathlib import Path

import orjson
import pytest

from extproc.demo.envoy import find_envoy
from extproc.demo.ports import free_ports
from extproc.settings.picker import load_picker_config
from extproc.settings.sim import SimSettings
from extproc.simulator import tokens
from extproc.simulator.answers import AnswerOptions, Speaker
from extproc.simulator.server import Simulator
from tests.evaluation.client import Client, said, session
from tests.evaluation.envoy import assignment, bootstrap
from tests.evaluation.policies import DEFAULT, LOAD
from tests.evaluation.real import picker_config, prefix_counter
from tests.evaluation.workload import ANSWER_TOKENS, Conversation, Turn, body_of

TALK = Conversation("system " * 64, (Turn(0.0, "first"), Turn(0.0, "second")))
FAST = SimSettings.model_validate(
    {"port": 0, "prefill_tokens_per_second": 1e7, "decode_step": "100us", "decode_step_per_sequence": "0s"}
)


async def test_a_conversation_goes_on_with_what_was_answered() -> None:
    """And that is what the same server answers in virtual time."""
    async with Simulator(FAST) as server, session() as http:
        client = Client(http, server.url)
        await client.run([TALK])
        async with http.get(f"{server.url}/sim/requests") as response:
            asked = [each["body_sha256"] for each in (await response.json())["requests"]]
        async with http.get(f"{server.url}/metrics") as response:
            page = await response.text()
    assert (len(client.ttft_s), client.failed, client.by_server) == (2, 0, {server.name: 2})
    prompt = tokens.encode(tokens.chat_segments(TALK.messages([])))
    answer = Speaker().answer(prompt, 0, AnswerOptions(ANSWER_TOKENS, ignore_eos=True)).text
    bodies = [orjson.dumps(body_of(TALK.messages(answers))) for answers in ([], [answer])]
    assert asked == [sha256(body).hexdigest() for body in bodies]
    assert 0 < prefix_counter(page, "hits") < prefix_counter(page, "queries")


async def test_who_is_not_there_fails() -> None:
    async with session() as http:
        client = Client(http, f"http://127.0.0.1:{free_ports(1)[0]}")
        await client.run([TALK])
    assert (client.ttft_s, client.failed) == ([], 2)


async def test_who_goes_away_in_the_middle_fails_and_the_conversation_goes_on() -> None:
    async with Simulator(FAST) as server, session() as http:
        async with http.post(f"{server.url}/sim/faults", json={"fault": "drop-after=3"}) as response:
            assert response.status == 200
        client = Client(http, server.url)
        await client.run([TALK])
    assert (len(client.ttft_s), client.failed) == (2, 2)


def test_of_an_answer_that_was_cut_what_is_whole_counts() -> None:
    event = b'data: {"choices": [{"delta": {"content": "one "}}]}\n\n'
    assert said(event * 2 + b"data: [DONE]\n\n") == "one one "
    assert said(event + event[:20]) == "one "
    assert said(b"") == ""


@pytest.mark.parametrize("policy", [LOAD, DEFAULT], ids=lambda policy: policy.name)
def test_the_pickers_config_has_its_pool_from_a_file(policy: object, tmp_path: Path) -> None:
    assert isinstance(policy, type(LOAD))
    config, warnings = load_picker_config(picker_config(policy, tmp_path / "pool.yaml"))
    assert warnings == []
    assert config.data_layer.discovery is not None
    assert config.data_layer.discovery.ref == "file-discovery"
    assert policy.problem() == ""


def test_a_picker_that_is_not_obeyed_is_asked_and_does_not_choose(tmp_path: Path) -> None:
    def parts(picker: int | None, obeyed: bool) -> tuple[list[str], str]:
        resources = bootstrap(10000, 9901, tmp_path / "eds.json", picker, obeyed=obeyed)["static_resources"]
        (chain,) = resources["listeners"][0]["filter_chains"]
        filters = [each["name"].rpartition(".")[2] for each in chain["filters"][0]["typed_config"]["http_filters"]]
        (policy,) = resources["clusters"][0]["load_balancing_policy"]["policies"]
        return filters, policy["typed_extension_config"]["name"].rpartition(".")[2]

    assert parts(None, True) == (["router"], "round_robin")
    assert parts(9002, False) == (["ext_proc", "router"], "round_robin")
    assert parts(9002, True) == (["ext_proc", "router"], "override_host")


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("picker", "obeyed"), [(None, True), (9002, False), (9002, True)], ids=["round robin", "asked", "picked"]
)
async def test_envoy_takes_its_config(picker: int | None, obeyed: bool, tmp_path: Path) -> None:
    (tmp_path / "eds.json").write_text(assignment([8000, 8001]))
    config = bootstrap(10000, 9901, tmp_path / "eds.json", picker, obeyed=obeyed)
    (tmp_path / "envoy.json").write_text(json.dumps(config))
    arguments = ("--mode", "validate", "--config-path", str(tmp_path / "envoy.json"))
    envoy = await asyncio.create_subprocess_exec(str(find_envoy()), *arguments, stderr=asyncio.subprocess.PIPE)
    _, log = await envoy.communicate()
    assert envoy.returncode == 0, log.decode()
