"""Settings of serving endpoints: where they are kept, and what their requests are told apart by."""

from __future__ import annotations

import re

from pydantic import field_validator

from extproc.settings.base import Settings, setting
from extproc.settings.serving import MOST_ENTITIES

_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,256}")
"""A header's name (RFC 9110, section 5.1)."""


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
