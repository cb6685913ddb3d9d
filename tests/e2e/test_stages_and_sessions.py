"""A real picker behind a real Envoy: stages, sessions and what is in flight, as the model servers and clients see it."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import pytest

from extproc.demo.envoy import envoy_child
from extproc.demo.ports import free_ports
from extproc.demo.processes import Child
from tests.e2e.parts import ADMIN, ENVOY, Answer, Endpoints, call, chat, until

pytestmark = pytest.mark.e2e

PREFILLER: Final = "x-prefiller-host-port"
ENCODERS: Final = "x-encoder-hosts-ports"
TOKEN: Final = "x-session-token"
ROLES: Final = {"llama-1": "decode", "llama-2": "decode", "llama-3": "prefill"}
CONFIG: Final = {
    "apiVersion": "llm-d.ai/v1alpha1",
    "kind": "EndpointPickerConfig",
    "plugins": [
        {"type": "disagg-profile-handler", "parameters": {"deciders": {"prefill": "prefix-based-pd-decider"}}},
        {"type": "prefix-based-pd-decider", "parameters": {"nonCachedTokens": 100}},
        {"type": "decode-filter"},
        {"type": "prefill-filter"},
        {"type": "session-affinity-filter"},
        {"type": "token-load-scorer"},
        {"type": "random-picker"},
        {"type": "file-discovery", "parameters": {"path": "endpoints.yaml"}},
    ],
    "dataLayer": {"discovery": {"pluginRef": "file-discovery"}},
    "schedulingProfiles": [
        {
            "name": "decode",
            "plugins": [
                {"pluginRef": name}
                for name in ("decode-filter", "session-affinity-filter", "token-load-scorer", "random-picker")
            ],
        },
        {"name": "prefill", "plugins": [{"pluginRef": "prefill-filter"}]},
    ],
}


class Picker:
    """`extproc epp` with endpoints of roles, and an Envoy in front of it."""

    def __init__(self, binary: Path, endpoints: Endpoints, directory: Path) -> None:
        self.endpoints = endpoints
        usual = [ENVOY, ADMIN, 9002, 9003, 9090]
        ports = dict(zip(usual, free_ports(len(usual), taken=endpoints.ports.values()), strict=True)) | endpoints.ports
        entries = [
            {"name": name, "address": "127.0.0.1", "port": endpoints.port_of[name], "labels": {"llm-d.ai/role": role}}
            for name, role in ROLES.items()
        ]
        (directory / "endpoints.yaml").write_text(json.dumps({"endpoints": entries}))
        config = directory / "picker.json"
        config.write_text(json.dumps(CONFIG).replace("endpoints.yaml", str(directory / "endpoints.yaml")))
        flags = ["--host", "127.0.0.1", "--config-file", str(config)]
        for flag, port in (("grpc-port", 9002), ("grpc-health-port", 9003), ("metrics-port", 9090)):
            flags += [f"--{flag}", str(ports[port])]
        self.server = Child("epp", [sys.executable, "-m", "extproc", "epp", *flags], directory)
        self.envoy = envoy_child(binary, "one-hop.yaml", ports, directory)
        self.url = f"http://127.0.0.1:{ports[ENVOY]}"
        self.pages = f"http://127.0.0.1:{ports[9090]}"
        self._admin = f"http://127.0.0.1:{ports[ADMIN]}"

    def start(self) -> None:
        self.server.start()
        self.envoy.start()
        for child, url in ((self.envoy, f"{self._admin}/ready"), (self.server, f"{self.pages}/readyz")):
            self._wait(child, url)

    def _wait(self, child: Child, url: str) -> None:
        def ready() -> bool:
            child.check()
            return call(url, url[url.rindex("/") :]).status == 200

        until(ready, what=f"{child.name} is ready")

    def stop(self) -> None:
        self.envoy.stop()
        self.server.stop()

    def ask(self, text: str, headers: Mapping[str, str] = {}) -> tuple[Answer, str, dict[str, str]]:
        """The answer, who served it, and the headers that came there."""
        answer = call(self.url, "/v1/chat/completions", chat(text=text), headers)
        assert answer.status == 200, answer
        name = answer.endpoint
        seen = self.endpoints.requests(name)[-1]
        return answer, name, {key.lower(): value for key, value in seen["headers"]}

    def metric(self, pattern: str) -> float:
        """The sum of the samples whose line begins so."""
        page = call(self.pages, "/metrics").body.decode()
        return sum(float(value) for value in re.findall(rf"^{pattern} (\S+)$", page, re.M))


@pytest.fixture(scope="module")
def running(envoy_binary: Path, session_endpoints: Endpoints, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Picker]:
    picker = Picker(envoy_binary, session_endpoints, tmp_path_factory.mktemp("picker"))
    try:
        picker.start()
        yield picker
    finally:
        picker.stop()


@pytest.fixture
def picker(running: Picker, endpoints: Endpoints) -> Picker:
    return running


def test_a_long_prompt_is_prefilled_elsewhere_until_it_is_cached_where_it_is_decoded(picker: Picker) -> None:
    text = "Once upon a time there was a prompt that is long. " * 40
    spoofed = {PREFILLER: "6.6.6.6:80", ENCODERS: "6.6.6.6:80"}
    before = picker.metric(r'llm_d_epp_disagg_decision_total\{decision_type="prefill-decode".*\}')
    answer, decoder, seen = picker.ask(text, spoofed)
    assert ROLES[decoder] == "decode"
    assert seen[PREFILLER] == picker.endpoints.address("llama-3"), "and not what the client said"
    assert ENCODERS not in seen
    assert picker.metric(r'llm_d_epp_disagg_decision_total\{decision_type="prefill-decode".*\}') == before + 1
    _, again, seen = picker.ask(text, {**spoofed, TOKEN: answer.headers[TOKEN]})
    assert again == decoder
    assert PREFILLER not in seen, "it is cached there; and the client's own does not get through either"


def test_a_short_prompt_is_not(picker: Picker) -> None:
    _, _, seen = picker.ask("hello", {PREFILLER: "6.6.6.6:80"})
    assert PREFILLER not in seen


def test_who_sends_the_token_back_comes_back(picker: Picker) -> None:
    answer, first, _ = picker.ask("the beginning of a conversation")
    others = {picker.ask(f"somebody else {number}")[1] for number in range(20)}
    assert others == {"llama-1", "llama-2"}, "both decode"
    for number in range(10):
        again, name, _ = picker.ask(f"and then {number}", {TOKEN: answer.headers[TOKEN]})
        assert (name, again.headers[TOKEN]) == (first, answer.headers[TOKEN])


def test_nothing_stays_in_flight(picker: Picker) -> None:
    picker.ask("one more " * 200)
    until(lambda: picker.metric(r"extproc_inflight_tokens\{.*\}") == 0, what="no tokens are in flight")
    pools = call(picker.pages, "/debug/endpoints").json["pools"]
    until(lambda: not any(each["in_flight"] for pool in pools for each in pool["endpoints"]), what="no requests are in flight")
