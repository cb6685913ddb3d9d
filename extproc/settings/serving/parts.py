"""What a serving endpoint has besides its served entities."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from extproc.settings.serving.delivery import Delivery
from extproc.settings.serving.entities import Entity, Model
from extproc.settings.serving.fields import Count, Flag, Form, Label, Name, Percentage, Text


class Route(Form):
    """The share of one served entity, which either key may name."""

    traffic_percentage: Percentage
    served_entity_name: Label | None = None
    served_model_name: Label | None = None

    @model_validator(mode="after")
    def _names_one(self) -> Route:
        if self.served_entity_name is None and self.served_model_name is None:
            raise ValueError("expected served_entity_name")
        if None not in (self.served_entity_name, self.served_model_name) and self.served_entity_name != self.served_model_name:
            raise ValueError("served_entity_name and served_model_name differ; expected one of them, or the same name twice")
        return self

    @property
    def entity(self) -> str:
        return self.served_entity_name or self.served_model_name or ""


class Traffic(Form):
    """The split."""

    routes: list[Route] = Field(min_length=1, max_length=200)


class CoreConfig(Form):
    """What is served, and the split. What is absent stays as it was, when there was something."""

    name: Name | None = None
    served_entities: list[Entity] | None = Field(None, min_length=1, max_length=200)
    served_models: list[Model] | None = Field(None, min_length=1, max_length=200)
    traffic_config: Traffic | None = None
    auto_capture_config: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _one_list(self) -> CoreConfig:
        if self.served_entities is not None and self.served_models is not None:
            raise ValueError("served_models and served_entities are both given; expected served_entities alone")
        return self


class ConfigChange(CoreConfig, Delivery):
    """What `PUT .../config` takes."""


class RateLimit(Form):
    """At most so many calls a minute; the deprecated form."""

    calls: Count
    renewal_period: Literal["minute"]
    key: Literal["user", "endpoint"] = "endpoint"


class GatewayRateLimit(Form):
    """At most so many calls, or tokens, a minute."""

    renewal_period: Literal["minute"]
    calls: Count | None = None
    tokens: Count | None = None
    key: Literal["endpoint", "user", "user_group", "service_principal"] = "endpoint"
    principal: Label | None = None

    @model_validator(mode="after")
    def _something(self) -> GatewayRateLimit:
        if self.calls is None and self.tokens is None:
            raise ValueError("expected calls, tokens or both")
        if self.key in ("user_group", "service_principal") and self.principal is None:
            raise ValueError(f"expected principal with key {self.key}")
        if self.key == "endpoint" and self.principal is not None:
            raise ValueError("principal does not belong to key endpoint; expected another key")
        return self


class Fallback(Form):
    """Whether the other entities are tried when one fails."""

    enabled: Flag


class Pii(Form):
    """Of a guardrail."""

    behavior: Literal["NONE", "BLOCK", "MASK"] | None = None


class Guardrail(Form):
    """Databricks' checks of prompts and answers. Only those that check nothing are taken: nothing here would enforce them."""

    invalid_keywords: list[str] | None = None
    valid_topics: list[str] | None = None
    safety: Flag | None = None
    pii: Pii | None = None

    @model_validator(mode="after")
    def _checks_nothing(self) -> Guardrail:
        pii = self.pii is not None and self.pii.behavior not in (None, "NONE")
        if self.invalid_keywords or self.valid_topics or self.safety or pii:
            raise ValueError("guardrails are not enforced by this gateway; expected none, so that nobody relies on them")
        return self


class Guardrails(Form):
    """Of prompts and of answers."""

    input: Guardrail | None = None
    output: Guardrail | None = None


class Tracking(Form):
    """Whether usage is recorded."""

    enabled: Flag | None = None


class Gateway(Form):
    """`ai_gateway`: replaced whole."""

    fallback_config: Fallback | None = None
    guardrails: Guardrails | None = None
    inference_table_config: dict[str, Any] | None = None
    rate_limits: list[GatewayRateLimit] | None = Field(None, max_length=200)
    usage_tracking_config: Tracking | None = None

    @model_validator(mode="after")
    def _each_once(self) -> Gateway:
        seen = set()
        for limit in self.rate_limits or ():
            whose = (limit.key, limit.principal)
            if whose in seen:
                raise ValueError(f"rate_limits has two limits for {' '.join(filter(None, whose))}; expected one of each")
            seen.add(whose)
        return self


class RateLimits(Form):
    """`PUT .../rate-limits`."""

    rate_limits: list[RateLimit] = Field([], max_length=200)


class Tag(Form):
    """A label for people."""

    key: Label
    value: Text | None = None


class TagsPatch(Form):
    """`PATCH .../tags`: deletes first, then adds."""

    add_tags: list[Tag] = Field([], max_length=100)
    delete_tags: list[Label] = Field([], max_length=100)


class Emails(Form):
    """Who wants to hear of changes. Kept and given back; nobody sends mails here."""

    on_update_failure: list[Text] | None = Field(None, max_length=100)
    on_update_success: list[Text] | None = Field(None, max_length=100)


class Notifications(Form):
    """`PATCH .../notifications`."""

    email_notifications: Emails | None = None


class Telemetry(Form):
    """`PATCH .../telemetry-config`: None removes it."""

    telemetry_config: dict[str, Any] | None = None


class Endpoint(Delivery):
    """The whole, as it is created and as it stands in files."""

    name: Name
    config: CoreConfig
    tags: Annotated[list[Tag], Field(max_length=100)] = []
    ai_gateway: Gateway | None = None
    rate_limits: Annotated[list[RateLimit], Field(max_length=200)] = []
    email_notifications: Emails | None = None
    telemetry_config: dict[str, Any] | None = None
    description: Text | None = None
    budget_policy_id: Text | None = None
    route_optimized: Flag | None = None
    sticky: Literal["key", "none"] | None = None
    """Ours: `none` draws for each request, as Databricks does; `key` keeps who has a key with its entity."""
