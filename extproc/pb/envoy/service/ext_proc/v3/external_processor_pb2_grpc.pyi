"""Types for the generated gRPC module, grpc.aio only. Written by scripts/protos; do not edit."""

from collections.abc import AsyncIterator, Awaitable

import grpc.aio

from extproc.pb.envoy.service.ext_proc.v3 import external_processor_pb2

class ExternalProcessorStub:
    def __init__(self, channel: grpc.aio.Channel) -> None: ...
    Process: grpc.aio.StreamStreamMultiCallable[external_processor_pb2.ProcessingRequest, external_processor_pb2.ProcessingResponse]

class ExternalProcessorServicer:
    def Process(
        self,
        request_iterator: AsyncIterator[external_processor_pb2.ProcessingRequest],
        context: grpc.aio.ServicerContext[external_processor_pb2.ProcessingRequest, external_processor_pb2.ProcessingResponse],
    ) -> AsyncIterator[external_processor_pb2.ProcessingResponse] | Awaitable[None]: ...

def add_ExternalProcessorServicer_to_server(
    servicer: ExternalProcessorServicer, server: grpc.aio.Server
) -> None: ...
