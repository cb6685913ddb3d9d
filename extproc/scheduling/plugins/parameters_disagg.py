"""Parameters of the handlers that split a request into stages, or choose among profiles, and of those that they ask."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from extproc.scheduling.plugins.parameters import Parameters

ALWAYS: Literal["always-disagg-pd-decider"] = "always-disagg-pd-decider"


class StageProfiles(Parameters):
    """Which profile each stage runs."""

    decode: str = "decode"
    prefill: str = "prefill"
    encode: str = "encode"


class StageDeciders(Parameters):
    """Who says whether a stage is worth an endpoint of its own. Without one it never is."""

    prefill: str | None = None
    encode: str | None = None


class DisaggParameters(Parameters):
    """Parameters of `disagg-profile-handler`."""

    stage_order: Literal["decode-first", "prefill-first"] = Field("decode-first", alias="stageOrder")
    profiles: StageProfiles = Field(default_factory=lambda: StageProfiles.model_validate({}))
    deciders: StageDeciders = Field(default_factory=lambda: StageDeciders.model_validate({}))
    strict: bool = False
    """A stage that should run and finds no endpoint is 503; else the request goes on without it. Ours."""
    decode_profile: str | None = Field(None, alias="decodeProfile")
    """The older form of profiles.decode, as those below are of theirs. Old and new can't be mixed."""
    prefill_profile: str | None = Field(None, alias="prefillProfile")
    encode_profile: str | None = Field(None, alias="encodeProfile")
    decider_plugin_name: str | None = Field(None, alias="deciderPluginName")
    """Of deciders.prefill."""
    prefill_decider_plugin_name: str | None = Field(None, alias="prefillDeciderPluginName")
    encode_decider_plugin_name: str | None = Field(None, alias="encodeDeciderPluginName")
    primary_port: int = Field(0, alias="primaryPort", ge=0, le=65535)
    """As data-parallel-profile-handler's, for the endpoint that decodes; 0: it is addressed itself."""

    @model_validator(mode="after")
    def _one_form(self) -> DisaggParameters:
        older = [
            alias
            for alias, value in (
                ("decodeProfile", self.decode_profile),
                ("prefillProfile", self.prefill_profile),
                ("encodeProfile", self.encode_profile),
                ("deciderPluginName", self.decider_plugin_name),
                ("prefillDeciderPluginName", self.prefill_decider_plugin_name),
                ("encodeDeciderPluginName", self.encode_decider_plugin_name),
            )
            if value is not None
        ]
        newer = {"profiles", "deciders", "stage_order"} & self.model_fields_set
        if older and newer:
            raise ValueError(f"{older[0]} is the older form, and can't be mixed with profiles, deciders or stageOrder")
        if self.decider_plugin_name is not None and self.prefill_decider_plugin_name is not None:
            raise ValueError("deciderPluginName and prefillDeciderPluginName are the same, expected one of them")
        if self.stage_order == "prefill-first" and self.deciders.prefill is not None:
            raise ValueError("deciders.prefill: prefill always runs where stageOrder is prefill-first; expected no decider")
        return self

    @property
    def decode(self) -> str:
        """The profile of the stage, in either form; as those below."""
        return self.decode_profile or self.profiles.decode

    @property
    def prefill(self) -> str:
        return self.prefill_profile or self.profiles.prefill

    @property
    def encode(self) -> str:
        return self.encode_profile or self.profiles.encode

    @property
    def prefill_decider(self) -> tuple[str, str | None]:
        """The parameter that names it, and who it is."""
        if self.decider_plugin_name is not None:
            return "deciderPluginName", self.decider_plugin_name
        if self.prefill_decider_plugin_name is not None:
            return "prefillDeciderPluginName", self.prefill_decider_plugin_name
        return "deciders.prefill", self.deciders.prefill

    @property
    def encode_decider(self) -> tuple[str, str | None]:
        if self.encode_decider_plugin_name is not None:
            return "encodeDeciderPluginName", self.encode_decider_plugin_name
        return "deciders.encode", self.deciders.encode


class PdParameters(Parameters):
    """Parameters of `pd-profile-handler`."""

    decode_profile: str = Field("decode", alias="decodeProfile")
    prefill_profile: str = Field("prefill", alias="prefillProfile")
    decider_plugin_name: str | None = Field(None, alias="deciderPluginName")
    """Who says whether to prefill elsewhere. Unset: `threshold` does."""
    threshold: int = Field(0, ge=0)
    """Tokens that are not cached where it decodes, from which on prefill is given away; 0 gives it away always. Of 2025."""
    strict: bool = False
    """As disagg-profile-handler's."""
    primary_port: int = Field(0, alias="primaryPort", ge=0, le=65535)
    """As disagg-profile-handler's."""
    prefix_plugin_type: str | None = Field(None, alias="prefixPluginType")
    """Accepted for upstream's sake: who finds out about prefixes is found by what is listed."""
    prefix_plugin_name: str | None = Field(None, alias="prefixPluginName")
    """As prefixPluginType."""
    hash_block_size: int | None = Field(None, alias="hashBlockSize", ge=1)
    """Accepted for upstream's sake: the prefix producer says how large a block is."""


class HeadersParameters(Parameters):
    """Parameters of `disagg-headers-handler` and `prefill-header-handler`."""

    prefill_profile: str = Field("prefill", alias="prefillProfile")
    encode_profile: str = Field("encode", alias="encodeProfile")


class PrefixBasedParameters(Parameters):
    """Parameters of `prefix-based-pd-decider`."""

    non_cached_tokens: int = Field(0, alias="nonCachedTokens", ge=0)
    """So many tokens that are not in the cache of who decodes, or more, are worth an endpoint to prefill; 0: never."""
    prompt_tokens: int = Field(0, alias="promptTokens", ge=0)
    """Shorter prompts are not."""


class DataParallelParameters(Parameters):
    """Parameters of `data-parallel-profile-handler`."""

    primary_port: int = Field(8000, alias="primaryPort", ge=1, le=65535)
    """The port on which a pod's first rank takes the requests of all its ranks."""


class HeaderProfileParameters(Parameters):
    """Parameters of `header-profile-handler`."""

    header_name: str = Field("EPP-Profile", alias="headerName")
    default_profile: str = Field("decode", alias="defaultProfile")
    """What runs for requests without the header."""

    @field_validator("header_name", "default_profile")
    @classmethod
    def _trimmed(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("expected a name")
        return value.strip()
