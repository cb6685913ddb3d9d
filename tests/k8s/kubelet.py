"""A kubelet's part: what the pods of a Deployment would run, started here as processes.

Each pod is an object of the API with an address of its own, 127.0.9.x, and processes that listen on every address; so ports are
shifted to free ones, in arguments, Envoy configs and probes alike. Images are not pulled: `extproc` is ours, `envoy` is the
one of the e2e tests. Paths that a container mounts are paths of the test's folder, wherever they are named. Users and groups,
capabilities, resources and a read-only root are not enforced.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any, Final

from extproc.demo.envoy import find_envoy
from extproc.demo.ports import free_ports
from extproc.demo.processes import Child
from tests.e2e.parts import until
from tests.k8s.api import Object
from tests.k8s.cluster import ROOT, Cluster
from tests.k8s.probes import probe
from tests.k8s.volumes import SERVICE_ACCOUNT, Paths, Volumes, environment, expanded

_ADDRESSES = count(1)
_OURS: Final = (sys.executable, "-m", "tests.k8s.incluster")


class Pod:
    """One pod of a Deployment that the API server has."""

    def __init__(self, cluster: Cluster, deployment: Object, directory: Path) -> None:
        self.cluster = cluster
        self.namespace = str(deployment["metadata"]["namespace"])
        number = next(_ADDRESSES)
        self.address = f"127.0.9.{number}"
        self.name = f"{deployment['metadata']['name']}-{number}"
        self.directory = directory / self.name
        self.directory.mkdir()
        template = deployment["spec"]["template"]
        self.spec: Object = template["spec"]
        self._path = f"/api/v1/namespaces/{self.namespace}/pods"
        self.account = str(self.spec.get("serviceAccountName", "default"))
        pod = {"metadata": {**template["metadata"], "name": self.name}, "spec": {**self.spec, "nodeName": "node"}}
        cluster.admin.create(self._path, pod)
        token = self._token()
        fields = self._fields(template["metadata"])
        self._volumes = Volumes(cluster.admin, self.namespace, self.spec, self.directory, fields, token)
        self._own = self._service_account(token)
        sidecars = self.spec.get("initContainers", [])
        assert all(each.get("restartPolicy") == "Always" for each in sidecars), "init containers that end are not played"
        self._sidecars = [str(each["name"]) for each in sidecars]
        self.containers = {str(each["name"]): each for each in [*sidecars, *self.spec["containers"]]}
        self.ports = self._ports()
        self.children = self._children(fields)

    def __repr__(self) -> str:
        return f"<Pod {self.namespace}/{self.name} {list(self.children.values())}>"

    def port(self, container_port: int) -> int:
        """Where a port of the pod really is."""
        return self.ports[container_port]

    def start(self) -> None:
        """Start the sidecars, each when the one before has started up, and then the others."""
        self._status(ready=False)
        for name, child in self.children.items():
            child.start()
            if name in self._sidecars:
                self._wait_started(name)

    def wait_ready(self) -> None:
        """Wait until the startup and readiness probes pass, for no longer than the kubelet would."""
        for name in self.containers:
            self._wait_started(name)
        for name in self.containers:
            self._until_passes(name, "readinessProbe", 30)
            assert self.probe(name, "livenessProbe") == "", f"{name} is ready and not alive"
        self._status(ready=True)

    def probe(self, name: str, kind: str) -> str:
        """What is wrong with the container by this probe of its; empty when nothing is, or when it has none."""
        container = self.containers[name]
        self.children[name].check()
        handler = container.get(kind)
        return probe(handler, container, self.address, self.ports) if handler else ""

    def stop(self) -> dict[str, int | None]:
        """As `kubectl delete pod`: no longer ready, preStop, SIGTERM, and SIGKILL when the grace period is over.

        Returns the containers' exit codes.
        """
        with contextlib.suppress(Exception):  # the API server may be down
            self.cluster.admin.delete(f"{self._path}/{self.name}", grace_s=30)
        ordinary = [name for name in self.containers if name not in self._sidecars]
        for name in ordinary:
            self._pre_stop(self.containers[name])
        grace_s = float(self.spec.get("terminationGracePeriodSeconds", 30))
        codes: dict[str, int | None] = {}
        for name in [*ordinary, *reversed(self._sidecars)]:
            codes[name] = self.children[name].stop(grace_s)
        self._remove()
        return codes

    def kill(self) -> None:
        """As when the node loses power: the object is there for a while."""
        for child in self.children.values():
            child.kill()

    def log(self, name: str) -> str:
        return self.children[name].log.read_text(errors="replace")

    def _token(self) -> str:
        account = self.cluster.admin.get(f"/api/v1/namespaces/{self.namespace}/serviceaccounts/{self.account}")
        mounted = self.spec.get("automountServiceAccountToken", account.get("automountServiceAccountToken", True))
        projected = any("serviceAccountToken" in source for v in self.spec.get("volumes", []) for source in _sources(v))
        return self.cluster.service_account_token(self.namespace, self.account) if mounted or projected else ""

    def _service_account(self, token: str) -> Path:
        """The folder that an automatic mount would show; without files when there is none."""
        folder = self.directory / "serviceaccount"
        folder.mkdir()
        if token:
            files = {"token": token, "namespace": self.namespace, "ca.crt": self.cluster.ca_file.read_text()}
            for name, content in files.items():
                (folder / name).write_text(content)
        return folder

    def _fields(self, metadata: Object) -> dict[str, str]:
        labels, annotations = metadata.get("labels", {}), metadata.get("annotations", {})
        return {
            "metadata.name": self.name,
            "metadata.namespace": self.namespace,
            "metadata.uid": str(self.cluster.admin.get(f"{self._path}/{self.name}")["metadata"]["uid"]),
            "spec.nodeName": "node",
            "spec.serviceAccountName": self.account,
            "status.podIP": self.address,
            "status.podIPs": self.address,
            "status.hostIP": "127.0.0.1",
            "ca.crt": self.cluster.ca_file.read_text(),
            **{f"metadata.labels['{name}']": value for name, value in labels.items()},
            **{f"metadata.annotations['{name}']": value for name, value in annotations.items()},
        }

    def _ports(self) -> dict[int, int]:
        """Every port that something of the pod listens on, to a free one."""
        declared = [port["containerPort"] for each in self.containers.values() for port in each.get("ports", [])]
        flags = [
            match
            for each in self.containers.values()
            for arg in _words(each)
            for match in re.findall(r"^--[\w-]*port=(\d+)$", arg)
        ]
        configs = [port for document in self._volumes.configs() for port in _local_ports(document)]
        wanted = sorted({int(port) for port in [*declared, *flags, *configs]})
        return dict(zip(wanted, free_ports(len(wanted)), strict=True))

    def _children(self, fields: Mapping[str, str]) -> dict[str, Child]:
        mounts = {name: {SERVICE_ACCOUNT: self._own, **self._volumes.mounts(each)} for name, each in self.containers.items()}
        self._volumes.rewrite(Paths({path: to for each in mounts.values() for path, to in each.items()}), self.ports)
        found = {}
        for name, container in self.containers.items():
            paths = Paths(mounts[name])
            variables = environment(self.cluster.admin, self.namespace, container, fields)
            words = [self._shifted(paths(expanded(word, variables))) for word in _words(container)]
            api = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(self.cluster.port)}
            given = {key: paths(value) for key, value in variables.items()} | api
            argv = _program(container, words, mounts[name][SERVICE_ACCOUNT])
            found[name] = Child(f"{self.name}-{name}", ["/usr/bin/env", "-i", *_assignments(given), *argv], self.directory)
        return found

    def _shifted(self, word: str) -> str:
        """`--some-port=9002` with the port that stands for it."""
        flag, equals, value = word.partition("=")
        if equals and flag.startswith("--") and flag.endswith("port") and value.isdigit():
            return f"{flag}={self.ports[int(value)]}"
        return word

    def _until_passes(self, name: str, kind: str, within_s: float) -> None:
        last = [""]

        def passes() -> bool:
            last[0] = self.probe(name, kind)
            return last[0] == ""

        try:
            until(passes, within_s=within_s)
        except AssertionError:
            raise AssertionError(f"{kind} of {self.name}/{name}: {last[0]}\n{self.children[name].tail()}") from None

    def _wait_started(self, name: str) -> None:
        startup = self.containers[name].get("startupProbe")
        if startup:
            allowed_s = startup.get("periodSeconds", 10) * startup.get("failureThreshold", 3)
            self._until_passes(name, "startupProbe", startup.get("initialDelaySeconds", 0) + allowed_s)

    def _pre_stop(self, container: Object) -> None:
        """Raises when it fails, of which the kubelet would only make an event."""
        handler = container.get("lifecycle", {}).get("preStop", {})
        if "sleep" in handler:
            time.sleep(float(handler["sleep"]["seconds"]))
        elif "exec" in handler:
            program, *words = [self._local(word) for word in handler["exec"]["command"]]
            known = {"python": [sys.executable], "sleep": ["sleep"]}
            subprocess.run([*known[program], *words], check=True, timeout=30)
        elif handler:
            raise NotImplementedError(f"a preStop of another kind: {handler}")

    def _local(self, text: str) -> str:
        """`127.0.0.1:9901` with the port that stands for it."""
        return re.sub(r"(?<=127\.0\.0\.1:)\d+", lambda match: str(self.ports.get(int(match.group()), match.group())), text)

    def _status(self, *, ready: bool) -> None:
        condition = {"type": "Ready", "status": "True" if ready else "False"}
        addresses = {"podIP": self.address, "podIPs": [{"ip": self.address}]}
        status = {"phase": "Running", "conditions": [condition], **addresses}
        self.cluster.admin.patch(f"{self._path}/{self.name}/status", {"status": status})

    def _remove(self) -> None:
        with contextlib.suppress(Exception):
            self.cluster.admin.delete(f"{self._path}/{self.name}", grace_s=0)


@contextlib.contextmanager
def running(cluster: Cluster, namespace: str, name: str, directory: Path, *, wait: bool = True) -> Iterator[list[Pod]]:
    """The pods of this Deployment, as many as it has replicas, ready; at the end every one stops with exit code 0."""
    deployment = cluster.admin.get(f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}")
    pods: list[Pod] = []
    try:
        for _ in range(deployment["spec"].get("replicas", 1)):
            pods.append(Pod(cluster, deployment, directory))
            pods[-1].start()
        if wait:
            for pod in pods:
                pod.wait_ready()
        yield pods
    except BaseException:
        for pod in pods:
            pod.kill()
        raise
    for pod in pods:
        codes = pod.stop()  # None: it was stopped before
        assert set(codes.values()) <= {0, None}, f"{pod}: exit codes {codes}\n" + "\n".join(map(pod.log, codes))


def _program(container: Object, words: Sequence[str], account: Path) -> list[str]:
    """The process for a container's command line; images are known by their names."""
    image = str(container["image"])
    if words and Path(words[0]).name in ("extproc", "envoy") and container.get("command"):
        program, words = Path(words[0]).name, words[1:]
    elif container.get("command"):
        raise NotImplementedError(f"a command of another kind: {container['command']}")
    else:
        program = "envoy" if "envoy" in image.rpartition("/")[2] else "extproc"
    if program == "envoy":
        return [str(find_envoy()), *words, "--disable-hot-restart"]
    return [*_OURS, str(account), *words]


def _words(container: Object) -> list[str]:
    """Command and arguments."""
    return [*map(str, container.get("command", [])), *map(str, container.get("args", []))]


def _assignments(variables: Mapping[str, str]) -> list[str]:
    """Variables for env(1), with the few that a process of this machine needs."""
    own = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
    return [f"{name}={value}" for name, value in {**own, **variables}.items()]


def _sources(volume: Object) -> list[Object]:
    return list(volume.get("projected", {}).get("sources", []))


def _local_ports(document: Any) -> list[int]:
    """Ports of an Envoy config that are the pod's own: at addresses of itself, or any."""
    if isinstance(document, dict):
        address = document.get("socket_address", {})
        own = isinstance(address, dict) and address.get("address") in ("127.0.0.1", "0.0.0.0", "::", "::1", "localhost")
        found = [address["port_value"]] if own and "port_value" in address else []
        return found + [port for value in document.values() for port in _local_ports(value)]
    if isinstance(document, list):
        return [port for value in document for port in _local_ports(value)]
    return []
