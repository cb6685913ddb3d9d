"""From settings to what the desk and its feeders are made of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from extproc.app.cluster import Cluster
from extproc.app.component import Component
from extproc.app.endpoints.files import EndpointsFile
from extproc.app.watching import FileErrors
from extproc.control.desk import Desk
from extproc.control.effects import LoadOf
from extproc.control.sealing import FernetSeal, NoSeal, Seal, SealError
from extproc.files.problems import Unusable
from extproc.files.read import read_file
from extproc.pool import PoolStore
from extproc.secrets import ClusterSource, EnvironmentSource, FolderSource, SecretStore, Source
from extproc.settings.base import SettingsError
from extproc.settings.endpoints import ExternalSettings


def endpoint_feeders(desk: Desk, config_file: str, endpoints_file: str | None, files: FileErrors) -> list[Component]:
    """What the gateway's file declares, and the file or folder that it names. Raises SettingsError.

    The latter is named as the former names it, so that replicas agree on whose an endpoint is, wherever their files lie.
    """
    feeders: list[Component] = [EndpointsFile(config_file, f"file:{Path(config_file).name}", desk, files, in_gateway_file=True)]
    if endpoints_file is not None:
        path = str(Path(config_file).parent / endpoints_file)
        feeders.append(EndpointsFile(path, f"file:{endpoints_file}", desk, files))
    return feeders


def read_seal(path: str | None) -> Seal:
    """The seal of `--plaintext-key-file`, None: there is no such file. Raises SettingsError."""
    if path is None:
        return NoSeal()
    try:
        keys = read_file(path).decode("ascii", "replace").split()
    except Unusable as error:
        raise SettingsError([f"--plaintext-key-file: {problem}" for problem in error.problems]) from None
    try:
        return FernetSeal(keys)
    except SealError as error:
        raise SettingsError([f"--plaintext-key-file: {path}: {error}"]) from None


def secret_store(settings: ExternalSettings, cluster: Cluster | None, environ: Mapping[str, str]) -> SecretStore:
    """Where `{{secrets/scope/key}}` is looked for, in this order: the folder, Secrets of Kubernetes, variables."""
    sources: list[Source] = []
    if settings.secrets_dir is not None:
        sources.append(FolderSource(settings.secrets_dir))
    if settings.secrets_namespace is not None and cluster is not None:
        sources.append(ClusterSource(cluster.client, settings.secrets_namespace))
    return SecretStore([*sources, EnvironmentSource(environ)])


def load_of(store: PoolStore | None) -> LoadOf:
    """How busy a pool is, for who wants to give it more: added up over the endpoints of which something is known."""
    if store is None:
        return {}
    views = list(store.views())
    loads = {"endpoints": float(len(views)), "in_flight": float(sum(view.in_flight for view in views))}
    fresh = [view.load for view in views if view.fresh]
    for name, values in (("waiting", [load.waiting for load in fresh]), ("running", [load.running for load in fresh])):
        known = [value for value in values if value is not None]
        if known:
            loads[name] = float(sum(known))
    return loads
