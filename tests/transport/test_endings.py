"""A request ends once, in every count that there is, whatever Envoy sends and wherever the stream breaks.

Sessions with a real director, a picker that measures, and a model's name to be put back.
"""

from __future__ import annotations

from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.director import Director
from extproc.domain import InferenceRequest
from extproc.errors import ProtocolError
from extproc.observability.responses import ResponseMetrics
from extproc.pb import external_processor_pb2 as pb
from extproc.protocol import BodyMode, Direction, StreamLimits
from extproc.stages import NO_HOOKS, Draft, Step
from extproc.transport import codec
from extproc.transport.codec import Encoder, joined
from extproc.transport.session import Session
from tests.fakes import messages
from tests.fakes.deployment import Deployment
from tests.fakes.fuzz import examples
from tests.fakes.messages import answers, kinds

A, B = "10.0.0.1:8000", "10.0.0.2:8000"
BODY = b'{"model":"client-model","messages":[]}'
EVENT = b'data: {"model":"served","choices":[{"delta":{"content":"x"}}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":5}}\n\ndata: [DONE]\n\n'
SSE = {"content-type": b"text/event-stream", "x-model": b"served"}


class Rewrite:
    """A stage that serves another model than the client named."""

    hooks = NO_HOOKS

    def decide(self, request: InferenceRequest, draft: Draft) -> Step:
        draft.restore_model = ("served", request.model or "")
        return None


class Server:
    def __init__(self, *, restores: bool = True) -> None:
        self.deployment = Deployment()
        self.store = self.deployment.add_pool("p")
        picker = self.deployment.picker(responses=ResponseMetrics(self.deployment.instruments))
        self.director: Director = self.deployment.director(*([Rewrite()] if restores else []), picker)

    def session(self) -> Session:
        return Session(self.director, Encoder(), StreamLimits())

    def counts(self, *names: str) -> list[float]:
        """Samples summed over their labels."""
        found = dict.fromkeys(names, 0.0)
        for family in self.deployment.instruments.collect():
            for sample in family.samples:
                if sample.name in found:
                    found[sample.name] += sample.value
        return list(found.values())

    @property
    def in_flight(self) -> list[int]:
        return [view.in_flight for view in self.store.describe()]


def send(session: Session, *raws: bytes) -> list[bytes]:
    return [joined(answer) for raw in raws for answer in session.receive(raw)]


def body_of(raws: list[bytes]) -> bytes:
    return b"".join(
        answer.response_body.response.body_mutation.streamed_response.body
        for answer in answers(raws)
        if answer.WhichOneof("response") == "response_body"
    )


def asked(modes: tuple[int, int] = (4, 4)) -> list[bytes]:
    return [messages.request_headers(modes=modes), messages.request_body(BODY, end=True)]


def test_a_streamed_answer() -> None:
    server = Server()
    session = server.session()
    send(session, *asked(), messages.response_headers(headers=SSE))
    clock = server.deployment.clock
    out = []
    for _ in range(4):
        clock.advance(0.5)
        out += send(session, messages.response_body(EVENT))
        assert len(out) == _ + 1, "each piece goes on at once"
    clock.advance(0.5)
    out += send(session, messages.response_body(USAGE, end=True))
    assert body_of(out) == (EVENT * 4).replace(b"served", b"client-model") + USAGE
    session.closed()
    objective = "inference_objective_"
    assert server.counts(
        f"{objective}request_ttft_seconds_sum",
        f"{objective}request_ttft_seconds_count",
        "llm_d_epp_request_streaming_itl_seconds_count",
        "llm_d_epp_request_streaming_itl_seconds_sum",
        f"{objective}request_tpot_seconds_sum",
        f"{objective}normalized_time_per_output_token_seconds_sum",
        f"{objective}input_tokens_sum",
        f"{objective}output_tokens_sum",
        f"{objective}prompt_cached_tokens_count",
        f"{objective}response_sizes_sum",
    ) == [0.5, 1, 4, 2.0, 0.5, 0.5, 7, 5, 0, len(EVENT * 4 + USAGE)]


def test_a_buffered_answer_is_replaced_and_loses_its_length() -> None:
    document = b'{"model":"served","usage":{"prompt_tokens":7,"completion_tokens":5}}'
    server = Server()
    session = server.session()
    headers = {"content-type": b"application/json", "content-length": str(len(document)).encode()}
    out = send(session, *asked((2, 2)), messages.response_headers(headers=headers), messages.response_body(document, end=True))
    *_, head, body = answers(out)
    assert list(head.response_headers.response.header_mutation.remove_headers) == ["content-length"]
    replaced = body.response_body.response.body_mutation.body
    assert replaced == document.replace(b"served", b"client-model")
    assert server.counts("inference_objective_output_tokens_sum") == [5]


def test_a_piece_that_becomes_empty_is_cleared() -> None:
    answer = pb.ProcessingResponse.FromString(Encoder().body(Direction.RESPONSE, None, b""))
    assert answer.response_body.response.body_mutation.clear_body


TOLD = "plugins: [{type: destination-endpoint-served-verifier}]"


@pytest.mark.parametrize(
    ("served", "expected"), [("10.0.0.2:8000", b"10.0.0.2:8000"), ("", b"fail: missing envoy lb metadata")]
)
def test_the_client_is_told_who_served_when_a_plugin_wants_it(served: str, expected: bytes) -> None:
    deployment = Deployment()
    deployment.add_pool("p", config=TOLD)
    session = Session(deployment.director(deployment.picker()), Encoder(), StreamLimits())
    (answer,) = answers(send(session, *asked((4, 0)), messages.response_headers(served=served))[-1:])
    told = {each.header.key: each.header.raw_value for each in answer.response_headers.response.header_mutation.set_headers}
    assert told["x-conformance-test-served-endpoint"] == expected
    session.closed()


@pytest.mark.parametrize("restores", [False, True])
def test_another_endpoint_serves(restores: bool) -> None:
    server = Server(restores=restores)
    session = server.session()
    send(session, *asked((4, 0)))
    picked = server.in_flight.index(1)
    other = (B, A)[picked]
    send(session, messages.response_headers(served=other))
    assert server.in_flight == [picked, 1 - picked], "it counts where it runs"
    assert next(server.deployment.log.latest()).outcome.served == other
    session.closed()
    assert server.in_flight == [0, 0]
    assert server.counts("extproc_served_elsewhere_total") == [1]
    record = next(server.deployment.log.latest())
    assert (record.outcome.served, record.outcome.status) == (other, 200)


def test_an_endpoint_that_we_do_not_know_serves() -> None:
    server = Server()
    session = server.session()
    send(session, *asked(), messages.response_headers(served="10.9.9.9:1"))
    assert sum(server.in_flight) == 1
    session.closed()
    assert server.in_flight == [0, 0]
    assert server.counts("extproc_served_elsewhere_total") == [1]


@pytest.mark.parametrize(("status", "errors"), [(b"200", 0), (b"304", 0), (b"404", 1), (b"429", 1), (b"503", 1)])
@pytest.mark.parametrize("mode", [BodyMode.NONE, BodyMode.FULL_DUPLEX_STREAMED])
def test_errors_of_model_servers(status: bytes, errors: int, mode: BodyMode) -> None:
    server = Server()
    session = server.session()
    send(session, *asked((4, mode)), messages.response_headers(status, end=True))
    session.closed()
    assert server.counts("inference_objective_request_error_total") == [errors]


def test_bodies_that_are_not_sent_are_counted() -> None:
    server = Server()
    for _ in range(3):
        session = server.session()
        send(session, *asked((4, 0)), messages.response_headers())
        session.closed()
    assert server.counts("extproc_responses_unread_total", "inference_objective_request_ttft_seconds_count") == [3, 0]


raw_messages = st.sampled_from(
    [
        messages.response_headers(headers=SSE),
        messages.response_headers(headers=SSE, served=A),
        messages.response_headers(headers=SSE, served=B),
        messages.response_headers(end=True),
        messages.response_headers(b"503"),
        messages.response_body(EVENT),
        messages.response_body(EVENT[:9]),
        messages.response_body(EVENT[9:]),
        messages.response_body(USAGE),
        messages.response_body(USAGE, end=True),
        messages.response_body(b"", end=True),
        messages.response_trailers(),
        messages.request_body(BODY, end=True),
        messages.request_trailers(),
        b"\xff",
    ]
)


@examples(150)
@given(
    st.lists(
        st.tuples(st.sampled_from([(4, 4), (4, 4), (4, 0), (2, 2), (1, 1), (4, 1)]), st.lists(raw_messages, max_size=10)),
        min_size=1,
        max_size=3,
    ),
    st.booleans(),
    st.data(),
)
def test_any_messages_on_several_streams(
    streams: list[tuple[tuple[int, int], list[bytes]]], restores: bool, data: st.DataObject
) -> None:
    server = Server(restores=restores)
    sessions = [(server.session(), [*asked(modes), *raws]) for modes, raws in streams]
    open_ = list(sessions)
    while open_:
        session, left = data.draw(st.sampled_from(open_))
        try:
            if left:
                answers(session.receive(left.pop(0)))
            if not left:
                open_.remove((session, left))
        except ProtocolError:
            open_.remove((session, left))
        assert all(count >= 0 for count in server.in_flight)
    for session, _ in sessions:
        session.closed()
        session.closed()
    total, running, ended, ttft, sizes = server.counts(
        "inference_objective_request_total",
        "inference_objective_running_requests",
        "inference_objective_request_duration_seconds_count",
        "inference_objective_request_ttft_seconds_count",
        "inference_objective_response_sizes_count",
    )
    assert server.in_flight == [0, 0]
    assert running == 0
    assert total == ended == len(streams)
    assert ttft == sizes <= total
    for record in server.deployment.log.latest():
        assert record.outcome.status is not None


pieces_of = st.lists(st.integers(1, 40), min_size=1, max_size=30)


@examples(100)
@given(pieces_of, st.booleans(), st.booleans())
def test_an_answer_in_any_pieces_is_whole_and_counted_once(sizes: list[int], by_trailers: bool, restores: bool) -> None:
    whole = EVENT * 3 + USAGE
    server = Server(restores=restores)
    session = server.session()
    send(session, *asked(), messages.response_headers(headers=SSE))
    at, out = 0, []
    while at < len(whole):
        size = sizes[at % len(sizes)]
        last = at + size >= len(whole) and not by_trailers
        out += send(session, messages.response_body(whole[at : at + size], end=last))
        at += size
    if by_trailers:
        out += send(session, messages.response_trailers())
        assert kinds(out)[-1] == "response_trailers"
    assert body_of(out) == (whole.replace(b"served", b"client-model") if restores else whole)
    session.closed()
    assert server.counts(
        "inference_objective_request_duration_seconds_count",
        "inference_objective_input_tokens_sum",
        "inference_objective_output_tokens_sum",
        "inference_objective_request_ttft_seconds_count",
    ) == [1, 7, 5, 1]


def test_pieces_that_go_on_as_they_are_are_measured_all_the_same() -> None:
    server = Server(restores=False)
    session = server.session()
    send(session, *asked(), messages.response_headers(headers=SSE))
    pieces = [b"data: a\n\n", b'data: {"usage": {"completion_tokens": 7}}\n\n']
    with mock.patch.object(codec, "chunk", side_effect=AssertionError("not an echo")):
        assert body_of(send(session, *map(messages.response_body, pieces))) == b"".join(pieces)
    send(session, messages.response_body(b"", end=True))
    sizes, tokens = "inference_objective_response_sizes_sum", "inference_objective_output_tokens_sum"
    assert server.counts(sizes, tokens, "llm_d_epp_request_streaming_itl_seconds_count") == [float(sum(map(len, pieces))), 7, 1]
