"""Frames that concern a connection as a whole: SETTINGS, PING, GOAWAY."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from extproc.transport.h2 import frames as f
from extproc.transport.h2.events import Listener, PeerLeaves, PingAnswered
from extproc.transport.h2.frames import ConnectionFault, ErrorCode, Kind, Setting
from extproc.transport.h2.headers import HeaderReader
from extproc.transport.h2.intake import Intake
from extproc.transport.h2.limits import H2Limits, Meter
from extproc.transport.h2.outbox import Outbox, Stream

_SETTINGS_ACK: Final = f.frame(Kind.SETTINGS, f.ACK, 0)
_LARGEST_FRAME: Final = 2**16
"""Of ours, whatever the peer allows: a frame is a turn."""


class Control:
    """What both sides have told each other of the connection. Our own SETTINGS are the first in the outbox."""

    __slots__ = ("_intake", "_outbox", "_pings", "_reader", "_settings", "_streams", "acknowledged", "established")

    def __init__(
        self,
        limits: H2Limits,
        clock: Callable[[], float],
        outbox: Outbox,
        intake: Intake,
        reader: HeaderReader,
        streams: Mapping[int, Stream],
    ) -> None:
        self._outbox = outbox
        self._intake = intake
        self._reader = reader
        self._streams = streams
        self.established = False
        """The peer's preface is complete: its first SETTINGS have come."""
        self.acknowledged = False
        """The peer has acknowledged our SETTINGS."""
        self._settings = Meter("settings_flood", limits.settings, clock)
        self._pings = Meter("ping_flood", limits.pings, clock)
        outbox.control(
            f.settings(
                {
                    Setting.HEADER_TABLE_SIZE: 0,
                    Setting.MAX_CONCURRENT_STREAMS: limits.max_streams,
                    Setting.INITIAL_WINDOW_SIZE: limits.stream_window,
                    Setting.MAX_HEADER_LIST_SIZE: limits.max_header_bytes,
                }
            )
        )
        if limits.connection_window > f.FIRST_WINDOW:
            outbox.control(f.window_update(0, limits.connection_window - f.FIRST_WINDOW))

    def on_settings(self, flags: int, stream_id: int, payload: bytes, to: Listener) -> None:
        """SETTINGS: the first completes the peer's preface. Raises ConnectionFault."""
        if stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "bad_stream_id", f"SETTINGS on stream {stream_id}")
        if flags & f.ACK:
            if payload:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "bad_frame_size", "SETTINGS acknowledgement with a payload")
            if not self.acknowledged:
                self.acknowledged = True
                self._reader.acknowledged()
            return
        if len(payload) % 6:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "bad_frame_size", "SETTINGS not of 6 bytes each")
        self._settings.count()
        self.established = True
        first_window = self._outbox.first_window
        for at in range(0, len(payload), 6):
            number = int.from_bytes(payload[at : at + 2], "big")
            value = int.from_bytes(payload[at + 2 : at + 6], "big")
            if number == Setting.INITIAL_WINDOW_SIZE:
                first_window = value
            self._set(number, value)
        self._outbox.control(_SETTINGS_ACK)  # before the data that a larger window lets go
        if first_window != self._outbox.first_window:
            self._outbox.resize(list(self._streams.values()), first_window)
            self._intake.grant_again()

    def _set(self, number: int, value: int) -> None:
        if number == Setting.INITIAL_WINDOW_SIZE:
            if value > f.MAX_WINDOW:
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "bad_setting", "INITIAL_WINDOW_SIZE over 2^31-1")
        elif number == Setting.MAX_FRAME_SIZE:
            if not f.MAX_FRAME_BYTES <= value < 2**24:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "bad_setting", f"MAX_FRAME_SIZE {value}")
            self._outbox.frame_bytes = min(value, _LARGEST_FRAME)
        elif number == Setting.ENABLE_PUSH and value > 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "bad_setting", f"ENABLE_PUSH {value}")
        # The peer's table size does not matter, as our blocks use no table; the rest is for clients.

    def on_ping(self, flags: int, stream_id: int, payload: bytes, to: Listener) -> None:
        """PING: answered, or an answer. Raises ConnectionFault."""
        if stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "bad_stream_id", f"PING on stream {stream_id}")
        if len(payload) != 8:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "bad_frame_size", "PING not of 8 bytes")
        if flags & f.ACK:
            to.event(PingAnswered(payload))
            return
        self._pings.count()
        self._outbox.control(f.frame(Kind.PING, f.ACK, 0, payload))

    def on_goaway(self, flags: int, stream_id: int, payload: bytes, to: Listener) -> None:
        """GOAWAY: the peer opens no more streams. Raises ConnectionFault."""
        if stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "bad_stream_id", f"GOAWAY on stream {stream_id}")
        if len(payload) < 8:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "bad_frame_size", "GOAWAY under 8 bytes")
        to.event(PeerLeaves(int.from_bytes(payload[4:8], "big")))
