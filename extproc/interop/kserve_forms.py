"""InferenceService and LLMInferenceService as far as they are read; field names are KServe's (0.20)."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from extproc.interop.objects import Metadata
from extproc.settings.serving.fields import Form, Label, Percentage, whole

GroupWeight = Annotated[int, whole(0, 1_000_000, "a whole number from 0 to 1000000")]


class Predictor(Form):
    """A model server. How it runs is not read."""

    name: Label | None = None
    annotations: Annotated[dict[str, str], Field(max_length=1000)] = {}
    canaryTrafficPercent: Percentage | None = None


class Canary(Form):
    """One of `canary`."""

    predictor: Predictor
    trafficPercent: Percentage


class ServiceSpec(Form):
    """Of an InferenceService."""

    predictor: Predictor
    canary: Annotated[list[Canary], Field(max_length=200)] = []
    transformer: dict[str, Any] | None = None
    explainer: dict[str, Any] | None = None


class InferenceService(Form):
    """The whole."""

    metadata: Metadata
    spec: ServiceSpec


class Model(Form):
    """Of an LLMInferenceService."""

    name: Label | None = None
    uri: Label


class GroupRoute(Form):
    """Of a router."""

    group: Label | None = None
    weight: GroupWeight | None = None


class Router(Form):
    """Of an LLMInferenceService."""

    route: GroupRoute | None = None


class LlmSpec(Form):
    """Of an LLMInferenceService."""

    model: Model
    router: Router | None = None


class LlmInferenceService(Form):
    """The whole."""

    metadata: Metadata
    spec: LlmSpec
