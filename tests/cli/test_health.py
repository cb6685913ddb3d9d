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
from extproc.cli.options import read
from extproc.demo.ports import free_ports
from extproc.settings.commands import SERVERS
from extproc.settings.server import ServerSettings


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
        # Every spelling that the server takes.
        ("extproc epp -metrics-port=9191", {}, "http://127.0.0.1:9191/readyz"),
        ("extproc epp -metrics-port 9191", {}, "http://127.0.0.1:9191/readyz"),
        ("extproc epp --metricsPort=9191", {}, "http://127.0.0.1:9191/readyz"),
        ("extproc epp -metricsPort 9191", {}, "http://127.0.0.1:9191/readyz"),
        ("extproc epp --metrics-port=9100 --metrics-port=9191", {}, "http://127.0.0.1:9191/readyz"),
        ("extproc epp --pool-name --metrics-port=9191", {}, "http://127.0.0.1:9090/readyz"),
        ("extproc epp --pool-name sim --metrics-port=9191", {}, "http://127.0.0.1:9191/readyz"),
        ("extproc epp --tracing --metrics-port=9191", {}, "http://127.0.0.1:9191/readyz"),
        ("extproc epp", {"EXTPROC_METRICS_CERT_DIR": "/tls"}, "https://127.0.0.1:9090/readyz"),
        ("extproc epp", {"EXTPROC_HOST": "10.0.0.7"}, "http://10.0.0.7:9090/readyz"),
        ("extproc epp", {"EXTPROC_METRICS_PORT": ""}, "http://127.0.0.1:9090/readyz"),
        ("extproc epp --metrics-cert-dir=", {}, "http://127.0.0.1:9090/readyz"),
        ("extproc sim", {"EXTPROC_SIM_PORT": "8200", "EXTPROC_PORT": "1"}, "http://127.0.0.1:8200/health"),
        ("extproc sim -port=8300", {"EXTPROC_SIM_PORT": "8200"}, "http://127.0.0.1:8300/health"),
        ("extproc sim", {"EXTPROC_SIM_HOST": "::1"}, "http://[::1]:8000/health"),
        ("extproc epp --help", {}, "None"),
    ],
)
def test_whom_it_asks(line: str, environment: dict[str, str], expected: str) -> None:
    assert str(target_of(line.split(), environment)) == expected


def test_as_charts_render_it() -> None:
    words = [
        "extproc",
        "epp",
        "--0",
        "map[name:metrics-port value:9191]",
        "--ha-enable-leader-election",
        "",
        "--lora-info-metric",
        "",
    ]
    assert str(target_of(words, {})) == "http://127.0.0.1:9191/readyz"


@pytest.mark.parametrize(("name", "model"), SERVERS.items())
def test_it_asks_where_the_server_would_listen(name: str, model: type[ServerSettings]) -> None:
    """Whatever is declared: no flag or variable is known here by name but by the settings."""
    needed = ["--config-file=x"] if name == "gateway" else []
    words = ["extproc", name, "-metricsPort", "9191", "--host=::1", *needed]
    settings = read(model, name, words[2:], {})
    assert settings is not None
    assert str(target_of(words, {})) == f"http://[{settings.host}]:{settings.metrics_port}/readyz"


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
    assert check(_line(tmp_path, "extproc", "bbr", "--metrics-port=x"), {}).startswith("whom to ask: --metrics-port: ")
    assert check(_line(tmp_path, "extproc", "bbr", "--metrics-port"), {}).startswith("whom to ask: Option '--metrics-port'")
    assert check(_line(tmp_path, "extproc", "sim"), {"EXTPROC_SIM_PORT": "x"}).startswith("whom to ask: EXTPROC_SIM_PORT ")


def test_other_commands_are_healthy(tmp_path: Path) -> None:
    assert check(_line(tmp_path, "extproc", "demo"), {}) == ""


def test_exit_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("extproc.cli.health.check", lambda: "no answer")
    result = CliRunner().invoke(main, ["health"])
    assert (result.exit_code, result.stderr) == (1, "no answer\n")
    monkeypatch.setattr("extproc.cli.health.check", lambda: "")
    assert CliRunner().invoke(main, ["health"]).exit_code == 0
    assert str(Target("h", 1, "/p")) == "http://h:1/p"
