"""Who we are to the API server: a kubeconfig's context, or the pod's service account.

kubernetes-asyncio reads both, with client certificates, tokens, exec plugins and OIDC.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from extproc.kubernetes.errors import KubeConfigError

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
DEFAULT_NAMESPACE: Final = "default"

_MISSING_EXTRA: Final = "Kubernetes is asked for, and kubernetes-asyncio is not installed: pip install 'extproc[kubernetes]'"
_NOWHERE: Final = (
    "no access to Kubernetes: not in a cluster (no service account's token), and neither --kubeconfig, KUBECONFIG nor "
    "~/.kube/config names a kubeconfig"
)


class Credentials:
    """Where the API server is and how to be let in. `authorization` renews tokens that expire."""

    def __init__(self, configuration: Any, loader: Any, namespace: str, source: str) -> None:
        self._configuration = configuration
        self._loader = loader
        self.namespace = namespace
        """Of the context or the service account, else "default"."""
        self.source = source
        """For people: the kubeconfig's path, or "service account"."""
        self.host: str = configuration.host.rstrip("/")
        self.proxy: str | None = configuration.proxy
        self.server_hostname: str | None = configuration.tls_server_name

    def __repr__(self) -> str:
        return f"<Credentials {self.host} by {self.source}>"

    def tls(self) -> ssl.SSLContext | bool:
        """For aiohttp. Raises KubeConfigError for files that are no certificates."""
        if not self.host.startswith("https:"):
            return True
        configuration = self._configuration
        try:
            context = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
            if configuration.cert_file:
                context.load_cert_chain(configuration.cert_file, configuration.key_file)
        except (OSError, ssl.SSLError) as error:
            raise KubeConfigError(f"{self.source}: certificates can't be read: {error}") from None
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # clusters' own CAs often lack an Authority Key Identifier
        if not configuration.verify_ssl:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    async def authorization(self) -> str | None:
        """The header's value now, None when a client certificate is all there is."""
        if self._loader is not None and getattr(self._loader, "exec_plugin_expiry", None) is not None:
            await self._loader.load_from_exec_plugin()  # does nothing until the token is about to expire
            self._configuration.api_key["BearerToken"] = self._loader.token
        if "BearerToken" not in self._configuration.api_key:
            return None
        value = await self._configuration.get_api_key_with_prefix("BearerToken")
        return str(value).strip()  # a token's file ends with a newline


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
    try:
        from kubernetes_asyncio import config as kube
        from kubernetes_asyncio.client import Configuration
        from kubernetes_asyncio.config.incluster_config import InClusterConfigLoader
    except ImportError as error:
        raise KubeConfigError(_MISSING_EXTRA) from error
    path = kubeconfig or environ.get("KUBECONFIG") or None
    if path is None and environ.get("KUBERNETES_SERVICE_HOST") and (service_account / "token").exists():
        loader = InClusterConfigLoader(str(service_account / "token"), str(service_account / "ca.crt"), environ=dict(environ))
        configuration = _blank(Configuration)
        try:
            loader.load_and_set(configuration)
        except (kube.ConfigException, OSError) as error:
            raise KubeConfigError(f"service account: {error}") from None
        return Credentials(configuration, None, _namespace_of(service_account), "service account")
    if path is None:
        default = (home or Path.home()) / ".kube" / "config"
        if not default.exists():
            raise KubeConfigError(_NOWHERE)
        path = str(default)
    return await _from_kubeconfig(path, kube, _blank(Configuration), named=kubeconfig is not None)


async def _from_kubeconfig(path: str, kube: Any, configuration: Any, *, named: bool) -> Credentials:
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
    return Credentials(configuration, loader, str(namespace), path)


def _exists(path: str) -> bool:
    """KUBECONFIG may be several files, of which some may be missing."""
    return any(Path(part).expanduser().exists() for part in path.split(os.pathsep) if part)


def _blank(configuration: Any) -> Any:
    """One that shares nothing with others, and does not take a host from a default."""
    made = configuration()
    made.api_key = {}
    made.host = ""
    return made


def _namespace_of(service_account: Path) -> str:
    try:
        return (service_account / "namespace").read_text().strip() or DEFAULT_NAMESPACE
    except OSError:
        return DEFAULT_NAMESPACE
