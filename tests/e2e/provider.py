"""Providers on loopback: what they were sent, and what they answer, which a test says."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from extproc.demo.ports import free_ports
from tests.external import recorded

KEYS = {"openai": "sk-the-key-at-openai-0123", "anthropic": "sk-ant-the-key-at-anthropic-45"}
"""What must reach the provider of that name, and nobody else."""


class Sent(NamedTuple):
    """A request as it came."""

    path: str
    headers: Mapping[str, str]
    """By names in lower case."""
    body: Any


@dataclass
class Said:
    """An answer. `cut`: the connection is closed instead; `silent_s`: after so long."""

    body: bytes = b""
    status: int = 200
    kind: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: bool = False
    silent_s: float = 0.0


def document(content: Mapping[str, Any], status: int = 200, **headers: str) -> Said:
    return Said(
        json.dumps(content).encode(), status, headers={name.replace("_", "-"): value for name, value in headers.items()}
    )


def events(content: bytes) -> Said:
    return Said(content, kind="text/event-stream")


USUAL = {"openai": document(recorded.CHAT), "anthropic": document(recorded.MESSAGE)}


class Provider:
    """One of them; `says` is its next answers, by default a message."""

    def __init__(self, dialect: str) -> None:
        (self.port,) = free_ports(1)
        self.host = f"127.0.0.1:{self.port}"
        self.key = KEYS[dialect]
        self._usual = USUAL[dialect]
        self.says = self._usual
        self.sent: list[Sent] = []
        self.ended = threading.Event()

    def begin(self, says: Said | None = None) -> None:
        """Nothing was sent yet, and this is the answer."""
        self.says = says or self._usual
        self.sent.clear()

    @contextlib.contextmanager
    def listening(self) -> Iterator[Provider]:
        provider = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self._body())
                provider.sent.append(Sent(self.path, {name.lower(): value for name, value in self.headers.items()}, body))
                said = provider.says
                if said.silent_s:
                    provider.ended.wait(said.silent_s)
                if said.cut or said.silent_s:
                    self.close_connection = True
                    return
                self.send_response(said.status)
                for name, value in {"content-type": said.kind, **said.headers}.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(said.body)))
                self.send_header("connection", "close")  # or it would outlive the server
                self.end_headers()
                self.wfile.write(said.body)

            def _body(self) -> bytes:
                if "content-length" in self.headers:
                    return self.rfile.read(int(self.headers["content-length"]))
                pieces = []
                while size := int(self.rfile.readline(), 16):
                    pieces.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(pieces)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield self
        finally:
            self.ended.set()
            server.shutdown()
            thread.join()
            server.server_close()
