"""The core does not know its transport: the same session behind grpc_testing's threads answers as it does anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc_testing

from extproc.director import Director
from extproc.names import EXT_PROC_METHOD
from extproc.observability.instruments import Instruments
from extproc.observability.metrics import RouterMetrics, StreamMetrics
from extproc.pb import external_processor_pb2 as pb
from extproc.protocol import StreamLimits
from extproc.stages import ModelHeaders
from extproc.transport.codec import Encoder, joined
from extproc.transport.session import Session
from tests.app.running import chat, headers_of


class Servicer:
    """`Process` as a synchronous generator: what a threaded gRPC server would run."""

    def __init__(self) -> None:
        instruments = Instruments()
        metrics = RouterMetrics(instruments)
        self._director = Director([ModelHeaders(metrics)], StreamMetrics(instruments), router_metrics=metrics)
        self._encoder = Encoder()

    def Process(self, requests: Iterator[pb.ProcessingRequest], _: Any) -> Iterator[pb.ProcessingResponse]:
        session = Session(self._director, self._encoder, StreamLimits())
        for request in requests:
            for answer in session.receive(request.SerializeToString()):
                yield pb.ProcessingResponse.FromString(joined(answer))
        session.closed()


def test_a_synchronous_server() -> None:
    service = pb.DESCRIPTOR.services_by_name["ExternalProcessor"]
    server = grpc_testing.server_from_dictionary({service: Servicer()}, grpc_testing.strict_real_time())
    method = service.methods_by_name[EXT_PROC_METHOD.rpartition("/")[2]]
    call = server.invoke_stream_stream(method, (), 5)
    body = b'{"model": "llama"}'
    for message in chat(body):
        call.send_request(message)
    assert headers_of(call.take_response())["x-gateway-model-name"] == "llama"
    assert call.take_response().request_body.response.body_mutation.streamed_response.body == body
    call.requests_closed()
    _, code, _ = call.termination()
    assert code.name == "OK"
