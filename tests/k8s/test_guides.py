"""docs/kubernetes: the commands of each page, in their order, on a real API server; and every manifest."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from extproc.observability import metrics as metrics_module
from extproc.observability.twins import NEWER
from tests.k8s.api import documents, path_of
from tests.k8s.cluster import ADMIN, BIN, ROOT, Cluster

GUIDES: Final = ROOT / "docs" / "kubernetes"
PAGES: Final = sorted(path.name for path in GUIDES.glob("*.md") if "```console" in path.read_text())
_BLOCK: Final = re.compile(r"```console\n(.*?)```", re.DOTALL)
_NEEDS_MORE: Final = ("istioctl", "gcloud", "curl", "GATEWAY=", "for model", "kubectl port-forward", "kubectl rollout")
"""Commands that need a node, a controller or another system."""
_RELEASES: Final = "releases/download/"
"""Manifests of others, which the API server has already."""
_OTHERS: Final = {"certificate.yaml"}
"""Of kinds whose CRDs are not installed here."""


def commands(page: str) -> Iterator[str]:
    """What the reader is asked to run, a line each."""
    for block in _BLOCK.findall((GUIDES / page).read_text()):
        for command in re.split(r"^\$ ", block.replace("\\\n", " "), flags=re.MULTILINE):
            if command.strip():
                yield " ".join(command.split())


def _is_for_here(command: str) -> bool:
    return not command.startswith(_NEEDS_MORE) and _RELEASES not in command


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_the_page_works(page: str, cluster: Cluster, namespace: str) -> None:
    config = cluster.write_kubeconfig(f"guide-{namespace}", ADMIN, namespace)
    environment = {"PATH": f"{BIN}:/usr/bin:/bin", "HOME": str(cluster.directory), "KUBECONFIG": str(config), "HF_TOKEN": "hf"}
    ran = [command for command in commands(page) if _is_for_here(command)]
    assert ran, page
    for command in ran:
        done = subprocess.run(
            ["bash", "-euc", command], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"


def test_every_manifest_is_accepted(cluster: Cluster, namespace: str) -> None:
    plurals = cluster.resources()
    for path in sorted((GUIDES / "manifests").glob("*.yaml")):
        if path.name.endswith(".values.yaml") or path.name in _OTHERS:
            continue
        for each in documents(path.read_text()):
            cluster.admin.apply(path_of(each, namespace, plurals), each, dryRun="All", fieldValidation="Strict")


def test_every_manifest_is_mentioned() -> None:
    pages = "".join(path.read_text() for path in GUIDES.glob("*.md"))
    for path in (GUIDES / "manifests").iterdir():
        assert path.name in pages, path.name


def test_metrics_of_the_migration_table_are_there() -> None:
    """What the column `here` says, and what stands in `the same`; `…_x` has the family of the name before it."""
    source = "".join(path.read_text() for path in Path(metrics_module.__file__).parents[1].rglob("*.py"))
    lines = (GUIDES / "migrating.md").read_text().splitlines()
    rows = [line for line in lines if re.match(r"\| (`(bbr|inference|llm)_|–)", line) and "not there" not in line]
    named = {name for row in rows for name in _metrics(row)}
    assert len(named) > 50
    quoted = set(_QUOTED.findall(source))
    newer = {name: name.removeprefix(NEWER).removesuffix("_total") for name in named}  # as the table of twins has them
    assert [name for name in sorted(named) if not {name, newer[name]} & quoted] == []


_QUOTED: Final = re.compile(r'"(\w+)"')


def _metrics(row: str) -> Iterator[str]:
    family = ""
    for abbreviated, name, pattern in re.findall(r"`(…)?(\w+)(\*?)", row):
        found = re.match(r"bbr|inference_(objective|pool|extension)|llm_d_epp|extproc", name)
        if not abbreviated:
            family = found[0] if found else ""
        if family and not pattern:
            yield f"{family}{name}" if abbreviated else name
