"""Flags as Go's flag packages take them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

_INDEX: Final = re.compile(r"--\d+")
_LISTED: Final = re.compile(r"--\d+=map\[name:(?P<name>[\w-]+)(?: value:(?P<value>.*))?\]", re.DOTALL)
"""How Go prints an entry of a list of flags, `{name: v, value: 3}`; the keys are sorted."""

_CAMEL: Final = re.compile(r"(?<=[a-z0-9])([A-Z])")


def newer_spelling(flag: str) -> str:
    """Before v1.0 flags were spelled `grpcPort`; since then `grpc-port`."""
    return _CAMEL.sub(lambda match: "-" + match[1].lower(), flag)


def go_style(arguments: Sequence[str], boolean: Mapping[str, bool]) -> tuple[list[str], list[str]]:
    """Arguments as Go's flag packages take them, in the form with two dashes; and warnings.

    `boolean` has every known flag (without dashes) and whether it may stand without a value. Go's `flag` takes `-name` for
    `--name`, and pflag `-v3`. What is not known stays as it is, with two dashes.

    What charts make of odd values is read as it was meant. An empty argument that is no flag's value, as after a switch, is
    nothing. `--switch=false=` was `switch=false` where a name was expected, and `--0`, `map[name:v value:3]` a list of flags
    where a map was.
    """
    out: list[str] = []
    warnings: list[str] = []
    value_follows = False
    for argument in _without_lists(arguments, warnings):
        if value_follows or not argument.startswith("-") or argument in ("-", "--"):
            if argument or value_follows:
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
        if len(argument) - len(bare) > 2:
            out.append(argument)
        elif name in boolean:
            value = value.rstrip("=") if boolean[name] else value
            out.append(f"--{name}{equals}{value}")
            value_follows = not equals and not boolean[name]
        else:
            # One dash and several letters is one flag in Go, also where we don't know it.
            out.append(f"--{bare}" if len(name) > 1 else argument)
    return out, warnings


def _without_lists(arguments: Sequence[str], warnings: list[str]) -> list[str]:
    """With `--v=3` for each `--0`, `map[name:v value:3]`, in one argument or two."""
    out: list[str] = []
    for argument in arguments:
        last = out[-1] if out else ""
        joined = f"{last}={argument}" if _INDEX.fullmatch(last) else argument
        if found := _LISTED.fullmatch(joined):
            if joined is not argument:
                out.pop()
            name, value = found["name"], found["value"] or ""
            out += [f"--{name}={value}"] if value else [f"--{name}", ""]
            warnings.append(f"{joined} is a list of flags where the chart takes a map, {{{name}: {value}}}; read as --{name}")
        else:
            out.append(argument)
    return out
