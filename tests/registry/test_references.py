"""How entities name versions of a registry: MLflow's forms are read, anything else is refused with what was expected."""

from __future__ import annotations

import contextlib
import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from extproc.registry.references import BadReference, Reference, of_entity, of_plain, of_uri

NAMES = st.text(st.characters(exclude_characters="/:", exclude_categories=["Cs"]), min_size=1).filter(str.strip)
ALIASES = st.text(string.ascii_letters + string.digits + "_-", min_size=1, max_size=255).filter(
    lambda alias: alias.lower() != "latest" and not (alias[0] in "vV" and alias[1:].isdigit())
)
VERSIONS = st.integers(1, 10**18 - 1).map(str)


@given(NAMES, ALIASES)
@example("a@b", "champion")
@example("main.models.churn", "Champion-2")
def test_an_alias_is_read_in_both_forms(name: str, alias: str) -> None:
    reference = Reference(name, alias=alias)
    assert of_uri(str(reference)) == reference
    assert reference.entity_version == f"@{alias}"
    if not name.startswith("models:"):
        assert of_entity(name, f"@{alias}") == reference


@given(NAMES, VERSIONS)
def test_a_version_is_read_in_both_forms(name: str, version: str) -> None:
    reference = Reference(name, version)
    assert of_uri(str(reference)) == reference
    assert of_plain(name, version) == reference
    assert of_entity(name, version) is None  # by itself it is a label, as ever


@given(st.text(), st.text())
def test_any_text_is_a_reference_or_a_refusal(name: str, version: str) -> None:
    with contextlib.suppress(BadReference):
        reference = of_entity(name, version)
        assert reference is None or of_uri(str(reference)) == reference


@pytest.mark.parametrize(
    ("name", "version", "words"),
    [
        ("models:/churn/Production", "", "stages and 'latest' are not followed"),
        ("models:/churn/latest", "", "stages and 'latest' are not followed"),
        ("models:/m-0123456789", "", "a logged model's id"),
        ("models:/churn@", "", "expected an alias after the @"),
        ("models:/@champion", "", "expected the name of a registered model"),
        ("models:/a/b/1", "", "with a number for the version"),
        ("models://other@databricks/churn/3", "", "of the one registry"),
        ("models:churn@champion", "", "expected models:/NAME@ALIAS"),
        ("models:/churn@champion", "3", "expected no entity_version"),
        ("churn", "@", "expected an alias after the @"),
        ("churn", "@with space", "expected an alias after the @"),
        ("churn", "@latest", "reserved"),
        ("churn", "@v3", "reserved"),
        ("a/b", "@champion", "no '/'"),
        ("churn", "@" + "a" * 256, "1 to 255"),
    ],
)
def test_what_is_no_reference_says_what_was_expected(name: str, version: str, words: str) -> None:
    with pytest.raises(BadReference, match=r"^(expected|entity_name)") as raised:
        of_entity(name, version)
    assert words in str(raised.value)


@pytest.mark.parametrize(("name", "version"), [("churn", ""), ("churn", "3"), ("meta-llama/Llama-3.1-8B", "1"), ("a", "x@y")])
def test_other_entities_are_what_they_were(name: str, version: str) -> None:
    assert of_entity(name, version) is None


def test_a_name_that_no_registry_has_is_not_asked_for() -> None:
    assert of_plain("meta-llama/Llama", "1") is None
    assert of_plain("churn", "one") is None
    assert of_plain("churn", "") is None
