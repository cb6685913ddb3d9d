"""A model server whose answers a test writes byte by byte."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeAlias

Script: TypeAlias = Callable[["Answering"], None]


class Answering:
    """One answer under way."""

    def __init__(self, handler: BaseHTTPRequestHandler) -> None:
        self._handler = handler

    def head(self, content_type: str, **headers: str) -> None:
        self._handler.send_response(200)
        self._handler.send_header("content-type", content_type)
        for name, value in headers.items():
            self._handler.send_header(name.replace("_", "-"), value)
        self._handler.end_headers()

    def write(self, data: bytes) -> None:
        self._handler.wfile.write(data)

    def chunk(self, data: bytes) -> None:
        """A piece of a chunked body; empty ends it, without the line that ends trailers."""
        self.write(b"%x\r\n%s" % (len(data), data + b"\r\n" if data else b""))


@contextlib.contextmanager
def scripted(port: int, script: Script) -> Iterator[None]:
    """Answers every POST as the script says."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            self.close_connection = True
            with contextlib.suppress(OSError):  # whoever asked may be gone
                script(Answering(self))

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
