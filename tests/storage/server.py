"""A PostgreSQL server of the test's own: Debian's programs, a folder under /tmp, a Unix socket and no port."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest

_SETTINGS = {
    "listen_addresses": "",
    "shared_buffers": "16MB",
    "max_connections": "40",
    "autovacuum": "off",
    "superuser_reserved_connections": "0",
    "log_min_messages": "fatal",
}


def programs() -> Path | None:
    """The folder of the newest `initdb`, which Debian keeps off the path; None when PostgreSQL is not installed."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int(folder.parent.name), reverse=True)
    on_path = shutil.which("initdb")
    return next((each for each in folders if (each / "initdb").exists()), Path(on_path).parent if on_path else None)


def a_server() -> Iterator[PostgresServer]:
    """As a fixture: a server that runs, and is gone afterwards."""
    folder = programs()
    if folder is None:
        missing = "PostgreSQL is not installed: scripts/install-postgres"
        if os.environ.get("EXTPROC_REQUIRE_POSTGRES") or os.environ.get("CI") == "true":
            pytest.fail(missing, pytrace=False)
        pytest.skip(missing)
    server = PostgresServer(folder)
    try:
        server.start()
        yield server
        server.stop("immediate")
    finally:
        server.remove()


class PostgresServer:
    """It refuses to run as root, so root runs it as the user `postgres`, which comes with Debian's package."""

    def __init__(self, folder: Path) -> None:
        self._programs = folder
        self._user = "postgres" if os.geteuid() == 0 else None
        self.home = Path(tempfile.mkdtemp(prefix="extproc-pg-", dir="/tmp"))  # short: a socket's path has 107 bytes
        if self._user:
            entry = pwd.getpwnam(self._user)
            os.chown(self.home, entry.pw_uid, entry.pw_gid)
        self._run("initdb", "-D", f"{self.home}/data", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N")
        rules = self.home / "data/pg_hba.conf"
        rules.write_text("local all locked scram-sha-256\n" + rules.read_text())
        self._made = 0

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self._programs / program), *arguments],
            cwd=self.home,
            user=self._user,
            group=self._user,
            extra_groups=None if self._user is None else [],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=50,
            check=False,
        )
        if done.returncode != 0:
            log = self.home / "log"
            raise RuntimeError(f"{program}: {done.stdout}\n{log.read_text()[-2000:] if log.exists() else ''}")

    def start(self) -> None:
        settings = {**_SETTINGS, "unix_socket_directories": str(self.home)}
        options = " ".join(f"-c {name}='{value}'" for name, value in settings.items())
        self._run("pg_ctl", "-D", f"{self.home}/data", "-l", f"{self.home}/log", "-o", options, "-w", "-s", "start")

    def stop(self, mode: str = "immediate") -> None:
        """`immediate` is a crash: no checkpoint, the next start recovers from the log. `fast` ends sessions, and tells them."""
        self._run("pg_ctl", "-D", f"{self.home}/data", "-m", mode, "-w", "-s", "stop")

    def remove(self) -> None:
        shutil.rmtree(self.home)

    def url(self, schema: str = "public", user: str = "postgres") -> str:
        return f"postgresql://{user}@/postgres?host={quote(str(self.home), safe='')}&options={quote(f'-csearch_path={schema}')}"

    def admin(self) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(self.url(), autocommit=True)

    def new_schema(self) -> str:
        """A state of its own for each test, at the price of one statement."""
        self._made += 1
        name = f"t{self._made}"
        with self.admin() as connection:
            connection.execute(f"CREATE SCHEMA {name}")
        return name
