"""`extproc render` and `extproc import`, with files and against the API."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from extproc.cli import main
from extproc.control.changes import Create
from extproc.control.exchange import of_yaml
from extproc.settings.serving import read_create
from tests.api.served import Api, served
from tests.control.desks import Bench, document


def run(*arguments: str, given: str | None = None, environ: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(main, list(arguments), input=given, env=environ or {})


async def against(api: Api, *arguments: str, given: str | None = None) -> Result:
    environ = {"EXTPROC_API": f"http://127.0.0.1:{api.port}"}
    return await asyncio.to_thread(run, *arguments, given=given, environ=environ)


ENDPOINT: dict[str, Any] = {**document("chat", a=90, b=10), "sticky": "none"}


def objects(result: Result) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(result.stdout))


@pytest.mark.parametrize(
    ("arguments", "kinds"),
    [
        (["istio"], ["VirtualService", "DestinationRule"]),
        (["gateway-api"], ["HTTPRoute"]),
        (["kserve"], ["InferenceService"]),
        (["kserve", "--mode", "serverless"], ["InferenceService", "InferenceService"]),
        (["kserve", "--mode", "llm"], ["LLMInferenceService", "LLMInferenceService"]),
    ],
)
def test_a_file_is_rendered_whole(tmp_path: Path, arguments: list[str], kinds: list[str]) -> None:
    file = tmp_path / "endpoints.yaml"
    file.write_text(yaml.safe_dump({"servingEndpoints": [ENDPOINT]}))
    result = run("render", arguments[0], "chat", "--file", str(file), *arguments[1:])
    assert result.exit_code == 0, result.output
    assert [each["kind"] for each in objects(result)] == kinds
    assert run("render", arguments[0], "chat", "--file", str(tmp_path), *arguments[1:]).stdout == result.stdout, "the folder"


def test_what_is_left_out_is_listed_above_and_beside_and_in_the_exit_code() -> None:
    given = {**ENDPOINT, "sticky": "key", "rules": [{"name": "r", "match": {"segments": ["vip"]}, "entity": "b"}]}
    result = run("render", "istio", "chat", "--file", "-", given=json.dumps(given))
    assert result.exit_code == 1
    said = result.stderr.splitlines()
    assert [line.partition(": ")[0] for line in said] == ["rules[0].match[0].segments", "rules[0]", "sticky"]
    comments = [line.removeprefix("# ") for line in result.stdout.splitlines() if line.startswith("#")]
    assert comments == ["chat, by extproc render istio", "Not said here:", *(f"- {line}" for line in said)]
    assert objects(result)[0]["kind"] == "VirtualService"


def test_a_gateways_own_file_has_endpoints_among_other_things() -> None:
    config = {"routes": [{"models": ["m"], "pool": "p"}], "pools": {}, "servingEndpoints": [ENDPOINT]}
    assert run("render", "istio", "chat", "--file", "-", given=json.dumps(config)).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "given", "said"),
    [
        (["chat"], "[", "line 2, column 1"),
        (["other"], json.dumps(ENDPOINT), "has no serving endpoint 'other'; it has chat"),
        (
            ["chat", "--backend", "a=x:0"],
            json.dumps(ENDPOINT),
            "--backend: got 'a=x:0'; expected ENTITY=NAME or ENTITY=NAME:PORT",
        ),
        (["chat", "--backend", "z=x"], json.dumps(ENDPOINT), "--backend: 'z' is no served entity of chat"),
        (["chat"], json.dumps({**ENDPOINT, "sticky": "yes"}), "sticky: got 'yes'; expected"),
    ],
)
def test_bad_input_prints_nothing_and_says_why(arguments: list[str], given: str, said: str) -> None:
    result = run("render", "istio", *arguments, "--file", "-", given=given)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr


def test_there_and_back_by_files(tmp_path: Path) -> None:
    rendered = tmp_path / "objects.yaml"
    rendered.write_text(run("render", "istio", "chat", "--file", "-", given=json.dumps(ENDPOINT)).stdout)
    result = run("import", "istio", str(rendered))
    assert result.exit_code == 0, result.output
    (back,) = of_yaml(result.stdout)
    assert back == ENDPOINT


def test_several_endpoints_are_a_list_that_a_file_may_be(tmp_path: Path) -> None:
    files = []
    for name in ("one", "two"):
        file = tmp_path / f"{name}.yaml"
        file.write_text(run("render", "kserve", name, "--file", "-", given=json.dumps({**ENDPOINT, "name": name})).stdout)
        files.append(str(file))
    result = run("import", "kserve", *files)
    assert result.exit_code == 0
    assert [read_create(each).name for each in of_yaml(result.stdout)] == ["one", "two"]


BAD = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: a}
spec: {http: [{route: [{destination: {host: a}}]}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: b}
spec:
  http:
  - route:
    - destination: {host: a}
      weight: heavy
"""


def test_a_problem_has_file_object_line_path_value_and_what_was_expected(tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(BAD)
    result = run("import", "istio", str(file))
    assert (result.exit_code, result.stdout) == (2, "")
    expected = f"{file}: line 14: spec.http[0].route[0].weight: got 'heavy'; expected a whole number of at least 0"
    assert expected in result.stderr


def test_files_that_are_none() -> None:
    absent = run("import", "istio", "/nowhere.yaml")
    assert (absent.exit_code, absent.stdout) == (2, "")
    assert "/nowhere.yaml: " in absent.stderr
    assert "there is nothing in it; expected objects" in run("import", "istio", "-", given="").stderr
    assert "nothing to try without --apply" in run("import", "istio", "-", "--dry-run", given=BAD).stderr


async def test_from_the_api_and_into_it() -> None:
    bench = Bench()
    async with served(bench) as api:
        await bench.desk.apply(Create(ENDPOINT), "ann")
        rendered = await against(api, "render", "istio", "chat")
        assert rendered.exit_code == 0, rendered.output
        text = rendered.stdout[rendered.stdout.index("# chat") :]
        changed = text.replace("weight: 90", "weight: 80").replace("weight: 10\n", "weight: 20\n")
        tried = await against(api, "import", "istio", "-", "--apply", "--dry-run", given=changed)
        assert "chat: would be in force; of 10,000 users about 1,000 get another entity" in tried.output, tried.output
        assert bench.desk.get("chat").percentages == {"a": 90, "b": 10}
        done = await against(api, "import", "istio", "-", "--apply", "--reason", "from Istio", given=changed)
        assert "chat: is in force" in done.output, done.output
        assert bench.desk.get("chat").percentages == {"a": 80, "b": 20}
        unknown = await against(api, "render", "istio", "other")
        assert "has no serving endpoint 'other'; it has chat" in unknown.output
