"""What plugins that go by labels are told: Kubernetes' label selectors, as an object and as text."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal

from pydantic import Field, PlainValidator, field_validator, model_validator

from extproc.scheduling.plugins.parameters import Parameters
from extproc.scheduling.selector import Requirement, Selector
from extproc.settings.base import shown

_OPERATORS: Final = ("In", "NotIn", "Exists", "DoesNotExist")
_KEY: Final = r"[A-Za-z0-9](?:[-A-Za-z0-9_./]*[A-Za-z0-9])?"
_VALUE: Final = r"(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?)?"
_PART: Final = re.compile(
    rf"\s*(?:(?P<without>!)\s*(?P<gone>{_KEY})"
    rf"|(?P<key>{_KEY})\s*(?:(?P<equals>==?|!=)\s*(?P<value>{_VALUE})"
    rf"|\s(?P<set>in|notin)\s*\((?P<values>[^()]*)\))?)\s*(?:,(?!\s*\Z)|\Z)"
)


def parse_label_selector(text: object) -> Selector:
    """Read `app=vllm,tier!=test,zone in (a,b),gpu,!old`. Raises ValueError saying where it can't be read; nothing can't be."""
    if isinstance(text, tuple):
        return text
    if not isinstance(text, str) or not text.strip():
        raise ValueError("expected a label selector such as name=value or name in (one,other)")
    requirements: list[Requirement] = []
    at = 0
    while at < len(text):
        match = _PART.match(text, at)
        if match is None:
            raise ValueError(f"expected name=value, name in (one,other), name or !name at {shown(text[at:])}")
        requirements.append(_requirement(match))
        at = match.end()
    return tuple(requirements)


def _requirement(match: re.Match[str]) -> Requirement:
    if match["without"]:
        return Requirement(match["gone"], None, negated=True, absent=True)
    if match["set"]:
        values = frozenset(value.strip() for value in match["values"].split(","))
        negated = match["set"] == "notin"
        return Requirement(match["key"], values, negated, absent=negated)
    if match["equals"]:
        negated = match["equals"] == "!="
        return Requirement(match["key"], frozenset({match["value"]}), negated, absent=negated)
    return Requirement(match["key"])


SelectorText = Annotated[Selector, PlainValidator(parse_label_selector)]


class MatchExpression(Parameters):
    """One requirement of a selector."""

    key: str = Field(min_length=1)
    """The label."""
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    """How it is compared. NotIn and DoesNotExist hold without the label."""
    values: tuple[str, ...] = ()
    """With In and NotIn."""

    @model_validator(mode="after")
    def _values(self) -> MatchExpression:
        if (self.operator in ("In", "NotIn")) != bool(self.values):
            raise ValueError(f"operator {self.operator} {'needs values' if not self.values else 'takes no values'}")
        return self

    def requirement(self) -> Requirement:
        """As it is checked."""
        negated = self.operator in ("NotIn", "DoesNotExist")
        return Requirement(self.key, frozenset(self.values) or None, negated, absent=negated)


class SelectorParameters(Parameters):
    """Parameters of `label-selector-filter`: Kubernetes' LabelSelector. Without any requirement every endpoint is kept."""

    match_labels: dict[str, str] = Field(default_factory=dict, alias="matchLabels")
    """Each label with its value."""
    match_expressions: tuple[MatchExpression, ...] = Field((), alias="matchExpressions")
    """Requirements of `key`, `operator` (In, NotIn, Exists, DoesNotExist) and `values`."""

    def selector(self) -> Selector:
        """As it is checked."""
        equal = [Requirement(key, frozenset({value})) for key, value in self.match_labels.items()]
        return (*equal, *(each.requirement() for each in self.match_expressions))


class ByLabelParameters(Parameters):
    """Parameters of the older `by-label`."""

    label: str = Field(min_length=1)
    """Its name."""
    valid_values: tuple[str, ...] = Field((), alias="validValues")
    """Values to keep."""
    allows_no_label: bool = Field(False, alias="allowsNoLabel")
    """Keep endpoints without the label."""

    @model_validator(mode="after")
    def _keeps_somebody(self) -> ByLabelParameters:
        if not self.valid_values and not self.allows_no_label:
            raise ValueError("expected validValues or allowsNoLabel: true, as no endpoint would be left")
        return self

    def selector(self) -> Selector:
        """As it is checked."""
        return (Requirement(self.label, frozenset(self.valid_values), absent=self.allows_no_label),)


class HeaderLabelParameters(Parameters):
    """Parameters of `header-label-affinity-scorer`."""

    header_name: str = Field(alias="headerName", min_length=1)
    """The request's header."""
    label_key: str = Field(alias="labelKey", min_length=1)
    """The endpoint's label."""

    @field_validator("header_name", mode="after")
    @classmethod
    def _lower(cls, value: str) -> str:
        return value.lower()


class TopologyParameters(Parameters):
    """Parameters of `topology-extractor`: which label says where an endpoint is."""

    hostname: str = "kubernetes.io/hostname"
    """The host."""
    rack: str = "topology.kubernetes.io/rack"
    """The rack."""
    zone: str = "topology.kubernetes.io/zone"
    """The zone."""
    region: str = "topology.kubernetes.io/region"
    """The region."""


class NearParameters(Parameters):
    """Parameters of `topology-affinity-scorer`."""

    topology_producer_name: str | None = Field(None, alias="topologyProducerName")
    """The `topology-extractor` that is asked; one with its defaults unless one is listed."""


class NearFilterParameters(NearParameters):
    """Parameters of `topology-affinity-filter`."""

    min_affinity: Literal["host", "rack", "zone", "region"] = Field("host", alias="minAffinity")
    """How near an endpoint has to be: the same host, rack, zone or region."""


class ContextLengthParameters(Parameters):
    """Parameters of `context-length-aware`."""

    label: str = Field("llm-d.ai/context-length-range", min_length=1)
    """The label that says for which prompts an endpoint is, as `min-max` in tokens."""
    enable_filtering: bool = Field(False, alias="enableFiltering")
    """Leave out endpoints that are for other prompts, or whose label can't be read."""


class HeaderSelector(HeaderLabelParameters):
    """A header that goes with a label."""

    name: str = ""
    """For people."""
    mode: Literal["strict", "prefer"]
    """strict: only endpoints whose label is what the request's header says. prefer: left to a scorer."""


class RequiredRoles(Parameters):
    """Roles by their labels' values."""

    values: tuple[str, ...] = Field(min_length=1)


class RevisionGating(Parameters):
    """Which revisions may serve."""

    mode: Literal["sum", "max-role", "disabled"]
    """By what revisions are drawn."""
    revision_label_key: str = Field("disaggregatedset.x-k8s.io/revision", alias="revisionLabelKey")
    """Label of a rollout's revision."""
    role_label_key: str = Field("disaggregatedset.x-k8s.io/role", alias="roleLabelKey")
    """Label of the role."""
    require_roles: RequiredRoles | None = Field(None, alias="requireRoles")
    """Roles that a revision needs an endpoint of, each."""

    @model_validator(mode="after")
    def _roles(self) -> RevisionGating:
        if self.mode != "disabled" and self.require_roles is None:
            raise ValueError(f"mode {self.mode} needs requireRoles.values")
        return self


class _Scope(Parameters):
    label_selector: SelectorText = Field(alias="labelSelector")


class RolloutParameters(Parameters):
    """Parameters of `disaggregatedset-rollout-screener`."""

    scope: _Scope
    """`labelSelector`, as text: the endpoints that are counted."""
    header_selectors: tuple[HeaderSelector, ...] = Field((), alias="headerSelectors")
    """Each with `name`, `headerName`, `labelKey` and `mode` (strict, prefer)."""
    revision_gating: RevisionGating = Field(alias="revisionGating")
    """`mode` (sum, max-role, disabled), `requireRoles.values`, `revisionLabelKey`, `roleLabelKey`."""

    @field_validator("header_selectors", mode="after")
    @classmethod
    def _headers_once(cls, value: tuple[HeaderSelector, ...]) -> tuple[HeaderSelector, ...]:
        names = [each.header_name for each in value]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"headerName is there twice: {', '.join(twice)}")
        return value


def selector_of(parameters: Any) -> Selector:
    """Of SelectorParameters or ByLabelParameters."""
    selector: Selector = parameters.selector()
    return selector
