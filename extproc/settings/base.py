"""What a setting is: one declaration gives the flag, the environment variable, the default, the unit and the doc line.

Values come as text from flags and the environment or typed from YAML; both are validated by the same pydantic models, and
all problems are reported at once, each with its path.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema, model_validator

from extproc.files.problems import Unusable

_DURATION_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?|\.\d+)(ns|us|µs|ms|s|m|h)")
_LONGEST_DURATION = 100
"""Characters. Digits without a unit cost time by their square, and durations stand in queries, too."""
_SIZE_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}
_FILE_MODE = re.compile(r"(?:0o?)?([0-7]{3})")
_SIZE = re.compile(r"(\d+)(Ki|Mi|Gi|k|M|G)?")


def parse_duration_s(value: object) -> float:
    """Seconds of a duration in Go's syntax (`50ms`, `1m30s`); a bare 0 is 0. Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError("expected a duration such as 50ms, 2s or 1m30s")
    text = str(value).strip()
    if text in ("0", "0.0"):
        return 0.0
    parts = _DURATION.findall(text) if len(text) <= _LONGEST_DURATION else []
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError("expected a duration such as 50ms, 2s or 1m30s")
    return float(sum(float(number) * _DURATION_UNITS[unit] for number, unit in parts))


def parse_size_bytes(value: object) -> int:
    """Bytes of a Kubernetes quantity (`64Mi`, `4194304`). Raises ValueError."""
    match = _SIZE.fullmatch(str(value).strip()) if isinstance(value, str | int) and not isinstance(value, bool) else None
    if match is None:
        raise ValueError("expected a size such as 64Mi, 4M or 4194304")
    return int(match[1]) * _SIZE_UNITS[match[2] or ""]


def parse_file_mode(value: object) -> int:
    """Permissions in octal (`0660`, `660`, `0o660`). Raises ValueError."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 0o777:
        return value
    match = _FILE_MODE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError("expected permissions in octal such as 0660")
    return int(match[1], 8)


class Metavar(NamedTuple):
    """What stands for a value of a type in help."""

    text: str


Duration = Annotated[
    float,
    BeforeValidator(parse_duration_s),
    Metavar("DURATION"),
    WithJsonSchema({"type": ["string", "integer"], "description": "A duration in Go's syntax, such as 50ms or 1m30s."}),
]
"""Seconds, written as in Go."""
Size = Annotated[
    int,
    BeforeValidator(parse_size_bytes),
    Metavar("SIZE"),
    WithJsonSchema({"type": ["string", "integer"], "description": "Bytes as a quantity of Kubernetes, such as 64Mi."}),
]
"""Bytes, written as a Kubernetes quantity."""
FileMode = Annotated[int, BeforeValidator(parse_file_mode), Metavar("MODE")]
"""Permissions of a file."""

Port = Annotated[int, Field(ge=0, le=65535)]
"""A TCP port to listen on; 0 takes a free one."""


class Settings(BaseModel):
    """Base of every settings model: unknown keys are errors, values never change after start.

    Validators are built when they are first used, for a process uses few of the models.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, defer_build=True)


class Section(Settings):
    """Base of what stands in files that users write: a key with nothing in it (`{}`, an empty text, null) is as if absent."""

    @model_validator(mode="before")
    @classmethod
    def _absent(cls, values: object) -> object:
        if not isinstance(values, Mapping):
            return values
        known = {info.alias or name for name, info in cls.model_fields.items()}
        return {key: value for key, value in values.items() if key not in known or value not in (None, "", {})}


class SettingsError(Unusable):
    """Settings that can't be used. `problems` are all of them, each with its path, value and what was expected."""


def setting(
    default: Any,
    doc: str,
    *,
    flag: str | None = None,
    env: str | None = None,
    default_text: str | None = None,
    required: bool = False,
    repeated: bool = False,
    hidden: bool = False,
    bare: str | None = None,
    env_begins: tuple[str, ...] = (),
) -> Any:
    """Declare a setting.

    `flag` is the flag without dashes when it isn't the field's name with dashes; `env` the environment variable when it
    isn't EXTPROC_ and the flag; `default_text` how the help shows the default. `repeated`: the flag may come several times, and
    the variable has a line for each. `hidden`: no flag at all, for what flags of upstream are translated to. `bare`: what the
    flag means without a value; a switch is true. `env_begins`: the variable is of others too, and is heard only when its value
    begins with one of these.
    """
    extra: dict[str, Any] = {"flag": flag, "env": env, "default_text": default_text, "repeated": repeated, "hidden": hidden}
    extra |= {"bare": bare, "env_begins": env_begins}
    if required:
        return Field(description=doc, json_schema_extra=extra)
    return Field(default=default, description=doc, json_schema_extra=extra)


_BRIEF = reprlib.Repr()
_BRIEF.maxstring = _BRIEF.maxother = _BRIEF.maxlong = 80
_BRIEF.maxlevel = 2
_BRIEF.maxdict = _BRIEF.maxlist = 4
_MAX_SHOWN = 120
_MANY = 50
"""Problems of one form; of more these are told, and how many there are."""


def shown(value: object) -> str:
    """A value for a message: never long, and never at the price of a long one."""
    try:
        words = _BRIEF.repr(value)
    except ValueError:  # a number of too many digits
        words = "a number of very many digits"
    return words if len(words) <= _MAX_SHOWN else words[: _MAX_SHOWN - 3] + "..."


def few(problems: Sequence[str], most: int = _MANY) -> list[str]:
    """The first of very many problems, and how many more there are."""
    if len(problems) <= most:
        return list(problems)
    return [*problems[: most - 1], f"and {len(problems) - most + 1} more problems"]


Model = TypeVar("Model", bound=BaseModel)


def validate(model: type[Model], values: Mapping[str, Any], *, prefix: str = "", labels: Mapping[str, str] = {}) -> Model:
    """Build `model` from `values`; raise SettingsError with all problems. `labels` says how a field is named to the user."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        number = error.error_count()
        problems = [] if number <= _MANY else _first(model, values, prefix, labels)
        if problems:
            raise SettingsError([*problems, f"and {number - len(problems)} more problems"]) from None
        raise SettingsError(explain(error, prefix=prefix, labels=labels)) from None


def _first(model: type[Model], values: Mapping[str, Any], prefix: str, labels: Mapping[str, str]) -> list[str]:
    """Some of very many problems: those of the first items of each list. Putting 180,000 into words takes seconds."""
    try:
        model.model_validate(_begin(values))
    except ValidationError as error:
        return explain(error, prefix=prefix, labels=labels)[: _MANY - 1]
    return []


def _begin(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _begin(each) for key, each in value.items()}
    return [_begin(each) for each in value[:_MANY]] if isinstance(value, list) else value


def explain(error: ValidationError, *, prefix: str = "", labels: Mapping[str, str] = {}) -> list[str]:
    """One line for each problem of a pydantic error: path, what was expected, and the value that was given."""
    lines = []
    for item in error.errors(include_url=False):
        path = prefix + _path(item["loc"], labels)
        message = item["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
        message = message[:1].lower() + message[1:]
        if item["type"] == "extra_forbidden":
            message = "unknown key"
        given = item.get("input")
        value = "" if item["type"] in ("missing", "extra_forbidden") or not _is_scalar(given) else f" (got {shown(given)})"
        lines.append(f"{path}: {message}{value}" if path else f"{message}{value}")
    return lines


def _path(loc: tuple[int | str, ...], labels: Mapping[str, str]) -> str:
    out = ""
    for part in loc:
        if isinstance(part, int):
            out += f"[{part}]"
        elif "[" not in part and "(" not in part:  # pydantic puts validator names such as function-before[...] in between
            out += ("." if out else "") + labels.get(part, part)
    return out


def _is_scalar(value: object) -> bool:
    return isinstance(value, str | int | float | bool) or value is None
