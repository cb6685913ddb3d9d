"""What policies are told by a config file. Apart from the policies, which are compiled, as pydantic's models can't be."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from extproc.scheduling.plugins.parameters import Parameters


class StaticLimitParameters(Parameters):
    """Parameters of `static-usage-limit-policy`."""

    threshold: float = Field(1.0, gt=0, allow_inf_nan=False)
    """Saturation of the pool from which on requests wait, whatever their priority."""


class HoldbackParameters(Parameters):
    """Parameters of `priority-holdback-policy`."""

    min_ceiling: float = Field(alias="minCeiling", ge=0, lt=1)
    """Ceiling of the lowest band. With 0 it could never be served, which is an error."""
    max_ceiling: float = Field(1.0, alias="maxCeiling", gt=0, le=1)
    """Ceiling of the highest band."""
    domain: Literal["rank", "value"] = "rank"
    """Equal steps from band to band, or in proportion to the priorities' values."""
    shape: Literal["linear"] = "linear"
    """How it falls from the highest to the lowest."""

    @model_validator(mode="after")
    def _served(self) -> Self:
        if self.min_ceiling == 0:
            raise ValueError("minCeiling 0 never serves the lowest band: expected more than 0")
        if self.min_ceiling > self.max_ceiling:
            raise ValueError(f"minCeiling {self.min_ceiling:g} is above maxCeiling {self.max_ceiling:g}")
        return self


class ProgramAwareParameters(Parameters):
    """Parameters of `program-aware-fairness`."""

    strategy: Literal["las"] = "las"
    """Least attained service."""
    las_weight_service: float = Field(0.8, alias="lasWeightService", ge=0, allow_inf_nan=False)
    """Weight of how little a program was served."""
    las_weight_head_wait: float = Field(0.2, alias="lasWeightHeadWait", ge=0, allow_inf_nan=False)
    """Weight of how long its oldest request has waited."""
    las_half_life_seconds: float = Field(60.0, alias="lasHalfLifeSeconds", gt=0, allow_inf_nan=False)
    """Seconds after which half of a service is forgotten."""
    las_decay_factor: float | None = Field(None, alias="lasDecayFactor", gt=0, le=1)
    """Of an older version; accepted and ignored, as it decayed with each pick, and so faster for whoever picked more."""
    eviction_ttl_seconds: float = Field(3600.0, alias="evictionTtlSeconds", gt=0, allow_inf_nan=False)
    """Seconds after its last request at which a program is forgotten."""
    eviction_sweep_seconds: float = Field(300.0, alias="evictionSweepSeconds", gt=0, allow_inf_nan=False)
    """How often those are looked for."""
