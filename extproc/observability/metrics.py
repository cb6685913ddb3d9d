"""Metrics of streams, transport and router, by the names dashboards already know.

`bbr_*` are the body-based router's (GIE v1.0 to v1.5), `inference_objective_*`, `inference_pool_*` and
`inference_extension_*` the endpoint picker's (GIE v1.x, `picker.py`), which a page also has as `llm_d_epp_*` (`twins.py`).
`extproc_*` are ours, for what upstream does not count.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from extproc import __version__
from extproc.observability.instruments import UNBOUNDED, Instruments, Value
from extproc.observability.labels import ModelNames
from extproc.observability.logs import logger

_log = logger(__name__)

DECISION_SECONDS: Final[tuple[float, ...]] = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)
REQUEST_SECONDS: Final[tuple[float, ...]] = (
    *(0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 45, 60),
    *(120, 180, 240, 300, 360, 480, 600, 900, 1200, 1800, 2700, 3600),
)
MODEL_SERVER_ERROR: Final = "ModelServerError"
SIZES: Final[tuple[float, ...]] = tuple(64 * 2**k for k in range(25))


class StreamMetrics:
    """Of every ExtProc server, whatever its stages."""

    def __init__(self, instruments: Instruments) -> None:
        self.open = instruments.gauge("extproc_streams_inflight", "ExtProc streams that are open.").child()
        self.streams = instruments.counter("extproc_streams_total", "ExtProc streams that ended, by gRPC status.", ["code"])
        self.ok = self.streams.child("OK")
        self.cancelled = self.streams.child("CANCELLED")
        self.decision = instruments.histogram(
            "extproc_decision_duration_seconds", "From the whole request to the decision.", DECISION_SECONDS
        ).child()
        self.body = instruments.histogram("extproc_request_body_bytes", "Request bodies that were read.", SIZES).child()
        self.errors = instruments.counter(
            "extproc_request_errors_total", "Requests answered by us with an error, by its code.", ["code"]
        )
        self.unread = instruments.counter(
            "extproc_request_body_unread_total",
            "Request bodies that could not be read for a model, by reason.",
            ["reason"],
        )
        self._unrestored = instruments.counter(
            "extproc_answers_not_restored_total",
            "Answers that name the model that served, not the client's: their body could not be read, by reason.",
            ["reason"],
        )
        self._warned = False
        self._waiting = instruments.gauge(
            "extproc_decisions_waiting", "Decisions that wait, by what for; the request is held meanwhile.", ["for"]
        )
        self._waits = instruments.counter(
            "extproc_decision_waits_total",
            "Decisions that had to wait, by what for and how the wait ended: resumed, refused (with an error), withdrawn "
            "(the client left, or the request's time was over).",
            ["for", "result"],
        )

    def waits(self, what: str) -> None:
        """A decision begins to wait."""
        self._waiting.child(what).value += 1

    def wait_ended(self, what: str, result: str) -> None:
        """It goes on, or nobody wants it any more."""
        self._waiting.child(what).value -= 1
        self._waits.child(what, result).value += 1

    def answer_not_restored(self, reason: str) -> None:
        """A rewritten request's answer went on as it was."""
        self._unrestored.child(reason).value += 1
        if reason == "body not sent" and not self._warned:
            self._warned = True
            _log.warning(
                "answers to rewritten requests name the model that served them: Envoy does not send response bodies; "
                "set response_body_mode to FULL_DUPLEX_STREAMED (said once)"
            )


class TransportMetrics:
    """Of our own HTTP/2 transport: connections, what is held, and how its bounds ended some of them."""

    def __init__(self, instruments: Instruments) -> None:
        self._instruments = instruments
        self.connections = instruments.gauge("extproc_connections", "HTTP/2 connections that are open.").child()
        self.accepted = instruments.counter("extproc_connections_total", "HTTP/2 connections that were accepted.").child()
        self.faults = instruments.counter(
            "extproc_connection_faults_total",
            "Connections that we ended because the peer broke a rule, went over a bound or was not heard of, by reason.",
            ["reason"],
        )
        self.resets = instruments.counter(
            "extproc_stream_resets_total",
            "Streams that we reset because the peer broke a rule or went over a bound, by reason.",
            ["reason"],
        )
        self._held = instruments.gauge(
            "extproc_held_bytes", "Bodies held and answers unsent, of all connections; refused from --max-held-bytes on."
        )
        self._most_held = instruments.gauge("extproc_held_bytes_limit", "What extproc_held_bytes may come to.")

    def show_held(self, read: Callable[[], int], most: int) -> None:
        """Show what is held, which `read` tells, and the most that may be."""
        held = self._held.child()
        self._most_held.child().value = float(most)

        def refresh() -> None:
            held.value = float(read())

        self._instruments.before_collect.append(refresh)


class RouterMetrics:
    """`bbr_*`."""

    def __init__(self, instruments: Instruments) -> None:
        instruments.gauge("bbr_info", "Build of the body-based router.", ["commit", "build_ref"]).child(
            "", __version__
        ).value = 1.0
        self.success = instruments.counter("bbr_success_total", "Requests whose model was found and set as a header.").child()
        not_found = instruments.counter(
            "bbr_body_field_not_found_total", "Requests without the field in their body.", ["field"]
        )
        self.not_found = not_found.child("model")
        empty = instruments.counter("bbr_body_field_empty_total", "Requests with an empty field in their body.", ["field"])
        self.empty = empty.child("model")
        self.not_in_body = instruments.counter(
            "bbr_model_not_in_body_total", "As bbr_body_field_not_found_total, by its name before v1.5."
        ).child()
        self.not_parsed = instruments.counter(
            "bbr_model_not_parsed_total", "Requests whose body or model could not be parsed."
        ).child()
        self._by_model = instruments.counter(
            "bbr_model_requests_total", "Requests by the model they name.", ["model"], most=UNBOUNDED
        )
        self._names = ModelNames.of(instruments)
        plugin = instruments.histogram(
            "bbr_plugin_duration_seconds",
            "Time in the router's request stage.",
            DECISION_SECONDS,
            ["extension_point", "plugin_type", "plugin_name"],
        )
        self.duration = plugin.child("request", "body-field-to-header", "body-field-to-header")
        self._children: dict[str, Value] = {}

    def model(self, name: str) -> Value:
        """The bound counter of a model."""
        child = self._children.get(name)
        return self._bind(name) if child is None else child

    def _bind(self, name: str) -> Value:
        """A router does not hear how a request ends. A name that comes again is kept; inventions don't."""
        names = self._names
        place = names.place(name)
        if place is not None:
            place.served()
        child = names.value(self._by_model, names.take(name))
        if place is not None or names.is_configured(name):
            self._children[name] = child
            names.bound(name, self._children, name)
        return child
