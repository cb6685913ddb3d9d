"""The response's half of a stream: its doings, as the rows of `table.py` name them."""

from __future__ import annotations

from typing import Final

from extproc import names
from extproc.domain import NO_MUTATION, BodyPath, HeaderMutation, is_failure
from extproc.protocol.actions import (
    Actions,
    Answered,
    Finished,
    ReplyBody,
    ReplyResponseHeaders,
    ReplyTrailers,
    TellNumbers,
)
from extproc.protocol.conditions import FULL_DUPLEX, NO_BYTES, Remembered
from extproc.protocol.events import Direction, ResponseBody, ResponseHeaders
from extproc.protocol.pieces import both, chunks, path_of, read_piece


class ResponseHalf(Remembered):
    """What is done with a response."""

    __slots__ = ()

    def _pass_response_headers(self, event: ResponseHeaders) -> Actions:
        self._status = event.status
        self.served = event.served
        mutation: HeaderMutation = self._limits.on_response_headers
        decision = self._decision
        if decision is None:
            return [ReplyResponseHeaders(mutation)]
        if decision.response is not NO_MUTATION:
            mutation = both(mutation, decision.response)
        reader = decision.reader
        if reader is not None:
            path = path_of(event, self._config.response_body)
            changed = reader.headers(event.status, event.headers, path)
            if (path is BodyPath.PIECEWISE or path is BodyPath.FREE) and reader.wants_body:
                self._reader = reader
                self._only_listens = reader.only_listens
            if changed is not NO_MUTATION:
                mutation = both(changed, mutation)
        if decision.falls_back and is_failure(event.status):
            mutation = both(mutation, _NEXT_ENTITY)
        if decision.served_header:
            mutation = both(mutation, HeaderMutation(set_headers=((decision.served_header, _told_served(event)),)))
        return [ReplyResponseHeaders(mutation), Answered(decision, event.status, event.served)]

    def _hold_response_headers(self, event: ResponseHeaders) -> Actions:
        """Keep the reply: Envoy sends pieces of the body without it, and none of them goes on before it."""
        reply, *rest = self._pass_response_headers(event)
        self._held_response = [reply]
        return rest

    def _held(self) -> Actions:
        held, self._held_response = self._held_response, []
        return held

    def _pass_held_response(self, event: ResponseBody) -> Actions:
        return self._held() + self._pass_response_body(event)

    def _end_held_response(self, event: ResponseBody) -> Actions:
        return self._held() + self._end_response_body(event)

    def _end_held_response_at_trailers(self, event: object) -> Actions:
        return self._held() + self._end_response_trailers(event)

    def _end_response_headers(self, event: ResponseHeaders) -> Actions:
        return self._pass_response_headers(event) + self._finish_once(complete=True)

    def _pass_response_body(self, event: ResponseBody) -> Actions:
        mode = self._config.response_body
        if self._reader is not None:
            return read_piece(self._reader, event, mode)
        if mode is FULL_DUPLEX:
            return chunks(Direction.RESPONSE, event.body, ends=event.end_of_stream)
        return [ReplyBody(Direction.RESPONSE)]

    def _end_response_body(self, event: ResponseBody) -> Actions:
        return self._pass_response_body(event) + self._report() + self._finish_once(complete=True)

    def _end_response_trailers(self, event: object) -> Actions:
        rest = self._reader.rest() if self._reader is not None else NO_BYTES
        held = chunks(Direction.RESPONSE, rest, ends=False) if rest else []
        changed = self._reader is not None and not self._only_listens
        return [*held, ReplyTrailers(Direction.RESPONSE, changed), *self._report(), *self._finish_once(complete=True)]

    def _report(self) -> Actions:
        """Behind the reply that ends the answer."""
        decision = self._decision
        if decision is None or decision.report is None:
            return []
        numbers = decision.report()
        return [TellNumbers(numbers)] if numbers else []

    def _finish_once(self, *, complete: bool) -> Actions:
        if self._finished or self._decision is None:
            return []
        self._finished = True
        return [Finished(self._decision, self._status, complete)]


_NEXT_ENTITY: Final = HeaderMutation(set_headers=((names.NEXT_ENTITY_HEADER, "1"),))


def _told_served(event: ResponseHeaders) -> str:
    """In the words of the inference extension's own picker, which its conformance tests compare with."""
    if event.served:
        return event.served
    if event.of_balancer:
        return "fail: missing destination endpoint served metadata"
    return "fail: missing envoy lb metadata"
