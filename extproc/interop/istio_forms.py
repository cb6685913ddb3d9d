"""VirtualService and DestinationRule as far as they are read; field names are Istio's (istio.io/api 1.32)."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from extproc.interop.objects import Metadata
from extproc.settings.serving.fields import Flag, Form, Label, Text, whole

Port = Annotated[int, whole(1, 65535, "a port from 1 to 65535")]
Weight = Annotated[int, whole(0, 2**31 - 1, "a whole number of at least 0")]
Status = Annotated[int, whole(200, 599, "a status from 200 to 599")]


def _percent(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 100:
        raise ValueError("expected a number from 0 to 100")
    return float(value)


Percent = Annotated[float, BeforeValidator(_percent)]


class PortSelector(Form):
    """Of a destination."""

    number: Port


class Destination(Form):
    """Where requests go."""

    host: Label
    subset: Label | None = None
    port: PortSelector | None = None


class Route(Form):
    """One of `route`."""

    destination: Destination
    weight: Weight | None = None
    headers: dict[str, Any] | None = None


class PercentValue(Form):
    """A percentage of Istio's."""

    value: Percent = 0.0


class Mirror(Form):
    """One of `mirrors`."""

    destination: Destination
    percentage: PercentValue | None = None


class StringMatch(Form):
    """What a text is compared with; without anything, it has to be there."""

    exact: Text | None = None
    prefix: Label | None = None
    regex: Label | None = None

    @model_validator(mode="after")
    def _one(self) -> StringMatch:
        if sum(each is not None for each in (self.exact, self.prefix, self.regex)) > 1 or self.model_extra:
            raise ValueError("expected one of exact, prefix and regex")
        return self


class MatchRequest(Form):
    """One of `match`."""

    name: str | None = None
    uri: StringMatch | None = None
    headers: Annotated[dict[str, StringMatch], Field(max_length=100)] = {}
    withoutHeaders: Annotated[dict[str, StringMatch], Field(max_length=100)] = {}
    method: StringMatch | None = None
    authority: StringMatch | None = None
    scheme: StringMatch | None = None
    queryParams: dict[str, Any] | None = None
    ignoreUriCase: Flag | None = None
    port: Port | None = None
    gateways: list[Any] | None = None
    sourceLabels: dict[str, Any] | None = None
    sourceNamespace: str | None = None
    statPrefix: str | None = None


class Body(Form):
    """Of an answer."""

    string: Text | None = None
    bytes: str | None = None


class DirectResponse(Form):
    """An answer of the proxy's own."""

    status: Status
    body: Body | None = None


class HttpRoute(Form):
    """One of `http`."""

    name: str | None = None
    match: Annotated[list[MatchRequest], Field(max_length=1000)] = []
    route: Annotated[list[Route], Field(max_length=200)] = []
    directResponse: DirectResponse | None = None
    mirror: Destination | None = None
    mirrorPercentage: PercentValue | None = None
    mirrorPercent: Percent | None = None
    mirror_percent: Percent | None = None
    mirrors: Annotated[list[Mirror], Field(max_length=100)] = []
    redirect: dict[str, Any] | None = None
    delegate: dict[str, Any] | None = None
    rewrite: dict[str, Any] | None = None
    retries: dict[str, Any] | None = None
    timeout: str | None = None
    fault: dict[str, Any] | None = None
    headers: dict[str, Any] | None = None
    corsPolicy: dict[str, Any] | None = None


class VirtualServiceSpec(Form):
    """Of a VirtualService."""

    hosts: Annotated[list[Label], Field(max_length=1000)] = []
    gateways: Annotated[list[Label], Field(max_length=1000)] = []
    http: Annotated[list[HttpRoute], Field(min_length=1, max_length=1000)]
    tcp: list[Any] | None = None
    tls: list[Any] | None = None
    exportTo: list[Any] | None = None


class VirtualService(Form):
    """The whole."""

    metadata: Metadata
    spec: VirtualServiceSpec


class Subset(Form):
    """One of `subsets`."""

    name: Label
    labels: Annotated[dict[str, str], Field(max_length=1000)] = {}
    trafficPolicy: dict[str, Any] | None = None


class DestinationRuleSpec(Form):
    """Of a DestinationRule."""

    host: Label
    subsets: Annotated[list[Subset], Field(max_length=1000)] = []
    trafficPolicy: dict[str, Any] | None = None
    exportTo: list[Any] | None = None
    workloadSelector: dict[str, Any] | None = None


class DestinationRule(Form):
    """The whole."""

    metadata: Metadata
    spec: DestinationRuleSpec
