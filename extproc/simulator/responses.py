"""OpenAI's responses, as vLLM serves them with its store on: create (with events, in the background), retrieve, cancel, delete.

The store is one server's memory, so an id means something only to the server that gave it out, as it is with vLLM.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, Any

import orjson
from aiohttp import web
from pydantic import Field

from extproc.simulator import api
from extproc.simulator.engine import Emission
from extproc.simulator.generation import Generation, Run, stream
from extproc.simulator.replies import Usage
from extproc.simulator.shapes import LooseBody, ask_of_chat, sse

KEPT_RESPONSES = 1000
"""The oldest are forgotten."""

Document = dict[str, Any]


class ResponsesBody(LooseBody):
    """POST /v1/responses."""

    input: str | list[dict[str, Any]]
    instructions: str | None = None
    max_output_tokens: Annotated[int | None, Field(ge=1)] = None
    stream: bool | None = False
    store: bool | None = True
    background: bool | None = False
    previous_response_id: str | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: Any = "auto"
    parallel_tool_calls: bool | None = True
    temperature: float | None = None
    top_p: float | None = None
    text: Any = None
    truncation: str | None = "disabled"
    metadata: dict[str, str] | None = None
    user: str | None = None
    ignore_eos: bool = False
    cache_salt: str | None = None

    def turns(self) -> list[dict[str, Any]]:
        """The input as turns of a chat; what is no message (a tool's output, say) counts as what it says."""
        if isinstance(self.input, str):
            return [{"role": "user", "content": self.input}]
        return [
            {"role": item["role"], "content": item.get("content")}
            if "role" in item
            else {"role": "tool", "content": str(item.get("output", ""))}
            for item in self.input
        ]


class Kept:
    """A response in the store, and the chat that led to it."""

    def __init__(self, document: Document, turns: list[dict[str, Any]]) -> None:
        self.document = document
        self.turns = turns
        self.task: asyncio.Task[None] | None = None
        """What makes it, in the background."""


class Responses:
    """The handlers, and the store. `new_id` gives what ids end with."""

    def __init__(self, generation: Generation, new_id: Callable[[], str]) -> None:
        self._generation = generation
        self._new_id = new_id
        self._kept: dict[str, Kept] = {}

    def stop(self) -> None:
        """End what runs in the background."""
        for kept in self._kept.values():
            if kept.task is not None:
                kept.task.cancel()

    async def create(self, request: web.Request) -> web.StreamResponse:
        """POST /v1/responses."""
        body = api.parse(ResponsesBody, request.headers.get("content-type", ""), await request.read())
        generation = self._generation
        if body.background and (body.stream or not body.store):
            why = "streamed" if body.stream else "answered without being stored"
            raise api.bad_request(f"A response in the background can't be {why} here.", "background")
        before = self._turns_before(body)
        instructions = [{"role": "system", "content": body.instructions}] if body.instructions else []
        ask = ask_of_chat(
            generation.served,
            body.model,
            [*instructions, *before],
            max_tokens=body.max_output_tokens,
            stream=bool(body.stream),
            tools=body.tools,
            ignore_eos=body.ignore_eos,
            cache_salt=body.cache_salt,
        )
        shape = _Shape(_blank(f"resp_{self._new_id()}", generation.now_s(), generation.model_of(ask), body), self._new_id)
        if body.background:
            kept = self._keep(shape.document_now("queued"), before)
            kept.task = asyncio.get_running_loop().create_task(self._in_background(kept, ask, shape))
            return _json(kept.document)
        with generation.running(ask) as run:
            if ask.stream:
                response = await stream(request, run, shape)
            else:
                await run.finish()
                response = _json(shape.finished(run))
        if body.store:
            self._finish(self._keep(shape.finished(run), before))
        return response

    async def retrieve(self, request: web.Request) -> web.Response:
        """GET /v1/responses/{id}."""
        return _json(self._of(request).document)

    async def cancel(self, request: web.Request) -> web.Response:
        """POST /v1/responses/{id}/cancel."""
        kept = self._of(request)
        if not kept.document["background"]:
            raise api.ApiError(400, "invalid_request_error", "Cannot cancel a synchronous response.", "response_id")
        if kept.task is not None:
            kept.task.cancel()
            kept.document = kept.document | {"status": "cancelled"}
        return _json(kept.document)

    async def delete(self, request: web.Request) -> web.Response:
        """DELETE /v1/responses/{id}, which vLLM has not."""
        kept = self._of(request)
        del self._kept[kept.document["id"]]
        if kept.task is not None:
            kept.task.cancel()
        return _json({"id": kept.document["id"], "object": "response", "deleted": True})

    async def input_items(self, request: web.Request) -> web.Response:
        """GET /v1/responses/{id}/input_items, which vLLM has not."""
        turns = self._of(request).turns[:-1]
        items = [
            {"id": f"msg_{at}", "type": "message", "role": turn["role"], "content": _parts(turn["content"])}
            for at, turn in enumerate(turns)
        ]
        ends = {"first_id": items[0]["id"], "last_id": items[-1]["id"]} if items else {"first_id": None, "last_id": None}
        return _json({"object": "list", "data": items, **ends, "has_more": False})

    def _turns_before(self, body: ResponsesBody) -> list[dict[str, Any]]:
        """The chat so far, with what the client says now. Instructions of a response before don't carry over."""
        if body.previous_response_id is None:
            return body.turns()
        return [*self._named(body.previous_response_id, "previous_response_id").turns, *body.turns()]

    def _keep(self, document: Document, turns: list[dict[str, Any]]) -> Kept:
        kept = self._kept[document["id"]] = Kept(document, turns)
        if len(self._kept) > KEPT_RESPONSES:
            oldest = self._kept.pop(next(iter(self._kept)))
            if oldest.task is not None:
                oldest.task.cancel()
        return kept

    def _finish(self, kept: Kept) -> None:
        said = "".join(part["text"] for item in kept.document["output"] for part in item["content"])
        kept.turns = [*kept.turns, {"role": "assistant", "content": said}]

    async def _in_background(self, kept: Kept, ask: api.Ask, shape: _Shape) -> None:
        with self._generation.running(ask) as run:
            kept.document = shape.document_now("in_progress")
            await run.finish()
            kept.document = shape.finished(run)
        kept.task = None
        self._finish(kept)

    def _of(self, request: web.Request) -> Kept:
        return self._named(request.match_info["id"], "response_id")

    def _named(self, response_id: str, param: str) -> Kept:
        if not response_id.startswith("resp"):
            message = f"Invalid '{param}': '{response_id}'. Expected an ID that begins with 'resp'."
            raise api.ApiError(400, "invalid_request_error", message, param)
        kept = self._kept.get(response_id)
        if kept is None:
            raise api.ApiError(404, "invalid_request_error", f"Response with id '{response_id}' not found.", param)
        return kept


def _blank(response_id: str, created: int, model: str, body: ResponsesBody) -> Document:
    return {
        "id": response_id,
        "object": "response",
        "created_at": created,
        "status": "in_progress",
        "background": bool(body.background),
        "error": None,
        "incomplete_details": None,
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "metadata": body.metadata,
        "model": model,
        "output": [],
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "previous_response_id": body.previous_response_id,
        "service_tier": "auto",
        "temperature": 1.0 if body.temperature is None else body.temperature,
        "text": body.text,
        "tool_choice": body.tool_choice,
        "tools": body.tools or [],
        "top_p": 1.0 if body.top_p is None else body.top_p,
        "truncation": body.truncation,
        "usage": None,
        "user": body.user,
    }


class _Shape:
    """One response, whole or as events, each of which has a number."""

    def __init__(self, blank: Document, new_id: Callable[[], str]) -> None:
        self._blank = blank
        self._item = f"msg_{new_id()}"
        self._next = 0

    def document_now(self, status: str) -> Document:
        """The response before it has an answer."""
        return self._blank | {"status": status}

    def document(self, run: Run) -> bytes:
        return orjson.dumps(self.finished(run))

    def finished(self, run: Run) -> Document:
        """The response with its answer."""
        (choice,) = run.choices
        cut = choice.answer.finish_reason == "length"
        return self._blank | {
            "status": "incomplete" if cut else "completed",
            "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
            "output": [self._message(choice.text, "incomplete" if cut else "completed")],
            "usage": _usage(run.usage()),
        }

    def opening(self, run: Run) -> bytes:
        part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        return (
            self._event("response.created", response=self._blank)
            + self._event("response.in_progress", response=self._blank)
            + self._event("response.output_item.added", output_index=0, item=self._message(None, "in_progress"))
            + self._event("response.content_part.added", **self._where, part=part)
        )

    def token(self, run: Run, emission: Emission) -> bytes:
        text = run.choices[0].answer.piece(emission.number, emission.number)
        return self._event("response.output_text.delta", **self._where, delta=text, logprobs=[]) if text else b""

    def closing(self, run: Run) -> bytes:
        document = self.finished(run)
        (item,) = document["output"]
        (part,) = item["content"]
        kind = "response.completed" if document["status"] == "completed" else "response.incomplete"
        return (
            self._event("response.output_text.done", **self._where, text=part["text"], logprobs=[])
            + self._event("response.content_part.done", **self._where, part=part)
            + self._event("response.output_item.done", output_index=0, item=item)
            + self._event(kind, response=document)
        )

    @property
    def _where(self) -> Document:
        return {"item_id": self._item, "output_index": 0, "content_index": 0}

    def _message(self, text: str | None, status: str) -> Document:
        """Without text it is about to be said."""
        parts: list[Document] = []
        if text is not None:
            parts.append({"type": "output_text", "text": text, "annotations": [], "logprobs": None})
        return {"id": self._item, "type": "message", "role": "assistant", "status": status, "content": parts}

    def _event(self, kind: str, **fields: object) -> bytes:
        number, self._next = self._next, self._next + 1
        return sse(kind, {"type": kind, "sequence_number": number, **fields})


def _usage(usage: Usage) -> Document:
    return {
        "input_tokens": usage.prompt,
        "input_tokens_details": {"cached_tokens": usage.cached},
        "output_tokens": usage.completion,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.prompt + usage.completion,
    }


def _parts(content: object) -> object:
    return [{"type": "input_text", "text": content}] if isinstance(content, str) else content


def _json(document: Document) -> web.Response:
    return web.Response(body=orjson.dumps(document), content_type="application/json")
