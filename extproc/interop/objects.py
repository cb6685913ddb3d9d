"""Objects of Kubernetes as people hand them in: whose they are, and forms that say what they do not take."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Final, NamedTuple, TypeVar

from pydantic import Field, ValidationError

from extproc.errors import listed
from extproc.interop.endpoint import Losses
from extproc.settings.base import SettingsError, few, shown
from extproc.settings.serving.fields import Form, Label, explained, kind_of, path_of, said

MOST_OBJECTS: Final = 1000

Part = TypeVar("Part", bound=Form)


class Metadata(Form):
    """What we read of it."""

    name: Label
    namespace: Label | None = None
    annotations: Annotated[dict[str, str], Field(max_length=1000)] = {}


class Found(NamedTuple):
    """An object, unread."""

    kind: str
    value: Mapping[str, Any]
    path: str
    """Before its fields: '' for a document that is the object, `items[2].` in a list, with a file's name before it."""


def objects_in(documents: Iterable[tuple[object, str]], kinds: Mapping[str, Sequence[str]]) -> list[Found]:
    """The objects of these documents, each with what stands before its paths. Those of a List are taken one by one.

    `kinds`: what is read, to the API groups with versions that it may be of. Raises SettingsError for what is no object, and
    for objects of other kinds.
    """
    found: list[Found] = []
    problems: list[str] = []
    waiting = list(reversed(list(documents)))
    while waiting and len(found) + len(problems) < MOST_OBJECTS:
        value, path = waiting.pop()
        if not isinstance(value, Mapping) or not isinstance(kind := value.get("kind"), str):
            problems.append(said(path.removesuffix("."), f"got {kind_of(value)}; expected an object with apiVersion and kind"))
        elif kind.endswith("List") and isinstance(items := value.get("items"), list):
            waiting += [(each, f"{path}items[{index}].") for index, each in reversed(list(enumerate(items)))]
        elif kind not in kinds:
            problems.append(f"{path}kind: got {shown(kind)}; expected {listed(kinds)}")
        elif value.get("apiVersion") not in kinds[kind]:
            problems.append(f"{path}apiVersion: got {kind_of(value.get('apiVersion'))}; expected {listed(kinds[kind])}")
        else:
            found.append(Found(kind, value, path))
    if waiting:
        problems.append(f"got more than {MOST_OBJECTS} objects; expected at most that")
    if not found and not problems:
        problems.append(f"got no object; expected {listed(kinds)}")
    if problems:
        raise SettingsError(few(problems))
    return found


def read_form(model: type[Part], found: Found) -> Part:
    """The object by its form. Raises SettingsError."""
    try:
        return model.model_validate(found.value)
    except (ValidationError, RecursionError) as error:
        if isinstance(error, RecursionError):
            raise SettingsError([f"{found.path}: expected fewer lists and maps in each other"]) from None
        raise SettingsError(few(explained(error, found.path))) from None


def not_taken(form: Form, path: str, losses: Losses, why: Mapping[str, str], usual: str) -> None:
    """Tell of each key of the form that is in `why`, with the reason, and of those that the form does not know."""
    for key in sorted(form.model_fields_set):
        if key in why and getattr(form, key) not in (None, [], {}, False):
            losses.drop(f"{path}{key}", why[key])
    for key in form.model_extra or {}:
        losses.drop(path_of((key,), path), usual)
