"""Documents of endpoints that other routers can say, and requests that their rules tell apart."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

Document = dict[str, Any]

HEADERS = ("x-tier", "x-user-id")
VALUES = ("gold", "go", "old", "a.b|c", "(x)", "*", "$1^", "\\", "größe", "gold plated")
PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/", "/", "/v2/models/chat/infer", "/v1", "/odd path?")

NAMES = st.from_regex(r"[A-Za-z0-9_-]{1,40}", fullmatch=True)
TEXTS = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=300).filter(
    lambda text: text.strip() and not text.startswith(("@", "models:"))
)
"""Of no registry."""


def conditions_on(values: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    return st.one_of(
        values,
        values.map(lambda value: {"prefix": value}),
        values.map(lambda value: {"suffix": value}),
        st.lists(values, min_size=2, max_size=4, unique=True).map(lambda found: {"one_of": found}),
    )


PRESENCE = st.booleans().map(lambda there: {"present": there})
VALUE = st.sampled_from(VALUES)
MATCHES: st.SearchStrategy[Document] = st.fixed_dictionaries(
    {},
    optional={
        "headers": st.dictionaries(st.sampled_from(HEADERS), conditions_on(VALUE) | PRESENCE, min_size=1, max_size=3),
        "path": conditions_on(st.sampled_from(PATHS)),
        "model": conditions_on(VALUE) | PRESENCE,
        "regions": st.lists(VALUE, min_size=1, max_size=3, unique=True),
    },
).filter(bool)


@st.composite
def shares(draw: st.DrawFn, names: list[str]) -> dict[str, int]:
    """100 in all."""
    cuts = sorted(draw(st.lists(st.integers(0, 100), min_size=len(names) - 1, max_size=len(names) - 1)))
    return {name: after - before for name, before, after in zip(names, [0, *cuts], [*cuts, 100], strict=True)}


@st.composite
def splits(draw: st.DrawFn) -> Document:
    """Entities and a split, drawn for each request."""
    names = draw(st.lists(NAMES, min_size=1, max_size=5, unique=True))
    given = draw(shares(names))
    entities = []
    for name in names:
        entity = {"name": name, "entity_name": draw(TEXTS)}
        if draw(st.booleans()):
            entity["entity_version"] = draw(TEXTS)
        entities.append(entity)
    routes = [{"served_entity_name": name, "traffic_percentage": share} for name, share in given.items()]
    return {
        "name": draw(NAMES),
        "config": {"served_entities": entities, "traffic_config": {"routes": routes}},
        "sticky": "none",
    }


@st.composite
def endpoints(draw: st.DrawFn) -> Document:
    """With rules and shadows too."""
    found: Document = draw(splits())
    names = [each["name"] for each in found["config"]["served_entities"]]
    rules = []
    for name in draw(st.lists(NAMES, max_size=4, unique=True)):
        rule: Document = {"name": name}
        if matches := draw(st.lists(MATCHES, max_size=3)):
            rule["match"] = matches
        kind = draw(st.sampled_from(["entity", "split", "refuse"]))
        if kind == "entity":
            rule["entity"] = draw(st.sampled_from(names))
        elif kind == "split" and len(names) > 1:
            rule["split"] = draw(shares(names))
        else:
            rule["refuse"] = draw(st.fixed_dictionaries({"status": st.integers(400, 599)}, optional={"message": TEXTS}))
        rules.append(rule)
    if rules:
        found["rules"] = rules
    idle = [
        each["served_entity_name"] for each in found["config"]["traffic_config"]["routes"] if not each["traffic_percentage"]
    ]
    chosen = draw(st.lists(st.sampled_from(idle), max_size=3, unique=True)) if idle else []
    percentages = st.one_of(st.integers(0, 100).map(float), st.sampled_from([0.5, 12.25, 99.9]))
    if chosen:
        found["shadows"] = [{"entity": name, "percentage": draw(percentages)} for name in chosen]
    return found
