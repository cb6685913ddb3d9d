"""What is known of a registry: resolved, kept, and read back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.registry.answers import ModelVersion
from extproc.registry.known import MISSING, Known, Model, Unresolved, asked_for, of_document, to_document
from extproc.registry.references import Reference, of_uri

KNOWN = Known(
    {
        "churn": Model(
            {"champion": "1", "next": "2", "new": "3", "gone": "4"},
            {"1": ModelVersion("1"), "2": ModelVersion("2", "PENDING_REGISTRATION"), "4": None},
        ),
        "none": MISSING,
    }
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
VERSIONS = st.dictionaries(st.sampled_from(["1", "2", "30"]), st.none() | st.just(""))


def test_an_alias_stands_for_its_version() -> None:
    assert KNOWN.version(of_uri("models:/churn@champion")) == ModelVersion("1")
    assert KNOWN.version(of_uri("models:/churn/1")) == ModelVersion("1")


@pytest.mark.parametrize(
    ("uri", "words", "away"),
    [
        ("models:/churn@nope", "expected an alias of the registered model 'churn': @champion, @gone, @new, @next", False),
        ("models:/none@champion", "the registry has none called 'none'", False),
        ("models:/other@champion", "the registry has not answered yet", True),
        ("models:/churn@new", "not answered for version 3 yet", True),
        ("models:/churn/9", "not answered for version 9 yet", True),
        ("models:/churn@gone", "it has no version 4", False),
        ("models:/churn@next", "the status of version 2 is PENDING_REGISTRATION", False),
    ],
)
def test_what_can_not_be_served_says_why(uri: str, words: str, away: bool) -> None:
    with pytest.raises(Unresolved, match=words) as raised:
        KNOWN.version(of_uri(uri))
    assert raised.value.away is away


@given(
    st.dictionaries(
        TEXTS,
        st.builds(
            Model,
            st.dictionaries(TEXTS, TEXTS),
            st.dictionaries(TEXTS, st.none()),
            st.booleans(),
        ),
    )
)
def test_what_is_kept_is_read_back(models: dict[str, Model]) -> None:
    known = Known(models)
    assert of_document(to_document(known)) == known
    assert to_document(of_document(to_document(known))) == to_document(known)


def test_versions_are_kept_with_status_and_tags() -> None:
    assert of_document(to_document(KNOWN)) == KNOWN


@pytest.mark.parametrize("document", [b"", b"[]", b"{}", b'{"format": 2, "models": {}}', b'{"format": 1, "models": {"a": 1}}'])
def test_another_document_is_refused(document: bytes) -> None:
    with pytest.raises(ValueError, match="no document"):
        of_document(document)


def test_what_nobody_names_is_forgotten() -> None:
    assert set(KNOWN.only({"none", "other"}).models) == {"none"}


def test_each_model_is_asked_for_once() -> None:
    references = [Reference("a", alias="x"), Reference("a", alias="y"), Reference("a", "3"), Reference("b", "1")]
    asked = asked_for(references)
    assert asked == {"a": ({"x", "y"}, {"3"}), "b": (set(), {"1"})}
    assert asked["a"].numbers({"x": "1", "other": "2"}) == ["1", "3"]
