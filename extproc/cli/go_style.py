"""Flags as Go's flag packages take them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

_CAMEL: Final = re.compile(r"(?<=[a-z0-9])([A-Z])")


def newer_spelling(flag: str) -> str:
    """Before v1.0 flags were spelled `grpcPort`; since then `grpc-port`."""
    return _CAMEL.sub(lambda match: "-" + match[1].lower(), flag)


def go_style(arguments: Sequence[str], boolean: Mapping[str, bool]) -> tuple[list[str], list[str]]:
    """Arguments as Go's flag packages take them, in the form with two dashes; and warnings.

    `boolean` has every known flag (without dashes) and whether it may stand without a value. Go's `flag` takes `-name` for
    `--name`, and pflag `-v3`. What is not known stays as it is.
    """
    out: list[str] = []
    warnings: list[str] = []
    value_follows = False
    for argument in arguments:
        if value_follows or not argument.startswith("-") or argument in ("-", "--"):
            out.append(argument)
            value_follows = False
            continue
        bare = argument.lstrip("-")
        name, equals, value = bare.partition("=")
        if name not in boolean and (newer := newer_spelling(name)) != name and newer in boolean:
            warnings.append(f"--{name} still works: flags have dashes since v1.0; use --{newer}")
            name = newer
        if name not in boolean and (short := re.fullmatch(r"v(\d+)", name)) and "v" in boolean and not equals:
            name, equals, value = "v", "=", short[1]
        if name in boolean and len(argument) - len(bare) <= 2:
            out.append(f"--{name}{equals}{value}")
            value_follows = not equals and not boolean[name]
        else:
            out.append(argument)
    return out, warnings
