"""`extproc top`: pools, endpoints, served entities and rollouts of a running process, live in a terminal."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Final

import click

from extproc.cli.top.keys import pressed
from extproc.cli.top.live import Screen, watch
from extproc.cli.top.page import DEFAULT, Away, MetricsPage, Watcher
from extproc.cli.top.readings import now
from extproc.cli.top.shown import ORDERS, Choice, chosen, document, head, plain, tables

_ROWS: Final = 20
_MISSING: Final = "on a terminal it needs rich, and that is not installed: pip install 'extproc[serving]', or use --once"


@click.command(name="top", short_help="Pools, endpoints, entities and rollouts of a running process, live.")
@click.option(
    "--metrics", envvar="EXTPROC_METRICS", default=DEFAULT, show_default=True, help="The metrics port of the process."
)
@click.option(
    "--token-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File with a bearer token that may read /metrics. [env: EXTPROC_METRICS_TOKEN has the token itself]",
)
@click.option(
    "--interval",
    type=click.FloatRange(0.5, 3600),
    default=2.0,
    show_default=True,
    help="Seconds between two looks.",
    metavar="S",
)
@click.option("--once", is_flag=True, help="Print it once, after two looks. Without a terminal this is what it does.")
@click.option("--json", "as_json", is_flag=True, help="The same as JSON.")
@click.option("--sort", type=click.Choice([*ORDERS]), default="worst", show_default=True, help="Which endpoints come first.")
@click.option(
    "--filter", "text", default="", help="Only what has this in the name of its pool, endpoint or entity.", metavar="TEXT"
)
@click.option(
    "--rows",
    type=click.IntRange(0),
    help="Endpoints that are shown at most; 0: all.  [default: what fits, 20 with --once]",
    metavar="N",
)
@click.help_option("-h", "--help")
def COMMAND(
    metrics: str,
    token_file: Path | None,
    interval: float,
    once: bool,
    as_json: bool,
    sort: str,
    text: str,
    rows: int | None,
) -> None:
    """Show what a gateway, picker or router does now, by its metrics.

    Rates and times are those between two looks. Of endpoints the worst come first: who can't be connected to, who gives no
    fresh metrics, then who has most requests waiting. Keys: q leaves, s sorts by another column, / takes a filter (Enter keeps
    it, Escape drops it). When the process is away, the last that was seen stays, with its age, until it is back.
    """
    page = _page(metrics, token_file)
    choice = Choice(sort, text, _ROWS if rows is None else rows)
    if once or as_json or not sys.stdout.isatty():
        _printed(page, choice, interval, as_json=as_json)
        return
    try:
        from rich.console import Console
    except ModuleNotFoundError:
        raise click.ClickException(_MISSING) from None
    screen = Screen(choice._replace(rows=rows or 0), page.url)
    watcher = Watcher(page, interval)
    try:
        with watcher.watching(), pressed() as keys:
            watch(screen, lambda: watcher.seen, keys, Console())
    except KeyboardInterrupt:
        return


def _page(url: str, token_file: Path | None) -> MetricsPage:
    try:
        token = os.environ.get("EXTPROC_METRICS_TOKEN") if token_file is None else token_file.read_text("ascii").strip()
    except (OSError, UnicodeError):
        raise click.UsageError(f"--token-file: {token_file} is no file with a token") from None
    try:
        return MetricsPage(url, token or None)
    except ValueError as error:
        raise click.UsageError(f"--metrics: {error}") from None


def _printed(page: MetricsPage, choice: Choice, interval_s: float, *, as_json: bool) -> None:
    try:
        before = page.read()
        time.sleep(interval_s)
        shown, more = chosen(now(page.read(), before), choice)
    except Away as error:
        raise click.ClickException(f"{error}; expected the metrics port of an extproc there, --metrics-port") from None
    if as_json:
        click.echo(json.dumps(document(shown, more, page.url), indent=2))
    else:
        click.echo("\n".join([head(shown.process), *plain(tables(shown, more))]))
