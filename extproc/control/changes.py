"""What a desk can be asked to do. Documents are what JSON or YAML gives, unread: the desk says what is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

from extproc.control.guarding import Wish
from extproc.control.records import API


class Origin(NamedTuple):
    """Who stands behind a change, beside who makes it; for the record."""

    address: str = ""
    """From where: the address that asked, or the host that has the file. At most 256 characters."""
    approved_by: str = ""
    """Who has said yes, in the words of who makes the change. At most 256 characters."""


class Create(NamedTuple):
    """A new endpoint; its document is the body of the REST call."""

    document: object
    owner: str = API


class UpdateConfig(NamedTuple):
    """Served entities, the split, or both: what is not given stays, what is given replaces."""

    name: str
    document: object
    wish: Wish | None = None
    """What its caller says of guards; None: whoever makes it has guards of their own, as rollouts have."""


class Delete(NamedTuple):
    """The endpoint goes; its history stays."""

    name: str
    whoever: bool = False
    """Also when a feeder has declared it: that feeder may be gone. One that is not will declare it again."""


class PatchTags(NamedTuple):
    """Tags that go and tags that come."""

    name: str
    document: object


class PutRateLimits(NamedTuple):
    """The deprecated limits, whole."""

    name: str
    document: object


class PutGateway(NamedTuple):
    """`ai_gateway`, whole."""

    name: str
    document: object


class PatchNotifications(NamedTuple):
    """Who wants mails."""

    name: str
    document: object


class PatchTelemetry(NamedTuple):
    """Where telemetry would go."""

    name: str
    document: object


class Revert(NamedTuple):
    """The config of before, with its split bucket by bucket; as a new version. Tags and the like stay."""

    name: str
    config_version: int


class Follow(NamedTuple):
    """Entities stand for other versions of a registry: a new version of the config, whoever owns the endpoint."""

    name: str
    blocks: Mapping[str, Mapping[str, str]]
    """By entity, as `registry.placing` gives them."""


class Declare(NamedTuple):
    """All that a feeder says there is, as one change: what it does not say any more goes."""

    owner: str
    documents: Sequence[object]
    prefix: str = "servingEndpoints"
    """What the list is called where it is written, for messages."""
    whole: bool = True
    """False: what it does not say stays, as in an import."""


DeskChange: TypeAlias = (
    Create
    | UpdateConfig
    | Delete
    | PatchTags
    | PutRateLimits
    | PutGateway
    | PatchNotifications
    | PatchTelemetry
    | Revert
    | Follow
    | Declare
)
