"""Write Grafana's dashboards into the charts, or check that they are current (`--check`).

`charts/src/dashboards/NAME.yaml` is the source of a dashboard: variables, and rows of panels, each with its queries. `@` in a
query stands for the selectors that all have in common: the namespace, job and instance that are chosen on the page. A panel has

    title, about   what it shows, and what one has to know to read it
    kind           timeseries (without it), stat, table (of what is now), timeline (of phases)
    unit, width    Grafana's name of the unit; of 24 columns
    bad            from this value on it is red
    negative       true where values below 0 mean something
    dashed         series whose name ends in this word are drawn dashed
    after          when its series exist at all, for what is only counted when it happens; until then it shows 0
    queries        expr and legend

From it comes `charts/CHART/dashboards/extproc-NAME.json`, for each chart whose process has such metrics; Grafana imports it as
it is.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).resolve().parent.parent
SOURCE: Final = ROOT / "charts" / "src" / "dashboards"
CHARTS: Final[Mapping[str, tuple[str, ...]]] = {
    "body-based-routing": ("process",),
    "inferencepool": ("pools", "process"),
    "standalone": ("pools", "process", "rollouts", "serving-endpoints"),
}
COMMON: Final = {"namespace": "Namespace", "job": "Job", "instance": "Process"}
"""Labels that Prometheus gives; without Kubernetes there is no namespace, and then each of them is right."""
SCOPE: Final = ", ".join(f'{name}=~"${name}"' for name in COMMON)
_COLUMNS: Final = 24
_HEIGHT: Final = {"stat": 4, "timeseries": 8, "table": 8, "timeline": 8}
_SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
_KINDS: Final = {"stat": "stat", "timeseries": "timeseries", "table": "table", "timeline": "state-timeline"}
_KEYS: Final = {"title", "about", "kind", "unit", "width", "bad", "negative", "dashed", "after", "queries"}


def dashboard(name: str) -> dict[str, Any]:
    """For Grafana. Raises ValueError for a key of a panel that means nothing."""
    source = yaml.safe_load((SOURCE / f"{name}.yaml").read_text())
    panels: list[dict[str, Any]] = []
    y = 0
    for row in source["rows"]:
        panels.append({"id": len(panels) + 1, "type": "row", "title": row["title"], "gridPos": _place(0, y, _COLUMNS, 1)})
        y, x, high = y + 1, 0, 0
        for form in row["panels"]:
            if unknown := form.keys() - _KEYS:
                raise ValueError(f"{name}.yaml, {form['title']!r}: {sorted(unknown)}; expected some of {sorted(_KEYS)}")
            width, height = form.get("width", 8), _HEIGHT[form.get("kind", "timeseries")]
            if x + width > _COLUMNS:
                y, x, high = y + high, 0, 0
            panels.append(panel(len(panels) + 1, form, _place(x, y, width, height)))
            x, high = x + width, max(high, height)
        y += high
    return {
        "uid": f"extproc-{name}",
        "title": f"extproc: {source['title'].lower()}",
        "description": source["about"],
        "tags": ["extproc"],
        "editable": True,
        "graphTooltip": 1,
        "schemaVersion": 39,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "links": [{"type": "dashboards", "title": "extproc", "tags": ["extproc"], "asDropdown": True, "keepTime": True}],
        "templating": {"list": variables(source)},
        "panels": panels,
    }


def _place(x: int, y: int, width: int, height: int) -> dict[str, int]:
    return {"x": x, "y": y, "w": width, "h": height}


def variables(source: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What is chosen on top of the page: where it comes from, and the dashboard's own."""
    found: list[dict[str, Any]] = [{"name": "datasource", "label": "Source", "type": "datasource", "query": "prometheus"}]
    scope: list[str] = []
    for name, label in COMMON.items():
        chosen = ", ".join(f'{each}=~"${each}"' for each in scope)
        found.append(_variable(name, label, f"label_values(extproc_streams_inflight{{{chosen}}}, {name})"))
        scope.append(name)
    own = source.get("variables", ())
    return [*found, *[_variable(each["name"], each["label"], each["values"].replace("@", SCOPE)) for each in own]]


def _variable(name: str, label: str, values: str) -> dict[str, Any]:
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": values, "refId": name},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


def panel(number: int, form: Mapping[str, Any], place: Mapping[str, int]) -> dict[str, Any]:
    """One, as Grafana has it."""
    kind = form.get("kind", "timeseries")
    instant = kind in ("stat", "table")
    about = [form["about"]] if "about" in form else []
    if "after" in form:
        about.append(f"Nothing is counted until {form['after']}.")
    return {
        "id": number,
        "type": _KINDS[kind],
        "title": form["title"],
        "description": " ".join(about),
        "datasource": _SOURCE,
        "gridPos": dict(place),
        "fieldConfig": {"defaults": _defaults(form, kind), "overrides": _overrides(form)},
        "options": _OPTIONS[kind],
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": _SOURCE,
                "expr": query["expr"].replace("@", SCOPE),
                "legendFormat": query.get("legend", "__auto"),
                "instant": instant,
                "range": not instant,
                **({"format": "table"} if kind == "table" else {}),
            }
            for index, query in enumerate(form["queries"])
        ],
        **({"transformations": _WITHOUT} if kind == "table" else {}),
    }


_OPTIONS: Final[Mapping[str, Mapping[str, Any]]] = {
    "stat": {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "value", "graphMode": "none"},
    "timeseries": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}},
    "table": {"showHeader": True},
    "timeline": {"mergeValues": True, "showValue": "never"},
}
_WITHOUT: Final = [{"id": "organize", "options": {"excludeByName": {"Time": True, "Value": True}}}]


def _defaults(form: Mapping[str, Any], kind: str) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if "bad" in form:
        steps.append({"color": "red", "value": form["bad"]})
    defaults: dict[str, Any] = {"unit": form.get("unit", "short"), "thresholds": {"mode": "absolute", "steps": steps}}
    if "after" in form:
        defaults["noValue"] = "0"
    if kind == "timeseries":
        if not form.get("negative"):
            defaults["min"] = 0
        shown = {"thresholdsStyle": {"mode": "line"}} if "bad" in form else {}
        defaults["custom"] = {"fillOpacity": 8, "lineWidth": 1, "showPoints": "never", **shown}
    return defaults


def _overrides(form: Mapping[str, Any]) -> list[dict[str, Any]]:
    if "dashed" not in form:
        return []
    dashes = {"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [8, 8]}}
    return [{"matcher": {"id": "byRegexp", "options": f".*{form['dashed']}$"}, "properties": [dashes]}]


def files() -> dict[Path, str]:
    """Path and text of every dashboard of every chart."""
    return {
        ROOT / "charts" / chart / "dashboards" / f"extproc-{name}.json": json.dumps(dashboard(name), indent=1) + "\n"
        for chart, names in CHARTS.items()
        for name in names
    }


def main() -> int:
    """Exit code 1 when something is stale under `--check`."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(f"usage: .venv/bin/python scripts/dashboards.py [--check]\n\n{__doc__}")
        return 0
    wanted = files()
    there = set((ROOT / "charts").glob("*/dashboards/*.json"))
    stale = [path for path, text in wanted.items() if path not in there or path.read_text() != text]
    gone = sorted(there - wanted.keys())
    if "--check" in sys.argv:
        if stale or gone:
            told = ", ".join(str(path.relative_to(ROOT)) for path in [*stale, *gone])
            print(f"stale: {told}; run .venv/bin/python scripts/dashboards.py", file=sys.stderr)
        return 1 if stale or gone else 0
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(wanted[path])
    for path in gone:
        path.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
