"""gRPC calls by hyper-h2, an implementation of HTTP/2 that is not ours."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import h2.events as happened
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.settings import SettingCodes

from tests.fakes.http2 import GRPC, message


@dataclass
class Call:
    """What a client has heard of one call."""

    headers: dict[str, str] = field(default_factory=dict)
    trailers: dict[str, str] = field(default_factory=dict)
    data: bytearray = field(default_factory=bytearray)
    reset: int | None = None
    ended: bool = False

    @property
    def status(self) -> tuple[int, str] | None:
        """gRPC's status and message, None before the end."""
        told = self.trailers or self.headers
        return (int(told["grpc-status"]), unquote(told.get("grpc-message", ""))) if "grpc-status" in told else None

    @property
    def messages(self) -> list[bytes]:
        """The messages that have come, all whole."""
        found, at = [], 0
        while at < len(self.data):
            assert self.data[at] == 0
            end = at + 5 + int.from_bytes(self.data[at + 1 : at + 5], "big")
            assert end <= len(self.data), "half a message"
            found.append(bytes(self.data[at + 5 : end]))
            at = end
        return found


class HyperClient:
    """A connection's client side. Bytes to send are in `take`; what comes back goes into `receive`.

    `window` is what the server may send on a stream; it opens again when it was used. Nothing can be received after a GOAWAY
    (hyper-h2's state machine ends there): drains are for clients by hand, and grpc's.
    """

    def __init__(self, *, window: int = 65_535) -> None:
        self._h2 = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self._h2.initiate_connection()
        self._h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: window})
        self._unsent: dict[int, tuple[bytearray, bool]] = {}
        self.calls: dict[int, Call] = {}

    def open(self, fields: tuple[tuple[str, str], ...] = GRPC) -> int:
        """Open a call; its stream."""
        stream_id = self._h2.get_next_available_stream_id()
        self._h2.send_headers(stream_id, fields)
        self.calls[stream_id] = Call()
        self._unsent[stream_id] = (bytearray(), False)
        return stream_id

    def send(self, stream_id: int, raw: bytes) -> None:
        """One message, as far as the server's windows allow; the rest follows when they open. Nothing when the call is over."""
        if stream_id in self._unsent:
            self._unsent[stream_id][0].extend(message(raw))
            self._push(stream_id)

    def end(self, stream_id: int) -> None:
        """No more messages. Nothing when the call is over."""
        if stream_id in self._unsent:
            self._unsent[stream_id] = (self._unsent[stream_id][0], True)
            self._push(stream_id)

    def reset(self, stream_id: int) -> None:
        """Give the call up."""
        del self._unsent[stream_id]
        self._h2.reset_stream(stream_id, 8)

    def take(self) -> bytes:
        """What is to be sent now."""
        return self._h2.data_to_send()

    def receive(self, data: bytes) -> None:
        """What the server sent, in any pieces. Raises h2.exceptions.ProtocolError when it breaks a rule."""
        for event in self._h2.receive_data(data):
            self._hear(event)
        for stream_id in list(self._unsent):
            self._push(stream_id)

    def _hear(self, event: happened.Event) -> None:
        if isinstance(event, happened.ResponseReceived):
            self.calls[event.stream_id].headers = _texts(event.headers)
        elif isinstance(event, happened.TrailersReceived):
            self.calls[event.stream_id].trailers = _texts(event.headers)
        elif isinstance(event, happened.DataReceived):
            self.calls[event.stream_id].data += event.data
            self._h2.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id)
        elif isinstance(event, happened.StreamEnded):
            self.calls[event.stream_id].ended = True
            self._unsent.pop(event.stream_id, None)
        elif isinstance(event, happened.StreamReset):
            self.calls[event.stream_id].reset = int(event.error_code)
            self._unsent.pop(event.stream_id, None)

    def _push(self, stream_id: int) -> None:
        data, ending = self._unsent[stream_id]
        while data:
            size = min(self._h2.local_flow_control_window(stream_id), self._h2.max_outbound_frame_size, len(data))
            if size <= 0:
                return
            self._h2.send_data(stream_id, bytes(data[:size]))
            del data[:size]
        if ending:
            del self._unsent[stream_id]
            self._h2.end_stream(stream_id)


def _texts(fields: Any) -> dict[str, str]:
    return {str(name): str(value) for name, value in fields or ()}
