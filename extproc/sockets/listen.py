"""Listening sockets: TCP and Unix. What can't be had is a BindError with the service's name, the place, and why."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

BACKLOG: Final = 1024
"""Connections that wait to be accepted. A proxy opens few and keeps them."""

_NOT_HERE: Final = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)

_LONGEST_PATH: Final = 107
"""Bytes of a Unix socket's path on Linux, unix(7)."""


class BindError(OSError):
    """A place to listen at could not be taken. The message names the service, the port or path, and why."""


@dataclass(frozen=True, slots=True)
class Tcp:
    """A host (an address or a name, IPv4 or IPv6) and a port; port 0 takes a free one.

    The host `::` also takes IPv4. With `reuse_port` (SO_REUSEPORT) several processes of one user may listen on the port, if all
    of them ask for it, and the kernel spreads the connections over them. So a new process can listen before the old one
    stops. Without it a second process is refused.
    """

    host: str
    port: int
    reuse_port: bool = False

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Unix:
    """A path, as in Envoy's `pipe: {path}`; one that begins with `@` is abstract: no file, and no mode that guards it.

    `mode` is the file's. With `replace` a socket that another process listens on is taken over: new connections come here, its
    own it keeps. Without it that is refused, and only what a dead process left is removed.
    """

    path: str
    mode: int = 0o660
    replace: bool = False

    def __str__(self) -> str:
        return self.path


Address = Tcp | Unix


@dataclass
class Listener:
    """Sockets that listen. `port` is 0 for a Unix socket."""

    sockets: list[socket.socket]
    port: int = 0
    _remove: Callable[[], None] = field(default=lambda: None, repr=False)
    _open: Callable[[], None] = field(default=lambda: None, repr=False)

    def open(self) -> None:
        """Let connections come, if `listen` was told to wait with that. Raises BindError."""
        begin, self._open = self._open, lambda: None
        begin()

    def remove(self) -> None:
        """Remove the file only: for sockets that their server closes afterwards."""
        self._remove()

    def close(self) -> None:
        """Close the sockets and remove the file, unless another process has replaced it. Harmless when done twice."""
        self._remove()
        for each in self.sockets:
            each.close()


def listen(address: Address, service: str, *, wait: bool = False) -> Listener:
    """Listen. Raises BindError, whose message begins with `service` and `port` or `socket`.

    With `wait` the port is bound, or the path looked at, and nobody can connect before `Listener.open`: until then the kernel
    gives a shared port's connections to the others, and a path leads to the socket that is there.
    """
    if isinstance(address, Tcp):
        with refusals(address, service):
            listener = _bind_tcp(address)
    else:
        listener = Listener([])
        if wait and not address.path.startswith("@"):
            with refusals(address, service), _locked(Path(address.path).parent):
                _check(Path(address.path), address.replace)

    def begin() -> None:
        try:
            if isinstance(address, Unix):
                listener.sockets.append(_listen_unix(address, service))
                listener._remove = remover(address)
                return
            with refusals(address, service):
                for each in listener.sockets:
                    each.listen(BACKLOG)
        except BaseException:
            listener.close()
            raise

    listener._open = begin
    if not wait:
        listener.open()
    return listener


def _listen_unix(address: Unix, service: str) -> socket.socket:
    with unix_file(address, service) as path:
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            listening.bind(_kernel_name(path))
            if not path.startswith("@"):
                os.chmod(path, address.mode)  # before anybody can connect
            listening.listen(BACKLOG)
        except BaseException:
            listening.close()
            raise
    return listening


def try_bind(address: Tcp, service: str) -> None:
    """Bind and let go, for servers that bind by themselves and don't tell why they can't. Raises BindError."""
    with refusals(address, service):
        _bind_tcp(address).close()


@contextlib.contextmanager
def refusals(address: Address, service: str) -> Iterator[None]:
    """Every OSError becomes a BindError."""
    where = f"port {address.port}" if isinstance(address, Tcp) else "socket"
    try:
        yield
    except OSError as error:
        why = error.strerror or str(error)
        number = error.errno or errno.EADDRINUSE
        raise BindError(number, f"{service} {where}: cannot listen on {address}: {why}") from error


def _bind_tcp(address: Tcp) -> Listener:
    """On every address that the host's name has and this machine too, all with the same port."""
    addresses = socket.getaddrinfo(
        address.host or None, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_NUMERICSERV
    )
    listener = Listener([], address.port)
    absent: OSError | None = None
    try:
        for family, _, _, _, where in dict.fromkeys(addresses):
            try:
                made = _bound(address, family, (where[0], listener.port, *where[2:]))
            except OSError as error:
                if error.errno not in _NOT_HERE:
                    raise
                absent = error  # such as ::1 of localhost, where there is no IPv6
                continue
            listener.sockets.append(made)
            listener.port = made.getsockname()[1]
        if absent is not None and not listener.sockets:
            raise absent
    except BaseException:
        listener.close()
        raise
    return listener


def _bound(address: Tcp, family: int, where: tuple[Any, ...]) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if address.reuse_port:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            # A name with addresses of both kinds gets a socket for each.
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, address.host != "::")
        made.bind(where)
    except BaseException:
        made.close()
        raise
    return made


@contextlib.contextmanager
def unix_file(address: Unix, service: str) -> Iterator[str]:
    """A path to bind to; when that is done, the socket gets its mode and its name, in one step for those who look.

    For servers that bind by themselves. Raises BindError, also for what the caller raises as OSError.
    """
    with refusals(address, service):
        if address.path.startswith("@"):
            yield address.path
            return
        file = Path(address.path)
        fresh = f"{address.path}.{os.getpid()}"
        if len(os.fsencode(fresh)) > _LONGEST_PATH:
            raise OSError(errno.ENAMETOOLONG, f"the path is longer than {_LONGEST_PATH - len(str(os.getpid())) - 1} bytes")
        with _locked(file.parent):
            _check(file, address.replace)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(fresh)
            try:
                yield fresh
                os.chmod(fresh, address.mode)
                os.rename(fresh, file)
            except BaseException:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(fresh)
                raise


def remover(address: Unix) -> Callable[[], None]:
    """Removes the socket's file, once, and only if it is still the one that is there now.

    To be called before the socket is closed: until then no other file can get its inode.
    """
    made = None if address.path.startswith("@") else _inode(address.path)

    def remove() -> None:
        nonlocal made
        if made is not None and _inode(address.path) == made:
            with contextlib.suppress(OSError):
                os.unlink(address.path)
        made = None

    return remove


def _inode(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path, follow_symlinks=False)
    except OSError:
        return None
    return status.st_dev, status.st_ino


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Alone among our processes in this folder, so that none removes what another has just made."""
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(number, fcntl.LOCK_EX)
        yield
    finally:
        os.close(number)


def _check(file: Path, replace: bool) -> None:
    """Raises OSError when the file must not be replaced: it is no socket, or somebody listens there."""
    try:
        mode = os.stat(file, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise OSError(errno.EEXIST, "a file is there that is not a socket")
    if replace:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(str(file))
        except ConnectionRefusedError:
            return  # left behind by a process that is gone
        except BlockingIOError:
            pass  # a listener whose queue is full
    raise OSError(errno.EADDRINUSE, "another process listens there")


def _kernel_name(path: str) -> str:
    return "\0" + path[1:] if path.startswith("@") else path
