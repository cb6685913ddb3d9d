"""Settings of the audit: what is written, and what `extproc audit` is asked."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from extproc.settings.base import Duration, Settings, Size, setting

_BUCKETS = 10_000
_HASH = re.compile(r"[0-9a-f]{64}")


class AuditSettings(Settings):
    """Decisions that are kept."""

    audit_dir: str | None = setting(
        None,
        "Folder for a row of every decision: request, endpoint, entity and why, config version, pool, model server, scores, "
        "status, times and tokens (docs/audit.md). With --database-url=memory: changes of endpoints are recorded there too.",
    )
    audit_format: Literal["jsonl", "parquet"] = setting(
        "jsonl",
        "What a file of decisions becomes when it is closed: packed JSON lines (.jsonl.zst), or Parquet (extproc[audit]).",
    )
    audit_sample: Annotated[float, Field(ge=0, le=1)] = setting(
        1.0, "Share of the requests whose decisions are kept, 0 to 1, by their ids: all attempts at a request, or none."
    )
    audit_buffer: Annotated[Size, Field(ge=64 * 1024)] = setting(
        8 * 2**20,
        "Decisions that may wait to be written; more are dropped and counted (extproc_audit_dropped_total).",
        default_text="8Mi",
    )
    audit_file_size: Annotated[Size, Field(ge=64 * 1024)] = setting(
        64 * 2**20, "Size at which a file of decisions is closed, before it is packed.", default_text="64Mi"
    )
    audit_file_age: Annotated[Duration, Field(ge=1)] = setting(
        3600.0, "Age at which a file of decisions is closed.", default_text="1h"
    )
    audit_keep: Annotated[Duration, Field(ge=0)] = setting(
        720 * 3600.0, "Age at which files of decisions are deleted; 0 is never.", default_text="720h"
    )
    audit_keep_size: Annotated[Size, Field(ge=0)] = setting(
        10 * 2**30, "Size of all files of decisions at which the oldest are deleted; 0 is any size.", default_text="10Gi"
    )


class AuditQuery(Settings):
    """What was decided and what was changed: from the files of --audit-dir, and from the database of serving endpoints.

    With --request-id: how that request was decided, and who made the config that served it. With --endpoint and --user-key: who
    moved this user, and what served them. With --verify: whether the chain of changes is whole; exit code 1 when it is not.
    """

    audit_dir: str | None = setting(None, "Folder with decisions, as the gateway has it.")
    database_url: str = setting("memory:", "Where serving endpoints are kept, as the gateway has it.")
    request_id: str = setting("", "Decisions on this request.")
    endpoint: str = setting("", "Of this serving endpoint.")
    entity: str = setting("", "Decisions for this served entity, as ENTITY or ENDPOINT/ENTITY.")
    bucket: Annotated[int, Field(ge=0, lt=_BUCKETS)] | None = setting(None, "Of the users in this bucket of --endpoint.")
    user_key: str | None = setting(
        None, "As --bucket, of this key, which stays here; - reads it from standard input. Needs --endpoint."
    )
    since: str | None = setting(None, "From then on: a time as 2026-11-29T09:00:00Z, or a duration before now, as 2h.")
    until: str | None = setting(None, "Before then, as --since.")
    changes: bool = setting(False, "Changes alone.")
    decisions: bool = setting(False, "Decisions alone.")
    why: bool = setting(False, "Say of each decision why it was made so, and of each change what it changed.")
    limit: Annotated[int, Field(ge=1, le=100_000)] = setting(20, "Most decisions and most changes that are told, the newest.")
    json_: bool = setting(False, "For programs.", flag="json")
    verify: bool = setting(False, "Look whether the chain of changes is whole.")
    head: str | None = setting(None, "With --verify: a hash that was told before and must be in the chain.")

    @field_validator("head")
    @classmethod
    def _hash(cls, value: str | None) -> str | None:
        if value is not None and not _HASH.fullmatch(value):
            raise ValueError("expected a hash as --verify tells it: 64 hex digits")
        return value

    @model_validator(mode="after")
    def _together(self) -> Self:
        if (self.user_key is not None or self.bucket is not None) and not self.endpoint:
            raise ValueError("--user-key and --bucket need --endpoint: each endpoint has buckets of its own")
        if self.user_key is not None and self.bucket is not None:
            raise ValueError("--user-key and --bucket exclude each other")
        if self.changes and self.decisions:
            raise ValueError("--changes and --decisions exclude each other")
        if self.head is not None and not self.verify:
            raise ValueError("--head needs --verify")
        return self
