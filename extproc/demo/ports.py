"""Ports: the usual ones when they are free, others when not."""

from __future__ import annotations

import itertools
import random
import socket
from collections.abc import Iterable

PORTS = range(18_000, 32_000)
"""Below Linux's range for outgoing connections, so that none of those takes a port between our look and its use."""


def share(number: int, of: int) -> range:
    """One of so many equal parts of the ports, for processes side by side: a port of a server that is being started anew looks
    free to the others."""
    size = len(PORTS) // of
    return PORTS[number * size : (number + 1) * size]


def is_free(port: int) -> bool:
    """Whether somebody could listen on the port now, on any address."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
            probe.listen()
        except OSError:
            return False
    return True


def free_ports(count: int, *, taken: Iterable[int] = ()) -> list[int]:
    """Different free ports, none of `taken`.

    Raises:
        OSError: so many can't be had: the others are taken or somebody listens on them.
    """
    avoid = set(taken)
    shuffled = random.sample(PORTS, len(PORTS))
    out = list(itertools.islice((port for port in shuffled if port not in avoid and is_free(port)), count))
    if len(out) < count:
        raise OSError(f"{count} free ports from {PORTS.start} to {PORTS.stop - 1} are not to be had, only {len(out)}")
    return out


def usual_or_free(usual: Iterable[int]) -> dict[int, int]:
    """Each usual port to itself when it is free, else to another one."""
    wanted = list(usual)
    chosen = {port: port for port in wanted if is_free(port)}
    missing = [port for port in wanted if port not in chosen]
    return chosen | dict(zip(missing, free_ports(len(missing), taken=wanted), strict=True))
