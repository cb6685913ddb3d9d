"""Write the type stub for a `_pb2_grpc` module: `scripts/grpc_pyi.py FILE.proto < DESCRIPTOR_SET > STUB`.

protoc types the messages but leaves the gRPC module untyped, which mypy in strict mode refuses to call. The stub
covers what we use, `grpc.aio` on both sides; the blocking API of the same module stays untyped on purpose.
"""

import sys
from collections.abc import Iterator

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet, MethodDescriptorProto

HEADER = '''\
"""Types for the generated gRPC module, grpc.aio only. Written by scripts/protos; do not edit."""

from collections.abc import AsyncIterator, Awaitable

import grpc.aio
'''


def main() -> None:
    """Read the descriptor set from standard input, write the stub to standard output."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(f"usage: .venv/bin/python scripts/grpc_pyi.py FILE.proto < DESCRIPTOR_SET > STUB\n\n{__doc__}")
        return
    name = sys.argv[1]
    files = FileDescriptorSet.FromString(sys.stdin.buffer.read())
    file = next(f for f in files.file if f.name == name)
    sys.stdout.write("\n".join(stub(file)) + "\n")


def stub(file: FileDescriptorProto) -> Iterator[str]:
    """Lines of the stub. Raises ValueError for what no service of ours has, so that nobody trusts a wrong type."""
    package, _, module = file.name.removesuffix(".proto").replace("/", ".").rpartition(".")
    yield HEADER
    yield f"from {package} import {module}_pb2"
    for service in file.service:
        calls = [(m.name, *message_types(file, m, f"{module}_pb2")) for m in service.method]
        yield f"\nclass {service.name}Stub:"
        yield "    def __init__(self, channel: grpc.aio.Channel) -> None: ..."
        for method, request, response in calls:
            yield f"    {method}: grpc.aio.StreamStreamMultiCallable[{request}, {response}]"
        yield f"\nclass {service.name}Servicer:"
        for method, request, response in calls:
            yield f"    def {method}("
            yield "        self,"
            yield f"        request_iterator: AsyncIterator[{request}],"
            yield f"        context: grpc.aio.ServicerContext[{request}, {response}],"
            yield f"    ) -> AsyncIterator[{response}] | Awaitable[None]: ..."
        yield f"\ndef add_{service.name}Servicer_to_server("
        yield f"    servicer: {service.name}Servicer, server: grpc.aio.Server"
        yield ") -> None: ..."


def message_types(file: FileDescriptorProto, method: MethodDescriptorProto, module: str) -> tuple[str, str]:
    """The Python names of a method's request and response."""
    if not (method.client_streaming and method.server_streaming):
        raise ValueError(f"{method.name}: only bidirectional streams are written")
    request, response = (t.removeprefix(f".{file.package}.") for t in (method.input_type, method.output_type))
    if "." in request or "." in response:
        raise ValueError(f"{method.name}: request and response must be messages of {file.package}")
    return f"{module}.{request}", f"{module}.{response}"


if __name__ == "__main__":
    main()
