"""Bodies of every kind through a whole stream: the model is found, and the proxy gets back what it sent."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from extproc.director import Director
from extproc.observability.instruments import Instruments
from extproc.observability.metrics import RouterMetrics, StreamMetrics
from extproc.protocol import StreamLimits
from extproc.stages import ModelHeaders
from extproc.transport.codec import Encoder
from extproc.transport.session import Session
from tests.fakes import messages
from tests.fakes.encoders import VARIANTS, encode
from tests.fakes.messages import JSON_HEADERS, answers, set_headers

BODY = b'{"messages":["hello"],"model":"m","user":"\\u00e9"}'
FULL_DUPLEX, BUFFERED, PARTIAL = 4, 2, 3


def session() -> Session:
    instruments = Instruments()
    metrics = RouterMetrics(instruments)
    director = Director([ModelHeaders(metrics)], StreamMetrics(instruments), router_metrics=metrics)
    return Session(director, Encoder(), StreamLimits())


def exchange(pieces: list[bytes], headers: dict[str, bytes]) -> tuple[dict[str, bytes], set[str], bytes]:
    """What is set and removed, and the body that comes back, in full duplex."""
    stream = session()
    raws = [*stream.receive(messages.request_headers(headers))]
    for at, piece in enumerate(pieces, start=1):
        raws += stream.receive(messages.request_body(piece, end=at == len(pieces)))
    first, *rest = answers(raws)
    mutation = first.request_headers.response.header_mutation
    echoed = b"".join(answer.request_body.response.body_mutation.streamed_response.body for answer in rest)
    return set_headers(mutation), set(mutation.remove_headers), echoed


@pytest.mark.parametrize("variant", [*VARIANTS, "gzip, br"])
def test_an_encoded_body_comes_back_as_it_came(variant: str) -> None:
    encoding, encoder = VARIANTS.get(variant, (variant, lambda body: encode(body, variant)))
    noise = random.Random(1).randbytes(20_000 if "members" in variant else 200_000).hex().encode()
    encoded = encoder(b'{"messages":["' + noise + b'"],"model":"m"}')
    cuts = [0, 1, 5000, len(encoded) // 2, len(encoded)]
    pieces = [encoded[begin:end] for begin, end in pairwise(cuts)]
    found, removed, echoed = exchange(pieces, {**JSON_HEADERS, "content-encoding": encoding.encode()})
    assert echoed == encoded
    assert found == {"X-Gateway-Model-Name": b"m", "X-Gateway-Base-Model-Name": b""}
    assert removed == set(), "the content-encoding stays, as the body does"


@pytest.mark.parametrize("headers", [{}, {"content-encoding": b"gzip"}, {"content-encoding": b"zstd"}])
def test_cut_at_any_byte(headers: dict[str, bytes]) -> None:
    body = encode(BODY, headers["content-encoding"].decode()) if headers else BODY
    for cut in range(len(body) + 1):
        found, _, echoed = exchange([body[:cut], body[cut:]], {**JSON_HEADERS, **headers})
        assert found["X-Gateway-Model-Name"] == b"m"
        assert echoed == body


def test_one_byte_at_a_time() -> None:
    found, _, echoed = exchange([BODY[at : at + 1] for at in range(len(BODY))], JSON_HEADERS)
    assert (found["X-Gateway-Model-Name"], echoed) == (b"m", BODY)


@pytest.mark.parametrize("mode", [BUFFERED, PARTIAL])
def test_a_buffered_body_stays_with_the_proxy(mode: int) -> None:
    stream = session()
    stream.receive(messages.request_headers({**JSON_HEADERS, "content-encoding": b"br"}, modes=(mode, 0)))
    (answer,) = answers([*stream.receive(messages.request_body(encode(BODY, "br"), end=True))])
    response = answer.request_body.response
    assert set_headers(response.header_mutation)["X-Gateway-Model-Name"] == b"m"
    assert not response.HasField("body_mutation")


def test_what_does_not_inflate_is_answered() -> None:
    stream = session()
    stream.receive(messages.request_headers({**JSON_HEADERS, "content-encoding": b"gzip"}))
    (answer,) = answers([*stream.receive(messages.request_body(BODY, end=True))])
    assert answer.immediate_response.status.code == 400
    assert b"request body is not valid gzip" in answer.immediate_response.body
