"""Requests that are read and not answered with text: embeddings, scores, reranking, in vLLM's shapes.

Each text is a prompt in the engine, so that it waits, computes and fills the prefix cache as any other; its first token is its
last.
"""

from __future__ import annotations

from base64 import b64encode
from typing import Annotated, Any, Literal

import orjson
from aiohttp import web
from pydantic import Field

from extproc.simulator import api, tokens, vectors
from extproc.simulator.answers import AnswerOptions
from extproc.simulator.generation import Generation
from extproc.simulator.shapes import LooseBody

MOST_DIMENSIONS = 16_384

Text = str | dict[str, Any]


class EmbeddingBody(LooseBody):
    """POST /v1/embeddings."""

    input: list[Annotated[int, Field(ge=0)]] | list[list[Annotated[int, Field(ge=0)]]] | str | list[str]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[int | None, Field(ge=1, le=MOST_DIMENSIONS)] = None

    def prompts(self) -> list[list[int]]:
        """Token ids of each text. Raises ApiError when one is empty."""
        many: list[Any] = [self.input] if isinstance(self.input, str) else self.input
        if many and isinstance(many[0], int):
            many = [many]
        found = [tokens.encode([one.encode(errors="replace")]) if isinstance(one, str) else list(one) for one in many]
        if not found or not all(found):
            raise api.bad_request("input must be provided and non-empty.", "input")
        return found


class RerankBody(LooseBody):
    """POST /rerank."""

    query: Text
    documents: list[Text]
    top_n: Annotated[int, Field(ge=0)] = 0


class ScoreBody(LooseBody):
    """POST /score; vLLM takes both pairs of names."""

    text_1: Text | list[Text] | None = None
    text_2: Text | list[Text] | None = None
    queries: Text | list[Text] | None = None
    documents: Text | list[Text] | None = None

    def pairs(self) -> list[tuple[str, str]]:
        """What is compared: one with each, or one with one. Raises ApiError."""
        first, second = _texts(self.text_1 or self.queries), _texts(self.text_2 or self.documents)
        if not first or not second:
            raise api.bad_request("text_1 and text_2 must be provided and non-empty.", "text_1")
        if len(first) not in (1, len(second)):
            raise api.bad_request("Input lengths must be either 1:1, 1:N or N:N", "text_1")
        return list(zip(first * (len(second) if len(first) == 1 else 1), second, strict=True))


class Pooling:
    """The handlers."""

    def __init__(self, generation: Generation, dimensions: int) -> None:
        """`dimensions` of a vector when the client does not say."""
        self._generation = generation
        self._dimensions = dimensions

    async def embeddings(self, request: web.Request) -> web.Response:
        """POST /v1/embeddings."""
        body = api.parse(EmbeddingBody, request.headers.get("content-type", ""), await request.read())
        prompts = body.prompts()
        model = await self._compute(body.model, prompts)
        dimensions = body.dimensions or self._dimensions
        data = [
            {
                "index": index,
                "object": "embedding",
                "embedding": _worded(vectors.embed(prompt, dimensions), body.encoding_format),
            }
            for index, prompt in enumerate(prompts)
        ]
        return self._list(request, "embd", model, data, sum(map(len, prompts)))

    async def score(self, request: web.Request) -> web.Response:
        """POST /score and /v1/score."""
        body = api.parse(ScoreBody, request.headers.get("content-type", ""), await request.read())
        pairs = body.pairs()
        prompts = [_joined(one, other) for one, other in pairs]
        model = await self._compute(body.model, prompts)
        data = [
            {"index": index, "object": "score", "score": vectors.similarity(one, other, self._dimensions)}
            for index, (one, other) in enumerate(pairs)
        ]
        return self._list(request, "score", model, data, sum(map(len, prompts)))

    async def rerank(self, request: web.Request) -> web.Response:
        """POST /rerank, /v1/rerank and /v2/rerank (Jina's and Cohere's)."""
        body = api.parse(RerankBody, request.headers.get("content-type", ""), await request.read())
        query, documents = _texts(body.query), _texts(body.documents)
        if not query or not documents:
            raise api.bad_request("query and documents must be provided and non-empty.", "documents")
        prompts = [_joined(query[0], text) for text in documents]
        model = await self._compute(body.model, prompts)
        scores = [vectors.similarity(query[0], text, self._dimensions) for text in documents]
        best_first = sorted(range(len(documents)), key=scores.__getitem__, reverse=True)
        results = [
            {
                "index": index,
                "document": {"text": documents[index], "multi_modal": None},
                "relevance_score": scores[index],
            }
            for index in best_first
        ]
        counted = sum(map(len, prompts))
        return _json(
            {
                "id": self._generation.id_of(request, "rerank"),
                "model": model,
                "usage": {"prompt_tokens": counted, "total_tokens": counted},
                "results": results[: body.top_n or len(results)],
            }
        )

    async def _compute(self, model: str | None, prompts: list[list[int]]) -> str:
        """Run the prompts through the engine; the model's name in answers. Raises ApiError."""
        generation = self._generation
        lora = api.adapter(model, generation.served)
        for prompt in prompts:
            api.room(len(prompt), None, 0, generation.served.max_model_len + 1)
        ask = api.Ask(
            chat=False,
            prompts=tuple(prompts),
            n=1,
            options=(AnswerOptions(max_tokens=1, ignore_eos=True),) * len(prompts),
            lora=lora,
            cache_salt="",
            stream=False,
            include_usage=False,
            continuous_usage=False,
            echo=False,
        )
        with generation.running(ask) as run:
            await run.finish()
        return generation.model_of(ask)

    def _list(self, request: web.Request, prefix: str, model: str, data: list[dict[str, Any]], counted: int) -> web.Response:
        return _json(
            {
                "id": self._generation.id_of(request, prefix),
                "object": "list",
                "created": self._generation.now_s(),
                "model": model,
                "data": data,
                "usage": {
                    "prompt_tokens": counted,
                    "total_tokens": counted,
                    "completion_tokens": 0,
                    "prompt_tokens_details": None,
                },
            }
        )


def _worded(vector: vectors.Vector, encoding: str) -> object:
    return b64encode(vector.astype("<f4").tobytes()).decode() if encoding == "base64" else vector.tolist()


def _texts(given: Text | list[Text] | None) -> list[str]:
    """Texts; of one with parts (an image, say) what it says."""
    many = given if isinstance(given, list) else [given] if given else []
    return [one if isinstance(one, str) else str(one.get("text") or orjson.dumps(one).decode()) for one in many]


def _joined(one: str, other: str) -> list[int]:
    return tokens.encode([one.encode(errors="replace"), tokens.END, other.encode(errors="replace")])


def _json(document: dict[str, Any]) -> web.Response:
    return web.Response(body=orjson.dumps(document), content_type="application/json")
