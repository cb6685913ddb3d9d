"""A Kubernetes cluster as far as its API goes: a real etcd and a real kube-apiserver, RBAC on.

There are no nodes, no scheduler and no controllers: a pod is an object whose status the test writes, a namespace that is
deleted stays Terminating, and nobody makes pods of a Deployment.
"""

from __future__ import annotations

import http.client
import json
import secrets
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from extproc.demo.ports import free_ports
from extproc.demo.processes import Child
from tests.e2e.parts import until
from tests.fakes.certificates import RSA, Authority
from tests.k8s.api import Api, Object, Refused, documents, kubeconfig

ROOT: Final = Path(__file__).parents[2]
BIN: Final = ROOT / ".cache" / "bin"
CRDS: Final = (Path(__file__).parent / "crds", ROOT / ".cache" / "crds")
PEER_CRDS: Final = ROOT / ".cache" / "crds" / "peers"
"""Of KServe and Istio: large, so only the tests that need them put them into the cluster."""
NEEDED: Final = ("etcd", "kube-apiserver", "kubectl", "helm", "charts")
ADMIN: Final = "admin-" + secrets.token_hex(8)
GONE: Final = (OSError, http.client.HTTPException)
"""What a request to a dead API server raises."""
_STARTS_WITHIN_S: Final = 90.0


class Cluster:
    """etcd and kube-apiserver on free ports, their files in `directory`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        client, peer, self.port = free_ports(3)
        self.url = f"https://127.0.0.1:{self.port}"
        self._etcd_url = f"http://127.0.0.1:{client}"
        authority = Authority("cluster")
        self.ca_file = directory / "ca.crt"
        self.ca_file.write_bytes(authority.pem)
        authority.issue("kubernetes").write(directory)
        self.admin_config = self.write_kubeconfig("admin", ADMIN)
        self.etcd = Child("etcd", [str(BIN / "etcd"), *_etcd_flags(directory, self._etcd_url, peer)], directory)
        self.server = Child("kube-apiserver", [str(BIN / "kube-apiserver"), *self._server_flags()], directory)
        self.admin = Api(self.url, str(self.ca_file), ADMIN)
        self._namespaces = count(1)

    def __repr__(self) -> str:
        return f"<Cluster {self.url} {self.server!r}>"

    def start(self) -> None:
        self.etcd.start()
        self.start_server()
        self.install_crds(_crds())

    def install_crds(self, crds: Sequence[Object]) -> None:
        """And wait until the API server serves them."""
        with ThreadPoolExecutor(8) as pool:
            installed = list(pool.map(self._install_crd, crds))
        for name in installed:
            until(lambda name=name: self._established(name), within_s=30, what=f"the CRD {name} is there")  # type: ignore[misc]

    def stop(self) -> None:
        self.server.kill()  # it would first wait for whoever watches
        self.etcd.kill()
        self.admin.close()

    def start_server(self) -> None:
        """Start the API server and wait until it is ready."""
        self.server.start()
        until(self._ready, within_s=_STARTS_WITHIN_S, what=f"kube-apiserver is ready\n{self.server.tail()}")

    def kill_server(self) -> None:
        """kill -9: every watch ends, and nobody answers on its port."""
        self.server.kill()

    def restart_server(self) -> None:
        """kill -9 and start on the same port: what etcd has is still there, and the history of events is not."""
        self.kill_server()
        self.start_server()

    def compact(self) -> int:
        """Have etcd forget every revision but the present one. Returns it."""
        revision = int(self._ask_etcd("/v3/kv/range", {"key": "AA=="})["header"]["revision"])
        self._ask_etcd("/v3/kv/compaction", {"revision": revision, "physical": True})
        return revision

    def namespace(self, prefix: str = "test") -> str:
        """A new namespace, with the account that a controller would make in it."""
        name = f"{prefix}-{next(self._namespaces)}"
        self.admin.create("/api/v1/namespaces", {"metadata": {"name": name}})
        self.admin.create(f"/api/v1/namespaces/{name}/serviceaccounts", {"metadata": {"name": "default"}})
        return name

    def service_account_token(self, namespace: str, name: str) -> str:
        """A token of an existing ServiceAccount, as the kubelet would get it."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
        asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
        return str(self.admin.create(path, asked)["status"]["token"])

    def write_kubeconfig(self, name: str, token: str, namespace: str = "default", *, url: str | None = None) -> Path:
        """`url`: another way to the API server than its own port."""
        path = self.directory / f"{name}.kubeconfig"
        path.write_text(kubeconfig(url or self.url, str(self.ca_file), token, namespace))
        path.chmod(0o600)
        return path

    def resources(self) -> dict[tuple[str, str], tuple[str, bool]]:
        """What objects there are: (apiVersion, kind) to the resource's name and whether it has a namespace."""
        groups = self.admin.get("/apis")["groups"]
        versions = {f"/apis/{version['groupVersion']}" for group in groups for version in group["versions"]} | {"/api/v1"}
        found = {}
        for path in sorted(versions):
            page = self.admin.get(path)
            for resource in page["resources"]:
                if "/" not in resource["name"]:
                    found[page["groupVersion"], resource["kind"]] = (resource["name"], bool(resource["namespaced"]))
        return found

    def _server_flags(self) -> list[str]:
        keys = {"key": RSA.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())}
        keys["pub"] = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        for suffix, pem in keys.items():
            (self.directory / f"service-accounts.{suffix}").write_bytes(pem)
        tokens = self.directory / "tokens.csv"
        tokens.write_text(f'{ADMIN},admin,admin,"system:masters"\n')
        flags = {
            "etcd-servers": self._etcd_url,
            "bind-address": "127.0.0.1",
            "secure-port": self.port,
            "tls-cert-file": self.directory / "tls.crt",
            "tls-private-key-file": self.directory / "tls.key",
            "token-auth-file": tokens,
            "authorization-mode": "Node,RBAC",
            "service-account-issuer": "https://kubernetes.default.svc.cluster.local",
            "service-account-key-file": self.directory / "service-accounts.pub",
            "service-account-signing-key-file": self.directory / "service-accounts.key",
            # It would refuse pods until a controller has made the namespace's ServiceAccount.
            "disable-admission-plugins": "ServiceAccount",
            "service-cluster-ip-range": "10.96.0.0/16",
            "endpoint-reconciler-type": "none",
            "profiling": "false",
        }
        return [f"--{name}={value}" for name, value in flags.items()]

    def _ready(self) -> bool:
        self.etcd.check()
        self.server.check()
        try:
            self.admin.request("GET", "/readyz")
        except Refused:
            return False
        return True

    def _install_crd(self, crd: Object) -> str:
        self.admin.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", crd)
        return str(crd["metadata"]["name"])

    def _established(self, name: str) -> bool:
        status = self.admin.get(f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}").get("status", {})
        return any(c["type"] == "Established" and c["status"] == "True" for c in status.get("conditions") or [])

    def _ask_etcd(self, path: str, body: object) -> Any:
        request = urllib.request.Request(self._etcd_url + path, json.dumps(body).encode(), {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=10) as response:
            return json.loads(response.read())


def missing() -> list[str]:
    """Which programs are not installed."""
    return [name for name in NEEDED if not (BIN / name).is_file()]


def _etcd_flags(directory: Path, url: str, peer_port: int) -> list[str]:
    peer = f"http://127.0.0.1:{peer_port}"
    return [
        *("--data-dir", str(directory / "etcd"), "--unsafe-no-fsync", "--log-level", "error"),
        *("--listen-client-urls", url, "--advertise-client-urls", url),
        *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}"),
    ]


def _crds() -> list[Object]:
    files = sorted(path for folder in CRDS for path in folder.glob("*.yaml"))
    found = [crd for path in files for crd in documents(path.read_text())]
    for crd in found:
        crd.pop("status", None)  # the API server's own
    return [crd for crd in found if crd["kind"] == "CustomResourceDefinition"]
