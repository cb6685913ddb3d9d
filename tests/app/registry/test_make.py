"""From settings to a registry: where it is, who asks, and which certificates are believed."""

from __future__ import annotations

import base64
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from extproc.app.registry.component import FollowedRegistry
from extproc.app.registry.make import planned_registry
from extproc.observability.instruments import Instruments
from extproc.registry.known import Unresolved
from extproc.registry.references import Reference
from extproc.secrets import EnvironmentSource, SecretStore
from extproc.settings.base import SettingsError
from extproc.settings.registry import RegistrySettings, RegistrySpec
from extproc.traffic import Catalog
from tests.app.registry.test_client import answering
from tests.fakes.certificates import Authority

CHURN = Reference("churn", alias="champion")


def made(spec: Mapping[str, Any], environ: Mapping[str, str] = {}, settings: Mapping[str, str] = {}) -> FollowedRegistry | None:
    found = planned_registry(
        RegistrySpec.model_validate(spec),
        RegistrySettings.model_validate(settings),
        Path("/nowhere"),
        {"a": "model-a"},
        Catalog(pools=["a"]),
        SecretStore([EnvironmentSource(environ)]),
        Instruments(),
    )
    return None if found is None else found[0]


async def asked(spec: Mapping[str, Any], environ: Mapping[str, str] = {}) -> tuple[list[str], str]:
    """The credentials that the server saw, and why it could not be asked."""
    seen: list[str] = []

    async def guarded(request: web.Request) -> web.Response:
        seen.append(request.headers.get("authorization", ""))
        return web.json_response({"registered_model": {"name": "churn"}}, status=200 if "right" in seen[-1] else 401)

    async with answering(guarded) as uri:
        registry = made({"uri": uri, **spec}, environ)
        assert registry is not None
        await registry.learn([CHURN])
        with pytest.raises(Unresolved) as raised:
            registry.block(CHURN)
        await registry.close()
    return seen, str(raised.value)


def test_without_an_address_there_is_no_registry() -> None:
    assert made({"interval": "5s"}) is None


@pytest.mark.parametrize(
    ("spec", "settings", "there"),
    [
        ({"uri": "http://file"}, {"registry_uri": "http://flag"}, "http://file"),
        ({}, {"registry_uri": "http://flag", "tracking_uri": "http://tracking"}, "http://flag"),
        ({}, {"tracking_uri": "http://tracking"}, "http://tracking"),
    ],
)
def test_the_file_goes_before_flags(spec: Mapping[str, Any], settings: dict[str, str], there: str) -> None:
    registry = made(spec, settings=settings)
    assert registry is not None
    assert repr(registry._asking._client) == f"<RegistryClient {there}/api/2.0/mlflow>"


async def test_a_token_is_read_from_where_secrets_are() -> None:
    seen, why = await asked({"token": "{{secrets/ml/token}}"}, {"EXTPROC_SECRET_ML_TOKEN": "right"})
    assert seen == ["Bearer right"]
    assert "expected an alias" in why


async def test_a_users_password_too() -> None:
    spec = {"username": "alice", "password": "{{secrets/ml/pw}}"}
    seen, _ = await asked(spec, {"EXTPROC_SECRET_ML_PW": "secret"})
    assert seen == [f"Basic {base64.b64encode(b'alice:secret').decode()}"]


async def test_wrong_credentials_are_said_and_not_shown() -> None:
    seen, why = await asked({"token": "{{secrets/ml/token}}"}, {"EXTPROC_SECRET_ML_TOKEN": "wrong"})
    assert seen == ["Bearer wrong"]
    assert "can't be asked now: status 401; expected credentials that may read registered models" in why
    assert "wrong" not in why


@pytest.mark.parametrize(
    ("environ", "words"),
    [({}, "registry.token: secret {{secrets/ml/token}}: not found"), ({"EXTPROC_SECRET_ML_TOKEN": "a\nb"}, "several lines")],
)
async def test_credentials_that_can_not_be_had_ask_nobody(environ: dict[str, str], words: str) -> None:
    seen, why = await asked({"token": "{{secrets/ml/token}}"}, environ)
    assert seen == []
    assert words in why


async def test_a_certificate_is_believed_when_its_authority_is_and_another_one_when_it_is_on_disk(tmp_path: Path) -> None:
    ours, other = Authority("ours"), Authority("other")
    signed = ours.issue().write(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(signed / "tls.crt", signed / "tls.key")
    authorities = tmp_path / "ca.pem"
    authorities.write_bytes(other.pem)

    async def mlflow(_: web.Request) -> web.Response:
        return web.json_response({"registered_model": {"name": "churn"}})

    async with answering(mlflow, tls) as uri:
        registry = made({"uri": uri, "caFile": str(authorities)})
        assert registry is not None
        await registry.learn([CHURN])
        with pytest.raises(Unresolved, match=r"can't be asked now: TLS: .*certificate verify failed"):
            registry.block(CHURN)
        authorities.write_bytes(ours.pem)
        await registry.learn([CHURN])
        with pytest.raises(Unresolved, match="expected an alias"):
            registry.block(CHURN)
        await registry.close()
        careless = made({"uri": uri, "insecureSkipVerify": True})
        assert careless is not None
        await careless.learn([CHURN])
        with pytest.raises(Unresolved, match="expected an alias"):
            careless.block(CHURN)
        await careless.close()


def test_a_file_of_certificates_that_is_none_is_refused_at_the_start() -> None:
    with pytest.raises(SettingsError, match=r"registry.caFile: got 'ca.pem': .*expected a file of certificates in PEM"):
        made({"uri": "https://mlflow.example", "caFile": "ca.pem"})
