"""Each error on the wire: one row."""

from __future__ import annotations

import re

import orjson
import pytest

from extproc import errors
from extproc.errors import (
    AccessNotChecked,
    AccessUnknown,
    AmbiguousModel,
    BodyNotSeen,
    BodyTooLarge,
    ConflictingModel,
    DecisionTimeout,
    EntityNotServed,
    ExtProcError,
    InternalError,
    InvalidBody,
    InvalidMethod,
    InvalidModel,
    InvalidReference,
    MissingModel,
    NoEndpoints,
    Overloaded,
    PermissionDenied,
    ProtocolError,
    ProviderSilent,
    ProviderUnreachable,
    ProxyNotFit,
    QueueFull,
    QueueTimeout,
    RateLimited,
    RefusedByRule,
    RegionForbidden,
    RequestError,
    RequestEvicted,
    RequestTimeout,
    Saturated,
    SecretMissing,
    ShuttingDown,
    Unauthenticated,
    UnknownEndpoint,
    UnknownModel,
    UnknownServedEntity,
    UnreadableBody,
    Untranslatable,
    listed,
)
from extproc.names import DROPPED_REASON_HEADER
from extproc.transport.session import reply_of

CLIENT = "invalid_request_error"
SERVER = "server_error"

TABLE: list[tuple[type[ExtProcError], int, str, str, str | None, str]] = [
    (InvalidBody, 400, "invalid_body", CLIENT, None, "MALFORMED_REQUEST"),
    (InvalidModel, 400, "invalid_model", CLIENT, None, "INVALID_PARAMETER_VALUE"),
    (MissingModel, 400, "model_required", CLIENT, None, "INVALID_PARAMETER_VALUE"),
    (AmbiguousModel, 400, "ambiguous_model", CLIENT, None, "INVALID_PARAMETER_VALUE"),
    (Untranslatable, 400, "unsupported_field", CLIENT, None, "INVALID_PARAMETER_VALUE"),
    (InvalidReference, 400, "invalid_secret_reference", CLIENT, None, "INVALID_PARAMETER_VALUE"),
    (ConflictingModel, 400, "conflicting_model", CLIENT, None, "INVALID_PARAMETER_VALUE"),
    (RefusedByRule, 403, "refused_by_rule", CLIENT, None, "PERMISSION_DENIED"),
    (UnknownModel, 404, "model_not_found", CLIENT, None, "RESOURCE_DOES_NOT_EXIST"),
    (UnknownEndpoint, 404, "serving_endpoint_not_found", CLIENT, None, "RESOURCE_DOES_NOT_EXIST"),
    (UnknownServedEntity, 404, "served_entity_not_found", CLIENT, None, "RESOURCE_DOES_NOT_EXIST"),
    (RequestTimeout, 408, "request_timeout", CLIENT, None, "REQUEST_TIMEOUT"),
    (BodyTooLarge, 413, "body_too_large", CLIENT, None, "REQUEST_TOO_LARGE"),
    (InvalidMethod, 405, "method_not_allowed", CLIENT, None, "METHOD_NOT_ALLOWED"),
    (UnreadableBody, 415, "unsupported_encoding", CLIENT, None, "INVALID_PARAMETER_VALUE"),
    (Unauthenticated, 401, "invalid_api_key", CLIENT, None, "UNAUTHENTICATED"),
    (PermissionDenied, 403, "permission_denied", CLIENT, None, "PERMISSION_DENIED"),
    (RateLimited, 429, "rate_limit_exceeded", "rate_limit_error", None, "REQUEST_LIMIT_EXCEEDED"),
    (Saturated, 429, "pool_saturated", "rate_limit_error", "rejected-saturated", "RESOURCE_EXHAUSTED"),
    (QueueFull, 429, "queue_full", "rate_limit_error", "rejected-saturated", "RESOURCE_EXHAUSTED"),
    (RequestEvicted, 429, "request_evicted", "rate_limit_error", "evicted", "RESOURCE_EXHAUSTED"),
    (QueueTimeout, 429, "queue_timeout", "rate_limit_error", "rejected-ttl-expired", "RESOURCE_EXHAUSTED"),
    (ShuttingDown, 503, "shutting_down", SERVER, "rejected-shutting-down", "TEMPORARILY_UNAVAILABLE"),
    (BodyNotSeen, 500, "body_not_seen", SERVER, None, "INTERNAL_ERROR"),
    (AccessNotChecked, 500, "access_not_checked", SERVER, None, "INTERNAL_ERROR"),
    (AccessUnknown, 503, "access_unknown", SERVER, None, "TEMPORARILY_UNAVAILABLE"),
    (SecretMissing, 500, "secret_missing", SERVER, None, "INTERNAL_ERROR"),
    (Overloaded, 503, "overloaded", SERVER, None, "TEMPORARILY_UNAVAILABLE"),
    (NoEndpoints, 503, "no_endpoints", SERVER, "rejected-no-endpoints", "TEMPORARILY_UNAVAILABLE"),
    (ProxyNotFit, 500, "proxy_not_fit", SERVER, None, "INTERNAL_ERROR"),
    (EntityNotServed, 503, "served_entity_unavailable", SERVER, None, "TEMPORARILY_UNAVAILABLE"),
    (RegionForbidden, 503, "region_forbidden", SERVER, None, "TEMPORARILY_UNAVAILABLE"),
    (ProviderUnreachable, 503, "provider_unreachable", SERVER, None, "TEMPORARILY_UNAVAILABLE"),
    (DecisionTimeout, 504, "decision_timeout", SERVER, "rejected-context-cancelled", "DEADLINE_EXCEEDED"),
    (ProviderSilent, 504, "provider_silent", SERVER, None, "DEADLINE_EXCEEDED"),
    (InternalError, 500, "internal_error", SERVER, None, "INTERNAL_ERROR"),
]


@pytest.mark.parametrize(
    ("error", "status", "code", "kind", "dropped"), [row[:5] for row in TABLE], ids=[row[2] for row in TABLE]
)
def test_on_the_wire(error: type[ExtProcError], status: int, code: str, kind: str, dropped: str | None) -> None:
    reply = reply_of(error("what is wrong", param="model"))
    assert reply.status == status
    assert reply.content_type == "application/json"
    assert orjson.loads(reply.body) == {"error": {"message": "what is wrong", "type": kind, "param": "model", "code": code}}
    assert reply.details == f"extproc_{code}"
    more = {
        AccessUnknown: {"retry-after": "1"},
        Overloaded: {"retry-after": "1"},
        QueueFull: {"retry-after": "1"},
        RequestEvicted: {"retry-after": "1"},
        QueueTimeout: {"retry-after": "1"},
        ShuttingDown: {"retry-after": "1"},
        Unauthenticated: {"www-authenticate": "Bearer"},
        InvalidMethod: {"allow": "POST"},
    }.get(error, {})
    assert dict(reply.headers) == {**({DROPPED_REASON_HEADER: dropped} if dropped else {}), **more}


@pytest.mark.parametrize(("error", "status", "error_code"), [(row[0], row[1], row[5]) for row in TABLE])
def test_below_serving_endpoints_in_databricks_shape(error: type[ExtProcError], status: int, error_code: str) -> None:
    raised = error("what is wrong", param="model")
    raised.answers(b"/serving-endpoints/chat/invocations?x=1")
    reply = reply_of(raised)
    assert reply.status == status
    assert orjson.loads(reply.body) == {"error_code": error_code, "message": "what is wrong"}
    raised.answers(b"/v1/chat/completions")
    assert "error" in orjson.loads(reply_of(raised).body)


@pytest.mark.parametrize(("error", "status"), [row[:2] for row in TABLE], ids=[row[2] for row in TABLE])
def test_as_the_module_says(error: type[ExtProcError], status: int) -> None:
    """The tree on top of the module names the class, its status and its code."""
    assert errors.__doc__ is not None
    assert re.search(rf"── {error.__name__} +{status} {error.code}", errors.__doc__)


def test_param_is_null_when_there_is_none() -> None:
    assert orjson.loads(reply_of(NoEndpoints("none")).body)["error"]["param"] is None


def test_every_error_has_a_row() -> None:
    def leaves(kind: type[ExtProcError]) -> set[type[ExtProcError]]:
        below = kind.__subclasses__()
        return set().union(*map(leaves, below)) if below else {kind}

    assert leaves(ExtProcError) == {row[0] for row in TABLE} | {ProtocolError}


def test_errors_the_client_can_mend_are_one_family() -> None:
    for error, status, _, kind, _, _ in TABLE:
        # 429: the request is fine, and may be sent again.
        assert issubclass(error, RequestError) == (kind == CLIENT) == (400 <= status < 500 and status != 429)
    assert not issubclass(ProtocolError, RequestError)


def test_the_message_is_the_text_of_the_exception() -> None:
    assert str(UnknownModel("no such model", param="model")) == "no such model"


def test_somebody_else_is_left() -> None:
    error = NoEndpoints("none")
    error.falls_back = True
    assert ("x-extproc-next-entity", "1") in reply_of(error).headers


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        ([], "none"),
        (["a"], "a"),
        ([f"m{n}" for n in range(20)], ", ".join(f"m{n}" for n in range(20))),
        ([f"m{n}" for n in range(23)], ", ".join(f"m{n}" for n in range(20)) + " and 3 more"),
    ],
)
def test_names_for_a_message(names: list[str], shown: str) -> None:
    assert listed(names) == shown
    assert listed(iter(names)) == shown
