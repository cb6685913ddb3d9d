"""HTTP/1.1 by hand: what client libraries can't send and servers don't show."""

from __future__ import annotations

import contextlib
import json
import socket
import socketserver
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

IDLE_PAGE = b"".join(
    b'# TYPE %s gauge\n%s{engine="0",model_name="m"} 0.0\n' % (name, name)
    for name in (b"vllm:num_requests_waiting", b"vllm:num_requests_running", b"vllm:kv_cache_usage_perc")
)


@contextlib.contextmanager
def connected(url: str, timeout_s: float = 10.0) -> Iterator[socket.socket]:
    """A TCP connection to the URL's host."""
    where = urlsplit(url)
    assert where.hostname
    assert where.port
    with socket.create_connection((where.hostname, where.port), timeout=timeout_s) as connection:
        yield connection


def head(path: str, *headers: str) -> bytes:
    """The head of a POST with a JSON body."""
    lines = [f"POST {path} HTTP/1.1", "host: models", "content-type: application/json", *headers]
    return "\r\n".join([*lines, "", ""]).encode()


def chunked(*pieces: bytes, trailers: tuple[str, ...] = ()) -> bytes:
    """A chunked body with trailers."""
    out = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return out + b"0\r\n" + "".join(f"{line}\r\n" for line in trailers).encode() + b"\r\n"


def read_until(connection: socket.socket, mark: bytes) -> bytes:
    """What comes, up to and with `mark`, and maybe more."""
    data = b""
    while mark not in data:
        piece = connection.recv(65536)
        if not piece:
            raise ConnectionError(f"closed before {mark!r}: {data!r}")
        data += piece
    return data


def h2_post(url: str, path: str, body: bytes, headers: dict[str, str] = {}, trailers: dict[str, str] = {}) -> bytes:
    """The body of the answer to a POST over HTTP/2 with prior knowledge (RFC 9113), with the request in four frames."""
    ask = {":method": "POST", ":scheme": "http", ":authority": "models", ":path": path, **headers}
    at = len(body) // 3
    with connected(url) as connection:
        connection.sendall(
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
            + _frame(_SETTINGS, 0, 0, b"")
            + _frame(_HEADERS, _END_HEADERS, 1, _block(ask))
            + _frame(_DATA, 0, 1, body[:at])
            + _frame(_DATA, 0 if trailers else _END_STREAM, 1, body[at:])
            + (_frame(_HEADERS, _END_HEADERS | _END_STREAM, 1, _block(trailers)) if trailers else b"")
        )
        reader = connection.makefile("rb")
        with reader:
            out = b""
            while True:
                head = reader.read(9)
                size, kind, flags = int.from_bytes(head[:3]), head[3], head[4]
                payload = reader.read(size)
                if kind == _SETTINGS and not flags & _ACK:
                    connection.sendall(_frame(_SETTINGS, _ACK, 0, b""))
                elif kind in (_RST_STREAM, _GOAWAY):
                    raise ConnectionError(f"frame {kind}: {payload!r}")
                elif kind == _DATA:
                    out += payload
                if kind in (_DATA, _HEADERS) and flags & _END_STREAM:
                    return out


_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _GOAWAY = 0, 1, 3, 4, 7
_END_STREAM, _ACK, _END_HEADERS = 1, 1, 4


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload


def _block(headers: dict[str, str]) -> bytes:
    """HPACK, every header as a literal without indexing (RFC 7541, section 6.2.2)."""
    out = b""
    for name, value in headers.items():
        assert len(name) < 127
        assert len(value) < 127
        out += b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
    return out


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(IDLE_PAGE, "text/plain; version=0.0.4")

    def do_POST(self) -> None:
        body, trailers = b"", {}
        if "transfer-encoding" not in self.headers:
            body = self.rfile.read(int(self.headers["content-length"]))
            self._mirror(body, {})
            return
        while size := int(self.rfile.readline().strip(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        while line := self.rfile.readline().strip():
            name, _, value = line.decode().partition(":")
            trailers[name.strip().lower()] = value.strip()
        self._mirror(body, trailers)

    def _mirror(self, body: bytes, trailers: dict[str, str]) -> None:
        self._answer(json.dumps({"body": body.decode(), "trailers": trailers}).encode(), "application/json")

    def _answer(self, body: bytes, content_type: str) -> None:
        self.send_response(200)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(body)))
        self.send_header("connection", "close")  # or a connection would outlive the server
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextlib.contextmanager
def mirror(port: int) -> Iterator[None]:
    """A model server without load that answers a POST with its body and its trailers."""
    server = ThreadingHTTPServer(("127.0.0.1", port), _Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Recorder:
    """Keeps what a model server gets of POSTs, as it comes, on any connection."""

    def __init__(self) -> None:
        self.posted: list[bytearray] = []
        self.left: list[bytearray] = []
        """Those whose connection was closed before they were whole."""


@contextlib.contextmanager
def recorder(port: int, early_answer: bytes = b"") -> Iterator[Recorder]:
    """A model server without load that records; it says `early_answer` when a request begins, and nothing at its end."""
    records = Recorder()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            seen = bytearray()
            while piece := self.request.recv(65536):
                if not seen and not piece.startswith(b"GET"):
                    records.posted.append(seen)
                    self.request.sendall(early_answer)
                if piece.startswith(b"GET") and not seen:
                    length = f"content-length: {len(IDLE_PAGE)}"
                    self.request.sendall(f"HTTP/1.1 200 OK\r\n{length}\r\nconnection: close\r\n\r\n".encode() + IDLE_PAGE)
                    return
                seen += piece
            records.left.append(seen)

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = True

    with Server(("127.0.0.1", port), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield records
        finally:
            server.shutdown()
            thread.join()
