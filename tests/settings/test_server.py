"""Where a server listens, and by what."""

from __future__ import annotations

import pytest

from extproc.cli.options import from_text
from extproc.settings.base import Settings, SettingsError
from extproc.settings.commands import BbrSettings, EppSettings, GatewaySettings
from extproc.settings.server import (
    DrainSettings,
    Http2Settings,
    ListenSettings,
    MetricsPortSettings,
    ServerSettings,
    TlsSettings,
)


def settings(**flags: str) -> ServerSettings:
    return from_text(BbrSettings, flags, {}, [])


def problems(**flags: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        settings(**flags)
    return caught.value.problems


@pytest.mark.parametrize("model", [BbrSettings, EppSettings, GatewaySettings])
def test_tls_is_on_by_default_as_upstream_s(model: type[ServerSettings]) -> None:
    assert from_text(model, {"config_file": "x"} if model is GatewaySettings else {}, {}, []).tls


def test_plaintext() -> None:
    assert not settings(secure_serving="false").tls
    assert not settings(grpc_socket="/run/x").tls


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ("/run/x.sock", "/run/x.sock"),
        ("unix:/run/x.sock", "/run/x.sock"),
        ("unix:///run/x.sock", "/run/x.sock"),
        ("unix:x.sock", "x.sock"),
        ("x.sock", "x.sock"),
        ("@extproc", "@extproc"),
    ],
)
def test_socket_paths(given: str, path: str) -> None:
    assert settings(grpc_socket=given).grpc_socket == path


@pytest.mark.parametrize("given", ["unix:", "unix://", "@", "a\0b"])
def test_no_socket_path(given: str) -> None:
    assert problems(grpc_socket=given)[0].startswith("--grpc-socket: expected a path such as ")


@pytest.mark.parametrize(("given", "mode"), [("0660", 0o660), ("666", 0o666), ("0o600", 0o600)])
def test_modes(given: str, mode: int) -> None:
    assert settings(grpc_socket_mode=given).grpc_socket_mode == mode


@pytest.mark.parametrize("given", ["", "rw", "0888", "66", "07777"])
def test_no_mode(given: str) -> None:
    assert problems(grpc_socket_mode=given)[0].startswith("--grpc-socket-mode: expected permissions in octal such as 0660")


def test_a_port_that_is_not_used_clashes_with_none() -> None:
    assert problems(grpc_port="9090") == ["--grpc-port and --metrics-port are both 9090"]
    assert settings(grpc_port="9090", grpc_socket="x").grpc_port == 9090


def test_clients_are_never_left_unverified_by_accident() -> None:
    why = "--client-ca-file: no client can be verified, --secure-serving is false"
    assert problems(client_ca_file="ca.crt", secure_serving="false") == [why]
    why = "--client-ca-file: no client can be verified, --grpc-socket is plaintext"
    assert problems(client_ca_file="ca.crt", grpc_socket="/run/x") == [why]


class TestHttp2:
    def test_windows_are_what_http2_can_say(self) -> None:
        assert problems(initial_stream_window_size="65534", initial_connection_window_size="2Gi") == [
            "--initial-stream-window-size: expected 65535 (what HTTP/2 starts with) to 2^31-1 (got '65534')",
            "--initial-connection-window-size: expected 65535 (what HTTP/2 starts with) to 2^31-1 (got '2Gi')",
        ]
        assert settings(initial_stream_window_size="65535").initial_stream_window_size == 65_535

    def test_at_least_one_stream(self) -> None:
        assert problems(max_concurrent_streams="0") == ["--max-concurrent-streams: expected 1 to 2^31-1 (got '0')"]

    def test_an_unknown_transport(self) -> None:
        (problem,) = problems(transport="http3")
        assert problem.startswith("--transport: ")
        assert "'h2'" in problem


@pytest.mark.parametrize(
    ("part", "rule"),
    [
        (ListenSettings, {"grpc_socket": "@"}),
        (TlsSettings, {"client_ca_file": "x", "secure_serving": "false"}),
        (MetricsPortSettings, {"metrics_client_ca_file": "x"}),
        (Http2Settings, {"max_concurrent_streams": "0"}),
        (DrainSettings, {"drain_timeout": "soon"}),
    ],
)
def test_a_part_is_whole_by_itself_and_its_rules_are_every_server_s(part: type[Settings], rule: dict[str, str]) -> None:
    part()
    with pytest.raises(SettingsError) as alone:
        from_text(part, rule, {}, [])
    assert problems(**rule) == alone.value.problems


def test_a_part_has_nothing_of_another() -> None:
    assert not {"metrics_port", "drain_timeout", "max_held_bytes"} & set(TlsSettings.model_fields)
