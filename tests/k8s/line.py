"""The network between our servers and the API server, to be cut."""

from __future__ import annotations

import contextlib
import socket
import threading

_LINGER = b"\x01\x00\x00\x00\x00\x00\x00\x00"


class Line:
    """Forwards TCP connections to a port of this machine. Cut, it ends those it has and refuses others."""

    def __init__(self, target: int, port: int) -> None:
        self.port = port
        self.accepted = 0
        self._target = target
        self._lock = threading.Lock()
        self._ends: list[socket.socket] = []
        self._listener: socket.socket | None = None

    def __repr__(self) -> str:
        return f"<Line {self.port} to {self._target}{'' if self._listener else ', cut'}>"

    def mend(self) -> None:
        """Take connections, from now on."""
        listener = socket.create_server(("127.0.0.1", self.port), backlog=64)
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def cut(self) -> None:
        """End everything, with a reset."""
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
            listener.close()
        with self._lock:
            ends, self._ends = self._ends, []
        for end in ends:
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER)
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)  # wakes recv()
            end.close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                client.close()
                continue
            with self._lock:
                self.accepted += 1
                self._ends += [client, server]
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=_pump, args=(source, sink), daemon=True).start()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
