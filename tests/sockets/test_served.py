"""TLS files that are served: what is in force after each change, and who hears of it."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Sequence
from pathlib import Path

import pytest

from extproc.settings.base import SettingsError
from extproc.sockets.certificates import Identity, self_signed
from extproc.sockets.served import ServedTls, TlsFiles
from extproc.sockets.tls import Policy, server_context
from tests.fakes.certificates import Authority, Signed


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


class Heard:
    """What was reported, as lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def broken(self, path: Path, problems: Sequence[str]) -> None:
        self.lines.append(f"broken {path.name}: {len(problems)}")

    def good(self, path: Path) -> None:
        self.lines.append(f"good {path.name}")

    def exchanged(self, served: ServedTls) -> None:
        self.lines.append(f"exchanged: {served.identity.describe()['subject']}")

    def taken(self) -> list[str]:
        lines, self.lines = self.lines, []
        return lines


def make(identity: Identity, authorities: bytes | None) -> ssl.SSLContext:
    return server_context(identity, Policy(), authorities)


async def at_once(_: float) -> None:
    """No time passes."""


def served(heard: Heard, folder: Path | None, authorities: Path | None = None) -> ServedTls:
    folder_name, authorities_name = (None if path is None else str(path) for path in (folder, authorities))
    where = TlsFiles(folder_name, "--folder", authorities_name, "--authorities")
    return ServedTls(where, make, heard, otherwise=lambda: (self_signed(["x"], 0.0), "--own"), sleep=at_once)


async def test_a_look_takes_what_is_new_as_a_whole(authority: Authority, tmp_path: Path) -> None:
    folder = authority.issue("one").write(tmp_path)
    heard = Heard()
    files = served(heard, folder)
    assert heard.taken() == ["good tls.crt", "good tls.key"]
    before = files.context
    await files.look()
    assert (heard.taken(), files.context) == ([], before), "nothing changed"
    authority.issue("two").write(folder)
    await files.look()
    assert heard.taken() == ["exchanged: CN=two", "good tls.crt", "good tls.key"]
    assert files.context is not before


async def test_half_a_pair_changes_nothing_until_the_other_is_there(authority: Authority, tmp_path: Path) -> None:
    one, two = authority.issue("one"), authority.issue("two")
    folder = one.write(tmp_path)
    heard = Heard()
    files = served(heard, folder)
    heard.taken()
    Signed(two.chain, one.key).write(folder)
    await files.look()
    assert heard.taken() == ["broken tls.key: 1", "good tls.crt"]
    assert files.identity.describe()["subject"] == "CN=one"
    two.write(folder)
    await files.look()
    assert heard.taken() == ["exchanged: CN=two", "good tls.crt", "good tls.key"]


async def test_new_authorities_are_taken_although_the_pair_is_broken(authority: Authority, tmp_path: Path) -> None:
    """Who is trusted no more must not get in because of another file."""
    one, other = authority.issue("one"), Authority()
    folder, trusted = one.write(tmp_path), tmp_path / "ca.crt"
    trusted.write_bytes(authority.pem)
    heard = Heard()
    files = served(heard, folder, trusted)
    heard.taken()
    Signed(authority.issue("two").chain, one.key).write(folder)
    trusted.write_bytes(other.pem)
    await files.look()
    assert heard.taken() == ["exchanged: CN=one", "broken tls.key: 1", "good tls.crt", "good ca.crt"]
    assert files.authorities == other.pem


async def test_a_broken_file_is_said_once_and_heals(authority: Authority, tmp_path: Path) -> None:
    one = authority.issue("one")
    folder = one.write(tmp_path)
    heard = Heard()
    files = served(heard, folder)
    heard.taken()
    (folder / "tls.crt").write_bytes(b"nothing of PEM")
    await files.look()
    await files.look()
    assert heard.taken() == ["broken tls.crt: 1"]
    one.write(folder)
    await files.look()
    assert heard.taken() == ["good tls.crt", "good tls.key"], "what was in force is in force"


async def test_run_watches(authority: Authority, tmp_path: Path) -> None:
    folder = authority.issue("one").write(tmp_path)
    exchanged = asyncio.Event()

    class Waiting(Heard):
        def exchanged(self, served: ServedTls) -> None:
            exchanged.set()

    where = TlsFiles(str(folder), "--folder", None, "--authorities")
    files = ServedTls(where, make, Waiting())
    watching = asyncio.create_task(files.run())
    authority.issue("two").write(folder)
    async with asyncio.timeout(10):
        await exchanged.wait()
    assert files.identity.describe()["subject"] == "CN=two"
    watching.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watching


async def test_without_files_there_is_nothing_to_watch() -> None:
    heard = Heard()
    files = served(heard, None)
    await files.run()
    await files.look()
    assert (heard.lines, files.paths, files.authorities) == ([], (), None)


def test_every_problem_at_start_has_its_flag(authority: Authority, tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        served(Heard(), tmp_path, tmp_path / "ca.crt")
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["--folder", "--folder", "--authorities"]
    Signed(authority.issue("one").chain, authority.issue("two").key).write(tmp_path)
    with pytest.raises(SettingsError, match=rf"--folder: {tmp_path}/tls.key: the key does not belong to the certificate"):
        served(Heard(), tmp_path)


def test_what_can_not_be_made_of_our_own_is_its_flag_s() -> None:
    def refuse(identity: Identity, authorities: bytes | None) -> ssl.SSLContext:
        raise SettingsError(["no"])

    with pytest.raises(SettingsError, match="--own: no"):
        ServedTls(
            TlsFiles(None, "--folder", None, "--authorities"),
            refuse,
            Heard(),
            otherwise=lambda: (self_signed([], 0.0), "--own"),
        )
