"""The form of an endpoint's shadows."""

from __future__ import annotations

from typing import Any

import pytest

from extproc.control.deliveries import shadows_of
from extproc.settings.base import SettingsError
from extproc.settings.serving import read_config
from extproc.settings.serving.delivery import check
from extproc.traffic.shadows import ShadowSpec


def problems(**fields: Any) -> list[str]:
    with pytest.raises(SettingsError) as wrong:
        read_config({"shadows": [{"entity": "b", "percentage": 10, **fields}]}, "chat")
    return wrong.value.problems


def kept(*shadows: dict[str, Any]) -> Any:
    return read_config({"shadows": list(shadows)}, "chat")[0].delivery["shadows"]


def test_what_is_given_is_kept_and_the_rest_is_as_usual() -> None:
    given = {"entity": "b", "percentage": 2.5, "copy_headers": ["X-Team"], "keep_bodies": {"max_bytes": 100}}
    assert kept(given) == [{**given, "copy_headers": ["x-team"]}]
    assert shadows_of({"shadows": kept(given)}) == (
        ShadowSpec(
            entity="b",
            share=0.025,
            salt="",
            max_in_flight=8,
            max_bytes=64 * 2**20,
            max_per_second=50.0,
            timeout_s=60.0,
            max_answer_bytes=4 * 2**20,
            max_saturation=0.7,
            min_similarity=None,
            max_difference=1e-6,
            copy_headers=("x-team",),
            kept_body_bytes=100,
            kept_body_s=3600.0,
        ),
    )
    assert shadows_of({}) == ()


@pytest.mark.parametrize(("given", "bytes_"), [(True, 16384), (False, 0), (None, 0)])
def test_bodies_are_kept_as_usual_or_not(given: object, bytes_: int) -> None:
    (spec,) = shadows_of({"shadows": kept({"entity": "b", "percentage": 1, "keep_bodies": given})})
    assert spec.kept_body_bytes == bytes_


def test_the_salt_is_the_shadows_own() -> None:
    one, other = shadows_of({"shadows": kept({"entity": "b", "percentage": 1}, {"entity": "c", "percentage": 1, "salt": "s"})})
    assert (one.salt_of("chat"), other.salt_of("chat")) == (b"chat/b", b"s")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"percentage": 101}, "shadows[0].percentage: got 101; expected a number from 0 to 100"),
        ({"percentage": "10"}, "shadows[0].percentage: got '10'; expected a number from 0 to 100"),
        ({"percentage": True}, "shadows[0].percentage: got True; expected a number from 0 to 100"),
        ({"max_in_flight": 0}, "shadows[0].max_in_flight: got 0; expected a whole number from 1 to 1000"),
        ({"max_bytes": 5}, "shadows[0].max_bytes: got 5; expected a whole number from 1048576 to 68719476736"),
        ({"timeout_seconds": 0}, "shadows[0].timeout_seconds: got 0; expected seconds from 0.1 to 3600"),
        ({"min_similarity": 2}, "shadows[0].min_similarity: got 2; expected a number from 0 to 1"),
        ({"max_inflight": 3}, "shadows[0].max_inflight: unknown key; expected only keys that are known here"),
        (
            {"copy_headers": ["Host"]},
            "shadows[0].copy_headers[0]: got 'Host'; expected a header that says nothing of the connection, and that is not "
            "made anew for a copy",
        ),
        ({"copy_headers": ["a b"]}, "shadows[0].copy_headers[0]: got 'a b'; expected the name of a header"),
        (
            {"keep_bodies": {"max_age_seconds": 1e9}},
            "shadows[0].keep_bodies.max_age_seconds: got 1000000000.0; expected seconds from 1 to 86400",
        ),
    ],
)
def test_what_is_wrong(fields: dict[str, Any], said: str) -> None:
    assert problems(**fields) == [said]


def test_too_many() -> None:
    with pytest.raises(SettingsError, match=r"shadows: .*expected at most 4"):
        kept(*[{"entity": f"e{n}", "percentage": 1} for n in range(5)])


OWN = [{"name": "a", "entity_name": "m"}, {"name": "b", "entity_name": "n"}]


def test_entities_are_the_endpoints_and_each_once() -> None:
    shadows = [{"entity": name, "percentage": 1} for name in ("b", "z", "b")]
    assert check({"shadows": shadows}, OWN, "x.") == [
        "x.shadows[1].entity: got 'z'; expected one of the endpoint's served entities: a, b",
        "x.shadows[2].entity: got 'b', which x.shadows[0] has; expected each entity once",
    ]


def test_a_shadow_of_itself() -> None:
    assert check({"shadows": [{"entity": "a", "percentage": 1}]}, OWN[:1], "") == [
        "shadows[0].entity: got 'a', which serves every request; expected another to compare with"
    ]


def test_providers_get_no_copies() -> None:
    external = [{"name": "gpt", "external_model": {"provider": "openai"}}]
    assert check({"shadows": [{"entity": "gpt", "percentage": 1}]}, external, "") == [
        "shadows: got 1; expected none with external models: a copy would take the client's data to a provider, at its price"
    ]
