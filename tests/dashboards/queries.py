"""The dashboards of the charts, and what their queries name."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

CHARTS: Final = Path(__file__).resolve().parents[2] / "charts"
FILES: Final = sorted((CHARTS / "standalone" / "dashboards").glob("*.json"))
"""Of the chart that has them all."""
RATE: Final = "20s"
_GIVEN: Final = frozenset({"namespace", "job", "instance"})
"""Labels that every series has of Prometheus."""
_SELECTOR = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)\{([^}]*)\}")
_MATCHER = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)\s*(?:=~|!~|!=|=)\s*"')
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right) ?\(([^)]*)\)")
_PARTS: Final = ("_bucket", "_count", "_sum")


class Query(NamedTuple):
    """One of a panel."""

    dashboard: str
    panel: str
    expr: str
    rare: bool
    """Its series exist only after something went wrong."""

    @property
    def metric(self) -> str:
        """The first one that it names."""
        found = _SELECTOR.search(self.expr)
        return "" if found is None else found[1]

    @property
    def asked(self) -> str:
        """With everything chosen, as Grafana sends it."""
        text = self.expr.replace("$__rate_interval", RATE)
        return re.sub(r'"\$[a-z]+"', '".*"', text)


def dashboards() -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and document of each."""
    for path in FILES:
        yield path.stem, json.loads(path.read_text())


def queries() -> list[Query]:
    """All of them."""
    return [
        Query(name, panel["title"], target["expr"], "noValue" in panel["fieldConfig"]["defaults"])
        for name, document in dashboards()
        for panel in document["panels"]
        for target in panel.get("targets", ())
    ]


def variables() -> list[tuple[str, str]]:
    """What they are chosen from, with the label that is asked for."""
    found = []
    for _, document in dashboards():
        for each in document["templating"]["list"]:
            if each["type"] == "query":
                selector, _, label = each["query"]["query"].removeprefix("label_values(").removesuffix(")").rpartition(", ")
                found.append((re.sub(r'"\$[a-z]+"', '".*"', selector), label))
    return found


def unknown(expr: str, known: Mapping[str, frozenset[str]]) -> list[str]:
    """What the query names and no metric has. `known`: labels by the name on the page, without `_bucket` and its like."""
    found = []
    together = set(_GIVEN)
    for name, inside in _SELECTOR.findall(expr):
        base = next((name.removesuffix(part) for part in _PARTS if name.endswith(part) and name not in known), name)
        if base not in known:
            found.append(f"metric {name}")
            continue
        labels = known[base] | _GIVEN | ({"le"} if name.endswith("_bucket") else set())
        together |= labels
        found += [f"label {label} of {name}" for label in _MATCHER.findall(inside) if label not in labels]
    for inside in _GROUPING.findall(expr):
        found += [f"label {label}" for label in re.split(r",\s*", inside) if label and label not in together]
    return found
