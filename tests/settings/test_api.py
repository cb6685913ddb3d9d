"""Where the API listens and who may use it."""

from __future__ import annotations

from typing import Any

import pytest

from extproc.settings.api import ApiSettings, is_loopback
from extproc.settings.base import SettingsError, validate
from extproc.settings.commands import GatewaySettings


@pytest.mark.parametrize(
    ("values", "mode"),
    [
        ({}, "off"),
        ({"api_port": 9004}, "off"),
        ({"api_port": 9004, "api_bind_address": "::1"}, "off"),
        ({"api_port": 9004, "api_bind_address": "localhost", "api_auth": "off"}, "off"),
        ({"api_port": 9004, "api_bind_address": "0.0.0.0", "api_tokens_file": "/etc/tokens.yaml"}, "tokens"),
        ({"api_port": 9004, "api_bind_address": "0.0.0.0", "api_auth": "kubernetes"}, "kubernetes"),
        ({"api_bind_address": "0.0.0.0"}, "off"),
    ],
)
def test_who_may_use_it(values: dict[str, Any], mode: str) -> None:
    assert validate(ApiSettings, values).api_auth_mode == mode


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"api_port": 9004, "api_bind_address": "0.0.0.0"}, "--api-bind-address: got 0.0.0.0 with --api-auth off"),
        ({"api_port": 9004, "api_bind_address": "10.0.0.1", "api_auth": "off"}, "expected a loopback address"),
        ({"api_port": 9004, "api_bind_address": "host.example"}, "--api-bind-address: got host.example"),
        ({"api_auth": "tokens"}, "--api-auth: got tokens without --api-tokens-file"),
        ({"api_auth": "off", "api_tokens_file": "x"}, "--api-auth: got off with --api-tokens-file"),
        ({"api_auth": "kubernetes", "api_tokens_file": "x"}, "--api-auth: got kubernetes with --api-tokens-file"),
        ({"api_bind_address": " "}, "expected an address or a name"),
        ({"api_port": 70_000}, "api_port"),
    ],
)
def test_what_is_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        validate(ApiSettings, values)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost", True),
        ("LOCALHOST.", True),
        ("0.0.0.0", False),
        ("::", False),
        ("", False),
        ("10.0.0.1", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
    ],
)
def test_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_the_api_s_port_is_nobody_else_s() -> None:
    with pytest.raises(ValueError, match="--metrics-port and --api-port are both 9090"):
        GatewaySettings(config_file="gateway.yaml", api_port=9090, metrics_port=9090)
