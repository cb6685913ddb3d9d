"""Other ways between a real Envoy and us than the TLS without verification of envoy/*.yaml."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.parts import Endpoints, Stack, call, chat, until
from tests.fakes.certificates import Authority

pytestmark = pytest.mark.e2e

CHAT = "/v1/chat/completions"
OURS = ("gateway", "router", "picker-llama", "picker-phi4")
Start = Callable[..., contextlib.AbstractContextManager[Stack]]


@pytest.fixture
def start(envoy_binary: Path, endpoints: Endpoints, tmp_path: Path) -> Start:
    @contextlib.contextmanager
    def started(kind: str, *flags: str, change: Callable[[dict[str, Any]], None]) -> Iterator[Stack]:
        def change_ours(document: dict[str, Any]) -> None:
            for cluster in document["static_resources"]["clusters"]:
                if cluster["name"] in OURS:
                    change(cluster)

        stack = Stack(kind, envoy_binary, endpoints, tmp_path, flags=flags, change=change_ours)
        try:
            stack.start()
            yield stack
        finally:
            stack.stop()

    return started


def without_tls(cluster: dict[str, Any]) -> None:
    del cluster["transport_socket"]


@pytest.mark.parametrize("kind", ["one-hop", "two-stage"])
def test_plaintext(start: Start, kind: str) -> None:
    with start(kind, "--secure-serving=false", change=without_tls) as stack:
        for pool in ("llama", "phi4"):
            answer = call(stack.url, CHAT, chat(pool))
            assert (answer.status, answer.endpoint.split("-")[0]) == (200, pool)


def test_plaintext_to_a_server_with_tls(start: Start) -> None:
    with start("one-hop", change=without_tls) as stack:
        assert call(stack.url, CHAT, chat()).status == 503


def test_unix_socket(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "grpc.sock"

    def pipe(cluster: dict[str, Any]) -> None:
        without_tls(cluster)
        (host,) = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
        host["endpoint"]["address"] = {"pipe": {"path": str(path)}}

    with start("one-hop", "--grpc-socket", str(path), change=pipe) as stack:
        answer = call(stack.url, CHAT, chat())
        assert (answer.status, answer.endpoint.split("-")[0]) == (200, "llama")
        gateway = stack.servers["gateway"]
        gateway.kill()
        assert path.exists()
        gateway.start()  # takes the place of what it left
        stack.wait_server("gateway")
        until(lambda: call(stack.url, CHAT, chat()).status == 200)
        gateway.stop()
        assert not path.exists()


def test_both_sides_verified_and_a_new_certificate(start: Start, tmp_path: Path) -> None:
    """Also what it takes in Envoy's config: the comment in envoy/*.yaml says it in words."""
    ours, clients = Authority("ours"), Authority("clients")
    folder = ours.issue("gateway.test").write(tmp_path / "server")
    client = clients.issue("envoy").write(tmp_path / "client")
    (tmp_path / "ours.crt").write_bytes(ours.pem)
    (tmp_path / "clients.crt").write_bytes(clients.pem)

    def verify(cluster: dict[str, Any]) -> None:
        common = cluster["transport_socket"]["typed_config"]["common_tls_context"]
        common["validation_context"] = {
            "trusted_ca": {"filename": str(tmp_path / "ours.crt")},
            "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": "gateway.test"}}],
        }
        common["tls_certificates"] = [
            {
                "certificate_chain": {"filename": str(client / "tls.crt")},
                "private_key": {"filename": str(client / "tls.key")},
            }
        ]

    flags = ("--cert-path", str(folder), "--client-ca-file", str(tmp_path / "clients.crt"), "--enable-cert-reload")
    with start("one-hop", *flags, change=verify) as stack:
        assert call(stack.url, CHAT, chat()).status == 200
        ours.issue("gateway.test").write(folder)
        until(lambda: b'result="success"} 1.0' in call(stack.pages["gateway"], "/metrics").body)
        assert call(stack.url, CHAT, chat()).status == 200  # by the connection of before
        stack.envoy.kill()
        stack.start_envoy()
        until(lambda: call(stack.url, CHAT, chat()).status == 200)
        ours.issue("somebody.else").write(folder)
        until(lambda: b'result="success"} 2.0' in call(stack.pages["gateway"], "/metrics").body)
        stack.envoy.kill()
        stack.start_envoy()
        assert call(stack.url, CHAT, chat()).status == 503


def test_a_client_without_certificate_is_refused(start: Start, tmp_path: Path) -> None:
    (tmp_path / "clients.crt").write_bytes(Authority("clients").pem)
    with start("one-hop", "--client-ca-file", str(tmp_path / "clients.crt"), change=lambda cluster: None) as stack:
        assert call(stack.url, CHAT, chat()).status == 503
