"""Segments of a gateway's file: named sets of users and requests, which rules and experiments of serving endpoints go by."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field, model_validator

from extproc.settings.base import Section
from extproc.settings.serving.fields import Label, Name, header_name
from extproc.settings.serving.rules import MOST_VALUES, Share, TextTest

Labels = Annotated[list[Label], Field(min_length=1, max_length=MOST_VALUES)]


class HeaderTest(TextTest):
    """A header and what its value is compared with."""

    name: Annotated[str, BeforeValidator(header_name)]


class SegmentSettings(Section):
    """One of `segments`: exactly one of these says who is in it."""

    name: Name
    header: HeaderTest | None = None
    groups: Labels | None = None
    """Of a checked token."""
    subjects: Labels | None = None
    """Of a checked token."""
    keys: Labels | None = None
    file: str | None = Field(None, min_length=1)
    """Keys, one a line, relative to the config; watched."""
    percentage: Share | None = None
    salt: Label | None = None

    @model_validator(mode="after")
    def _one(self) -> SegmentSettings:
        ways = (self.header, self.groups, self.subjects, self.keys, self.file, self.percentage)
        if sum(way is not None for way in ways) != 1:
            raise ValueError("expected one of header, groups, subjects, keys, file and percentage")
        if self.salt is not None and self.percentage is None:
            raise ValueError("salt belongs to percentage")
        return self
