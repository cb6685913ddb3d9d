"""Docker's HEALTHCHECK: it finds out by itself whom to ask."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from click.testing import CliRunner

from extproc.cli import main
from extproc.cli.health import Target, check, target_of
from extproc.demo.ports import free_ports


@pytest.mark.parametrize(
    ("line", "environment", "expected"),
    [
        ("extproc bbr", {}, "http://127.0.0.1:9090/readyz"),
        ("/opt/extproc/bin/python /opt/extproc/bin/extproc gateway --config-file /c", {}, "http://127.0.0.1:9090/readyz"),
        ("extproc epp --metrics-port=9100", {"EXTPROC_METRICS_PORT": "9200"}, "http://127.0.0.1:9100/readyz"),
        ("extproc epp --metrics-port 9100", {}, "http://127.0.0.1:9100/readyz"),
        ("extproc epp", {"EXTPROC_METRICS_PORT": "9200"}, "http://127.0.0.1:9200/readyz"),
        ("extproc epp --host ::1", {}, "http://[::1]:9090/readyz"),
        ("extproc epp --host=::", {}, "http://127.0.0.1:9090/readyz"),
        ("extproc epp --metrics-cert-dir=/tls", {}, "https://127.0.0.1:9090/readyz"),
        ("/sbin/docker-init -- extproc sim --port 8101 --count 3", {}, "http://127.0.0.1:8101/health"),
        ("extproc sim", {}, "http://127.0.0.1:8000/health"),
        ("extproc --help", {}, "None"),
        ("extproc demo", {}, "None"),
        ("extproc bbr --metrics-port", {}, "http://127.0.0.1:9090/readyz"),
    ],
)
def test_whom_it_asks(line: str, environment: dict[str, str], expected: str) -> None:
    assert str(target_of(line.split(), environment)) == expected


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    class Pages(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            ready = self.path == "/health"
            self.send_response(200 if ready else 503)
            self.end_headers()
            self.wfile.write(b"ok" if ready else b"draining")

        def log_message(self, format: str, *args: object) -> None:
            """Nothing on standard error."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Pages) as running:
        thread = Thread(target=running.serve_forever)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def _line(tmp_path: Path, *words: str) -> Path:
    path = tmp_path / "cmdline"
    path.write_bytes(b"\0".join(word.encode() for word in words) + b"\0")
    return path


def test_ready_or_the_reason(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    port = server.server_address[1]
    assert check(_line(tmp_path, "extproc", "sim", f"--port={port}"), {}) == ""
    said = check(_line(tmp_path, "extproc", "bbr", "--metrics-port", str(port)), {})
    assert said == f"http://127.0.0.1:{port}/readyz: 503 draining"


def test_nobody_there(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    assert "refused" in check(_line(tmp_path, "extproc", "bbr", f"--metrics-port={port}"), {})
    assert "whom to ask" in check(tmp_path / "nothing", {})
    assert "whom to ask" in check(_line(tmp_path, "extproc", "bbr", "--metrics-port=x"), {})


def test_other_commands_are_healthy(tmp_path: Path) -> None:
    assert check(_line(tmp_path, "extproc", "demo"), {}) == ""


def test_exit_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("extproc.cli.health.check", lambda: "no answer")
    result = CliRunner().invoke(main, ["health"])
    assert (result.exit_code, result.stderr) == (1, "no answer\n")
    monkeypatch.setattr("extproc.cli.health.check", lambda: "")
    assert CliRunner().invoke(main, ["health"]).exit_code == 0
    assert str(Target("h", 1, "/p")) == "http://h:1/p"
