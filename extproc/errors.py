"""Everything that can go wrong with a request, and how it looks on the wire.

    ExtProcError
    ├── RequestError              the request is at fault; answered to the client as an ImmediateResponse
    │   ├── InvalidBody           400 invalid_body: not the JSON or the form that its content type says
    │   ├── InvalidModel          400 invalid_model: not a string, control characters, too long
    │   ├── MissingModel          400 model_required
    │   ├── AmbiguousModel        400 ambiguous_model: several serving endpoints have it
    │   ├── Untranslatable        400 unsupported_field: what the external model's provider can't be asked
    │   ├── InvalidReference      400 invalid_secret_reference: a secret, or nothing of the kind, where a reference belongs
    │   ├── ConflictingModel      400 conflicting_model: two models, where the first was already acted on
    │   ├── Unauthenticated       401 invalid_api_key, with WWW-Authenticate
    │   ├── PermissionDenied      403 permission_denied
    │   ├── RefusedByRule         403 refused_by_rule, or with the status that the rule says
    │   ├── UnknownModel          404 model_not_found
    │   ├── UnknownEndpoint       404 serving_endpoint_not_found
    │   ├── UnknownServedEntity   404 served_entity_not_found
    │   ├── InvalidMethod         405 method_not_allowed
    │   ├── RequestTimeout        408 request_timeout
    │   ├── BodyTooLarge          413 body_too_large
    │   └── UnreadableBody        415 unsupported_encoding
    ├── RateLimited               429 rate_limit_exceeded, with Retry-After
    ├── Saturated                 429 pool_saturated, dropped reason rejected-saturated
    ├── QueueFull                 429 queue_full, dropped reason rejected-saturated, with Retry-After
    ├── QueueTimeout              429 queue_timeout, dropped reason rejected-ttl-expired, with Retry-After
    ├── RequestEvicted            429 request_evicted, dropped reason evicted, with Retry-After
    ├── BodyNotSeen               500 body_not_seen: the proxy's configuration is at fault
    ├── AccessNotChecked          500 access_not_checked: we may not ask about the token
    ├── SecretMissing             500 secret_missing: a secret that is referred to is not to be had
    ├── Overloaded                503 overloaded, with Retry-After: the process holds too much
    ├── NoEndpoints               503 no_endpoints, dropped reason rejected-no-endpoints
    ├── ProxyNotFit               500 proxy_not_fit: the proxy's configuration is at fault
    ├── ShuttingDown              503 shutting_down, dropped reason rejected-shutting-down, with Retry-After
    ├── EntityNotServed           503 served_entity_unavailable
    ├── RegionForbidden           503 region_forbidden: nobody can serve it where it has to stay
    ├── ProviderUnreachable       503 provider_unreachable
    ├── AccessUnknown             503 access_unknown, with Retry-After: nobody can be asked about the token now
    ├── DecisionTimeout           504 decision_timeout, dropped reason rejected-context-cancelled
    ├── ProviderSilent            504 provider_silent
    ├── InternalError             500 internal_error: a fault of ours, kept from the client
    └── ProtocolError             the peer broke the ext_proc protocol; ends the stream with INVALID_ARGUMENT

`code` is the `code` of OpenAI's error object and Envoy's response code detail; clients may match on it.
The HTTP statuses follow llm-d router's table (reference: its `errors` package); the body is OpenAI's error shape, and under
`/serving-endpoints/` Databricks', whose clients match on `error_code`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Final

SERVING_ENDPOINTS: Final = b"/serving-endpoints/"
"""Paths below it are Databricks' query API, and so are the errors there."""


def listed(names: Iterable[str], none: str = "none") -> str:
    """Names for a message: the first twenty, and how many more there are; `none` when there are none."""
    there = list(names)
    more = len(there) - _LISTED
    return ", ".join(there[:_LISTED]) + (f" and {more} more" if more > 0 else "") if there else none


_LISTED: Final = 20


class ExtProcError(Exception):
    """An error with a place on the wire. `message` is shown to clients: never put a body or a secret into it."""

    status: int = 500
    code: ClassVar[str] = "internal_error"
    type: ClassVar[str] = "server_error"
    dropped_reason: ClassVar[str | None] = None
    error_code: ClassVar[str] = "INTERNAL_ERROR"
    """Databricks' word for it."""

    usual_retry_s: ClassVar[int] = 0
    """`retry_after_s` where nobody says it."""

    def __init__(self, message: str, *, param: str | None = None, retry_after_s: int | None = None) -> None:
        """`retry_after_s`: after how many whole seconds the client may come again (RFC 9110, section 10.2.3); 0 says none."""
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_s = self.usual_retry_s if retry_after_s is None else retry_after_s
        self.falls_back = False
        """Somebody else is left to serve the request: the proxy is told to ask anew."""
        self.to_databricks = False
        """The client speaks Databricks' query API."""

    def answers(self, path: bytes) -> None:
        """It is the answer to a request for this path."""
        self.to_databricks = path.startswith(SERVING_ENDPOINTS)


class RequestError(ExtProcError):
    """The client can mend the request."""

    status = 400
    code = "invalid_request"
    type = "invalid_request_error"
    error_code = "INVALID_PARAMETER_VALUE"


class InvalidBody(RequestError):
    """The body is not what its content type says."""

    code = "invalid_body"
    error_code = "MALFORMED_REQUEST"


class InvalidModel(RequestError):
    """The model's value can't be a header value."""

    code = "invalid_model"


class MissingModel(RequestError):
    """A model is needed to go on and the request names none."""

    code = "model_required"


class AmbiguousModel(RequestError):
    """Several serving endpoints have a model that no pool serves."""

    code = "ambiguous_model"


class Untranslatable(RequestError):
    """A field says what can't be said to the provider of an external model. `param` is the field."""

    code = "unsupported_field"


class InvalidReference(RequestError):
    """What should refer to a secret does not. The message holds nothing of it: it may be the secret itself."""

    code = "invalid_secret_reference"


class ConflictingModel(RequestError):
    """A later `model` differs from the one that was decided on before the body's end."""

    code = "conflicting_model"


class Unauthenticated(RequestError):
    """No token, or one that nobody knows (RFC 9110, section 15.5.2)."""

    status = 401
    code = "invalid_api_key"
    error_code = "UNAUTHENTICATED"


class PermissionDenied(RequestError):
    """The token's bearer may not do this."""

    status = 403
    code = "permission_denied"
    error_code = "PERMISSION_DENIED"


class RefusedByRule(RequestError):
    """A rule of the serving endpoint refuses the request."""

    status = 403
    code = "refused_by_rule"
    error_code = "PERMISSION_DENIED"

    def __init__(self, message: str, status: int = 403, *, param: str | None = None) -> None:
        super().__init__(message, param=param)
        self.status = status


class UnknownModel(RequestError):
    """No route serves the model."""

    status = 404
    code = "model_not_found"
    error_code = "RESOURCE_DOES_NOT_EXIST"


class UnknownEndpoint(RequestError):
    """No serving endpoint has the name."""

    status = 404
    code = "serving_endpoint_not_found"
    error_code = "RESOURCE_DOES_NOT_EXIST"


class UnknownServedEntity(RequestError):
    """The serving endpoint has no served entity of that name."""

    status = 404
    code = "served_entity_not_found"
    error_code = "RESOURCE_DOES_NOT_EXIST"


class InvalidMethod(RequestError):
    """What is asked for is asked for with POST (RFC 9110, section 15.5.6)."""

    status = 405
    code = "method_not_allowed"
    error_code = "METHOD_NOT_ALLOWED"


class RequestTimeout(RequestError):
    """The request did not arrive in time (RFC 9110, section 15.5.9)."""

    status = 408
    code = "request_timeout"
    error_code = "REQUEST_TIMEOUT"


class BodyTooLarge(RequestError):
    """The body is larger than the configured limit."""

    status = 413
    code = "body_too_large"
    error_code = "REQUEST_TOO_LARGE"


class UnreadableBody(RequestError):
    """The body is needed to choose a model, and its content encoding can't be read."""

    status = 415
    code = "unsupported_encoding"


class Saturated(ExtProcError):
    """The pool has no room for a request that may be shed (priority below 0)."""

    status = 429
    code = "pool_saturated"
    type = "rate_limit_error"
    dropped_reason = "rejected-saturated"
    error_code = "RESOURCE_EXHAUSTED"


class QueueFull(ExtProcError):
    """As many wait for the pool as may, or somebody more important has the place."""

    status = 429
    code = "queue_full"
    type = "rate_limit_error"
    dropped_reason = "rejected-saturated"
    error_code = "RESOURCE_EXHAUSTED"
    usual_retry_s = 1


class QueueTimeout(ExtProcError):
    """It has waited for the pool as long as it may."""

    status = 429
    code = "queue_timeout"
    type = "rate_limit_error"
    dropped_reason = "rejected-ttl-expired"
    error_code = "RESOURCE_EXHAUSTED"
    usual_retry_s = 1


class RequestEvicted(ExtProcError):
    """It was with the model server, and was taken back for a more important one."""

    status = 429
    code = "request_evicted"
    type = "rate_limit_error"
    dropped_reason = "evicted"
    error_code = "RESOURCE_EXHAUSTED"
    usual_retry_s = 1


class RateLimited(ExtProcError):
    """A limit on calls or tokens is used up (RFC 6585, section 4)."""

    status = 429
    code = "rate_limit_exceeded"
    type = "rate_limit_error"
    error_code = "REQUEST_LIMIT_EXCEEDED"


class BodyNotSeen(ExtProcError):
    """The request's model may have to be changed, and the proxy is configured not to send the body."""

    code = "body_not_seen"


class SecretMissing(ExtProcError):
    """A secret that is referred to is not to be had. The message names the reference, which is no secret."""

    code = "secret_missing"


class AccessNotChecked(ExtProcError):
    """Whoever knows tokens does not let us ask: our own rights, or our configuration, are at fault."""

    code = "access_not_checked"


class AccessUnknown(ExtProcError):
    """Whoever knows tokens can't be asked just now (RFC 9110, section 15.6.4)."""

    status = 503
    code = "access_unknown"
    error_code = "TEMPORARILY_UNAVAILABLE"
    usual_retry_s = 1


class Overloaded(ExtProcError):
    """The process holds as much of bodies and answers as it may (RFC 9110, section 15.6.4)."""

    status = 503
    code = "overloaded"
    error_code = "TEMPORARILY_UNAVAILABLE"
    usual_retry_s = 1


class NoEndpoints(ExtProcError):
    """The pool has no endpoint that may serve the request."""

    status = 503
    code = "no_endpoints"
    dropped_reason = "rejected-no-endpoints"
    error_code = "TEMPORARILY_UNAVAILABLE"


class ShuttingDown(ExtProcError):
    """It waited for the pool, or would have to, and the process stops."""

    status = 503
    code = "shutting_down"
    dropped_reason = "rejected-shutting-down"
    error_code = "TEMPORARILY_UNAVAILABLE"
    usual_retry_s = 1


class EntityNotServed(ExtProcError):
    """What the served entity names is not there any more."""

    status = 503
    code = "served_entity_unavailable"
    error_code = "TEMPORARILY_UNAVAILABLE"


class RegionForbidden(ExtProcError):
    """Rules of residency keep the request where nobody can serve it (RFC 9110, section 15.6.4)."""

    status = 503
    code = "region_forbidden"
    error_code = "TEMPORARILY_UNAVAILABLE"


class ProxyNotFit(ExtProcError):
    """The proxy is configured without what this request needs."""

    code = "proxy_not_fit"


class ProviderUnreachable(ExtProcError):
    """There is no address at which the external provider may be asked."""

    status = 503
    code = "provider_unreachable"
    error_code = "TEMPORARILY_UNAVAILABLE"


class DecisionTimeout(ExtProcError):
    """The request was there, and no decision came in time (RFC 9110, section 15.6.5)."""

    status = 504
    code = "decision_timeout"
    dropped_reason = "rejected-context-cancelled"
    error_code = "DEADLINE_EXCEEDED"


class ProviderSilent(ExtProcError):
    """The external provider was asked, and nothing of its answer came in time (RFC 9110, section 15.6.5)."""

    status = 504
    code = "provider_silent"
    error_code = "DEADLINE_EXCEEDED"


class InternalError(ExtProcError):
    """A fault of ours; the log has the cause, the client only this."""


class ProtocolError(ExtProcError):
    """The peer sent what the ext_proc protocol does not allow."""

    code = "protocol_error"
