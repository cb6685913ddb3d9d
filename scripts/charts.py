"""Write the generated files of charts/, or check that they are current (`--check`).

`charts/src/CHART.yaml` is the one source of a chart's values: JSON Schema in YAML with a default on every leaf, from which
come `values.yaml` (commented), `values.schema.json` and the table in `README.md`. Short forms: `use` takes a fragment of
`common.yaml` and puts what stands beside it on top; an object with `properties` allows no others unless it says so; of what is
`nullable` any key may be empty.

Where a value is a picker's config (`$ref: "#/$defs/EndpointPickerConfig"`), `values.schema.json` has its schema too, and
`files/picker-config.json` is what the templates look at configs with that are text.

`charts/src/templates/` is what the charts share, `charts/src/picker/` what those with a picker do. It is copied, with the
chart's name in place of `CHART`: a library chart needs `helm dependency build`, and GitOps tools leave symbolic links out.
Every chart is complete as it stands in git.
"""

from __future__ import annotations

import json
import re
import sys
import textwrap
from pathlib import Path
from typing import Any, Final

import yaml

from extproc import __version__
from extproc.app.checking import picker_schema
from extproc.scheduling.plugins.missing import MISSING
from extproc.settings.picker import KIND

ROOT: Final = Path(__file__).resolve().parent.parent
CHARTS: Final = ROOT / "charts"
SOURCE: Final = CHARTS / "src"
NAMES: Final = ("body-based-routing", "inferencepool", "standalone")
PICKERS: Final = ("inferencepool", "standalone")
_TABLE = re.compile(r"(<!-- generated: values -->\n).*?(<!-- end -->)", re.DOTALL)
_GENERATED: Final = "made by scripts/charts.py of charts/src"

Schema = dict[str, Any]


def merged(base: Schema, top: Schema) -> Schema:
    """`top` on `base`, maps merged, keys of `top` first: a chart's own values come before those that it shares."""
    result = {key: merged(base[key], value) if _maps(base.get(key), value) else value for key, value in top.items()}
    return result | {key: value for key, value in base.items() if key not in top}


def _maps(left: object, right: object) -> bool:
    return isinstance(left, dict) and isinstance(right, dict)


def expanded(schema: Schema, fragments: dict[str, Schema]) -> Schema:
    """Without `use`, and closed: a typo in a key is an error, not silence. Raises KeyError for an unknown fragment."""
    while "use" in schema:
        rest = {key: value for key, value in schema.items() if key != "use"}
        schema = merged(fragments[schema["use"]], rest)
    result = dict(schema)
    if "properties" in schema:
        result["properties"] = {key: expanded(value, fragments) for key, value in schema["properties"].items()}
        result.setdefault("additionalProperties", False)
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            result[key] = expanded(schema[key], fragments)
    return nullable(result) if result.pop("nullable", False) else result


def nullable(schema: Schema) -> Schema:
    """It, where nothing may stand behind any key, as in files whose values are comments. Keys in it have no defaults."""
    result = dict(schema)
    if "type" in schema:
        result["type"] = [*_kinds(schema), "null"]
    if "enum" in schema:
        result["enum"] = [*schema["enum"], None]
    if "properties" in schema:
        result["properties"] = {key: nullable(value) for key, value in schema["properties"].items()}
        for value in result["properties"].values():
            value.pop("default", None)
    return result


def _kinds(schema: Schema) -> list[str]:
    kinds = schema.get("type", [])
    return [kinds] if isinstance(kinds, str) else kinds


def schema_of(chart: str) -> Schema:
    """The chart's whole schema. `global` is Helm's own key, there whenever the chart is part of another."""
    fragments = yaml.safe_load((SOURCE / "common.yaml").read_text())
    values = {key: expanded(value, fragments) for key, value in yaml.safe_load((SOURCE / f"{chart}.yaml").read_text()).items()}
    values["global"] = {"type": "object", "additionalProperties": True, "description": "Helm's; not used."}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$comment": _GENERATED,
        "title": f"Values of the chart {chart}",
        "type": "object",
        "additionalProperties": False,
        "properties": values,
        **({"$defs": _loose(picker_definitions())} if chart in PICKERS else {}),
    }


def picker_definitions() -> Schema:
    """The schema of a picker's config, its parts by name.

    Without descriptions, which docs/plugins.md has. A type is any text, as an image may bring types of its own.
    """
    whole = picker_schema()
    definitions = whole.pop("$defs")
    definitions[KIND] = {key: value for key, value in whole.items() if not key.startswith("$")}
    definitions["PluginSpec"]["properties"]["type"] = {"type": "string", "minLength": 1}
    return {name: _bare(definition) for name, definition in sorted(definitions.items())}


def _bare(schema: Any) -> Any:
    if not isinstance(schema, dict):
        return schema
    result = {key: value for key, value in schema.items() if key not in ("title", "description", "default")}
    for key in ("properties", "$defs"):
        if key in result:
            result[key] = {name: _bare(each) for name, each in result[key].items()}
    for key in ("anyOf", "allOf"):
        if key in result:
            result[key] = [_bare(each) for each in result[key]]
    for key in ("items", "additionalProperties", "if", "then"):
        if key in result:
            result[key] = _bare(result[key])
    return result


def _loose(value: Any) -> Any:
    """Numbers may be text, as the picker takes them."""
    if isinstance(value, list):
        return [_loose(each) for each in value]
    if not isinstance(value, dict):
        return value
    result = {key: _loose(each) for key, each in value.items()}
    if isinstance(result.get("type"), str | list):
        kinds = _kinds(result)
        if {"integer", "number", "boolean"} & set(kinds) and "string" not in kinds:
            result["type"] = [*kinds, "string"]
    return result


def picker_form() -> Schema:
    """The same for the templates, which know fewer words: null is always as if the key were not there, and `ref` is a name in
    `defs`, as those in `parameters` by type are."""
    definitions = picker_definitions()
    older = definitions["PluginSpec"].pop("allOf")
    parameters = {
        name: choice["then"]["properties"]["parameters"]["anyOf"][0]["$ref"].rpartition("/")[2]
        for choice in older
        for name in choice["if"]["properties"]["type"]["enum"]
    }
    forms = _form(definitions)
    for name, form in forms.items():
        while "ref" in form:
            forms[name] = form = forms[form["ref"]]
    return {"defs": forms, "parameters": parameters, "missing": sorted(set(MISSING) - set(parameters))}


def _form(value: Any) -> Any:
    if isinstance(value, list):
        return [_form(each) for each in value]
    if not isinstance(value, dict):
        return value
    result = {key: _form(each) for key, each in value.items()}
    if isinstance(result.get("$ref"), str):
        return {"ref": result["$ref"].rpartition("/")[2]}
    if isinstance(result.get("anyOf"), list):
        choices = [each for each in result["anyOf"] if each.get("type") != []]
        return choices[0] if len(choices) == 1 else {"anyOf": choices}
    if "const" in result and not isinstance(result["const"], dict):
        result["enum"] = [result.pop("const")]
    if isinstance(result.get("type"), str | list):
        result["type"] = [kind for kind in _kinds(result) if kind != "null"]
    return result


def default_of(schema: Schema) -> Any:
    """The value that values.yaml has; maps that are described key by key are made of their keys' defaults."""
    if "default" in schema or schema.get("type") != "object":
        return schema.get("default")
    return {
        key: default_of(value) for key, value in schema["properties"].items() if "default" in value or "properties" in value
    }


def values_yaml(schema: Schema, depth: int = 0) -> str:
    """The values file: every key with its description above it."""
    indent = "  " * depth
    lines = []
    for key, value in schema["properties"].items():
        if key == "global" and depth == 0:
            continue
        if depth == 0:
            lines.append("")
        comment = " ".join(value["description"].split()) + _choices(value)
        lines += [f"{indent}# {line}" for line in textwrap.wrap(comment, 118 - len(indent))]
        if "properties" in value and "default" not in value:
            lines += [f"{indent}{key}:", values_yaml(value, depth + 1)]
        else:
            text = yaml.safe_dump({key: default_of(value)}, sort_keys=False, width=1000)
            lines += [f"{indent}{line}" for line in text.rstrip().splitlines()]
    return "\n".join(lines)


def _choices(schema: Schema) -> str:
    return f" One of {', '.join(map(str, schema['enum']))}." if "enum" in schema else ""


def rows(schema: Schema, prefix: str = "") -> list[str]:
    """The README's table: a row for each key that can be set, those of lists included."""
    found = []
    for key, value in schema["properties"].items():
        name = f"{prefix}{key}"
        if name == "global":
            continue
        if "properties" in value and "default" not in value:
            found += rows(value, f"{name}.")
            continue
        default = json.dumps(default_of(value), ensure_ascii=False) if "default" in value else ""
        meaning = " ".join(value["description"].split()) + _choices(value)
        cells = (f"`{name}`", f"`{default}`" if default else "", meaning)
        found.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        if "properties" in value.get("items", {}):
            found += rows(value["items"], f"{name}[].")
    return found


def table(schema: Schema) -> str:
    """The README's table of all values."""
    return "\n".join(["| key | default | meaning |", "|---|---|---|", *rows(schema)]) + "\n"


def envoy_template(config: str, name: str) -> str:
    """One of envoy/ with the changes of charts/src/envoy.yaml, as `name`. Raises ValueError for one that doesn't fit."""
    text = (ROOT / "envoy" / config).read_text()
    if "{{" in text:
        raise ValueError(f"envoy/{config}: two braces would be a template")
    for change in yaml.safe_load((SOURCE / "envoy.yaml").read_text()):
        if change.get("only", config) != config:
            continue
        mark = change.get("find") or change.get("from") or change["from_start_to"]
        before, found, after = text.partition(mark)
        if not found or mark in after:
            raise ValueError(f"charts/src/envoy.yaml: expected once in envoy/{config}: {mark!r}")
        if "from_start_to" in change:
            before = ""
        text = before + change["replace"] + ("" if "from" in change else after)
    head = f"""{{{{/* Envoy's bootstrap: envoy/{config} with the changes of charts/src/envoy.yaml, {_GENERATED}. */}}}}
{{{{- define "{name}" -}}}}
{{{{- $v := .Values.inferenceExtension -}}}}
{{{{- $s := $v.sidecar -}}}}
{{{{- $flags := include "standalone.flags" (dict "Values" .Values "path" "inferenceExtension") | fromJson -}}}}
{{{{- $secure := ne (toString (index $flags "secure-serving")) "false" -}}}}
"""
    return head + text.rstrip() + "\n{{- end }}\n"


def files_of(chart: str) -> dict[Path, str]:
    """Path and text of every generated file of the chart."""
    schema = schema_of(chart)
    folder = CHARTS / chart
    readme = (folder / "README.md").read_text()
    about = yaml.safe_load((folder / "Chart.yaml").read_text())
    versions = re.sub(
        r"(?m)^(version|appVersion): .*$", lambda line: f'{line[1]}: "{__version__}"', (folder / "Chart.yaml").read_text()
    )
    head = f"# Values of the chart {chart}: {about['description']}\n# This file is {_GENERATED}/{chart}.yaml.\n"
    files = {
        folder / "values.yaml": head + values_yaml(schema) + "\n",
        folder / "values.schema.json": json.dumps(schema, indent=1, ensure_ascii=False) + "\n",
        folder / "README.md": _TABLE.sub(lambda match: f"{match[1]}{table(schema)}{match[2]}", readme),
        folder / "Chart.yaml": versions,
    }
    if chart == "standalone":
        files[folder / "templates" / "_envoy.tpl"] = envoy_template("one-hop.yaml", "standalone.envoy")
        serving = envoy_template("serving-endpoints.yaml", "standalone.envoyServing")
        files[folder / "templates" / "_envoy_serving.tpl"] = serving
    if chart in PICKERS:
        files[folder / "files" / "picker-config.json"] = json.dumps(picker_form(), ensure_ascii=False) + "\n"
    for source in ("templates", "picker") if chart in PICKERS else ("templates",):
        note = f"{{{{- /* This file is {_GENERATED}/{source}. */}}}}\n"
        for shared in sorted((SOURCE / source).iterdir()):
            files[folder / "templates" / shared.name] = note + shared.read_text().replace("CHART.", f"{chart}.")
    return files


def main() -> int:
    """Exit code 1 when something is stale under `--check`."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(f"usage: .venv/bin/python scripts/charts.py [--check]\n\n{__doc__}")
        return 0
    stale = []
    for chart in NAMES:
        for path, text in files_of(chart).items():
            if not path.exists() or path.read_text() != text:
                stale.append(path.relative_to(ROOT))
                if "--check" not in sys.argv:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_text(text)
    if "--check" in sys.argv and stale:
        print(f"stale: {', '.join(map(str, stale))}; run .venv/bin/python scripts/charts.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
