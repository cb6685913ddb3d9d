"""What a check says of a gateway's registry, and of what endpoints name in it; nobody is asked."""

from __future__ import annotations

import pytest

from extproc.app.checking import Report, check_text

GATEWAY = """\
apiVersion: extproc.dev/v1alpha1
kind: Gateway
pools: [{name: a, endpoints: {static: ["127.0.0.1:1"]}}]
routes: [{models: [m], pool: a}]
"""
FOLLOWS = """\
servingEndpoints:
- name: chat
  config:
    served_entities:
    - {name: current, entity_name: churn, entity_version: "@champion"}
"""


def check(text: str) -> Report:
    return check_text("f.yaml", text.encode())


def test_an_alias_is_right_and_not_asked_for() -> None:
    report = check(f"{GATEWAY}registry: {{uri: https://mlflow.example}}\n{FOLLOWS}")
    assert report.number == 0
    assert report.parts[0].notes[-1] == "the registry is not asked here for models:/churn@champion"


def test_without_an_address_the_gateway_needs_a_flag() -> None:
    (note,) = [note for note in check(GATEWAY + FOLLOWS).parts[0].notes if "registry" in note]
    assert note.endswith("the file has no registry.uri, so the gateway needs --registry-uri")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("registry: {uri: ftp://x}", "line 5: registry.uri: expected an address such as https://host"),
        ("registry: {models: [{name: churn, pool: z}]}", "line 5: registry.models[0].pool: no pool is called 'z'"),
        (FOLLOWS.replace("@champion", "@v1"), "line 9: servingEndpoints[0].config.served_entities[0]: got an object"),
    ],
)
def test_what_is_wrong_has_its_line(text: str, problem: str) -> None:
    (said,) = check(f"{GATEWAY}{text}\n").parts[0].problems
    assert said.startswith(problem)
