"""What a pod's containers find in their file system and their environment, as far as the charts ask for it."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from extproc.demo.envoy import with_ports
from tests.k8s.api import Api, Object

SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"


class Paths:
    """Paths of a container to paths of this machine, in one pass over a text: arguments, values and files name them."""

    def __init__(self, mounts: Mapping[str, Path]) -> None:
        self._mounts = dict(mounts)
        longest = sorted(self._mounts, key=len, reverse=True)
        names = "|".join(re.escape(path) for path in longest)
        self._found = re.compile(rf"(?<![\w./-])({names})(?![\w.-])") if names else None

    def __call__(self, text: str) -> str:
        if self._found is None:
            return text
        return self._found.sub(lambda match: str(self._mounts[match.group(1)]), text)


class Volumes:
    """The volumes of one pod, as folders below `directory`."""

    def __init__(self, api: Api, namespace: str, spec: Object, directory: Path, fields: Mapping[str, str], token: str) -> None:
        """`fields`: what the downward API says; `token`: of the ServiceAccount, empty when the pod has none."""
        self._api = api
        self._namespace = namespace
        self._fields = fields
        self._token = token
        self._folders: dict[str, Path] = {}
        for volume in spec.get("volumes", []):
            folder = directory / "volumes" / volume["name"]
            folder.mkdir(parents=True)
            for path, content in self._content(volume).items():
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_bytes(content)
            self._folders[volume["name"]] = folder

    def mounts(self, container: Object) -> dict[str, Path]:
        """Where the container sees them."""
        found = {}
        for mount in container.get("volumeMounts", []):
            path = self._folders[mount["name"]] / mount.get("subPath", "")
            found[mount["mountPath"].rstrip("/")] = path
        return found

    def rewrite(self, paths: Paths, ports: Mapping[int, int]) -> None:
        """Have all files name this machine's paths and the ports that stand for the pod's own."""
        for folder in self._folders.values():
            for path in folder.rglob("*"):
                if path.is_file():
                    path.write_text(rewritten(path.read_text(), paths, ports))  # nothing here is binary

    def configs(self) -> Iterable[Any]:
        """The files that are YAML maps, read."""
        for folder in self._folders.values():
            for path in folder.rglob("*.y*ml"):
                document = _read(path.read_text())
                if isinstance(document, dict):
                    yield document

    def _content(self, volume: Object) -> dict[str, bytes]:
        if "emptyDir" in volume:
            return {}
        if "configMap" in volume:
            return self._items(volume["configMap"], "configmaps", volume["configMap"]["name"])
        if "secret" in volume:
            return self._items(volume["secret"], "secrets", volume["secret"]["secretName"])
        if "projected" in volume:
            return {path: data for source in volume["projected"]["sources"] for path, data in self._projected(source).items()}
        raise NotImplementedError(f"a volume of another kind: {volume}")

    def _projected(self, source: Object) -> dict[str, bytes]:
        if "serviceAccountToken" in source:
            return {source["serviceAccountToken"]["path"]: self._token.encode()}
        if "configMap" in source:
            return self._items(source["configMap"], "configmaps", source["configMap"]["name"])
        if "secret" in source:
            return self._items(source["secret"], "secrets", source["secret"]["name"])
        if "downwardAPI" in source:
            items = source["downwardAPI"]["items"]
            return {item["path"]: self._fields[item["fieldRef"]["fieldPath"]].encode() for item in items}
        raise NotImplementedError(f"a projected source of another kind: {source}")

    def _items(self, source: Object, plural: str, name: str) -> dict[str, bytes]:
        if name == "kube-root-ca.crt":  # a controller puts it into each namespace
            return {"ca.crt": self._fields["ca.crt"].encode()}
        path = f"/api/v1/namespaces/{self._namespace}/{plural}/{name}"
        if source.get("optional") and not self._api.exists(path):
            return {}
        found = data_of(self._api.get(path))
        if "items" in source:
            return {item["path"]: found[item["key"]] for item in source["items"]}
        return found


def data_of(holder: Object) -> dict[str, bytes]:
    """What a ConfigMap or a Secret holds."""
    found = {name: value.encode() for name, value in holder.get("data", {}).items()}
    if holder["kind"] == "Secret":
        found = {name: base64.b64decode(value) for name, value in found.items()}
    return found | {name: base64.b64decode(value) for name, value in holder.get("binaryData", {}).items()}


def rewritten(text: str, paths: Paths, ports: Mapping[int, int]) -> str:
    """A file with other paths and, if it is an Envoy config, other ports."""
    moved = paths(text)
    document = _read(moved) if "port_value" in moved else None
    return moved if document is None else json.dumps(with_ports(document, ports))


def environment(api: Api, namespace: str, container: Object, fields: Mapping[str, str]) -> dict[str, str]:
    """The container's variables, with $(NAME) of earlier ones put in."""
    found: dict[str, str] = {}
    for source in container.get("envFrom", []):
        (kind,) = {"configMapRef", "secretRef"} & source.keys()
        plural = {"configMapRef": "configmaps", "secretRef": "secrets"}[kind]
        held = data_of(api.get(f"/api/v1/namespaces/{namespace}/{plural}/{source[kind]['name']}"))
        found |= {source.get("prefix", "") + name: value.decode() for name, value in held.items()}
    for variable in container.get("env", []):
        found[variable["name"]] = expanded(str(variable.get("value", "")), found)
        if "valueFrom" in variable:
            found[variable["name"]] = _value_from(api, namespace, container, variable["valueFrom"], fields)
    return found


def expanded(text: str, variables: Mapping[str, str]) -> str:
    """$(NAME) put in, $$ taken for $; a name that is not there stays."""

    def one(match: re.Match[str]) -> str:
        return "$" if match.group(0) == "$$" else variables.get(match.group(1), match.group(0))

    return re.sub(r"\$\$|\$\(([A-Za-z_.-][\w.-]*)\)", one, text)


def _value_from(api: Api, namespace: str, container: Object, source: Object, fields: Mapping[str, str]) -> str:
    if "fieldRef" in source:
        return fields[source["fieldRef"]["fieldPath"]]
    if "resourceFieldRef" in source:
        kind, _, what = source["resourceFieldRef"]["resource"].partition(".")
        return str(container["resources"][kind][what])
    for key, plural in (("configMapKeyRef", "configmaps"), ("secretKeyRef", "secrets")):
        if key in source:
            held = data_of(api.get(f"/api/v1/namespaces/{namespace}/{plural}/{source[key]['name']}"))
            return held[source[key]["key"]].decode()
    raise NotImplementedError(f"a value of another kind: {source}")


def _read(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return None
