"""`extproc render`: a serving endpoint as objects of KServe, Istio or the Gateway API."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import click

from extproc.cli.api_client import api_of, api_options
from extproc.cli.objects import documents_of, print_objects, tell
from extproc.control.exchange import KEY
from extproc.interop import (
    Endpoint,
    Losses,
    Placing,
    http_routes,
    inference_services,
    knative_services,
    llm_services,
    read_endpoint,
    virtual_service,
)
from extproc.interop.naming import Backend
from extproc.settings.base import SettingsError, shown

Renderer = Callable[[Endpoint, Placing, Losses], list[dict[str, Any]]]

_KSERVE: Final[dict[str, Renderer]] = {
    "standard": inference_services,
    "serverless": knative_services,
    "llm": llm_services,
}
_KINDS: Final = ("kserve", "istio", "gateway-api")


def _backend(text: str) -> tuple[str, Backend]:
    entity, equals, place = text.partition("=")
    name, colon, port = place.rpartition(":") if ":" in place else (place, "", "")
    number = int(port) if colon and port.isascii() and port.isdigit() and len(port) < 6 else None
    if not (entity and equals and name) or (colon and (number is None or not 1 <= number <= 65535)):
        raise click.UsageError(f"--backend: got {text[:100]!r}; expected ENTITY=NAME or ENTITY=NAME:PORT")
    return entity, Backend(name, number)


def _found(name: str, file: str | None, api: str, token_file: Path | None) -> object:
    """The endpoint's document, of a file or of the API."""
    if file is None:
        documents: Sequence[object] = api_of(api, token_file, os.environ).collection("GET", ":export")[KEY]
        where = api
    else:
        documents, where = documents_of(file), file
    for document in documents:
        if isinstance(document, dict) and document.get("name") == name:
            return document
    names = [str(each["name"]) for each in documents if isinstance(each, dict) and "name" in each]
    raise click.UsageError(f"{where}: has no serving endpoint {shown(name)}; it has {', '.join(names[:20]) or 'none'}")


@click.command(name="render", short_help="A serving endpoint as objects of KServe, Istio or the Gateway API.")
@click.argument("kind", type=click.Choice(_KINDS))
@click.argument("name")
@click.option("--file", metavar="PATH", help="A file or folder with serving endpoints, - for standard input. [the API]")
@click.option("--mode", type=click.Choice(list(_KSERVE)), default="standard", show_default=True, help="KServe: which objects.")
@click.option("--namespace", default="", help="Of the objects.")
@click.option("--host", default="", help="Istio, Gateway API: the host that clients ask for. [Istio: the endpoint's name]")
@click.option(
    "--gateway", "gateways", multiple=True, metavar="[NAMESPACE/]NAME", help="Istio, Gateway API: whose routes they are."
)
@click.option(
    "--backend",
    "backends",
    multiple=True,
    metavar="ENTITY=NAME[:PORT]",
    help="An entity's Service, or InferencePool.",
)
@click.option("--storage", default=Placing().storage, show_default=True, help="KServe: where a model is.")
@click.option("--model-format", default=Placing().model_format, show_default=True, help="KServe: the models' format.")
@api_options
@click.help_option("-h", "--help")
def COMMAND(
    kind: str,
    name: str,
    file: str | None,
    mode: str,
    namespace: str,
    host: str,
    gateways: tuple[str, ...],
    backends: tuple[str, ...],
    storage: str,
    model_format: str,
    api: str,
    token_file: Path | None,
) -> None:
    """Print the objects that say what the serving endpoint NAME does, as far as they can, as YAML.

    What they can't say is listed on standard error, and in comments above the objects. Exit code 0: all is said; 1: something
    is left out; 2: nothing is printed.
    """
    placing = Placing(namespace, host, gateways, dict(map(_backend, backends)), storage, model_format)
    losses = Losses()
    try:
        endpoint = read_endpoint(_found(name, file, api, token_file), losses)
        unknown = sorted(placing.backends.keys() - {each.name for each in endpoint.entities})
        if unknown:
            raise click.UsageError(f"--backend: {shown(unknown[0])} is no served entity of {name}")
        renderers: dict[str, Renderer] = {"kserve": _KSERVE[mode], "istio": virtual_service, "gateway-api": http_routes}
        objects = renderers[kind](endpoint, placing, losses)
    except SettingsError as error:
        raise click.UsageError("\n".join(error.problems)) from None
    print_objects(objects, f"{name}, by extproc render {kind}", losses)
    raise SystemExit(tell(losses))
