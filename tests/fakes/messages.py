"""ProcessingRequest bytes as Envoy sends them, and ProcessingResponse bytes read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from extproc import names
from extproc.pb import external_processor_pb2 as pb
from extproc.transport.codec import Message, joined

JSON_HEADERS = {":method": b"POST", ":path": b"/v1/chat/completions", "content-type": b"application/json"}


def put_headers(map_: pb.HttpHeaders, headers: Mapping[str, bytes], *, raw: bool = True) -> None:
    for key, value in headers.items():
        header = map_.headers.headers.add()
        header.key = key
        if raw:
            header.raw_value = value
        else:
            header.value = value.decode()


def put_subset(message: pb.ProcessingRequest, subset: Sequence[str] | str) -> None:
    """The proxy's hint: a list, or one string with commas."""
    value = message.metadata_context.filter_metadata[names.SUBSET_NAMESPACE].fields[names.SUBSET_KEY]
    if isinstance(subset, str):
        value.string_value = subset
    else:
        value.list_value.extend(subset)


def put_attempt(message: pb.ProcessingRequest, number: float) -> None:
    """Which attempt it is, as envoy/serving-endpoints.yaml says it."""
    message.metadata_context.filter_metadata[names.ATTEMPT_NAMESPACE].fields[names.ATTEMPT_KEY].number_value = number


def request_headers(
    headers: Mapping[str, bytes] = JSON_HEADERS,
    *,
    end: bool = False,
    modes: tuple[int, int] | None = (4, 4),
    early: bool = False,
    subset: Sequence[str] | str | None = None,
    raw: bool = True,
) -> bytes:
    """`modes`: the body modes of protocol_config, request and response; None: no protocol_config."""
    message = pb.ProcessingRequest()
    put_headers(message.request_headers, headers, raw=raw)
    message.request_headers.end_of_stream = end
    if modes is not None:
        message.protocol_config.request_body_mode = modes[0]  # type: ignore[assignment]  # an int on purpose
        message.protocol_config.response_body_mode = modes[1]  # type: ignore[assignment]
        message.protocol_config.send_body_without_waiting_for_header_response = early
    if subset is not None:
        put_subset(message, subset)
    return message.SerializeToString()


def request_body(body: bytes, *, end: bool = False, subset: Sequence[str] | str | None = None) -> bytes:
    message = pb.ProcessingRequest()
    message.request_body.body = body
    message.request_body.end_of_stream = end
    if subset is not None:
        put_subset(message, subset)
    return message.SerializeToString()


def request_trailers() -> bytes:
    message = pb.ProcessingRequest()
    message.request_trailers.SetInParent()
    return message.SerializeToString()


def response_headers(
    status: bytes = b"200",
    *,
    end: bool = False,
    served: str = "",
    raw: bool = True,
    headers: Mapping[str, bytes] = {"content-type": b"application/json"},
) -> bytes:
    message = pb.ProcessingRequest()
    put_headers(message.response_headers, {":status": status, **headers}, raw=raw)
    message.response_headers.end_of_stream = end
    if served:
        space = message.metadata_context.filter_metadata[names.LB_NAMESPACE]
        space.fields[names.SERVED_KEY].string_value = served
    return message.SerializeToString()


def response_body(body: bytes, *, end: bool = False) -> bytes:
    message = pb.ProcessingRequest()
    message.response_body.body = body
    message.response_body.end_of_stream = end
    return message.SerializeToString()


def response_trailers() -> bytes:
    message = pb.ProcessingRequest()
    message.response_trailers.SetInParent()
    return message.SerializeToString()


def answers(raws: Sequence[Message]) -> list[pb.ProcessingResponse]:
    """The answers, read."""
    return [pb.ProcessingResponse.FromString(joined(raw)) for raw in raws]


def kinds(raws: Sequence[Message]) -> list[str]:
    """What the answers are, e.g. `request_headers`."""
    return [answer.WhichOneof("response") or "" for answer in answers(raws)]


def set_headers(mutation: pb.HeaderMutation) -> dict[str, bytes]:
    """What the mutation sets."""
    return {option.header.key: option.header.raw_value for option in mutation.set_headers}
