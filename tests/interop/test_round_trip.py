"""What is rendered and taken back is what it was, wherever nothing was said to be lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import yaml
from hypothesis import given, note

from extproc.interop import (
    Endpoint,
    Losses,
    Placing,
    document_of,
    inference_services,
    knative_services,
    llm_services,
    of_istio,
    of_kserve,
    read_endpoint,
    virtual_service,
)
from extproc.interop.naming import Backend
from extproc.settings.base import SettingsError
from extproc.settings.document import load_documents
from tests.fakes.fuzz import examples
from tests.interop.documents import Document, endpoints, splits

Objects = list[dict[str, Any]]


def through_text(objects: Objects) -> list[tuple[object, str]]:
    """As a user's file has them."""
    text = yaml.safe_dump_all(objects, sort_keys=False, allow_unicode=True)
    return [(each.value, "") for each in load_documents(text)]


def by_name(document: Document) -> Document:
    """Entities in no order, as KServe has the one with the most first."""
    config = document["config"]
    routes = sorted(config["traffic_config"]["routes"], key=lambda each: str(each["served_entity_name"]))
    entities = sorted(config["served_entities"], key=lambda each: str(each["name"]))
    return {**document, "config": {"served_entities": entities, "traffic_config": {"routes": routes}}}


@pytest.mark.timeout(180)
@examples(40)
@given(endpoints())
def test_istio(document: Document) -> None:
    losses = Losses()
    objects = virtual_service(read_endpoint(document, losses), Placing(), losses)
    note(yaml.safe_dump_all(objects, allow_unicode=True))
    taken = Losses()
    (back,) = of_istio(through_text(objects), taken)
    assert taken.left_out == []
    if not losses.left_out:
        assert document_of(back) == document
    assert by_name({**document_of(back), "rules": None, "shadows": None}) == by_name(
        {**document, "rules": None, "shadows": None}
    )


def hidden(document: Document) -> bool:
    """Whether a rule has all requests, so that a VirtualService has no place for what comes behind it."""
    return any("match" not in rule for rule in document.get("rules", ()))


@pytest.mark.timeout(180)
@examples(40)
@given(endpoints())
def test_istio_with_a_service_for_each_entity(document: Document) -> None:
    names = [each["name"] for each in document["config"]["served_entities"]]
    placing = Placing(backends={name: Backend(f"svc-{index}", 8000 + index) for index, name in enumerate(names)})
    losses = Losses()
    objects = virtual_service(read_endpoint(document, losses), placing, losses)
    assert [each["kind"] for each in objects] == ["VirtualService"]
    (back,) = of_istio(through_text(objects), Losses())
    if not losses.left_out and not hidden(document):
        assert document_of(back) == document


@pytest.mark.parametrize("render", [inference_services, knative_services, llm_services])
@pytest.mark.timeout(180)
@examples(40)
@given(document=splits())
def test_kserve(render: Callable[[Endpoint, Placing, Losses], Objects], document: Document) -> None:
    losses = Losses()
    endpoint = read_endpoint(document, losses)
    try:
        objects = render(endpoint, Placing(), losses)
    except SettingsError:
        assert render is knative_services
        assert sum(share > 0 for _, share in endpoint.shares) > 2
        return
    taken = Losses()
    (back,) = of_kserve(through_text(objects), taken)
    assert taken.left_out == []
    if not losses.left_out:
        assert by_name(document_of(back)) == by_name(document)
    else:
        assert render is knative_services
        assert {each.name for each in back.entities} < {each.name for each in endpoint.entities}
