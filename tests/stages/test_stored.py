"""A request about a stored response goes back to where it was made."""

from __future__ import annotations

import pytest

from extproc.domain import BodyPath, Decision, RequestHead
from extproc.protocol import Answered, Decide, Finished
from extproc.stages import FindStored
from extproc.traffic import MadeAt, StoredResponses
from tests.fakes.candidates import endpoints
from tests.fakes.deployment import Deployment

MODELS = {"one": ["a"], "two": ["b"]}


class Gateway:
    """Two pools of four endpoints, and requests to them."""

    def __init__(self, deployment: Deployment) -> None:
        everyone = endpoints(8)
        deployment.add_pool("one", everyone[:4])
        self.second = everyone[4:]
        self.store = deployment.add_pool("two", self.second)
        self.stored = StoredResponses()
        self.director = deployment.director(FindStored(self.stored), deployment.routes(**MODELS), deployment.picker(None))

    def ask(self, method: str, path: str, body: bytes = b"") -> Decision:
        head = RequestHead({":method": method.encode(), ":path": path.encode(), "content-type": b"application/json"})
        decision = self.director.decide(Decide(head, body, True))
        assert isinstance(decision, Decision)
        return decision

    def make(self, response_id: str, served: str = "") -> Decision:
        """A response of model `b`, whose answer passes by us."""
        made = self.ask("POST", "/v1/responses", b'{"model":"b"}')
        assert made.reader is not None
        self.director.answered(Answered(made, 200, served))
        made.reader.headers(200, {}, BodyPath.FREE)
        assert made.reader.wants_body, "whether anything else is read of it or not"
        made.reader.body(b'{"id":"%s"}' % response_id.encode(), True)
        self.director.finished(Finished(made, 200, True), served)
        return made


@pytest.fixture
def gateway(deployment: Deployment) -> Gateway:
    return Gateway(deployment)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/responses/resp_1"),
        ("DELETE", "/v1/responses/resp_1"),
        ("POST", "/v1/responses/resp_1/cancel"),
        ("GET", "/v1/responses/resp_1/input_items?limit=1"),
        ("GET", "/openai/v1/responses/resp_1"),
    ],
)
def test_by_its_id(gateway: Gateway, method: str, path: str) -> None:
    made = gateway.make("resp_1")
    assert {gateway.ask(method, path).destination for _ in range(20)} == {made.destination}


def test_by_the_one_that_it_goes_on_from(gateway: Gateway) -> None:
    made = gateway.make("resp_1")
    body = b'{"model":"b","previous_response_id":"resp_1"}'
    assert {gateway.ask("POST", "/v1/responses", body).destination for _ in range(20)} == {made.destination}


def test_another_model_than_it_was_made_by_goes_to_its_own_pool(gateway: Gateway) -> None:
    gateway.make("resp_1")
    asked = gateway.ask("POST", "/v1/responses", b'{"model":"a","previous_response_id":"resp_1"}')
    assert asked.destination in {endpoint.key for endpoint in endpoints(8)[:4]}


def test_where_it_was_served_counts_not_where_it_was_sent(gateway: Gateway) -> None:
    sent = gateway.ask("POST", "/v1/responses", b'{"model":"b"}').destination
    served = next(endpoint.key for endpoint in gateway.second if endpoint.key != sent)
    gateway.make("resp_1", served)
    assert gateway.stored.made_at("resp_1") == MadeAt("two", served)
    assert gateway.ask("GET", "/v1/responses/resp_1").destination == served


def test_it_is_known_while_the_answer_is_still_on_its_way(gateway: Gateway) -> None:
    """So that a stream can be cancelled."""
    made = gateway.ask("POST", "/v1/responses", b'{"model":"b","stream":true}')
    assert made.reader is not None
    made.reader.headers(200, {}, BodyPath.FREE)
    made.reader.body(b'data: {"response":{"id":"resp_1"}}\n\n', False)
    assert gateway.ask("POST", "/v1/responses/resp_1/cancel").destination == made.destination


def test_an_endpoint_that_left_is_not_waited_for(gateway: Gateway) -> None:
    made = gateway.make("resp_1")
    gateway.store.replace_endpoints([endpoint for endpoint in gateway.second if endpoint.key != made.destination])
    assert gateway.ask("GET", "/v1/responses/resp_1").destination != made.destination


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_one_that_nobody_knows_is_the_first_pool_s_to_answer(gateway: Gateway, method: str) -> None:
    asked = gateway.ask(method, "/v1/responses/resp_unknown")
    assert asked.destination in {endpoint.key for endpoint in endpoints(8)[:4]}


def test_other_requests_have_no_reader(gateway: Gateway) -> None:
    """Bodies of answers that nobody reads pass at the least cost."""
    assert gateway.ask("POST", "/v1/chat/completions", b'{"model":"b"}').reader is None
    assert gateway.ask("GET", "/v1/responses/resp_1").reader is None
