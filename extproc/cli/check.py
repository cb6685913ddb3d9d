"""`extproc check`: is what I wrote right, and what will there be?"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import click
import orjson

from extproc.app.checking import Part, Report, check_file, check_text, picker_schema
from extproc.app.checking.found import split_line
from extproc.app.own_plugins import all_own_types
from extproc.files.read import MAX_BYTES

_STANDARD_INPUT: Final = "-"
_JSON: Final = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE


def _report(path: str, *, allow_missing: bool) -> Report:
    if path == _STANDARD_INPUT:
        return check_text("standard input", sys.stdin.buffer.read(MAX_BYTES + 1), allow_missing=allow_missing)
    return check_file(path, allow_missing=allow_missing)


def as_json(reports: Sequence[Report]) -> dict[str, Any]:
    """What a program reads."""
    return {
        "problems": sum(report.number for report in reports),
        "files": [
            {
                "file": report.file,
                "problems": list(map(_problem, report.problems)),
                "parts": [
                    {
                        "kind": part.kind,
                        "name": part.name,
                        "line": part.line,
                        "problems": list(map(_problem, part.problems)),
                        "warnings": list(map(_problem, part.warnings)),
                        "notes": list(part.notes),
                        "picker": part.picker,
                    }
                    for part in report.parts
                ],
            }
            for report in reports
        ],
    }


def _problem(text: str) -> dict[str, Any]:
    line, words = split_line(text)
    return {"line": line, "problem": words}


def as_text(report: Report) -> Iterator[str]:
    """What a person reads: a line for each problem, as compilers write them, and what there is."""
    for problem in report.problems:
        yield _line(report.file, problem)
    for part in report.parts:
        name = f" {part.name}" if part.name else ""
        verdict = f"{len(part.problems)} problem{'s' if len(part.problems) != 1 else ''}" if part.problems else "ok"
        yield f"{report.file}{'' if part.line is None else f':{part.line}'}: {part.kind}{name}: {verdict}"
        for problem in part.problems:
            yield _line(report.file, problem)
        for warning in part.warnings:
            yield _line(report.file, warning, "warning: ")
        for note in part.notes:
            yield f"  {note}"
        if part.picker is not None:
            yield from _pickers(part)


def _line(file: str, problem: str, what: str = "") -> str:
    line, words = split_line(problem)
    return f"{file}: {what}{words}" if line is None else f"{file}:{line}: {what}{words}"


def _pickers(part: Part) -> Iterator[str]:
    picker = part.picker or {}
    if "pools" not in picker:
        yield from _picker(picker, "  ")
        return
    for name, each in picker["pools"].items():
        yield f"  pool {name}"
        yield from _picker(each, "    ")


def _picker(picker: Mapping[str, Any], indent: str) -> Iterator[str]:
    for profile in picker["profiles"]:
        filters = "".join(f"{name} → " for name in profile["filters"])
        scorers = " + ".join(f"{each['name']} × {each['weight']:g}" for each in profile["scorers"]) or "no scorer"
        default = " (default)" if profile["picker_is_default"] else ""
        yield f"{indent}profile {profile['name']}: {filters}{scorers} → {profile['picker']}{default}"
    yield f"{indent}profile handler: {picker['handler']}; saturation detector: {picker['saturation_detector']}"
    if picker["flow_control"] is not None:
        yield f"{indent}flow control: {', '.join(picker['flow_control'])}"
    for plugin in picker["plugins"]:
        yield indent + _plugin(plugin)
    for name, each in picker["data_layer"].items():
        yield f"{indent}{name} ({_typed(name, each['type'])}data layer){_parameters(each['parameters'])}"
    for name in picker["not_used"]:
        yield f"{indent}{name}: listed, and nothing uses it"
    for name, why in picker["left_out"].items():
        yield f"{indent}{name}: left out: {why}"


def _plugin(plugin: Mapping[str, Any]) -> str:
    name = plugin["name"]
    needs = [f"{need['what']} of {need['from']}" for need in plugin["needs"] if need["from"] is not None]
    needs += [f"asks {asked}" for asked in plugin["asks"]]
    roles = ", ".join([plugin["family"], *plugin["roles"]])
    more = ("; needs " + ", ".join(needs) if needs else "") + ("" if plugin["listed"] else "; made because it is needed")
    return f"{name} ({_typed(name, plugin['type'])}{roles}{more}){_parameters(plugin['parameters'])}"


def _typed(name: str, kind: str) -> str:
    return "" if name == kind else f"{kind}, "


def _parameters(parameters: Mapping[str, Any]) -> str:
    said = [f"{key} {orjson.dumps(value).decode()}" for key, value in parameters.items() if value not in (None, [], {})]
    return f": {', '.join(said)}" if said else ""


@click.command(name="check", short_help="Whether files are right, and what there will be.")
@click.argument("files", nargs=-1, metavar="FILE...")
@click.option("--output", type=click.Choice(["text", "json"]), default="text", help="For people or for programs.")
@click.option("--allow-missing-plugins", is_flag=True, help="As the picker's flag: types that can't be had are left out.")
@click.option("--schema", is_flag=True, help="Print the JSON schema of EndpointPickerConfig, for editors.")
@click.help_option("-h", "--help")
def COMMAND(files: tuple[str, ...], output: str, *, allow_missing_plugins: bool, schema: bool) -> None:
    """Check files before they are used: EndpointPickerConfig of any version, a gateway's file, InferencePool,
    InferenceObjective and InferenceModelRewrite, serving endpoints, adapters, endpoints of file-discovery, ConfigMaps and
    values of charts with any of these in them. What a file is, is told by what is in it; - is standard input.

    Every problem is a line with file and line, the path, the value and what was expected. Nothing is asked over a network,
    and files that a config names are not read. Exit code 0: all is right; 1: there are problems; 2: wrong usage.
    """
    if schema:
        if files:
            raise click.UsageError("--schema takes no files")
        own, problems = all_own_types()
        for problem in problems:
            click.echo(f"extproc: left out: {problem}", err=True)
        click.echo(orjson.dumps(picker_schema(own), option=_JSON), nl=False)
        return
    if not files:
        raise click.UsageError("expected at least one FILE, or - for standard input")
    reports = [_report(path, allow_missing=allow_missing_plugins) for path in files]
    number = sum(report.number for report in reports)
    if output == "json":
        click.echo(orjson.dumps(as_json(reports), option=_JSON), nl=False)
    else:
        for report in reports:
            for line in as_text(report):
                click.echo(line)
        if number:
            click.echo(f"{number} problem{'s' if number != 1 else ''}")
    raise SystemExit(1 if number else 0)
