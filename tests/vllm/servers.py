"""Start real vLLM servers as subprocesses, several at once, and leave nothing behind.

A server is three processes (API, engine core, worker), together 1.7 GB of memory and half a minute of imports. So a
test session starts the servers it needs side by side, once, and keeps them.

    with serving(logs, Spec("tiny-a"), Spec("tiny-a"), Spec("tiny-b")) as (a, twin, b):
        client = openai.OpenAI(base_url=a.base_url, api_key="none")

By hand, until Ctrl-C: `python -m tests.vllm.servers tiny-a tiny-a tiny-b`.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode

from . import tiny_model

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".cache" / "vllm-venv" / "bin" / "python"

BLOCK_TOKENS = 32
"""Tokens per KV cache block; the smallest that vLLM takes on a CPU, so that short prompts can share a prefix."""

KV_BLOCKS = 256
"""Blocks in the KV cache. The default for 1 GiB would be 65,536 of a model this small, and no test could fill it; these
are what `MAX_SEQUENCES` requests of `tiny_model.CONTEXT_TOKENS` take: eight such requests are a usage of 1."""

MAX_SEQUENCES = 8
"""Requests that a server runs at once; the ninth counts as waiting."""

LETTER_IDS = list(range(ord("a"), ord("z") + 1))
"""For `extra_body={"allowed_token_ids": LETTER_IDS}`: each token of the answer is a letter and none ends it. Without,
the answer is bytes that need not be text, and some chunks of a stream are empty."""

_WAITING, _RUNNING, _KV_USAGE = "vllm:num_requests_waiting", "vllm:num_requests_running", "vllm:kv_cache_usage_perc"
_PORT_TRIES = 3
_STOP_S = 15.0
_POLL_S = 0.1

# Asks the kernel for SIGTERM when the test run dies, however it dies, then becomes the server.
_LAUNCHER = (
    "import ctypes, os, signal, sys; "
    "ctypes.CDLL(None).prctl(1, signal.SIGTERM); "
    "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
)


class ServerFailed(Exception):
    """vLLM is not installed, stopped by itself, or was not up in time; the text ends with its log."""


@dataclass(frozen=True)
class Spec:
    """What one server serves. `flags` come last on its command line, so they may change any of ours."""

    served_model_name: str
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Load:
    """What the server says of itself; refreshed after each engine step, so a few milliseconds old."""

    waiting: int
    running: int
    kv_usage: float
    """0 to 1. Falls back to 0 when requests end: blocks that only the prefix cache holds count as free."""


@dataclass
class Server:
    """A running vLLM. Its port changes only before `serving` hands it out."""

    name: str
    spec: Spec
    log_path: Path
    _scratch: Path
    _port: int = 0
    _tries: int = 0
    _started_at: float = 0.0
    up_after_s: float | None = None
    """Seconds from the start of the process to the first 200 from `/health`; None while it is not up."""
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def address(self) -> str:
        """`ip:port`, as an endpoint list wants it."""
        return f"127.0.0.1:{self._port}"

    @property
    def base_url(self) -> str:
        """What the `openai` client takes to talk to this server directly."""
        return f"http://{self.address}/v1"

    def get(self, path: str, *, timeout_s: float = 10.0) -> tuple[int, bytes]:
        """Status and body, past any proxy; raises OSError or http.client.HTTPException when there is no answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=timeout_s)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def metrics(self, *families: str) -> str:
        """The exposition page, whole or of these families only.

        vLLM's `/metrics` ignores `name[]`; with a slash behind it another handler answers, which honours it.
        """
        path = "/metrics/?" + urlencode([("name[]", name) for name in families]) if families else "/metrics"
        status, body = self.get(path)
        if status != 200:
            raise ServerFailed(f"{self.name}: GET {path} gave {status}: {body[:200]!r}")
        return body.decode()

    def load(self) -> Load:
        """What a picker reads, by way of 500 bytes instead of 50 KB."""
        families = (_WAITING, _RUNNING, _KV_USAGE)
        samples = [line.rpartition(" ") for line in self.metrics(*families).splitlines() if not line.startswith("#")]
        values = {name.partition("{")[0]: float(value) for name, _, value in samples}
        if values.keys() != set(families):
            raise ServerFailed(f"{self.name} has only {sorted(values)} of {families}")
        return Load(int(values[_WAITING]), int(values[_RUNNING]), values[_KV_USAGE])

    def log_tail(self, lines: int = 30) -> str:
        text = self.log_path.read_text(encoding="utf-8", errors="replace") if self.log_path.exists() else ""
        return f"--- the end of {self.log_path}\n" + "\n".join(text.splitlines()[-lines:])

    def pids(self) -> list[int]:
        """The server's live processes; all are of the process group that its first one leads."""
        return _live_in_group(self._process.pid) if self._process else []

    def _start(self, model: Path) -> None:
        self._tries += 1
        self._port = free_port()
        self._started_at = time.monotonic()
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(
                [PYTHON, "-c", _LAUNCHER, "-m", "vllm.entrypoints.cli.main", *self._arguments(model)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._scratch,
                env=_environment(self._scratch),
                start_new_session=True,
            )

    def _arguments(self, model: Path) -> list[str]:
        return [
            *("serve", str(model), "--served-model-name", self.spec.served_model_name),
            *("--host", "127.0.0.1", "--port", str(self._port)),
            *("--load-format", "dummy", "--enforce-eager"),
            *("--max-model-len", str(tiny_model.CONTEXT_TOKENS), "--max-num-seqs", str(MAX_SEQUENCES)),
            *("--block-size", str(BLOCK_TOKENS), "--num-gpu-blocks-override", str(KV_BLOCKS)),
            *self.spec.flags,
        ]

    def _is_up(self, model: Path) -> bool:
        """One look, no waiting. Starts anew on another port when somebody took ours between choosing and binding it."""
        if self.up_after_s is not None:
            return True
        assert self._process is not None
        code = self._process.poll()
        if code is not None:
            if self._tries < _PORT_TRIES and "address already in use" in self.log_tail(200).lower():
                self._start(model)
                return False
            raise ServerFailed(f"{self.name} stopped with exit code {code} before it was up\n{self.log_tail()}")
        try:
            status, _ = self.get("/health", timeout_s=5.0)
        except (OSError, http.client.HTTPException):
            return False
        if status == 200:
            self.up_after_s = time.monotonic() - self._started_at
        return status == 200


@contextlib.contextmanager
def serving(logs: Path, *specs: Spec, within_s: float = 300.0) -> Iterator[tuple[Server, ...]]:
    """Servers that answer `/health`, one per spec and in their order; all are gone when the block is left.

    They start side by side. Each logs to a file of its own in `logs`, which stays. Raises `ServerFailed` when one stops
    or is not up `within_s` seconds after the start.
    """
    if not PYTHON.exists():
        raise ServerFailed(f"vLLM is not installed in {PYTHON.parents[1]}: run scripts/install-vllm (6 GB, some minutes)")
    # Not below `logs`: vLLM puts Unix sockets here, whose paths may have 107 characters, and leaves them behind.
    scratch = Path(tempfile.mkdtemp(prefix="vllm-"))
    logs.mkdir(parents=True, exist_ok=True)
    servers: list[Server] = []
    try:
        model = tiny_model.write(scratch / "model")
        for number, spec in enumerate(specs):
            name = f"{number}-{spec.served_model_name.replace('/', '_')}"
            servers.append(Server(name, spec, logs / f"{name}.log", scratch))
            servers[-1]._start(model)
        _wait_until_up(servers, model, within_s)
        yield tuple(servers)
    finally:
        _stop(servers)
        shutil.rmtree(scratch, ignore_errors=True)


def _wait_until_up(servers: list[Server], model: Path, within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while missing := [server for server in servers if not server._is_up(model)]:
        if time.monotonic() > deadline:
            raise ServerFailed(
                f"{', '.join(server.name for server in missing)} not up after {within_s:.0f} s\n"
                + "\n".join(server.log_tail() for server in missing)
            )
        time.sleep(_POLL_S)


def _stop(servers: list[Server]) -> None:
    """Ask all, wait for all and for what they started, kill the rest; a process that survives even that is an error."""
    for server in servers:
        if server._process is not None and server._process.poll() is None:
            server._process.terminate()
    if _wait_until_gone(servers):
        return
    for server in servers:
        if server._process is not None and server.pids():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server._process.pid, signal.SIGKILL)
    if not _wait_until_gone(servers):
        raise ServerFailed(f"processes of vLLM are left behind: {[pid for server in servers for pid in server.pids()]}")


def _wait_until_gone(servers: list[Server]) -> bool:
    deadline = time.monotonic() + _STOP_S
    while any(server.pids() for server in servers):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    for server in servers:
        if server._process is not None:
            server._process.wait()
    return True


def _live_in_group(group: int) -> list[int]:
    """Zombies do not count: where nothing reaps orphans they stay, but they are done."""
    live = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                # "pid (name) state ppid pgrp ...", where the name may hold anything, even ")".
                state, _, pgrp = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
                if int(pgrp) == group and state not in "ZX":
                    live.append(int(entry.name))
    return live


def free_port() -> int:
    """A port that was free a moment ago; whoever binds it next must be ready to lose the race."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        assert isinstance(port, int)
        return port


def _environment(scratch: Path) -> dict[str, str]:
    ours = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "LD_PRELOAD"}}
    return ours | {
        "VLLM_CPU_KVCACHE_SPACE": "1",
        # One thread per server and no pinning: left to itself, each pins its thread to the same core as the others.
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_HOST_IP": "127.0.0.1",
        # Kept from run to run: what it learnt of the model's class saves seconds at the next start.
        "VLLM_CACHE_ROOT": str(ROOT / ".cache" / "vllm"),
        "VLLM_CONFIG_ROOT": str(scratch / "config"),
        "TMPDIR": str(scratch),
    }


def main() -> None:
    specs = [Spec(name) for name in sys.argv[1:] or ["tiny-a", "tiny-a", "tiny-b"]]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with contextlib.suppress(KeyboardInterrupt), serving(ROOT / ".cache" / "vllm-logs", *specs) as servers:
        for server in servers:
            print(f"{server.spec.served_model_name}\t{server.base_url}\tup after {server.up_after_s:.0f} s", flush=True)
        signal.pause()


if __name__ == "__main__":
    main()
