"""`extproc import`: objects of KServe or Istio as serving endpoints."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import click

from extproc.cli.api_client import api_of, api_options
from extproc.cli.objects import endpoints_text, objects_of, tell
from extproc.control.exchange import KEY
from extproc.interop import Endpoint, Losses, document_of, of_istio, of_kserve
from extproc.settings.base import SettingsError

Importer = Callable[[Iterable[tuple[object, str]], Losses], list[Endpoint]]
_KINDS: Final[dict[str, Importer]] = {"istio": of_istio, "kserve": of_kserve}


@click.command(name="import", short_help="Objects of KServe or Istio as serving endpoints.")
@click.argument("kind", type=click.Choice(list(_KINDS)))
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--apply", "applies", is_flag=True, help="Create or change the endpoints over the API.")
@click.option("--dry-run", is_flag=True, help="With --apply: say what it would do, and change nothing.")
@click.option("--reason", default="", help="Why, for the history.", metavar="TEXT")
@api_options
@click.help_option("-h", "--help")
def COMMAND(
    kind: str, files: tuple[str, ...], applies: bool, dry_run: bool, reason: str, api: str, token_file: Path | None
) -> None:
    """Print the serving endpoints that these objects are, as YAML that the gateway's files and its API take.

    istio: VirtualServices with their DestinationRules; kserve: InferenceServices and LLMInferenceServices. A file may
    have several objects, and Lists of them; - is standard input. What could not be taken is listed on standard error, and in
    comments above. Exit code 0: all is taken; 1: something is left out; 2: nothing is printed or changed.
    """
    if dry_run and not applies:
        raise click.UsageError("--dry-run: there is nothing to try without --apply")
    losses = Losses()
    found = objects_of(files)
    try:
        documents = [document_of(each) for each in _KINDS[kind](found.numbered(), losses)]
    except SettingsError as error:
        raise click.UsageError("\n".join(found.located(error.problems))) from None
    losses.left_out[:] = found.located(losses.left_out)
    losses.remarks[:] = found.located(losses.remarks)
    click.echo(endpoints_text(documents, f"by extproc import {kind}", losses), nl=False)
    if applies:
        client = api_of(api, token_file, os.environ)
        done = client.collection("POST", ":import", {KEY: documents}, dry_run=dry_run, reason=reason)
        for effect in done["effects"]:
            about = f"of 10,000 users about {effect['buckets_moved']:,} get another entity"
            click.echo(f"{effect['endpoint']}: {'would be' if dry_run else 'is'} in force; {about}", err=True)
    raise SystemExit(tell(losses))
