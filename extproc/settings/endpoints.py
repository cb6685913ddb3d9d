"""Settings of serving endpoints: where they are kept, and what their requests are told apart by."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator

from extproc.settings.base import Duration, Settings, setting
from extproc.settings.serving import MOST_ENTITIES

_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,256}")
"""A header's name (RFC 9110, section 5.1)."""
_ALLOWED = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?|\[?[0-9A-Fa-f:.]+\]?)(?::[0-9]{1,5})?")


class ServingEndpointsSettings(Settings):
    """What a gateway's serving endpoints take."""

    database_url: str = setting(
        "memory:",
        "Where serving endpoints are kept: sqlite:///PATH (one replica), postgresql://USER:PASSWORD@HOST:PORT/DATABASE "
        "(any number), or memory:, which ends with the process. With a password, rather as the variable than as the flag.",
    )
    serving_key_headers: tuple[str, ...] = setting(
        ("x-user-id",),
        "Headers whose value keeps a user on one served entity, comma separated, the first that a request has; after them "
        "`user`, `metadata.user_id` and `session_id` of the body. None of them is sent to a provider.",
        default_text="x-user-id",
    )
    max_served_entities: int = setting(MOST_ENTITIES, "Most served entities of one endpoint.")
    traffic_guard: Literal["plans", "all", "off"] = setting(
        "plans",
        "Serving endpoints whose split may not be changed over the API by more than a pool seems to take, nor much twice "
        "within a bake time, without ?force=true: those with a plan for rollouts (`rollout`), all, or none (off); calls with "
        "?guard=true are guarded everywhere.",
    )
    endpoint_configmaps: bool = setting(
        False,
        "Serving endpoints are also declared by ConfigMaps with the label extproc.dev/serving-endpoints=true, as by files.",
    )
    endpoint_configmaps_namespace: str | None = setting(
        None, "Namespace of these ConfigMaps; that of the service account or the kubeconfig when unset."
    )
    plaintext_key_file: str | None = setting(
        None,
        "File with keys, a line each, 32 bytes in URL-safe base64 (Fernet's): with the first, secrets that are given as text "
        "are sealed before they are kept, with any they are opened. Without it they lie in the database as they are.",
    )

    @field_validator("serving_key_headers")
    @classmethod
    def _header_names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if not _NAME.fullmatch(name):
                raise ValueError(f"{name[:40]!r} is no header's name")
        return value

    @field_validator("max_served_entities")
    @classmethod
    def _some(cls, value: int) -> int:
        if not 1 <= value <= 100:
            raise ValueError("expected 1 to 100")
        return value


class ExternalSettings(Settings):
    """What external models of serving endpoints take."""

    external_allow: tuple[str, ...] = setting(
        (),
        "Hosts of providers, comma separated, as host or host:port, that may be asked over plain http, and at loopback, "
        "private and link-local addresses, which are refused otherwise, also when a name leads there.",
    )
    external_timeout: Duration = setting(
        60.0,
        "How long a provider may be silent before the first byte of its answer, from when it is asked; then the answer is 504, "
        "or the next served entity's. 0 is no limit; the proxy's idle timeout stays, 600s in envoy/serving-endpoints.yaml.",
        default_text="60s",
    )
    secrets_dir: str | None = setting(
        None, "Folder with the secrets that {{secrets/scope/key}} means: SCOPE/KEY in it, as Kubernetes mounts them."
    )
    secrets_namespace: str | None = setting(
        None,
        "Namespace whose Secrets {{secrets/scope/key}} means: the Secret SCOPE and its key KEY. Read by name, when they are "
        "referred to. Without it, and beside it, --secrets-dir and variables EXTPROC_SECRET_SCOPE_KEY.",
    )

    @field_validator("external_allow")
    @classmethod
    def _hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for host in value:
            if not _ALLOWED.fullmatch(host):
                raise ValueError(f"{host[:80]!r} is no host; expected host or host:port")
        return tuple([host.lower() for host in value])


class MeasureSettings(Settings):
    """What is measured of served entities."""

    measures: Literal["auto", "off"] = setting(
        "auto",
        "Measure each served entity: requests, errors, times, tokens, finish reasons, cost, feedback (docs/measures.md). auto: "
        "what can be seen; first token, tokens and finish reasons where Envoy sends answers' bodies here, as "
        "envoy/serving-endpoints.yaml has it.",
    )
    measures_window: Annotated[Duration, Field(ge=60, le=86400)] = setting(
        3600.0, "How far back a window of measures may reach: 1m to 24h; kept in 120 slots.", default_text="1h"
    )
    feedback_requests: Annotated[int, Field(ge=0, le=1_000_000)] = setting(
        10_000,
        "Requests of which it is known whose they were, so that somebody may still say how good the answer was: the last ones, "
        "at least half as many. 0: nobody may. Some 150 bytes each.",
    )


class DataPlaneSettings(Settings):
    """Who may send requests."""

    data_plane_auth: Literal["serving-endpoints", "all", "off"] = setting(
        "serving-endpoints",
        "Which requests need a token with the right to query, of --api-tokens-file or, with --api-auth=kubernetes, of the "
        "cluster: those below /serving-endpoints/, all, or none (off). Without either none does.",
    )
