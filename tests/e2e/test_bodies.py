"""Bodies of every kind through a real Envoy: they find their pool, and the model server gets what the client sent."""

from __future__ import annotations

import hashlib
import json
import os

import pytest

from extproc.demo.stack import PHI4
from tests.e2e.parts import Endpoints, Stack, call, chat, until
from tests.fakes.encoders import VARIANTS, encode

pytestmark = pytest.mark.e2e

CHAT, TRANSCRIPTIONS = "/v1/chat/completions", "/v1/audio/transcriptions"


def arrived(stack: Stack, endpoints: Endpoints, path: str, body: bytes, headers: dict[str, str]) -> dict[str, str]:
    """The headers with which phi4 got exactly these bytes. What it answers is its own affair: vLLM inflates nothing."""
    answer = call(stack.url, path, body, headers)
    assert answer.endpoint.startswith("phi4-"), answer
    assert answer.headers["x-sim-body-sha256"] == hashlib.sha256(body).hexdigest()
    (request,) = [one for one in endpoints.requests(answer.endpoint) if one["body_sha256"] == hashlib.sha256(body).hexdigest()]
    return {name.lower(): value for name, value in request["headers"]}


@pytest.mark.parametrize("variant", [*VARIANTS, "gzip, br"])
def test_encoded(stack: Stack, endpoints: Endpoints, variant: str) -> None:
    encoding, encoder = VARIANTS.get(variant, (variant, lambda body: encode(body, variant)))
    body = encoder(json.dumps({"user": os.urandom(20_000).hex(), **chat("phi4")}).encode())
    assert arrived(stack, endpoints, CHAT, body, {"content-encoding": encoding})["content-encoding"] == encoding


def test_a_large_one(stack: Stack, endpoints: Endpoints) -> None:
    body = encode(json.dumps({"user": os.urandom(2 << 20).hex(), **chat("phi4")}).encode(), "zstd")
    arrived(stack, endpoints, CHAT, body, {"content-encoding": "zstd"})


def test_a_form_with_its_file_first(stack: Stack, endpoints: Endpoints) -> None:
    form = (
        b'--edge\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\nContent-Type: audio/wav\r\n\r\n'
        + os.urandom(3 << 20)
        + b'\r\n--edge\r\nContent-Disposition: form-data; name="model"\r\n\r\n'
        + PHI4.model.encode()
        + b"\r\n--edge--\r\n"
    )
    arrived(stack, endpoints, TRANSCRIPTIONS, form, {"content-type": "multipart/form-data; boundary=edge"})


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [(b"not gzip", 400, "invalid_body"), (encode(bytes(64 << 20), "gzip"), 413, "body_too_large")],
    ids=["broken", "a bomb"],
)
def test_what_does_not_inflate(stack: Stack, body: bytes, status: int, code: str) -> None:
    answer = call(stack.url, CHAT, body, {"content-encoding": "gzip"})
    assert (answer.status, answer.json["error"]["code"], answer.endpoint) == (status, code, "")
    until(stack.idle)


def test_an_encoding_that_nobody_knows(stack: Stack) -> None:
    answer = call(stack.url, CHAT, json.dumps(chat("phi4")).encode(), {"content-encoding": "rot13"})
    if stack.one_hop:
        assert (answer.status, answer.json["error"]["code"]) == (415, "unsupported_encoding")
    else:
        assert answer.status == 404, "no route without a model"
    assert answer.endpoint == ""
