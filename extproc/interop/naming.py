"""Names and labels of Kubernetes for endpoints and entities, and where our own names are kept beside them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

LABEL: Final = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")
"""A label's value, as Kubernetes has it."""
MODEL_LABEL: Final = "model"
VERSION_LABEL: Final = "version"

_OURS: Final = "extproc.dev/"
ENDPOINT: Final = _OURS + "serving-endpoint"
"""The endpoint's name, where it is no name of Kubernetes."""
ENTITIES: Final = _OURS + "served-entities"
"""What names and labels of the objects do not say of entities, as JSON."""
ENTITY: Final = _OURS + "served-entity"
MODEL: Final = _OURS + "entity-name"
VERSION: Final = _OURS + "entity-version"

_LONGEST: Final = 50
"""Of 63, as others put words behind such a name."""
_NOT_OF_A_LABEL: Final = re.compile(r"[^a-z0-9-]+")


class Backend(NamedTuple):
    """Where the requests of an entity go."""

    name: str
    port: int | None = None


class Placing(NamedTuple):
    """What an endpoint does not say: where its objects are, and where requests come in."""

    namespace: str = ""
    """'': wherever they are applied."""
    host: str = ""
    """What clients ask for; '' is the endpoint's name, or all hosts."""
    gateways: tuple[str, ...] = ()
    """Names, `namespace/name` of another namespace."""
    backends: Mapping[str, Backend] = {}
    """By entity, for those that are not called as their entity."""
    storage: str = "hf://{name}"
    """Where KServe gets a model: `{name}` and `{version}` are the entity's, `{entity}` is its name in the endpoint."""
    model_format: str = "huggingface"


def label_of(name: str, *, letter_first: bool = False) -> str:
    """The name as a DNS label (RFC 1123) that is the same each time and not another name's."""
    made = _NOT_OF_A_LABEL.sub("-", name.lower()).strip("-")
    if letter_first and not made[:1].isalpha():
        made = f"e-{made}"
    if made == name and len(made) <= _LONGEST:
        return made
    mark = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=3).hexdigest()
    short = made[: _LONGEST - len(mark) - 1].rstrip("-")
    return f"{short or 'e'}-{mark}"


def metadata(name: str, placing: Placing, annotations: Mapping[str, str] = {}) -> dict[str, object]:
    """Of an object of ours."""
    found: dict[str, object] = {"name": name}
    if placing.namespace:
        found["namespace"] = placing.namespace
    if annotations:
        found["annotations"] = dict(annotations)
    return found


def own_name(text: str) -> str:
    """A name of Kubernetes as one that an endpoint or an entity may have: dots are dashes."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", text)[:128] or "unnamed"


def free(name: str, taken: Iterable[str]) -> str:
    """The name, or with a number behind it when it is taken."""
    known = set(taken)
    found, number = name, 2
    while found in known:
        found, number = f"{name[:120]}-{number}", number + 1
    return found


class Prefixed:
    """`{template}` filled in: only the three words, and whatever else is in braces stays."""

    def __init__(self, template: str) -> None:
        self._template = template

    def of(self, entity: str, model: str, version: str) -> str:
        words = {"{name}": model, "{version}": version, "{entity}": entity}
        return re.sub(r"\{(?:name|version|entity)\}", lambda found: words[found[0]], self._template)
