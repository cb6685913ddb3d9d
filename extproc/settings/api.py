"""Settings of the REST API of serving endpoints."""

from __future__ import annotations

import ipaddress
from typing import Final, Literal, Self

from pydantic import field_validator, model_validator

from extproc.settings.base import Port, Settings, setting

ApiAuth = Literal["tokens", "kubernetes", "off"]

LOOPBACK_NAMES: Final = frozenset({"localhost", "ip6-localhost"})


class ApiSettings(Settings):
    """Where the API of serving endpoints listens, and who may use it."""

    api_port: Port = setting(
        0, "Port of the REST API of serving endpoints, Databricks' /api/2.0/serving-endpoints, in plaintext. 0 is off."
    )
    api_bind_address: str = setting("127.0.0.1", "Address that the API listens on.")
    api_tokens_file: str | None = setting(
        None,
        "File (YAML or JSON, watched) with the bearer tokens of the API, or their SHA-256, each with subject, role (view, "
        "query, manage) and maybe endpoints.",
    )
    api_auth: ApiAuth | None = setting(
        None,
        "Who may use the API: who has a token of --api-tokens-file (tokens), or whose token and rights the API server of "
        "Kubernetes confirms by TokenReview and SubjectAccessReview (kubernetes), or everybody on this machine (off), which is "
        "refused unless --api-bind-address is a loopback address.",
        default_text="tokens with --api-tokens-file, else off",
    )

    @property
    def api_auth_mode(self) -> ApiAuth:
        """What holds when nothing is said."""
        return self.api_auth or ("tokens" if self.api_tokens_file is not None else "off")

    @field_validator("api_bind_address")
    @classmethod
    def _an_address(cls, value: str) -> str:
        if not value.strip() or "\0" in value:
            raise ValueError("expected an address or a name, such as 127.0.0.1 or 0.0.0.0")
        return value

    @model_validator(mode="after")
    def _api_is_guarded(self) -> Self:
        mode = self.api_auth_mode
        if mode == "tokens" and self.api_tokens_file is None:
            raise ValueError("--api-auth: got tokens without --api-tokens-file; expected a file that has them")
        if mode != "tokens" and self.api_tokens_file is not None:
            raise ValueError(f"--api-auth: got {mode} with --api-tokens-file, which nobody would read; expected one of them")
        if self.api_port and mode == "off" and not is_loopback(self.api_bind_address):
            raise ValueError(
                f"--api-bind-address: got {self.api_bind_address} with --api-auth off; expected a loopback address, or "
                "--api-tokens-file or --api-auth=kubernetes, as whoever reaches that address could change serving endpoints"
            )
        return self


def is_loopback(host: str) -> bool:
    """Whether an address or a name means this machine, without asking anybody."""
    if host.lower().rstrip(".") in LOOPBACK_NAMES:
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
