"""Settings models as command lines: flags, environment, `--help`, and all errors at once with exit code 2."""

from __future__ import annotations

import difflib
import os
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import click
from pydantic.fields import FieldInfo

from extproc.cli.go_style import go_style, newer_spelling
from extproc.settings import sim_flags, upstream
from extproc.settings.base import Metavar, Settings, SettingsError, validate

Model = TypeVar("Model", bound=Settings)

Text = str | tuple[str, ...]
"""What was given for a flag; several texts when it may be repeated."""

USAGE_ERROR = 2


def command(
    model: type[Model],
    run: Callable[[Model], int | None],
    *,
    name: str,
    short_help: str,
    check: Callable[[Model], object] | None = None,
    warn: Callable[[Model, Sequence[str]], None] = lambda settings, warnings: None,
) -> click.Command:
    """A click command whose options are the fields of `model`; `run` gets the validated settings, returns the exit code.

    `check` reads the files that settings name and raises SettingsError. When flags are wrong it is asked too, with the flags
    that are right, so that what is wrong with files is said in the same breath. `warn` gets a line for each flag of upstream's
    that has another meaning here or none, before `run`.
    """

    def callback(**_: Any) -> None:
        context = click.get_current_context()
        given = _Given.of(context, name)
        try:
            settings = given.settings(model, os.environ)
        except SettingsError as error:
            rest = _problems_of_the_rest(model, given.flags, check)
            meant = _meant(model, given.extra, name)
            problems = error.problems + [problem for problem in rest if not any(flag in problem for flag in meant)]
            fail(problems, hint=f"Try 'extproc {name} --help'.")
        warn(settings, [*given.warnings, *upstream.variable_warnings(name, os.environ)])
        try:
            code = run(settings)
        except SettingsError as error:
            fail(error.problems, hint=f"Try 'extproc {name} --help'.")
        raise SystemExit(code or 0)

    return _command(model, name, callback, short_help)


def read(model: type[Model], name: str, arguments: Sequence[str], environ: Mapping[str, str]) -> Model | None:
    """The settings that the subcommand `name` takes from these arguments and this environment; None when it shows its help.

    Reads no files. Raises SettingsError with every problem.
    """
    try:
        context = _command(model, name, None).make_context(name, list(arguments))
    except click.exceptions.Exit:
        return None
    except click.UsageError as error:
        raise SettingsError([error.format_message()]) from None
    return _Given.of(context, name).settings(model, environ)


class _Given(NamedTuple):
    """What a command line says: our own flags by field, upstream's as what they come to, and what is no flag."""

    command: str
    flags: Mapping[str, Text]
    upstream: upstream.Translated
    extra: list[str]
    warnings: list[str]

    @classmethod
    def of(cls, context: click.Context, name: str) -> _Given:
        given = {k: v for k, v in context.params.items() if v not in (None, ())}
        told = upstream.translate(name, {k.removeprefix(_OLD): v for k, v in given.items() if k.startswith(_OLD)})
        told.problems.extend(context.meta.get(_PROBLEMS, ()))
        flags = {k: v for k, v in given.items() if not k.startswith(_OLD)}
        return cls(name, flags, told, context.args, [*context.meta.get(_SPELLING, ()), *told.warnings])

    def settings(self, model: type[Model], environ: Mapping[str, str]) -> Model:
        """Raises SettingsError with every problem."""
        translated = self.upstream
        flags = {**translated.values, **self.flags}
        more = {"upstream_parameters": translated.parameters} if translated.parameters else {}
        try:
            settings = from_text(model, flags, environ, self.extra, command=self.command, more=more)
        except SettingsError as error:
            raise SettingsError(error.problems + translated.problems) from None
        if translated.problems:
            raise SettingsError(translated.problems)
        return settings


def _command(model: type[Settings], name: str, callback: Callable[..., None] | None, short_help: str = "") -> _Command:
    made = _Command(
        name,
        callback=callback,
        params=[
            *(_option(field, info) for field, info in model.model_fields.items() if not is_hidden(info)),
            *(_old_option(flag) for flag in upstream.flags_of(name)),
        ],
        help=model.__doc__,
        short_help=short_help,
        context_settings={
            "ignore_unknown_options": True,  # collected and reported together with all other problems
            "allow_extra_args": True,
            "help_option_names": ["-h", "--help"],
            "max_content_width": 120,
        },
    )
    made.takes = {
        **{flag_of(field, info): _bare(info) is not None for field, info in model.model_fields.items() if not is_hidden(info)},
        **{flag.flag: flag.boolean for flag in upstream.flags_of(name)},
    }
    return made


class _Command(click.Command):
    """Takes flags as Go does, and lists upstream's at the end of the help."""

    takes: Mapping[str, bool] = {}
    """Every flag without dashes, and whether it may stand without a value."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        warnings: list[str] = []
        if self.name == "sim":
            try:
                args, warnings = sim_flags.translate(args, os.environ)
            except SettingsError as error:
                args, ctx.meta[_PROBLEMS] = [], error.problems
        args, spelling = go_style(args, self.takes)
        ctx.meta[_SPELLING] = [*warnings, *spelling]
        return super().parse_args(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_options(ctx, formatter)
        flags = upstream.flags_of(self.name or "")
        rows = [(kind, ", ".join(f"--{flag.flag}" for flag in flags if flag.kind is kind)) for kind in upstream.Kind]
        if flags:
            with formatter.section("Upstream's flags that are accepted with a warning; docs/configuration.md says why"):
                formatter.write_dl([(str(kind), names) for kind, names in rows if names])


_OLD = "upstream:"
_SPELLING = "extproc.spelling"
_PROBLEMS = "extproc.problems"


def _old_option(flag: upstream.UpstreamFlag) -> click.Option:
    optional: dict[str, Any] = {"flag_value": "true", "is_flag": False} if flag.boolean else {}
    option = click.Option([f"--{flag.flag}"], hidden=True, **optional)
    option.name = _OLD + flag.flag
    return option


def _problems_of_the_rest(model: type[Model], flags: Mapping[str, Text], check: Callable[[Model], object] | None) -> list[str]:
    """What `check` finds with those flags that are right by themselves."""
    if check is None:
        return []
    good: dict[str, Text] = {}
    for field, text in flags.items():
        try:
            from_text(model, {**good, field: text}, {}, [])
        except SettingsError as error:
            if any(flag_of(field, model.model_fields[field]) in problem for problem in error.problems):
                continue
        good[field] = text
    try:
        check(from_text(model, good, {}, []))
    except SettingsError as error:
        required = {f"--{flag_of(f, i)}: field required" for f, i in model.model_fields.items() if i.is_required()}
        return [problem for problem in error.problems if problem not in required]
    return []


def fail(problems: list[str], *, hint: str = "") -> typing.NoReturn:
    """Print every problem on a line of its own and leave with exit code 2, before anything listens."""
    for problem in problems:
        click.echo(f"extproc: {problem}", err=True)
    if hint:
        click.echo(hint, err=True)
    raise SystemExit(USAGE_ERROR)


def from_text(
    model: type[Model],
    flags: Mapping[str, Text],
    environ: Mapping[str, str],
    extra: list[str],
    *,
    command: str = "",
    more: Mapping[str, object] = {},
) -> Model:
    """Settings from flag texts over environment variables over defaults. Raises SettingsError with every problem.

    `more` are values of hidden fields; `command` is whose flags of upstream's are known.
    """
    values: dict[str, Any] = dict(more)
    labels: dict[str, str] = {}
    for field, info in model.model_fields.items():
        if is_hidden(info):
            continue
        labels[field] = f"--{flag_of(field, info)}"
        variable = env_of(field, info)
        if field in flags and not (flags[field] == "" and _may_be_absent(info)):
            values[field] = _typed(flags[field], info)
        elif (text := environ.get(variable)) and is_heard(info, text):
            labels[field] = f"{variable} (environment)"
            values[field] = _typed(text, info)
    problems = _unexpected(model, extra, command)
    try:
        settings = validate(model, values, labels=labels)
    except SettingsError as error:
        missed = {f"{flag}: field required" for flag in _meant(model, extra, command)} if extra else set()
        problems += [problem for problem in error.problems if problem not in missed]
    if problems:
        raise SettingsError(problems)
    return settings


def is_hidden(info: FieldInfo) -> bool:
    """Whether the field has no flag."""
    return bool(_extra(info).get("hidden"))


def flag_of(field: str, info: FieldInfo) -> str:
    """The flag's name without dashes."""
    return typing.cast(str, _extra(info).get("flag")) or field.replace("_", "-")


def env_of(field: str, info: FieldInfo) -> str:
    """The environment variable that stands in for the flag."""
    return typing.cast(str, _extra(info).get("env")) or "EXTPROC_" + flag_of(field, info).upper().replace("-", "_")


def is_heard(info: FieldInfo, text: str) -> bool:
    """Whether a variable with that text is meant for us: some are of other programs, which take more."""
    begins = _extra(info).get("env_begins", ())
    return not begins or text.startswith(begins)


def _extra(info: FieldInfo) -> Mapping[str, Any]:
    return info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}


def shown_default(info: FieldInfo) -> str:
    """The default as help and docs show it, '' when there is none."""
    default = _extra(info).get("default_text")
    if default is None:
        default = "required" if info.is_required() else info.default
    return "" if default in (None, "", (), []) else _show(default)


def _option(field: str, info: FieldInfo) -> click.Option:
    default = shown_default(info)
    shown = f"  [{'' if info.is_required() else 'default: '}{default}]" if default else ""
    bare = _bare(info)
    optional: dict[str, Any] = {} if bare is None else {"flag_value": bare, "is_flag": False}
    return click.Option(
        [f"--{flag_of(field, info)}", field],
        multiple=bool(_extra(info).get("repeated")),
        help=f"{info.description}{shown}",
        metavar=_metavar(info),
        **optional,
    )


def _show(default: object) -> str:
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, list | tuple):
        return ",".join(map(str, default))
    return str(default)


def _annotation(info: FieldInfo) -> Any:
    """The type without `| None`."""
    annotation = info.annotation
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return next(arg for arg in typing.get_args(annotation) if arg is not type(None))
    return annotation


def _is_bool(info: FieldInfo) -> bool:
    return _annotation(info) is bool


def _bare(info: FieldInfo) -> str | None:
    """What the flag means without a value, None when it needs one."""
    return "true" if _is_bool(info) else _extra(info).get("bare")


def _may_be_absent(info: FieldInfo) -> bool:
    """Whether an empty text means that the flag is not there, as Go's strings have it: `--kubeconfig ""`."""
    return info.default is None and _annotation(info) is str


def _metavar(info: FieldInfo) -> str:
    annotation = _annotation(info)
    if typing.get_origin(annotation) is typing.Literal:
        return "|".join(map(str, typing.get_args(annotation)))
    for each in info.metadata:
        if isinstance(each, Metavar):
            return each.text
    if typing.get_origin(annotation) in (tuple, list):
        return "TEXT" if _extra(info).get("repeated") else "A,B,..."
    return {bool: "[true|false]", int: "N", float: "X"}.get(annotation, "TEXT")


def _typed(text: Text, info: FieldInfo) -> object:
    if not isinstance(text, str):
        return list(text)
    if _extra(info).get("repeated"):
        return [line for line in text.splitlines() if line.strip()]
    if typing.get_origin(_annotation(info)) in (tuple, list):
        return [part.strip() for part in text.split(",") if part.strip()]
    return text


def _nearest(flag: str, model: type[Settings], command: str) -> str | None:
    """The flag that may be meant."""
    known = [f"--{flag_of(field, info)}" for field, info in model.model_fields.items() if not is_hidden(info)]
    known += [f"--{flag.flag}" for flag in upstream.flags_of(command)]
    return next(iter(difflib.get_close_matches(newer_spelling(flag), known, 1)), None)


def _meant(model: type[Settings], extra: list[str], command: str) -> set[str]:
    """Flags that unknown ones may stand for: that they are missing is no complaint of its own."""
    flags = [argument.partition("=")[0] for argument in extra if argument.startswith("-")]
    return {near for flag in flags if (near := _nearest(flag, model, command)) is not None}


def _unexpected(model: type[Settings], extra: list[str], command: str) -> list[str]:
    refused = upstream.REFUSED.get(command, {})
    problems = []
    value_may_follow = False
    for argument in extra:
        flag, equals, _ = argument.partition("=")
        if not flag.startswith("-"):
            if not value_may_follow:
                problems.append(f"{argument!r}: unexpected argument")
            value_may_follow = False
            continue
        value_may_follow = not equals
        if flag.lstrip("-") in refused:
            problems.append(f"{flag}: {refused[flag.lstrip('-')]}")
        else:
            near = _nearest(flag, model, command)
            problems.append(f"{flag}: unknown flag" + (f", did you mean {near}?" if near else ""))
    return problems
