"""Settings as a command line: flags over environment over defaults, and all problems at once with exit code 2."""

from __future__ import annotations

import importlib
from typing import Literal

import click
import pytest
import structlog
from click.testing import CliRunner, Result
from pydantic import model_validator

from extproc.app import Service
from extproc.cli import epp, gateway
from extproc.cli.options import command, env_of, flag_of, from_text, read
from extproc.settings.base import Duration, Port, Settings, SettingsError, Size, setting
from extproc.settings.commands import BbrSettings, EppSettings
from extproc.settings.server import ServerSettings


class Example(Settings):
    """Does nothing, but has one of each."""

    grpc_port: Port = setting(9002, "Where to listen.")
    drain_timeout: Duration = setting(30.0, "How long to wait.", default_text="30s")
    max_body_bytes: Size = setting(64 * 2**20, "Largest body.", default_text="64Mi")
    endpoints: tuple[str, ...] = setting((), "Who is there.")
    config_file: str | None = setting(None, "A file.", env="EXAMPLE_CONFIG")
    streaming: bool = setting(False, "A switch.")
    secure: bool = setting(True, "Another switch.", flag="tls")
    level: Literal["low", "high"] = setting("low", "A choice.")
    share: float = setting(0.5, "A share.")

    @model_validator(mode="after")
    def _no_file_on_high(self) -> Example:
        if self.level == "high" and self.config_file:
            raise ValueError("--level=high and --config-file exclude each other")
        return self


class Needy(Settings):
    """Can't do without."""

    config_file: str = setting(None, "A file.", required=True)


def run(*arguments: str, env: dict[str, str] | None = None) -> tuple[Result, list[Example]]:
    seen: list[Example] = []
    result = CliRunner().invoke(command(Example, seen.append, name="example", short_help="Short."), arguments, env=env)
    return result, seen


def settings(*arguments: str, env: dict[str, str] | None = None) -> Example:
    result, seen = run(*arguments, env=env)
    assert result.exit_code == 0, result.output
    return seen[0]


def problems(*arguments: str, env: dict[str, str] | None = None) -> list[str]:
    result, seen = run(*arguments, env=env)
    assert result.exit_code == 2
    assert seen == [], "nothing is started"
    assert result.stdout == ""
    *lines, hint = result.stderr.splitlines()
    assert hint == "Try 'extproc example --help'."
    assert all(line.startswith("extproc: ") for line in lines)
    return [line.removeprefix("extproc: ") for line in lines]


def test_defaults() -> None:
    assert settings() == Example.model_validate({})


def test_flags() -> None:
    given = settings(
        "--grpc-port=1",
        "--drain-timeout",
        "1m30s",
        "--max-body-bytes=1Ki",
        "--endpoints=a:1, b:2,,",
        "--config-file=x.yaml",
        "--streaming",
        "--tls=false",
        "--level=low",
        "--share=0.25",
    )
    assert given.grpc_port == 1
    assert given.drain_timeout == 90
    assert given.max_body_bytes == 1024
    assert given.endpoints == ("a:1", "b:2")
    assert given.config_file == "x.yaml"
    assert given.streaming is True
    assert given.secure is False
    assert given.share == 0.25


@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        (["--streaming"], True),
        (["--streaming=true"], True),
        (["--streaming", "true"], True),
        (["--streaming=false"], False),
        (["--streaming", "false"], False),
        (["--streaming", "--level=low"], True),
    ],
)
def test_switches_work_with_and_without_a_value(arguments: list[str], value: bool) -> None:
    """Go's flags take `--x` and `--x=false`; charts render both."""
    assert settings(*arguments).streaming is value


def test_the_environment_stands_in_for_a_flag() -> None:
    env = {"EXTPROC_GRPC_PORT": "7", "EXTPROC_ENDPOINTS": "a:1,b:2", "EXTPROC_TLS": "false", "EXAMPLE_CONFIG": "f"}
    given = settings(env=env)
    assert (given.grpc_port, given.endpoints, given.secure, given.config_file) == (7, ("a:1", "b:2"), False, "f")
    assert settings("--grpc-port=8", env=env).grpc_port == 8


def test_an_empty_variable_is_none() -> None:
    assert settings(env={"EXTPROC_GRPC_PORT": "", "EXAMPLE_CONFIG": ""}) == settings()


def test_all_problems_at_once_named_as_the_user_named_them() -> None:
    told = problems(
        "--grpc-port=70000",
        "--drain-timeout=soon",
        "--grpc-prot=1",
        "--nothing-like-it",
        "stray",
        "--level=middle",
        env={"EXTPROC_MAX_BODY_BYTES": "big"},
    )
    assert told == [
        "--grpc-prot: unknown flag, did you mean --grpc-port?",
        "--nothing-like-it: unknown flag",
        "--grpc-port: input should be less than or equal to 65535 (got '70000')",
        "--drain-timeout: expected a duration such as 50ms, 2s or 1m30s (got 'soon')",
        "EXTPROC_MAX_BODY_BYTES (environment): expected a size such as 64Mi, 4M or 4194304 (got 'big')",
        "--level: input should be 'low' or 'high' (got 'middle')",
    ]


def test_what_follows_an_unknown_flag_is_not_blamed_as_well() -> None:
    assert problems("--zzz", "value", "stray") == ["--zzz: unknown flag", "'stray': unexpected argument"]
    assert problems("--zzz=value", "stray") == ["--zzz: unknown flag", "'stray': unexpected argument"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("-grpc-prot=1", "--grpc-prot: unknown flag, did you mean --grpc-port?"),
        ("--grpcPrt=1", "--grpcPrt: unknown flag, did you mean --grpc-port?"),
        ("--max_body_bytes=1", "--max_body_bytes: unknown flag, did you mean --max-body-bytes?"),
        ("-path=/x", "--path: unknown flag"),
    ],
)
def test_an_unknown_flag_names_the_nearest(given: str, said: str) -> None:
    assert problems(given) == [said]


def test_an_empty_value_is_none_where_there_may_be_none() -> None:
    assert settings("--config-file=", "--endpoints", "") == settings()
    assert settings("--config-file", "", env={"EXAMPLE_CONFIG": "f"}).config_file == "f"
    assert problems("--grpc-port=")[0].startswith("--grpc-port: input should be a valid integer")
    assert problems("--streaming=")[0].startswith("--streaming: input should be a valid boolean")


def test_empty_arguments_mean_nothing() -> None:
    assert settings("", "--streaming", "", "--level=low").streaming is True
    assert settings("--streaming=false=").streaming is False


def test_rules_over_several_flags() -> None:
    assert problems("--level=high", "--config-file=x") == ["--level=high and --config-file exclude each other"]


def test_what_start_up_finds_wrong_is_told_the_same_way() -> None:
    def start(_: Example) -> int:
        raise SettingsError(["pools[0].name: 'a' is used twice", "routes: field required"])

    result = CliRunner().invoke(command(Example, start, name="example", short_help=""), [])
    assert result.exit_code == 2
    assert result.stderr.splitlines() == [
        "extproc: pools[0].name: 'a' is used twice",
        "extproc: routes: field required",
        "Try 'extproc example --help'.",
    ]


@pytest.mark.parametrize(("returned", "code"), [(0, 0), (None, 0), (3, 3)])
def test_the_exit_code_is_the_commands(returned: int | None, code: int) -> None:
    result = CliRunner().invoke(command(Example, lambda _: returned, name="example", short_help=""), [])
    assert result.exit_code == code


def test_a_required_setting_that_is_missing() -> None:
    with pytest.raises(SettingsError) as caught:
        from_text(Needy, {}, {}, [])
    assert caught.value.problems == ["--config-file: field required"]
    assert from_text(Needy, {}, {"EXTPROC_CONFIG_FILE": "x"}, []).config_file == "x"


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_says_it_all(flag: str) -> None:
    result, seen = run(flag)
    assert result.exit_code == 0
    assert seen == []
    text = " ".join(result.stdout.split())
    for line in (
        "Does nothing, but has one of each.",
        "--grpc-port N Where to listen. [default: 9002]",
        "--drain-timeout DURATION How long to wait. [default: 30s]",
        "--max-body-bytes SIZE Largest body. [default: 64Mi]",
        "--endpoints A,B,... Who is there. --",
        "--config-file TEXT A file. --",
        "--streaming [true|false] A switch. [default: false]",
        "--tls [true|false] Another switch. [default: true]",
        "--level low|high A choice. [default: low]",
        "--share X A share. [default: 0.5]",
    ):
        assert line in text, line


def test_help_marks_what_is_required() -> None:
    result = CliRunner().invoke(command(Needy, lambda _: 0, name="needy", short_help=""), ["--help"])
    assert "A file. [required]" in " ".join(result.stdout.split())


def test_names_follow_from_the_field() -> None:
    fields = Example.model_fields
    assert flag_of("grpc_port", fields["grpc_port"]) == "grpc-port"
    assert env_of("grpc_port", fields["grpc_port"]) == "EXTPROC_GRPC_PORT"
    assert flag_of("secure", fields["secure"]) == "tls"
    assert env_of("secure", fields["secure"]) == "EXTPROC_TLS"
    assert env_of("config_file", fields["config_file"]) == "EXAMPLE_CONFIG"


def test_a_command_has_a_name_and_a_short_help() -> None:
    made = command(Example, lambda _: 0, name="example", short_help="Short.")
    assert isinstance(made, click.Command)
    assert (made.name, made.get_short_help_str()) == ("example", "Short.")


def test_wrong_flags_and_wrong_files_are_said_together(capsys: pytest.CaptureFixture[str]) -> None:
    from extproc.cli.bbr import COMMAND

    with pytest.raises(SystemExit) as left:
        COMMAND.main(["--metrics-port", "x", "--v=-1", "--adapters-file", "/nowhere/at.all"])
    assert left.value.code == 2
    said = capsys.readouterr().err
    assert "--metrics-port:" in said
    assert "--v: expected 0 or more (got '-1')" in said
    assert "--adapters-file: /nowhere/at.all: No such file or directory" in said


@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        ([], "auto"),
        (["--response-metrics"], "on"),
        (["--response-metrics", "--disable-endpoint-subset-filter"], "on"),
        (["--response-metrics=false"], "off"),
        (["--response-metrics=true"], "on"),
        (["--response-metrics=off"], "off"),
        (["--response-metrics=auto"], "auto"),
    ],
)
def test_a_flag_that_was_a_switch_still_is(arguments: list[str], value: str) -> None:
    settings = read(EppSettings, "epp", ["--endpoints", "127.0.0.1:1", *arguments], {})
    assert settings is not None
    assert settings.response_metrics == value


class TestUpstream:
    """Command lines of upstream's, on the real commands."""

    def start(
        self, monkeypatch: pytest.MonkeyPatch, command: str, *arguments: str, event: str = "flag"
    ) -> tuple[ServerSettings, list[str]]:
        """The settings, and what was said at start."""
        seen: list[ServerSettings] = []

        def serve(service: Service) -> int:
            seen.append(service.serving.settings)
            return 0

        monkeypatch.setattr("extproc.cli.servers.serve", serve)
        monkeypatch.setattr("extproc.observability.logs.configure", lambda verbosity: None)
        module = importlib.import_module(f"extproc.cli.{command}")
        with structlog.testing.capture_logs() as logs:
            result = CliRunner().invoke(module.COMMAND, arguments)
        assert result.exit_code == 0, result.output
        return seen[0], [line["warning"] for line in logs if line["event"] == event]

    def test_a_chart_s_router(self, monkeypatch: pytest.MonkeyPatch) -> None:
        settings, warnings = self.start(
            monkeypatch, "bbr", "--streaming", "--v=3", "--secure-serving=false", "--tracing=false", "--zap-encoder=json"
        )
        assert isinstance(settings, BbrSettings)
        assert (settings.streaming, settings.v, settings.secure_serving) == (True, 3, False)
        assert warnings == []

    def test_plugins_may_come_several_times(self, monkeypatch: pytest.MonkeyPatch) -> None:
        first = 'body-field-to-header:m:{"fieldName":"model","headerName":"X-Gateway-Model-Name"}'
        settings, _ = self.start(monkeypatch, "bbr", "--plugin", first, "--plugin", "base-model-to-header:b")
        assert isinstance(settings, BbrSettings)
        assert settings.plugin == (first, "base-model-to-header:b")

    @pytest.mark.parametrize("spelling", [["-v=3"], ["-v", "3"], ["-v3"], ["--v", "3"], ["--zap-log-level=3"]])
    def test_verbosity(self, monkeypatch: pytest.MonkeyPatch, spelling: list[str]) -> None:
        settings, warnings = self.start(monkeypatch, "bbr", *spelling)
        assert settings.v == 3
        assert len(warnings) == (spelling == ["--zap-log-level=3"])

    def test_one_dash_and_the_spelling_before_v1(self, monkeypatch: pytest.MonkeyPatch) -> None:
        settings, warnings = self.start(monkeypatch, "bbr", "-streaming", "-grpcPort", "9", "--grpc-health-port", "8")
        assert isinstance(settings, BbrSettings)
        assert (settings.streaming, settings.grpc_port, settings.grpc_health_port) == (True, 9, 8)
        assert warnings == ["--grpcPort still works: flags have dashes since v1.0; use --grpc-port"]

    def test_a_value_may_look_like_a_flag(self, monkeypatch: pytest.MonkeyPatch) -> None:
        settings, _ = self.start(monkeypatch, "bbr", "--host", "-v", "--v=1")
        assert (settings.host, settings.v) == ("-v", 1)

    def test_a_flag_of_ours_goes_before_its_older_name(self, monkeypatch: pytest.MonkeyPatch) -> None:
        settings, _ = self.start(monkeypatch, "bbr", "--zap-log-level=debug", "--v=1")
        assert settings.v == 1

    def test_a_pickers_flags(self, monkeypatch: pytest.MonkeyPatch) -> None:
        settings, warnings = self.start(
            monkeypatch,
            "epp",
            "--endpoints=127.0.0.1:1",
            "--allow-experimental-plugins",
            "--model-server-metrics-path=/m",
            "--feature-gates=haPopulateNonLeaderDatastore=true",
        )
        assert isinstance(settings, EppSettings)
        assert settings.upstream_parameters == {"metrics-data-source": {"path": "/m"}}
        assert [line.split()[0] for line in warnings] == ["--allow-experimental-plugins", "--model-server-metrics-path"]

    def test_gates_of_what_is_always_on(self, monkeypatch: pytest.MonkeyPatch) -> None:
        gates = "--feature-gates=dataLayer,haPopulateNonLeaderDatastore,prepareDataPlugins=true"
        _, warnings = self.start(monkeypatch, "epp", "--endpoints=127.0.0.1:1", gates, event="config")
        assert warnings == [
            "--feature-gates: dataLayer has no effect, what it stands for is always on",
            "--feature-gates: prepareDataPlugins has no effect, what it stands for is always on",
        ]

    def test_problems_are_said_with_all_others(self) -> None:
        module = importlib.import_module("extproc.cli.bbr")
        result = CliRunner().invoke(module.COMMAND, ["--zap-log-level=x", "--tracin=1", "--config-file=x", "--metrics-port=y"])
        assert result.exit_code == 2
        said = result.stderr
        assert "--zap-log-level: expected debug" in said
        assert "--tracin: unknown flag, did you mean --tracing?" in said
        assert "--config-file: PayloadProcessorConfig is not read; use --plugin" in said
        assert "--metrics-port:" in said

    def test_help_lists_them_at_the_end(self) -> None:
        module = importlib.import_module("extproc.cli.epp")
        text = " ".join(CliRunner().invoke(module.COMMAND, ["--help"]).stdout.split())
        listed = text[text.index("Upstream's flags that are accepted with a warning") :]
        assert "--tracing" in listed
        assert "removed upstream --enable-multi-engine" in listed
        assert "upstream-parameters" not in text


@pytest.mark.parametrize(
    ("command", "argument", "said"),
    [
        (epp.COMMAND, "--endpont=127.0.0.1:1", "--endpont: unknown flag, did you mean --endpoints?"),
        (epp.COMMAND, "--pool-nam=p", "--pool-nam: unknown flag, did you mean --pool-name?"),
        (gateway.COMMAND, "--config-fil=x", "--config-fil: unknown flag, did you mean --config-file?"),
    ],
)
def test_what_a_misspelt_flag_would_have_said_is_not_missed(command: click.Command, argument: str, said: str) -> None:
    told = CliRunner().invoke(command, [argument]).output.splitlines()
    assert [line for line in told if not line.startswith("Try ")] == [f"extproc: {said}"]


def test_one_that_means_nothing_hides_nothing() -> None:
    told = CliRunner().invoke(epp.COMMAND, ["--nothing-like-it"]).output
    assert "--nothing-like-it: unknown flag" in told
    assert "--endpoints: expected at least one endpoint" in told
