"""Sockets to listen on: what is taken, what is left alone, what is said."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from extproc.sockets.listen import Address, BindError, Listener, Tcp, Unix, listen, try_bind


@contextlib.contextmanager
def listening(address: Address) -> Iterator[Listener]:
    listener = listen(address, "ext_proc")
    try:
        yield listener
    finally:
        listener.close()


def refusal(address: Address) -> str:
    with pytest.raises(BindError) as caught:
        listen(address, "ext_proc")
    assert caught.value.errno
    return caught.value.strerror or ""


def answers(where: tuple[str, int] | str) -> bool:
    family = socket.AF_UNIX if isinstance(where, str) else socket.AF_INET6 if ":" in where[0] else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as client:
        try:
            client.connect(where)
        except OSError:
            return False
    return True


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


IPV6 = pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")


async def test_the_loops_take_what_we_give(tmp_path: Path) -> None:
    """`create_server(sock=)`, TCP and Unix."""

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hi")
        writer.close()
        await writer.wait_closed()

    path = str(tmp_path / "s")
    for address in (Tcp("127.0.0.1", 0), Unix(path)):
        with listening(address) as listener:
            (sock,) = listener.sockets
            server = await asyncio.start_server(greet, sock=sock)
            if isinstance(address, Unix):
                reader, writer = await asyncio.open_unix_connection(path)
            else:
                reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
            assert await reader.read() == b"hi"
            writer.close()
            await writer.wait_closed()
            server.close()
            await server.wait_closed()


def test_a_name_with_several_addresses_has_one_port() -> None:
    with listening(Tcp("localhost", 0)) as listener:
        assert listener.port
        assert {sock.getsockname()[1] for sock in listener.sockets} == {listener.port}
        assert answers(("127.0.0.1", listener.port))


@IPV6
def test_ipv6() -> None:
    with listening(Tcp("::1", 0)) as listener:
        assert answers(("::1", listener.port))
        assert not answers(("127.0.0.1", listener.port))
    with listening(Tcp("::", 0)) as listener:
        assert answers(("::1", listener.port))
        assert answers(("127.0.0.1", listener.port))
    with listening(Tcp("0.0.0.0", 0)) as listener:
        assert not answers(("::1", listener.port))


def test_a_port_in_use() -> None:
    with listening(Tcp("127.0.0.1", 0)) as one:
        why = f"cannot listen on 127.0.0.1:{one.port}: Address already in use"
        assert refusal(Tcp("127.0.0.1", one.port)) == f"ext_proc port {one.port}: {why}"
        with pytest.raises(BindError, match="Address already in use"):
            try_bind(Tcp("127.0.0.1", one.port), "health")
    try_bind(Tcp("127.0.0.1", one.port), "health")
    listen(Tcp("127.0.0.1", one.port), "ext_proc").close()


def test_two_processes_share_a_port_if_both_want_to() -> None:
    with listening(Tcp("127.0.0.1", 0, reuse_port=True)) as one:
        assert "in use" in refusal(Tcp("127.0.0.1", one.port))
        with listening(Tcp("127.0.0.1", one.port, reuse_port=True)) as two:
            assert two.port == one.port
            one.close()
            assert answers(("127.0.0.1", two.port))
    with listening(Tcp("127.0.0.1", 0)) as one:
        assert "in use" in refusal(Tcp("127.0.0.1", one.port, reuse_port=True))


def test_a_host_that_is_not_ours() -> None:
    assert refusal(Tcp("192.0.2.1", 1)) == "ext_proc port 1: cannot listen on 192.0.2.1:1: Cannot assign requested address"
    assert refusal(Tcp("not a name", 1)).startswith("ext_proc port 1: cannot listen on not a name:1: Name or service not known")


def test_a_socket_file(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with listening(Unix(str(path), 0o606)) as listener:
        assert listener.port == 0
        assert stat.S_IMODE(path.stat().st_mode) == 0o606
        assert answers(str(path))
        assert [entry.name for entry in tmp_path.iterdir()] == ["s"]
    assert list(tmp_path.iterdir()) == []


def test_what_a_dead_process_left_is_replaced(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
        dead.listen()
    assert os.path.exists(path)
    with listening(Unix(path)):
        assert answers(path)


def test_a_socket_that_somebody_listens_on(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with listening(Unix(path)):
        assert refusal(Unix(path)) == f"ext_proc socket: cannot listen on {path}: another process listens there"
        assert answers(path)


def test_one_whose_queue_is_full_is_alive(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with contextlib.ExitStack() as stack:
        busy = stack.enter_context(socket.socket(socket.AF_UNIX))
        busy.bind(path)
        busy.listen(0)
        while True:
            waiting = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK))
            try:
                waiting.connect(path)
            except BlockingIOError:
                break
        assert "another process listens there" in refusal(Unix(path))


def test_taking_over(tmp_path: Path) -> None:
    """The old process keeps its connections, and does not remove the new one's file."""
    path = str(tmp_path / "s")
    with listening(Unix(path)) as old, listening(Unix(path, replace=True)) as new:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
            with pytest.raises(BlockingIOError):
                old.sockets[0].accept()
            new.sockets[0].accept()[0].close()
        old.close()
        assert answers(path)
        new.close()
        assert not os.path.exists(path)
        with listening(Unix(path)):
            new.close()  # twice does no harm
            assert answers(path)


def test_no_file_but_a_socket_is_removed(tmp_path: Path) -> None:
    file = tmp_path / "precious"
    file.write_text("data")
    for replace in (False, True):
        assert "a file is there that is not a socket" in refusal(Unix(str(file), replace=replace))
    assert file.read_text() == "data"
    link = tmp_path / "link"
    link.symlink_to(file)
    assert "not a socket" in refusal(Unix(str(link)))


def test_paths_that_can_not_be(tmp_path: Path) -> None:
    missing = tmp_path / "none" / "s"
    assert refusal(Unix(str(missing))) == f"ext_proc socket: cannot listen on {missing}: No such file or directory"
    assert "the path is longer than" in refusal(Unix(str(tmp_path / ("x" * 120))))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_we_may_not_write(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert "Permission denied" in refusal(Unix(str(tmp_path / "s")))


def test_abstract(tmp_path: Path) -> None:
    name = f"@{tmp_path}"
    with listening(Unix(name)):
        assert answers("\0" + name[1:])
        assert "Address already in use" in refusal(Unix(name))
    listen(Unix(name), "ext_proc").close()


class TestWaiting:
    def test_a_shared_port_is_given_to_those_who_listen(self) -> None:
        """All connections, and not only those that hash to the right socket."""
        with listening(Tcp("127.0.0.1", 0, reuse_port=True)) as first:
            second = listen(Tcp("127.0.0.1", first.port, reuse_port=True), "ext_proc", wait=True)
            for _ in range(30):
                with socket.create_connection(("127.0.0.1", first.port)):
                    first.sockets[0].accept()[0].close()
            second.open()
            first.close()
            with socket.create_connection(("127.0.0.1", second.port)):
                second.sockets[0].accept()[0].close()
            second.close()

    def test_a_path_leads_to_who_listens(self, tmp_path: Path) -> None:
        path = str(tmp_path / "s")
        with listening(Unix(path, replace=True)) as first:
            second = listen(Unix(path, replace=True), "ext_proc", wait=True)
            assert os.listdir(tmp_path) == ["s"]
            assert answers(path)
            first.sockets[0].accept()[0].close()
            second.open()
            assert answers(path)
            second.sockets[0].accept()[0].close()
            with pytest.raises(BlockingIOError):
                first.sockets[0].accept()
            first.close()
            assert answers(path)
            second.close()
        assert os.listdir(tmp_path) == []

    def test_what_can_be_seen_to_be_wrong_is_said_before(self, tmp_path: Path) -> None:
        (tmp_path / "s").write_text("precious")
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            for address in (Tcp("127.0.0.1", port, reuse_port=True), Unix(str(tmp_path / "s"), replace=True)):
                with pytest.raises(BindError):
                    listen(address, "ext_proc", wait=True)

    def test_what_is_wrong_later_is_said_then(self, tmp_path: Path) -> None:
        listener = listen(Unix(str(tmp_path / "s"), replace=True), "ext_proc", wait=True)
        (tmp_path / "s").write_text("precious")
        with pytest.raises(BindError, match="not a socket"):
            listener.open()
        listener.close()
        assert (tmp_path / "s").read_text() == "precious"

    def test_never_opened(self, tmp_path: Path) -> None:
        for address in (Tcp("127.0.0.1", 0), Unix(str(tmp_path / "s"))):
            listener = listen(address, "ext_proc", wait=True)
            listener.close()
            listener.close()
        assert os.listdir(tmp_path) == []
