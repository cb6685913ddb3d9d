"""HTTP around the engine model: a server that can be started many times in one process."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from hashlib import sha256
from types import TracebackType
from typing import Self

import orjson
from aiohttp import web
from aiohttp.typedefs import Handler

from extproc.settings.sim import SimSettings
from extproc.simulator import api, control, replies, tokens
from extproc.simulator.answers import Speaker
from extproc.simulator.driver import Driver
from extproc.simulator.engine import Engine, EngineConfig
from extproc.simulator.faults import FaultBook
from extproc.simulator.generation import Generation
from extproc.simulator.messages import PATH as MESSAGES
from extproc.simulator.messages import Messages, error_body
from extproc.simulator.metrics import CONTENT_TYPE, SimMetrics
from extproc.simulator.pooling import Pooling
from extproc.simulator.responses import Responses

_SHA, _BYTES = web.RequestKey("sim.body.sha256", str), web.RequestKey("sim.body.bytes", int)
_SHUTDOWN_S = 0.2
"""How long answers under way get to notice that the server stops."""
_UNCOUNTED = ("/metrics", "/health", "/load", "/ping", "/version", "/sim")
_UNLOGGED = ("/metrics", "/health", "/ping", "/sim/")


def engine_config(settings: SimSettings) -> EngineConfig:
    """The engine that the settings describe."""
    return EngineConfig(
        block_size=settings.block_size,
        num_blocks=settings.num_gpu_blocks,
        max_model_len=settings.context_tokens,
        max_num_seqs=settings.max_num_seqs,
        max_num_batched_tokens=settings.max_num_batched_tokens,
        max_loras=settings.max_loras,
        prefix_caching=settings.prefix_caching,
        prefill_tokens_per_s=settings.prefill_tokens_per_second,
        step_s=settings.decode_step,
        step_per_sequence_s=settings.decode_step_per_sequence,
        first_token_s=settings.time_to_first_token,
    )


class Simulator:
    """One simulated server. `await start()` gives its port; `async with` starts and stops it.

    `clock` measures durations and `wall_clock` gives the time of day, both in seconds; `new_id` makes request ids.
    """

    def __init__(
        self,
        settings: SimSettings,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        new_id: Callable[[], str] = lambda: secrets.token_hex(8),
    ) -> None:
        self.settings = settings
        self.port = settings.port
        self._clock = clock
        self._wall_clock = wall_clock
        self.served = api.ServedModel(settings.model, settings.lora, settings.context_tokens)
        self.engine = Engine(engine_config(settings))
        self.metrics = SimMetrics(self.engine, settings.model[0], loras=bool(settings.lora), wall_clock=wall_clock)
        self.driver = Driver(self.engine, self.metrics, clock)
        self.faults = FaultBook(settings.fault)
        self.log = control.RequestLog()
        speaker = Speaker(settings.seed, settings.output_tokens, settings.output_spread, settings.mode == "echo")
        self.generation = Generation(
            self.served, speaker, self.engine.config, self.driver, self.metrics, wall_clock=wall_clock, new_id=new_id
        )
        self.responses = Responses(self.generation, new_id)
        self._runner: web.AppRunner | None = None

    @property
    def address(self) -> str:
        """HOST:PORT as a pool member is written."""
        host = self.settings.host
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    @property
    def name(self) -> str:
        """What `x-sim-endpoint` says."""
        return self.settings.name or self.address

    async def start(self) -> int:
        """Listen, and return the port. Raises OSError when the address can't be had."""
        if self._runner is not None:
            raise RuntimeError("already started")
        runner = web.AppRunner(
            self._app(),
            handler_cancellation=True,
            access_log=None,
            auto_decompress=False,
            shutdown_timeout=_SHUTDOWN_S,
        )
        await runner.setup()
        try:
            await web.TCPSite(runner, self.settings.host, self.settings.port).start()
        except BaseException:
            await runner.cleanup()
            raise
        self._runner = runner
        self.port = runner.addresses[0][1]
        return self.port

    async def stop(self) -> None:
        """Drop what is under way and close. Does nothing when not started."""
        runner, self._runner = self._runner, None
        if runner is not None:
            self.responses.stop()
            self.driver.stop()
            await runner.cleanup()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def __repr__(self) -> str:
        return f"<Simulator {self.name} {self.engine!r}>"

    def state(self) -> dict[str, object]:
        """What GET /sim/state shows: the truth, without synthetic load in the numbers."""
        engine = self.engine
        return {
            "endpoint": self.name,
            "running": len(engine.running),
            "waiting": len(engine.waiting),
            "kv_blocks": engine.kv.blocks,
            "kv_blocks_used": engine.kv.used,
            "kv_blocks_cached": engine.kv.cached,
            "kv_blocks_evicted_total": engine.kv.evicted_total,
            "load": asdict(self.metrics.load),
            "faults": self.faults.listing(),
        }

    def _app(self) -> web.Application:
        app = web.Application(middlewares=[self._middleware], client_max_size=self.settings.max_body)
        app.on_response_prepare.append(self._sign)
        controls = control.Control(self.faults, self.metrics, self.log)
        app.add_routes(
            [
                web.post("/v1/chat/completions", self.generation.chat),
                web.post("/v1/completions", self.generation.completion),
                *self._other_apis(),
                web.get("/v1/models", self._models),
                web.post("/tokenize", self._tokenize),
                web.post("/detokenize", self._detokenize),
                web.get("/health", _empty),
                web.get("/ping", _empty),
                web.post("/ping", _empty),
                web.get("/version", self._version),
                web.get("/load", self._load),
                web.get("/kv_event_sources", self._kv_event_sources),
                web.get("/metrics", self._metrics),
                web.get("/metrics/", self._negotiated_metrics),
                web.get("/sim/state", self._state),
                web.get("/sim/requests", controls.requests),
                web.post("/sim/load", controls.set_load),
                web.get("/sim/faults", controls.faults),
                web.post("/sim/faults", controls.set_fault),
                web.delete("/sim/faults", controls.faults),
            ]
        )
        return app

    def _other_apis(self) -> list[web.RouteDef]:
        """What vLLM serves beside completions; some of it by several paths."""
        responses, messages = self.responses, Messages(self.generation)
        pooling = Pooling(self.generation, self.settings.embedding_dimensions)
        one = "/v1/responses/{id}"
        return [
            web.post("/v1/responses", responses.create),
            web.get(one, responses.retrieve),
            web.delete(one, responses.delete),
            web.post(one + "/cancel", responses.cancel),
            web.get(one + "/input_items", responses.input_items),
            web.post(MESSAGES, messages.create),
            web.post(MESSAGES + "/count_tokens", messages.count),
            web.post("/v1/embeddings", pooling.embeddings),
            *(web.post(path, pooling.score) for path in ("/score", "/v1/score")),
            *(web.post(path, pooling.rerank) for path in ("/rerank", "/v1/rerank", "/v2/rerank")),
        ]

    @web.middleware
    async def _middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Reads the body, lets faults happen, words errors, counts."""
        started_s = self._clock()
        response: web.StreamResponse | None = None
        try:
            response = await self._guarded(request, handler)
            return response
        finally:
            if response is not None and not request.path.startswith(_UNCOUNTED):
                route = request.match_info.route.resource
                sent = response.content_length or 0
                received = request.content_length or 0
                handler_name = "none" if route is None else route.canonical
                duration_s = self._clock() - started_s
                self.metrics.http(handler_name, request.method, response.status, duration_s, received, sent)

    async def _guarded(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            body = await request.read()
            request[_SHA], request[_BYTES] = sha256(body).hexdigest(), len(body)
            if not request.path.startswith(_UNLOGGED):
                self.log.add(request, body, request[_SHA])
            fault = control.take_fault(self.faults, request)
            struck = None if fault is None else await control.strike(fault, request)
            if struck is not None:
                return struck
            response = await handler(request)
            if fault is not None and fault.kind == "drop-after":
                return await control.cut(fault, request, response)
            return response
        except api.ApiError as error:
            body = error_body(error) if request.path.startswith(MESSAGES) else error.body()
            return web.Response(body=body, status=error.status, content_type="application/json")
        except web.HTTPException as error:
            headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else None
            return _json({"detail": error.reason}, status=error.status, headers=headers)

    async def _sign(self, request: web.Request, response: web.StreamResponse) -> None:
        """Every answer tells who gave it and to which body."""
        response.headers["x-sim-endpoint"] = self.name
        if _SHA in request:
            response.headers["x-sim-body-sha256"] = request[_SHA]
            response.headers["x-sim-body-bytes"] = str(request[_BYTES])

    async def _models(self, _: web.Request) -> web.Response:
        return web.Response(body=replies.model_list(self.served, int(self._wall_clock())), content_type="application/json")

    async def _tokenize(self, request: web.Request) -> web.Response:
        body = api.parse(api.TokenizeBody, request.headers.get("content-type", ""), await request.read())
        return _json(api.tokenize_answer(body, self.served))

    async def _detokenize(self, request: web.Request) -> web.Response:
        body = api.parse(api.DetokenizeBody, request.headers.get("content-type", ""), await request.read())
        return _json({"prompt": tokens.decode(body.tokens)})

    async def _version(self, _: web.Request) -> web.Response:
        return _json({"version": replies.VERSION})

    async def _load(self, _: web.Request) -> web.Response:
        return _json({"server_load": self.generation.in_flight})

    async def _kv_event_sources(self, _: web.Request) -> web.Response:
        return _json({})

    async def _state(self, _: web.Request) -> web.Response:
        return _json(self.state())

    async def _metrics(self, _: web.Request) -> web.Response:
        """The whole page: here vLLM knows neither `name[]` nor OpenMetrics nor compression."""
        return web.Response(body=self.metrics.page(), headers={"Content-Type": CONTENT_TYPE})

    async def _negotiated_metrics(self, request: web.Request) -> web.Response:
        """With a slash at the end vLLM has prometheus_client's own application, which knows all three."""
        accept, encoding = request.headers.get("accept", ""), request.headers.get("accept-encoding", "")
        body, headers = self.metrics.negotiated(request.query.getall("name[]", []), accept, encoding)
        return web.Response(body=body, headers=headers)


async def _empty(_: web.Request) -> web.Response:
    return web.Response()


def _json(document: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(body=orjson.dumps(document), status=status, headers=headers, content_type="application/json")
