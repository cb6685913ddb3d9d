"""`extproc rollout`: begins a rollout of a serving endpoint, steers it and shows it."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any, Final

import click

from extproc.cli.api_client import api_of, api_options
from extproc.cli.objects import data_of
from extproc.cli.rollout_view import Show, lines, showing
from extproc.settings.base import SettingsError
from extproc.settings.document import load_document
from extproc.settings.serving.fields import kind_of

ACTIONS: Final = ("start", "status", "promote", "pause", "resume", "abort", "undo")
_OVER: Final = ("Healthy", "Degraded", "Undone")
_EVERY_S: Final = 1.0


@click.command(name="rollout", short_help="Let one served entity take over from another, step by step.")
@click.argument("action", type=click.Choice(ACTIONS))
@click.argument("name")
@click.option(
    "--plan",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="start: file (YAML or JSON) with the plan.  [default: the endpoint's own]",
    metavar="FILE",
)
@click.option("--full", is_flag=True, help="promote: to the end at once, past all steps and metrics.")
@click.option("--force", is_flag=True, help="start, resume: past the guards for capacity and bake time.")
@click.option("--dry-run", is_flag=True, help="start: say whether it could begin, and change nothing.")
@click.option(
    "--watch", is_flag=True, help="Show it until it is over; exit code 1 when it was rolled back, 2 when it was refused."
)
@click.option("--json", "as_json", is_flag=True, help="Print what the API answers.")
@api_options
@click.help_option("-h", "--help")
def COMMAND(
    action: str,
    name: str,
    plan: Path | None,
    full: bool,
    force: bool,
    dry_run: bool,
    watch: bool,
    as_json: bool,
    api: str,
    token_file: Path | None,
) -> None:
    """Do ACTION with the rollout of the serving endpoint NAME.

    start begins one by a plan: which entity takes over from which, in which steps, watched by which metrics. promote goes past
    a pause, or to the end with --full; undo takes back what was promoted. docs/rollouts.md has plans, and what metrics say.
    """
    _check(action, plan=plan is not None, full=full, force=force, dry_run=dry_run)
    client = api_of(api, token_file, os.environ)
    if action == "start":
        found = client.call("POST", name, "/rollouts", _read(plan), force=force, dry_run=dry_run)
    elif action == "status":
        found = client.call("GET", name, "/rollouts")
    else:
        found = client.call("POST", name, f"/rollouts/{action}", {}, full=full, force=force)
    if not watch:
        click.echo(json.dumps(found, indent=2) if as_json else "\n".join(lines(found)))
        return
    with showing() as show:
        found = _watched(found, lambda: client.call("GET", name, "/rollouts"), show)
    raise SystemExit(1 if found["phase"] == "Degraded" else 0)


def _check(action: str, **given: bool) -> None:
    belongs = {"plan": ("start",), "full": ("promote",), "force": ("start", "resume"), "dry_run": ("start",)}
    for option, actions in belongs.items():
        if given[option] and action not in actions:
            raise click.UsageError(f"--{option.replace('_', '-')} belongs to {' and '.join(actions)}, not to {action}")


def _read(plan: Path | None) -> dict[str, Any]:
    """The plan of the file, {} without one. Raises click.UsageError."""
    if plan is None:
        return {}
    try:
        document = load_document(data_of(str(plan))).value
    except SettingsError as error:
        raise click.UsageError("\n".join(f"{plan}: {problem}" for problem in error.problems)) from None
    if isinstance(document, dict) and set(document) == {"rollout"}:
        document = document["rollout"]
    if not isinstance(document, dict) or not document:
        raise click.UsageError(f"{plan}: got {kind_of(document)}; expected a plan, an object with baseline, canary and steps")
    return document


def _watched(found: Any, look: Any, show: Show) -> Any:
    """Until it is over, or somebody presses Ctrl-C, which ends the watching and not the rollout."""
    while True:
        show.see(found)
        if found["phase"] in _OVER:
            return found
        time.sleep(_EVERY_S)
        found = look()
