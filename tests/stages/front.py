"""A picker with flow control, and sessions at it."""

from __future__ import annotations

import orjson

from extproc.domain import Load
from extproc.flow import FlowPlan
from extproc.pb import external_processor_pb2 as pb
from extproc.protocol import StreamLimits
from extproc.traffic import ObjectiveTable
from extproc.transport.codec import Encoder, joined
from extproc.transport.session import Session
from tests.fakes import messages
from tests.fakes.candidates import endpoints
from tests.fakes.deployment import Deployment
from tests.fakes.messages import answers, set_headers
from tests.fakes.page import counted
from tests.fakes.waiting import FakeCarrier

BODY = b'{"model":"m"}'
FULL = Load(waiting=5, running=4, kv_usage=0.1)
ROOM = Load(waiting=0, running=4, kv_usage=0.1)
DESTINATION = "x-gateway-destination-endpoint"


class Front:
    """A picker with flow control, and sessions at it."""

    def __init__(self, plan: FlowPlan = FlowPlan(), members: int = 1, config: str = "") -> None:
        self.deployment = Deployment()
        self.store = self.deployment.add_pool("p", members, config=config)
        self.deployment.traffic["p"].objectives.replace(ObjectiveTable({"batch": -10, "chat": 5}))
        self.stage = self.deployment.queue(p=plan)
        self.director = self.deployment.director(self.deployment.admission(), self.stage, self.deployment.picker())
        self.gate = self.deployment.gates["p"]
        self.order: list[object] = []

    def pages(self, load: Load, of: int | None = None) -> None:
        for endpoint in endpoints(len(self.store))[:of]:
            self.store.page_started(endpoint.key)
            self.store.page_read(endpoint.key, load)

    def ask(self, name: object = "", body: bytes = BODY, **headers: str) -> Asked:
        asked = Asked(self, name)
        asked.send(body, **headers)
        return asked

    def run(self, seconds: float = 0.0) -> None:
        self.deployment.later.run(seconds)

    def counted(self, prefix: str) -> dict[str, float]:
        return counted(self.deployment.instruments, prefix)


class Asked(FakeCarrier):
    """A request on its way."""

    def __init__(self, front: Front, name: object) -> None:
        super().__init__(Session(front.director, Encoder(), StreamLimits()))
        self._front = front
        self._name = name

    def send(self, body: bytes, **headers: str) -> None:
        named = {name.replace("_", "-"): value.encode() for name, value in headers.items() if value}
        for raw in (messages.request_headers({**messages.JSON_HEADERS, **named}), messages.request_body(body, end=True)):
            self.answers += self.session.receive(raw)

    def resume(self, outcome: object) -> None:
        super().resume(outcome)
        self._front.order.append(self._name)

    def picked(self) -> bool:
        return bool(self.answers) and DESTINATION in set_headers(self._told().request_headers.response.header_mutation)

    def evicted(self) -> bool:
        """It was answered by us after it had been let on."""
        return self.picked() and self._told(-1).HasField("immediate_response")

    @property
    def refused(self) -> tuple[int, str, dict[str, str]]:
        """Status, code, headers."""
        immediate = self._told(-1).immediate_response
        said = {each.header.key: each.header.raw_value.decode() for each in immediate.headers.set_headers}
        return immediate.status.code, orjson.loads(immediate.body)["error"]["code"], said

    def _told(self, which: int = 0) -> pb.ProcessingResponse:
        return answers([joined(answer) for answer in self.answers])[which]
