"""The rules about imports bite, and the docs are what the code says."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

from extproc.cli.options import flag_of, is_hidden
from extproc.settings.commands import SERVERS

ROOT = Path(__file__).resolve().parent.parent
CONTRACTS: list[dict[str, Any]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    return subprocess.run(command, cwd=folder, env={"PYTHONPATH": str(folder), "NO_COLOR": "1"}, capture_output=True, text=True)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "extproc", tmp_path / "extproc", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_contracts_hold(copy: Path) -> None:
    done = lint_imports(copy)
    assert done.returncode == 0, done.stdout + done.stderr


PLANTED = [
    ("extproc/protocol/stream.py", "import asyncio"),
    ("extproc/request/parse.py", "import time"),
    ("extproc/scheduling/scheduler.py", "import random"),
    ("extproc/scheduling/scheduler.py", "from extproc.pool import PoolStore"),
    ("extproc/domain.py", "from extproc.settings import base"),
    ("extproc/names.py", "import socket"),
    ("extproc/pool/store.py", "import structlog"),
    ("extproc/prefix/index.py", "import time"),
    ("extproc/prefix/prompt.py", "from extproc.scheduling import facts"),
    ("extproc/stages/pick.py", "import asyncio"),
    ("extproc/settings/server.py", "import socket"),
    ("extproc/transport/h2/frames.py", "import asyncio"),
    ("extproc/transport/session.py", "import time"),
    ("extproc/admin/server.py", "import grpc"),
    ("extproc/sockets/listen.py", "from extproc import director"),
    ("extproc/sockets/listen.py", "from extproc.transport import session"),
    ("extproc/files/watch.py", "from extproc.protocol import limits"),
    ("extproc/external/call.py", "import asyncio"),
    ("extproc/response/sse.py", "from extproc.external import reader"),
    ("extproc/secrets/store.py", "from extproc.external import call"),
    ("extproc/credentials.py", "import os"),
    ("extproc/control/store.py", "import sqlalchemy"),
    ("extproc/app/build.py", "import psycopg"),
]
"""A module, and an import that it may not have."""


def test_what_is_planted_is_found(copy: Path) -> None:
    """All at once: each run of the linter reads the whole package."""
    for module, line in PLANTED:
        path = copy / module
        path.write_text(path.read_text() + f"\n{line}\n")
    for room in ("novel/__init__.py", "other.py"):
        path = copy / "extproc" / room
        path.parent.mkdir(exist_ok=True)
        path.write_text('"""A room."""\n')
    done = lint_imports(copy)
    assert done.returncode == 1, done.stdout + done.stderr
    for module, line in PLANTED:
        found = f"{module.removesuffix('.py').replace('/', '.')} -> {line.split()[1]}"
        assert re.search(rf"{re.escape(found)}\b", done.stdout), f"{found}\n{done.stdout}"
    for room in ("novel", "other"):
        assert room in done.stdout


IO = {
    *("asyncio", "threading", "subprocess", "socket", "ssl", "http", "os", "time", "random", "pathlib", "tempfile", "uvloop"),
    *("grpc", "grpc_health", "google", "aiohttp", "logging", "structlog", "prometheus_client"),
}


def contract(beginning: str) -> dict[str, list[str]]:
    (found,) = [each for each in CONTRACTS if each["name"].startswith(beginning)]
    return {key: value for key, value in found.items() if isinstance(value, list)}


def rooms() -> dict[str, list[Path]]:
    """The modules of each room; a module beside the rooms is one by itself."""
    found: dict[str, list[Path]] = {}
    for path in (ROOT / "extproc").rglob("*.py"):
        name = path.relative_to(ROOT / "extproc").parts[0].removesuffix(".py")
        if name != "__init__" and "pb/envoy" not in str(path):
            found.setdefault(name, []).append(path)
    return found


def imported(path: Path) -> set[str]:
    """The top of each name that the module imports, wherever it does so."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add((node.module or "").split(".")[0])
    return names


def test_every_room_that_does_no_io_is_kept_from_it() -> None:
    """A list of pure rooms that one was forgotten in protects it from nothing."""
    listed = {*contract("the pure rooms")["source_modules"], *contract("deciding")["source_modules"]}
    quiet = {name for name, paths in rooms().items() if not any(imported(path) & IO for path in paths)} - {"pb", "__main__"}
    assert {f"extproc.{name}" for name in quiet} <= listed


def test_every_module_of_the_transport_that_does_no_io_is_kept_from_it() -> None:
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in (ROOT / "extproc" / "transport").rglob("*.py")
        if path.name != "__init__.py"
    }
    doing = {f"extproc.transport.{name}" for name in ("h2.peer", "h2.server", "grpcio", "health")}
    assert set(contract("the transport")["source_modules"]) == modules - doing


def test_only_the_rooms_between_the_proxy_and_the_pure_ones_may_speak_grpc() -> None:
    kept = {
        name.removeprefix("extproc.")
        for beginning in ("the pure rooms", "deciding", "gRPC and protobuf")
        for name in contract(beginning)["source_modules"]
    }
    assert set(rooms()) - kept == {"transport", "pb", "__main__"}


WHOLE = {"ServerSettings", "PickerSettings", "BbrSettings", "EppSettings", "GatewaySettings"}


def test_who_uses_settings_names_the_part_that_it_may_touch() -> None:
    """Only who puts a server together sees all of its settings."""
    taking = set()
    for path in (ROOT / "extproc").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                words = {
                    word for each in arguments if each.annotation for word in re.findall(r"\w+", ast.unparse(each.annotation))
                }
                if words & WHOLE:
                    taking.add(str(path.relative_to(ROOT / "extproc")))
    assert taking == {"app/build.py"}


OPTIONAL = {
    "audit": {"pyarrow"},
    "cel": {"cel-expr-python"},
    "demo": {"rich"},
    "kubernetes": {"kubernetes-asyncio"},
    "serving": {"alembic", "jinja2", "sqlalchemy", "starlette", "typing-extensions", "uvicorn"},
    "postgres": {"psycopg"},
    "shadow": {"rapidfuzz"},
}
"""What an extra gives to the package itself; the rest of an extra is not imported."""


def test_what_is_imported_is_declared_and_what_is_declared_is_imported() -> None:
    """Something that only comes along with something else goes when that does without it."""
    distributions = packages_distributions()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {normalized(line) for line in project["dependencies"]}
    extras = {extra: {normalized(line) for line in lines} for extra, lines in project["optional-dependencies"].items()}
    names = (
        {name for path in (ROOT / "extproc").rglob("*.py") for name in imported(path)} - sys.stdlib_module_names - {"extproc"}
    )
    # `google` is a namespace of several distributions; ours is protobuf.
    used = {normalized(name) for package in names for name in {"google": ["protobuf"]}.get(package, distributions[package])}
    assert all(given <= extras[extra] for extra, given in OPTIONAL.items())
    assert used == declared | {name for given in OPTIONAL.values() for name in given}


def normalized(requirement: str) -> str:
    return re.split(r"[<>=!~;\[ ]", requirement)[0].lower().replace("_", "-")


def test_the_pictures_of_the_package_are_true() -> None:
    layers = contract("imports only go down")["layers"]
    text = (ROOT / "extproc" / "__init__.py").read_text()
    drawn = re.search(r"Imports only go down:\n\n((?:    .*\n)+)", text)
    assert drawn is not None
    assert [line.strip() for line in drawn[1].splitlines()] == layers
    table = (ROOT / "docs" / "architecture.md").read_text()
    shown = set(
        re.findall(r"`([\w/]+?)(?:/|\.py)`", table[table.index("## Rooms") : table.index("### The hot path, compiled")])
    )
    assert {room for layer in layers for room in layer.split(" | ")} - {"__main__"} <= shown


def test_each_flag_of_a_server_stands_once_in_the_docs() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text()
    tables = re.findall(r"<!-- generated: \w+-flags -->\n(.*?)<!-- end -->", text, re.DOTALL)
    rows = Counter(re.findall(r"^\| `--([\w-]+)`", "".join(tables), re.MULTILINE))
    taken = {
        flag_of(field, info) for model in SERVERS.values() for field, info in model.model_fields.items() if not is_hidden(info)
    }
    assert set(rows) == taken
    assert {flag for flag, times in rows.items() if times > 1} == {"config-file"}, "another file for each of two commands"


def test_generated_docs_are_current() -> None:
    done = subprocess.run([sys.executable, "scripts/docs.py", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
