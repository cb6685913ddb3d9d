"""The generated package: up to date, importable beside others, and honest about the versions it needs."""

import os
import pickle
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from extproc.pb import base_pb2, external_processor_pb2
from tests.pb.references import ROOT, require_xds_protos

pytestmark = pytest.mark.timeout(60)  # protoc and fresh interpreters

GENERATED = Path("extproc/pb/envoy")
SERVICE = GENERATED / "service/ext_proc/v3"


def _run(code: str, path: Path | None = None) -> str:
    """Output of `code` in a fresh interpreter, with `path` before all other places to import from."""
    env = {**os.environ, "PYTHONPATH": str(path or "")}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=env, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what scripts/protos reads and writes, to tamper with."""
    for directory in ("protos", "scripts", "extproc/pb"):
        shutil.copytree(ROOT / directory, tmp_path / directory, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    return tmp_path


def _check(checkout: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([checkout / "scripts/protos", "--check"], capture_output=True, text=True, check=False)


def test_committed_files_are_up_to_date() -> None:
    done = _check(ROOT)
    assert (done.returncode, done.stderr) == (0, "")


def test_check_finds_an_edited_a_deleted_and_a_stray_file(checkout: Path) -> None:
    edited = checkout / SERVICE / "external_processor_pb2.py"
    edited.write_text(edited.read_text() + "\n# edited\n")
    (checkout / SERVICE / "external_processor_pb2_grpc.pyi").unlink()
    (checkout / SERVICE / "stray_pb2.py").touch()
    before = sorted((checkout / GENERATED).rglob("*"))

    done = _check(checkout)

    assert done.returncode == 1
    assert "run scripts/protos and commit the result" in done.stderr
    assert re.search(r"external_processor_pb2\.py\b.* differ", done.stderr)
    assert re.search(r"Only in \(generated\).*: external_processor_pb2_grpc\.pyi", done.stderr)
    assert re.search(r"Only in extproc/pb/envoy.*: stray_pb2\.py", done.stderr)
    assert sorted((checkout / GENERATED).rglob("*")) == before, "--check changes nothing"


def test_generation_follows_the_proto_and_makes_check_pass(checkout: Path) -> None:
    proto = checkout / "protos/envoy/type/v3/http_status.proto"
    proto.write_text(proto.read_text().replace("StatusCode code = 1;", "StatusCode code = 2;"))
    (checkout / SERVICE / "stray_pb2.py").touch()
    assert _check(checkout).returncode == 1

    subprocess.run([checkout / "scripts/protos"], check=True)

    assert _check(checkout).returncode == 0
    assert not (checkout / SERVICE / "stray_pb2.py").exists()


def test_import_needs_neither_a_top_level_envoy_nor_grpc() -> None:
    code = "import sys, extproc.pb; print({'envoy', 'grpc'} & {m.partition('.')[0] for m in sys.modules})"
    assert _run(code).strip() == "set()"


def test_a_second_build_of_the_same_files_in_one_process_is_refused_loudly() -> None:
    """What the docstring of extproc.pb promises: TypeError, never two half-compatible sets of messages."""
    code = """
import extproc.pb
try:
    import envoy.service.ext_proc.v3.external_processor_pb2
except TypeError as error:
    print(error)
"""
    assert "duplicate file name" in _run(code, require_xds_protos())


def test_messages_can_be_pickled_by_their_module_path() -> None:
    headers = base_pb2.HeaderMap(headers=[base_pb2.HeaderValue(key="a", raw_value=b"b")])
    message = external_processor_pb2.ProcessingRequest(request_headers={"headers": headers, "end_of_stream": True})
    assert type(message).__module__.startswith("extproc.pb.envoy.")
    assert pickle.loads(pickle.dumps(message)) == message


def test_pyproject_asks_for_the_runtimes_that_the_generated_code_demands() -> None:
    """Generated code refuses at import to run on a protobuf or grpcio older than the one it was made with."""
    requirements = "\n".join(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"])
    messages = (ROOT / SERVICE / "external_processor_pb2.py").read_text()
    service = (ROOT / SERVICE / "external_processor_pb2_grpc.py").read_text()
    assert _version(r"^protobuf>=", requirements) >= _version("Protobuf Python Version: ", messages)
    assert _version(r"^grpcio>=", requirements) >= _version("GRPC_GENERATED_VERSION = '", service)


def _version(before: str, text: str) -> tuple[int, ...]:
    """The version that stands behind the pattern `before`."""
    match = re.search(before + r"([\d.]+)", text, re.MULTILINE)
    assert match, f"no {before} found"
    return tuple(int(part) for part in match[1].split("."))
