"""External providers of a gateway: what requests need of them, and what is said to whoever configures one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from extproc.app.endpoints import ExternalProviders
from extproc.credentials import Secret
from extproc.errors import EntityNotServed, ProviderUnreachable, SecretMissing
from extproc.live import LiveWriter
from extproc.secrets import EnvironmentSource, SecretStore
from extproc.settings.serving import PLAINTEXT_SCOPE
from extproc.traffic import Catalog, EndpointSpec, EntitySpec, ExternalSpec, ServingEndpoint, TrafficTable
from tests.app.running import until

HOST = "api.example.com"
KEY = "sk-a-key-of-the-provider"


def external(host: str = HOST, reference: str = "{{secrets/scope/key}}", scheme: str = "https") -> ExternalSpec:
    options = (("openai_api_base", f"{scheme}://{host}/v1"), ("openai_api_key", reference))
    return ExternalSpec("gpt-4o", "openai", "llm/v1/chat", options)


def endpoint(*specs: ExternalSpec) -> EndpointSpec:
    entities = tuple(EntitySpec(f"e{index}", external=spec) for index, spec in enumerate(specs))
    return EndpointSpec("chat", entities, (100, *[0] * (len(specs) - 1)))


class Names:
    """What names lead to."""

    def __init__(self, **addresses: Sequence[str]) -> None:
        self.addresses = {name.replace("_", "."): found for name, found in addresses.items()}
        self.asked: list[str] = []

    async def __call__(self, name: str) -> Sequence[str]:
        self.asked.append(name)
        if name not in self.addresses:
            raise OSError("no such name")
        return self.addresses[name]


def providers(
    *specs: ExternalSpec, names: Names | None = None, environ: dict[str, str] | None = None, **words: Any
) -> ExternalProviders:
    table = LiveWriter(TrafficTable([ServingEndpoint(endpoint(*specs), Catalog())] if specs else []))
    secrets = SecretStore([EnvironmentSource({"EXTPROC_SECRET_SCOPE_KEY": KEY} if environ is None else environ)])
    plaintext = words.pop("plaintext", lambda handle: None)
    resolver = names or Names(api_example_com=["9.9.9.7", "9.9.9.8"])
    return ExternalProviders(table.live, secrets, plaintext, resolver=resolver, look_s=0.005, **words)


async def words_of(known: ExternalProviders, *specs: ExternalSpec) -> list[str]:
    return [f"{each.entity} {each.field}: {each.words}" for each in await known.verify(endpoint(*specs))]


async def test_a_request_finds_what_the_table_names() -> None:
    known = providers(external())
    running = asyncio.create_task(known.run(asyncio.Event()))
    try:
        model = known.model(external())

        async def there() -> bool:
            try:
                return known.secret(model) == Secret(KEY) and bool(known.address(model))
            except (SecretMissing, ProviderUnreachable):
                return False

        await until(there)
        assert {known.address(model) for _ in range(4)} == {"9.9.9.7:443", "9.9.9.8:443"}, "each in turn"
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_what_was_verified_is_there_for_the_first_request() -> None:
    known = providers()
    assert await words_of(known, external()) == []
    model = known.model(external())
    assert known.secret(model) == Secret(KEY)
    assert known.address(model).startswith("9.9.9.")


async def test_what_was_verified_outlives_a_change_that_does_not_know_of_it_yet() -> None:
    """Another endpoint changes between the check of this one and its storing, and names are resolved anew."""
    table = LiveWriter(TrafficTable([]))
    secrets = SecretStore([EnvironmentSource({"EXTPROC_SECRET_SCOPE_KEY": KEY})])
    names = Names(api_example_com=["9.9.9.7"], other_example_com=["9.9.9.9"])
    known = ExternalProviders(table.live, secrets, lambda handle: None, resolver=names, look_s=0.005)
    running = asyncio.create_task(known.run(asyncio.Event()))
    try:
        assert await words_of(known, external()) == []
        table.replace(TrafficTable([ServingEndpoint(endpoint(external("other.example.com")), Catalog())]))

        async def there() -> bool:
            try:
                return bool(known.address(known.model(external("other.example.com"))))
            except ProviderUnreachable:
                return False

        await until(there)
        model = known.model(external())
        assert known.secret(model) == Secret(KEY)
        assert known.address(model) == "9.9.9.7:443"
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_secret_that_is_missing_is_told_by_its_reference() -> None:
    (problem,) = await words_of(providers(environ={}), external())
    assert problem.startswith("e0 openai_config.openai_api_key: got {{secrets/scope/key}}; not found; looked for the variable")


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["10.1.2.3", "169.254.169.254"], ["::1"]])
async def test_a_name_that_leads_inside_is_refused_and_never_asked(addresses: list[str]) -> None:
    known = providers(names=Names(api_example_com=addresses))
    (problem,) = await words_of(known, external())
    assert problem == f"e0 : got the host {HOST}, which is inside our own network; --external-allow={HOST} allows it"
    with pytest.raises(ProviderUnreachable, match="only addresses inside our own network"):
        known.address(known.model(external()))


async def test_of_several_addresses_those_inside_are_left_out() -> None:
    known = providers(names=Names(api_example_com=["10.0.0.1", "9.9.9.9"]))
    assert await words_of(known, external()) == []
    assert {known.address(known.model(external())) for _ in range(4)} == {"9.9.9.9:443"}


async def test_hosts_that_are_allowed_may_be_inside_and_speak_plain_http() -> None:
    spec = external("127.0.0.1:9100", scheme="http")
    (problem,) = await words_of(providers(), spec)
    assert "plain http to 127.0.0.1 is not allowed" in problem
    known = providers(allowed=["127.0.0.1:9100"])
    assert await words_of(known, spec) == []
    assert known.address(known.model(spec)) == "127.0.0.1:9100"


async def test_a_name_that_can_t_be_resolved_is_no_fault_of_the_configuration() -> None:
    known = providers(names=Names())
    assert await words_of(known, external()) == []
    with pytest.raises(ProviderUnreachable, match="its name is not resolved"):
        known.address(known.model(external()))


async def test_a_secret_given_as_text_is_opened_by_its_handle() -> None:
    spec = external(reference=f"{{{{secrets/{PLAINTEXT_SCOPE}/handle}}}}")
    known = providers(plaintext={"handle": Secret("given-as-text")}.get)
    assert await words_of(known, spec) == []
    assert known.secret(known.model(spec)) == Secret("given-as-text")
    with pytest.raises(SecretMissing, match="given as text can't be read"):
        providers().secret(known.model(spec))


async def test_what_can_t_be_read_any_more_is_an_entity_that_is_not_served() -> None:
    with pytest.raises(EntityNotServed, match="can't be asked"):
        providers().model(external("127.0.0.1", scheme="http"))
