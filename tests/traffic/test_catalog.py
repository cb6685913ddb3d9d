"""What a served entity's name stands for."""

from __future__ import annotations

import pytest

from extproc.traffic import AdapterMap, Catalog, CatalogEntry, Route, RouteTable, Served, UnknownEntity

ROUTES = RouteTable([Route(("llama", "model-A"), "one"), Route(("phi",), "two")])


def test_a_name_that_no_route_lists_is_a_models_own() -> None:
    catalog = Catalog(routes=ROUTES)
    assert catalog.resolve("phi") == Served("phi", "two", "/invocations")
    assert catalog.resolve("phi", "7") == Served("phi", "two"), "its version is a label"


def test_an_adapter_is_served_where_its_base_is() -> None:
    adapters = AdapterMap({"llama": ["sql"]})
    assert Catalog(routes=ROUTES, base_of=adapters.base_of).resolve("sql") == Served("sql", "one")


def test_versions_choose_where_they_are_listed() -> None:
    first, second = Served("model-A", "one"), Served("model-A-v2", "one", "/predict")
    catalog = Catalog([CatalogEntry("c.s.A", "1", first), CatalogEntry("c.s.A", "2", second)], ROUTES)
    assert catalog.resolve("c.s.A", "1") == first
    assert catalog.resolve("c.s.A", "2") == second
    with pytest.raises(UnknownEntity, match=r"'c\.s\.A' has versions 1, 2, and version '3' was asked for"):
        catalog.resolve("c.s.A", "3")
    with pytest.raises(UnknownEntity, match="and no version was asked for"):
        catalog.resolve("c.s.A")


def test_an_entry_without_a_version_is_every_other_version() -> None:
    any_version, first = Served("a", "one"), Served("a1", "one")
    catalog = Catalog([CatalogEntry("A", "", any_version), CatalogEntry("A", "1", first)], ROUTES)
    assert [catalog.resolve("A", version) for version in ("", "1", "2")] == [any_version, first, any_version]


def test_an_unknown_name_is_told_what_there_is() -> None:
    catalog = Catalog([CatalogEntry("A", "", Served("llama", "one"))], ROUTES)
    with pytest.raises(UnknownEntity, match="no pool serves 'x'; there are: A, llama, model-A, phi"):
        catalog.resolve("x")
    with pytest.raises(UnknownEntity, match="there are: none"):
        Catalog().resolve("x")


def test_the_same_entity_twice_is_refused() -> None:
    entry = CatalogEntry("A", "1", Served("llama", "one"))
    with pytest.raises(ValueError, match="'A' with version '1' is listed twice"):
        Catalog([entry, entry])
