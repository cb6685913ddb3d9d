"""Serving endpoints as people write them: Databricks' JSON shape, the same over REST and as YAML in files.

    read_*(document) ── form: types, names, references ──▶ parts ── settled(…): names, sums, kinds ──▶ the config to store

Field names are those of Databricks' SDK (databricks-sdk 0.156, `service/serving.py`). Fields that mean something only in their
cloud (`workload_size`, `budget_policy_id` ...) are taken, kept and given back. What is wrong is said all at once, each problem
as `field.path: got …; expected …`, in a SettingsError; what may be a key is never quoted. No rule here needs to know pools or
providers.
"""

from extproc.settings.serving.entities import PLAINTEXT_SCOPE, Plaintext, is_plaintext, lifted, plaintext_reference
from extproc.settings.serving.fields import MAX_DOCUMENT_BYTES, MOST_ENTITIES
from extproc.settings.serving.read import (
    ConfigForm,
    EndpointForm,
    TagsForm,
    read_all,
    read_config,
    read_create,
    read_feedback,
    read_gateway,
    read_notifications,
    read_rate_limits,
    read_tags,
    read_telemetry,
)
from extproc.settings.serving.split import Config, settled

__all__ = [
    "MAX_DOCUMENT_BYTES",
    "MOST_ENTITIES",
    "PLAINTEXT_SCOPE",
    "Config",
    "ConfigForm",
    "EndpointForm",
    "Plaintext",
    "TagsForm",
    "is_plaintext",
    "lifted",
    "plaintext_reference",
    "read_all",
    "read_config",
    "read_create",
    "read_feedback",
    "read_gateway",
    "read_notifications",
    "read_rate_limits",
    "read_tags",
    "read_telemetry",
    "settled",
]
