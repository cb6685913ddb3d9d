"""Which pods are meant: labels to select by and ports to send to, in flags, files and objects of Kubernetes alike."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from extproc.settings.base import shown

MAX_PORTS: Final = 8

# https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set
_NAME: Final = r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_KEY: Final = re.compile(rf"(?:[a-z0-9](?:[-a-z0-9.]{{0,251}}[a-z0-9])?/)?{_NAME}")
_VALUE: Final = re.compile(rf"(?:{_NAME})?")


def check_labels(found: object) -> tuple[tuple[str, str], ...]:
    """Sorted labels, at least one: without any, all pods of the namespace would be meant. Raises ValueError."""
    if not isinstance(found, dict) or not found:
        raise ValueError(f"expected at least one label (got {shown(found)})")
    for key, value in found.items():
        if not isinstance(key, str) or not _KEY.fullmatch(key):
            raise ValueError(f"expected a label's name (got {shown(key)})")
        if not isinstance(value, str) or not _VALUE.fullmatch(value):
            raise ValueError(f"expected a value for label {key!r} (got {shown(value)})")
    return tuple(sorted(found.items()))


def check_ports(found: Sequence[object]) -> tuple[int, ...]:
    """1 to 8 different ports; a port's position is its rank. Raises ValueError."""
    ports = tuple(check_port(port) for port in found)
    if not 1 <= len(ports) <= MAX_PORTS:
        raise ValueError(f"expected 1 to {MAX_PORTS} ports (got {len(ports)})")
    if len(set(ports)) < len(ports):
        raise ValueError(f"a port is there twice (got {list(ports)})")
    return ports


def check_port(found: object) -> int:
    """Raises ValueError."""
    if isinstance(found, bool) or not isinstance(found, int) or not 1 <= found <= 65535:
        raise ValueError(f"expected a port in 1..65535 (got {shown(found)})")
    return found


def parse_selector(text: str) -> tuple[tuple[str, str], ...]:
    """Labels of `app=vllm,tier=gpu`. Raises ValueError."""
    labels: dict[str, str] = {}
    for part in text.split(","):
        key, equals, value = part.partition("=")
        if not equals:
            raise ValueError(f"expected name=value, with commas between several (got {shown(text)})")
        labels[key.strip()] = value.removeprefix("=").strip()
    return check_labels(labels)
