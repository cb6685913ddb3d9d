"""A metrics page to be read: made of lines, served over HTTP."""

from __future__ import annotations

import contextlib
import http.server
import threading
from collections.abc import Iterator
from typing import ClassVar

BEGIN = "extproc_streams_inflight 1.0\nprocess_start_time_seconds 7.0\n"


def pool(endpoints: int, *, picks: int = 0) -> str:
    """A pool of these, of which the third is down, the second stale, and the last has most waiting."""
    lines = [BEGIN, f'extproc_pool_endpoints{{name="p"}} {endpoints}.0', 'extproc_pool_stale_endpoints{name="p"} 1.0']
    for number in range(endpoints):
        where = f'{{model_server_pod="pod-{number}",name="p"}}'
        lines.append(f"extproc_endpoint_up{where} {float(number != 2)}")
        if number not in (1, 2):
            lines.append(f"inference_pool_per_pod_queue_size{where} {number}.0")
        labels = f'namespace="d",pod_name="pod-{number}",port="1",status="success",target_model_name="m"'
        lines.append(f"inference_extension_scheduler_attempts_total{{{labels}}} {picks}.0")
    return "\n".join(lines) + "\n"


class Served:
    """What is answered now."""

    def __init__(self) -> None:
        self.text = BEGIN
        self.status = 200
        self.cut = False
        """Go in the middle of an answer."""
        self.asked: list[tuple[str, str]] = []
        """Path and authorization."""
        self.url = ""


class _Handler(http.server.BaseHTTPRequestHandler):
    what: ClassVar[Served]

    def do_GET(self) -> None:
        self.what.asked.append((self.path, self.headers.get("authorization", "")))
        body = self.what.text.encode()
        self.send_response(self.what.status)
        self.send_header("content-length", str(len(body) + self.what.cut))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def served() -> Iterator[Served]:
    made = Served()
    handler = type("Handler", (_Handler,), {"what": made})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        made.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield made
        finally:
            server.shutdown()
            thread.join()
