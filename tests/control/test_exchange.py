from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extproc.control.exchange import exported, of_yaml, text_of, to_yaml
from extproc.control.records import EndpointRecord, UnreadableRecord, of_document
from extproc.control.rules import Asked, created
from extproc.control.sealing import NoSeal
from extproc.settings.base import SettingsError
from extproc.settings.serving import read_create
from extproc.traffic import Catalog
from tests.control.desks import catalog, document
from tests.settings.serving.documents import external, openai

WORDS = st.text(st.characters(codec="utf-8"), max_size=20)
LABELS = WORDS.filter(lambda text: bool(text.strip()))
PLAIN = st.recursive(
    st.booleans() | st.integers(-(2**53), 2**53) | WORDS | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(LABELS, inner, max_size=3),
    max_leaves=6,
)


def asked(known: Catalog | None = None) -> Asked:
    return Asked("ann", 5, lambda: "id", NoSeal(), catalog() if known is None else known, 15)


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    names = draw(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=5, unique=True))
    cuts = sorted(draw(st.lists(st.integers(0, 100), min_size=len(names) - 1, max_size=len(names) - 1)))
    shares = [high - low for low, high in zip([0, *cuts], [*cuts, 100], strict=True)]
    found = document(draw(st.from_regex(r"[A-Za-z0-9_-]{1,20}", fullmatch=True)), **dict(zip(names, shares, strict=True)))
    if draw(st.booleans()):
        found = {**external(*[openai(name) for name in names]), "name": found["name"]}
    for entity in found["config"]["served_entities"]:
        if draw(st.booleans()):
            entity["environment_vars"] = draw(st.dictionaries(LABELS, WORDS, max_size=2))
    found["tags"] = [{"key": key, "value": value} for key, value in draw(st.dictionaries(LABELS, WORDS, max_size=3)).items()]
    found["description"] = draw(WORDS)
    found["sticky"] = draw(st.sampled_from(["key", "none"]))
    found["ai_gateway"] = {"fallback_config": {"enabled": draw(st.booleans())}}
    found["rate_limits"] = [{"calls": draw(st.integers(0, 2**40)), "renewal_period": "minute", "key": "user"}]
    found["zz_later"] = draw(PLAIN)
    return found


def record_of(found: object) -> EndpointRecord:
    everything = Catalog([], catalog(*"abcdefgh")._routes)
    return created(read_create(found), "api", "id", asked(everything))


@given(documents())
def test_a_record_and_its_document_are_the_same(found: dict[str, Any]) -> None:
    record = record_of(found)
    assert of_document(record.to_document()) == record
    assert of_document(record.to_document()).to_document() == record.to_document()
    assert list(of_document(record.to_document()).percentages) == list(record.percentages)


@settings(deadline=None)  # a document may be large, and a machine busy
@given(st.lists(documents(), max_size=3))
def test_what_is_exported_comes_back_as_it_was(found: list[dict[str, Any]]) -> None:
    records = [record_of(each) for each in found]
    text = to_yaml(records)
    if records:
        assert [record_of(each) for each in of_yaml(text)] == records
    else:
        assert of_yaml(text) == []


def test_what_is_exported_reads_as_people_write_it() -> None:
    assert to_yaml([record_of(document(a=90, b=10))]) == (
        "servingEndpoints:\n"
        "- name: chat\n"
        "  config:\n"
        "    served_entities:\n"
        "    - name: a\n"
        "      entity_name: model-A\n"
        "    - name: b\n"
        "      entity_name: model-B\n"
        "    traffic_config:\n"
        "      routes:\n"
        "      - served_entity_name: a\n"
        "        traffic_percentage: 90\n"
        "      - served_entity_name: b\n"
        "        traffic_percentage: 10\n"
    )


@pytest.mark.parametrize("text", ["N", "y", "1e3", "-5", "1.5", ".5e-3", "0x1F", "0o7", "on", "null", "1_000", "2026-01-01"])
def test_text_that_other_readers_of_yaml_take_for_something_else_is_quoted(text: str) -> None:
    """kubectl's has `N` for false, and YAML 1.2 has `1e3` for a number."""
    assert text_of({"version": text}) == f"version: '{text}'\n"


@pytest.mark.parametrize("text", ["v1", "e3", "model-A", "1.2.3", "nN", "0xZ"])
def test_other_text_is_as_it_is(text: str) -> None:
    assert text_of({"version": text}) == f"version: {text}\n"


def test_files_have_a_list_an_endpoint_or_several_documents() -> None:
    one = exported(record_of(document("one")))
    for text in (
        "name: one\nconfig: {x: 1}\n",
        "- name: one\n  config: {x: 1}\n",
        "servingEndpoints:\n- {name: one, config: {x: 1}}\n",
    ):
        assert of_yaml(text) == [{"name": "one", "config": {"x": 1}}]
    assert of_yaml("name: one\n---\n- name: two\n---\n") == [{"name": "one"}, {"name": "two"}]
    assert of_yaml("servingEndpoints: []") == []
    assert record_of(one) == record_of(document("one"))


@pytest.mark.parametrize("text", ["3", "servingEndpoints: 3", "[]\n---\n3", "servingEndpoints: []\nother: 1", "{}", "a: b"])
def test_what_is_no_file_of_endpoints_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="expected servingEndpoints with a list"):
        of_yaml(text)


@given(st.binary(max_size=50) | documents().map(lambda found: record_of(found).to_document()[:-7]))
def test_bytes_that_are_no_record_are_said_to_be_none(words: bytes) -> None:
    with pytest.raises(UnreadableRecord):
        of_document(words)
