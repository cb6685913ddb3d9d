"""`extproc split`: changes the split of a serving endpoint, after it has looked whether that goes well."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from extproc.cli.api_client import api_of, api_options
from extproc.settings.base import parse_duration_s


class _Duration(click.ParamType[float]):
    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return parse_duration_s(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command(name="split", short_help="Change the split of a serving endpoint.")
@click.argument("name")
@click.argument("shares", nargs=-1, required=True, metavar="ENTITY=PERCENT...")
@click.option("--dry-run", is_flag=True, help="Say what it would do, and change nothing.")
@click.option("--force", is_flag=True, help="Past the guards for capacity and bake time.")
@click.option(
    "--bake", type=_Duration(), help="Time between two large changes.  [default: that of the endpoint's plan, else 10m]"
)
@click.option("--reason", default="", help="Why, for the history.", metavar="TEXT")
@api_options
@click.help_option("-h", "--help")
def COMMAND(
    name: str,
    shares: tuple[str, ...],
    dry_run: bool,
    force: bool,
    bake: float | None,
    reason: str,
    api: str,
    token_file: Path | None,
) -> None:
    """Give the served entities of the serving endpoint NAME these shares, 100 in all, as in current=90 challenger=10.

    A change that puts clearly more on a pool than its neighbours carry is refused, and a large one (25 % or more) soon after
    another large one, unless forced. Who has a key and need not move stays where he is.
    """
    client = api_of(api, token_file, os.environ)
    routes = [{"served_entity_name": entity, "traffic_percentage": share} for entity, share in shares_of(shares).items()]
    change = {"traffic_config": {"routes": routes}}
    guards = {"guard": True, "bake": None if bake is None else f"{bake:g}s", "force": force}
    tried = client.call("PUT", name, "/config", change, dry_run=True, **guards)
    version = tried["endpoint"]["config"]["config_version"] - 1
    for effect in tried["effects"]:
        _tell(effect)
    if all(effect["buckets_before"] == effect["buckets_after"] for effect in tried["effects"]):
        click.echo(f"{name}: the split is so already")
        return
    problems = tried.get("guards", ["the gateway is of a release without guards"])
    for problem in problems:
        click.echo(f"{'forced' if force else 'refused'}: {problem}", err=True)
    if problems and not force:
        raise click.ClickException("nothing was changed; --force does it all the same")
    if not dry_run:
        done = client.call("PUT", name, "/config", {**change, "config_version": version, "reason": reason}, **guards)
        click.echo(f"{name}: config version {done['config']['config_version']}")


def shares_of(given: tuple[str, ...]) -> dict[str, int]:
    """Raises click.UsageError."""
    found: dict[str, int] = {}
    for word in given:
        entity, equals, share = word.partition("=")
        if not entity or not equals:
            raise click.UsageError(f"got {word[:100]!r}; expected ENTITY=PERCENT, such as challenger=10")
        if not (share.isascii() and share.isdigit() and int(share[:4]) <= 100):
            raise click.UsageError(f"{entity[:100]}: got {share[:100]!r}; expected a whole number from 0 to 100, without %")
        if entity in found:
            raise click.UsageError(f"{entity[:100]}: is given twice; expected each entity once")
        found[entity] = int(share)
    if sum(found.values()) != 100:
        raise click.UsageError(f"the shares add up to {sum(found.values())}; expected 100: who is not named gets nothing")
    return found


def _tell(effect: Mapping[str, Any]) -> None:
    before, after = effect["buckets_before"], effect["buckets_after"]
    for entity in dict.fromkeys([*before, *after]):
        click.echo(f"{entity}: {before.get(entity, 0) / 100:g} % to {after.get(entity, 0) / 100:g} %")
    click.echo(f"of 10,000 users about {effect['buckets_moved']:,} get another entity")
    for pool, each in effect["pools"].items():
        load = ", ".join(f"{key} {value:g}" for key, value in each["load"].items()) or "not measured"
        beside = each.get("beside")  # none from a gateway of an older release
        name = f"pools {', '.join([pool, *beside])}" if beside else f"pool {pool}"
        click.echo(f"{name}: {each['before']} % to {each['after']} % ({load})")
