"""Who we are to the API server: a kubeconfig's context, or the pod's service account.

A service account is four things that every pod has, and is read here. kubernetes-asyncio reads kubeconfigs, with client
certificates, tokens, exec plugins and OIDC; its import costs 0.2 s and 34 MiB, which a pod need not pay.
"""

from __future__ import annotations

import abc
import contextlib
import os
import ssl
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from extproc.kubernetes.errors import KubeConfigError

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
DEFAULT_NAMESPACE: Final = "default"
TOKEN_HOLDS_S: Final = 60.0
"""How long a service account's token is used before its file is read again, as client-go does: the kubelet renews it there."""

_MISSING_EXTRA: Final = "Kubernetes is asked for, and kubernetes-asyncio is not installed: pip install 'extproc[kubernetes]'"
_NOWHERE: Final = (
    "no access to Kubernetes: not in a cluster (no service account's token), and neither --kubeconfig, KUBECONFIG nor "
    "~/.kube/config names a kubeconfig"
)


class Credentials(abc.ABC):
    """Where the API server is and how to be let in."""

    host: str
    """Its URL, without a slash at the end."""
    namespace: str
    """Of the context or the service account, else "default"."""
    source: str
    """For people: the kubeconfig's path, or "service account"."""
    proxy: str | None = None
    server_hostname: str | None = None

    def __repr__(self) -> str:
        return f"<Credentials {self.host} by {self.source}>"

    def tls(self) -> ssl.SSLContext | bool:
        """For aiohttp. Raises KubeConfigError for files that are no certificates."""
        if not self.host.startswith("https:"):
            return True
        try:
            context = self._context()
        except (OSError, ssl.SSLError) as error:
            raise KubeConfigError(f"{self.source}: certificates can't be read: {error}") from None
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # clusters' own CAs often lack an Authority Key Identifier
        return context

    @abc.abstractmethod
    async def authorization(self) -> str | None:
        """The header's value now, None when a client certificate is all there is. Renews tokens that expire."""

    @abc.abstractmethod
    def _context(self) -> ssl.SSLContext:
        """Raises OSError, ssl.SSLError."""


class ServiceAccount(Credentials):
    """A pod's: the API server by its environment, token, CA and namespace from the folder that the kubelet keeps."""

    source = "service account"

    def __init__(self, folder: Path, environ: Mapping[str, str], *, clock: Callable[[], float] = time.monotonic) -> None:
        """Raises KubeConfigError for what is missing."""
        host, port = (environ.get(f"KUBERNETES_SERVICE_{part}", "") for part in ("HOST", "PORT"))
        if not host or not port:
            raise KubeConfigError("service account: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are expected, both")
        self.host = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
        self._folder = folder
        self._clock = clock
        try:
            self._token = self._read("token")
            self._read("ca.crt")
        except (OSError, ValueError) as error:
            raise KubeConfigError(f"service account: {error}") from None
        self._read_at_s = clock()
        try:
            self.namespace = self._read("namespace")
        except (OSError, ValueError):
            self.namespace = DEFAULT_NAMESPACE

    async def authorization(self) -> str:
        if self._clock() - self._read_at_s >= TOKEN_HOLDS_S:
            self._read_at_s = self._clock()
            with contextlib.suppress(OSError, ValueError):  # the last one may still be good; if it is not, a 401 says so
                self._token = self._read("token")
        return f"Bearer {self._token}"

    def _context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self._folder / "ca.crt"))

    def _read(self, name: str) -> str:
        """Raises OSError, and ValueError for an empty file or one that is no text."""
        text = (self._folder / name).read_text().strip()
        if not text:
            raise ValueError(f"{self._folder / name} is empty")
        return text


class Kubeconfig(Credentials):
    """A context of a kubeconfig, as kubernetes-asyncio has read it."""

    def __init__(self, configuration: Any, loader: Any, namespace: str, path: str) -> None:
        self._configuration = configuration
        self._loader = loader
        self.namespace = namespace
        self.source = path
        self.host = configuration.host.rstrip("/")
        self.proxy = configuration.proxy
        self.server_hostname = configuration.tls_server_name

    async def authorization(self) -> str | None:
        if getattr(self._loader, "exec_plugin_expiry", None) is not None:
            await self._loader.load_from_exec_plugin()  # does nothing until the token is about to expire
            self._configuration.api_key["BearerToken"] = self._loader.token
        if "BearerToken" not in self._configuration.api_key:
            return None
        value = await self._configuration.get_api_key_with_prefix("BearerToken")
        return str(value).strip()  # a token's file ends with a newline

    def _context(self) -> ssl.SSLContext:
        configuration = self._configuration
        context = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
        if configuration.cert_file:
            context.load_cert_chain(configuration.cert_file, configuration.key_file)
        if not configuration.verify_ssl:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


async def load_credentials(
    kubeconfig: str | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    service_account: Path = SERVICE_ACCOUNT,
    home: Path | None = None,
) -> Credentials:
    """From `kubeconfig`, else KUBECONFIG, else the service account, else ~/.kube/config. Raises KubeConfigError.

    Nothing is asked of the API server, so this works while it is away.
    """
    environ = os.environ if environ is None else environ
    path = kubeconfig or environ.get("KUBECONFIG") or None
    if path is None and environ.get("KUBERNETES_SERVICE_HOST") and (service_account / "token").exists():
        return ServiceAccount(service_account, environ)
    if path is None:
        default = (home or Path.home()) / ".kube" / "config"
        if not default.exists():
            raise KubeConfigError(_NOWHERE)
        path = str(default)
    return await _from_kubeconfig(path, named=kubeconfig is not None)


async def _from_kubeconfig(path: str, *, named: bool) -> Credentials:
    try:
        from kubernetes_asyncio import config as kube
        from kubernetes_asyncio.client import Configuration
    except ImportError as error:
        raise KubeConfigError(_MISSING_EXTRA) from error
    configuration = _blank(Configuration)
    label = f"--kubeconfig: {path}" if named else f"kubeconfig {path}"
    if not _exists(path):
        raise KubeConfigError(f"{label}: no such file")
    try:
        loader = await kube.load_kube_config(path, client_configuration=configuration, persist_config=False)
        context = loader.current_context["context"]
        namespace = context.get("namespace") or DEFAULT_NAMESPACE
    except OSError as error:
        raise KubeConfigError(f"{label}: {error.strerror or error}") from None
    except yaml.YAMLError:
        raise KubeConfigError(f"{label}: not valid YAML") from None
    except Exception as error:  # it raises nearly anything for a file with the wrong shape
        raise KubeConfigError(f"{label}: {' '.join(str(error).split()) or type(error).__name__}") from None
    if not configuration.host.startswith(("http://", "https://")):
        raise KubeConfigError(f"{label}: expected the cluster's server as a URL (got {configuration.host!r})")
    return Kubeconfig(configuration, loader, str(namespace), path)


def _exists(path: str) -> bool:
    """KUBECONFIG may be several files, of which some may be missing."""
    return any(Path(part).expanduser().exists() for part in path.split(os.pathsep) if part)


def _blank(configuration: Any) -> Any:
    """One that shares nothing with others, and does not take a host from a default."""
    made = configuration()
    made.api_key = {}
    made.host = ""
    return made
