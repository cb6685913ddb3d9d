"""What a served entity costs, from its document to what requests read."""

from __future__ import annotations

from typing import Any

import pytest

from extproc.control.changes import Create
from extproc.settings.base import SettingsError
from extproc.settings.serving import read_create
from extproc.traffic import Price
from tests.control.desks import Bench, document


def priced(price: Any) -> dict[str, Any]:
    made = document()
    made["config"]["served_entities"][1]["price"] = price
    return made


@pytest.mark.parametrize(
    ("price", "expected"),
    [
        ({"input_per_million": 0.25, "output_per_million": 2}, Price(0.25, 2.0)),
        ({"per_request": 0.001, "currency": "EUR"}, Price(0.0, 0.0, 0.001, "EUR")),
        ({"input_per_million": 0}, Price()),
    ],
)
async def test_it_is_kept_and_served(price: dict[str, Any], expected: Price) -> None:
    bench = Bench()
    await bench.desk.open()
    await bench.desk.apply(Create(priced(price)), "alice")
    assert bench.desk.get("chat").entities[1]["price"] == price
    endpoint = bench.table.get("chat")
    assert endpoint is not None
    assert [entity.price for entity in endpoint.entities] == [None, expected]


@pytest.mark.parametrize(
    ("price", "words"),
    [
        ({"currency": "EUR"}, "expected input_per_million, output_per_million or per_request"),
        ({"input_per_million": -1}, "price.input_per_million: got -1; expected a number from 0 to a billion"),
        ({"input_per_million": "1"}, "price.input_per_million: got '1'; expected a number"),
        ({"input_per_million": True}, "price.input_per_million: got True; expected a number"),
        ({"input_per_token": 1, "per_request": 1}, "price.input_per_token: unknown key"),
        (3, "price: got 3; expected an object"),
    ],
)
def test_no_price(price: Any, words: str) -> None:
    with pytest.raises(SettingsError) as raised:
        read_create(priced(price))
    assert any(words in problem for problem in raised.value.problems), raised.value.problems


def test_of_a_request() -> None:
    price = Price(1.0, 2.0, 0.5)
    assert price.of(1_000_000, 500_000) == pytest.approx(2.5)
    assert price.of(-1, 5) < 0
    assert Price(per_request=0.5).of(-1, -1) == 0.5
