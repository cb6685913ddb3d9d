"""`extproc new-plugin`: a package with a plugin that works, to begin with."""

from __future__ import annotations

import keyword
from pathlib import Path

import click

from extproc.app.own_plugins import is_ours
from extproc.cli.skeleton import NAME, ROLES, skeleton


@click.command(name="new-plugin", short_help="A package with a plugin of your own, to begin with.")
@click.argument("name")
@click.option("--role", type=click.Choice(ROLES), default=ROLES[0], help="What it is.")
@click.option(
    "--into",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    help="Where the new folder is put.",
    metavar="DIR",
)
@click.help_option("-h", "--help")
def COMMAND(name: str, role: str, into: Path) -> None:
    """Write a package with a plugin, its test and a config that uses it into a new folder called NAME, which is also its type's
    name in configs: small letters, digits and dashes. What is there already is never written over.

    docs/own-plugins.md tells what to do with it.
    """
    if not NAME.fullmatch(name):
        raise click.BadParameter(
            f"expected small letters, digits and dashes, such as rack-scorer (got {name!r})", param_hint="NAME"
        )
    if is_ours(name):
        raise click.BadParameter(f"{name} is a type that comes with extproc; expected another name", param_hint="NAME")
    if keyword.iskeyword(name) or name in ("extproc", "test", "pytest"):
        raise click.BadParameter(f"{name} can't be the name of a module; expected another one", param_hint="NAME")
    folder = into / name
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise click.UsageError(f"{folder} is there already; expected a folder that is new") from None
    except OSError as error:
        raise click.UsageError(f"{folder}: {error.strerror or error}") from None
    for file, text in skeleton(name, role).items():
        (folder / file).write_text(text)
        click.echo(folder / file)
    click.echo(f"\nNext: cd {folder} && pip install -e '.[dev]' && pytest && extproc check picker.yaml")
