"""What a client sees, for every kind of body: one table.

`bbr` is the body-based router, where a body that can't be read passes without a model; `gateway` has two pools, where a
request without a model has nowhere to go. The same body always gives the same answer.
"""

from __future__ import annotations

import gzip
from typing import NamedTuple

import pytest

from extproc.domain import Decision, RequestHead
from extproc.errors import ExtProcError
from extproc.protocol import Decide
from extproc.stages import Stage
from tests.fakes.deployment import Deployment
from tests.fakes.encoders import encode
from tests.fakes.events import head

BAD = "400 invalid_body"
NAME = "400 invalid_model"
NONE = "400 model_required"
LARGE = "413 body_too_large"
UNKNOWN = "415 unsupported_encoding"
PASSES = "passes"

TEXT = b"x" * (5 * 2**20)
FORM = "multipart/form-data; boundary=b"
FIELD = b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nm\r\n'
FILE = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n%s\r\n'
END = b"--b--\r\n"
M = b'{"model":"m"}'


class Row(NamedTuple):
    what: str
    body: bytes
    bbr: str = "m"
    gateway: str | None = None
    """As `bbr` unless it says."""
    content_type: str = "application/json"
    encoding: str | None = None


TABLE = [
    # -- JSON
    Row("a model", M),
    Row("the last of several counts", b'{"model":"a","model":"m"}'),
    Row("however its key is spelled", b'{"model":"a","\\u006dodel":"m"}'),
    Row("late, behind 5 MB", b'{"prompt":"' + TEXT + b'","model":"m"}'),
    Row("no model", b"{}", PASSES, NONE),
    Row("a null", b"null", PASSES, NONE),
    Row("a model that is null", b'{"model":null}', PASSES, NONE),
    Row("an empty name", b'{"model":""}', PASSES, NONE),
    Row("a number for a name", b'{"model":1}', NAME),
    Row("NaN for a name", b'{"model":NaN}', NAME),
    Row("a list for a name", b'{"model":["m"]}', NAME),
    Row("a line break in the name", b'{"model":"m\\n"}', NAME),
    Row("a NUL in the name", b'{"model":"m\\u0000"}', NAME),
    Row("half a surrogate pair in the name", b'{"model":"m\\ud800"}', NAME),
    Row("a name of 5,000 bytes", b'{"model":"' + b"m" * 5000 + b'"}', NAME),
    Row("half a surrogate pair elsewhere", b'{"prompt":"\\ud83d","model":"m"}'),
    Row("NaN and Infinity", b'{"top_p":NaN,"logit_bias":{"7":-Infinity},"model":"m"}'),
    Row("numbers beyond a double", b'{"a":1e999,"b":' + b"9" * 999 + b',"model":"m"}'),
    Row("an integer of 5,000 digits", b'{"a":' + b"9" * 5000 + b',"model":"m"}', BAD),
    Row("a byte order mark", b"\xef\xbb\xbf" + M),
    Row("UTF-16", M.decode().encode("utf-16")),
    Row("bytes that are not UTF-8", b'{"prompt":"\xff","model":"m"}', BAD),
    Row("a tab in a string", b'{"prompt":"\t","model":"m"}', BAD),
    Row("1,024 levels", b'{"a":' + b"[" * 1023 + b"]" * 1023 + b',"model":"m"}'),
    Row("1,025 levels", b'{"a":' + b"[" * 1024 + b"]" * 1024 + b',"model":"m"}', BAD),
    Row("100,000 levels", b'{"model":"m","a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", BAD),
    Row("a list", b'[{"model":"m"}]', BAD),
    Row("a string", b'"m"', BAD),
    Row("no body", b"", PASSES, NONE),
    Row("blanks", b" \n", BAD),
    Row("NULs", bytes(10), BAD),
    Row("a NUL behind it", M + b"\0", BAD),
    Row("cut", M[:-1], BAD),
    Row("two of them", M + M, BAD),
    Row("a comma too many", b'{"model":"m",}', BAD),
    Row("Python's way to write it", b"{'model':'m'}", BAD),
    # -- by its content type
    Row("JSON of a kind", M, content_type="application/vnd.x+json; charset=utf-8"),
    Row("JSON of no kind", M, content_type=""),
    Row("JSON as curl -d sends it", M, content_type="application/x-www-form-urlencoded"),
    Row("a url-encoded form", b"model=m", PASSES, NONE, "application/x-www-form-urlencoded"),
    Row("what is only like JSON", b"{m}", PASSES, NONE, "text/plain"),
    Row("text", b"m", PASSES, NONE, "text/plain"),
    Row("text of no kind", b"m", BAD, content_type=""),
    # -- forms
    Row("a field", FIELD + END, content_type=FORM),
    Row("behind a file", FILE % TEXT + FIELD + END, content_type=FORM),
    Row("the last of several fields", FIELD.replace(b"\r\nm\r", b"\r\na\r") + FIELD + END, content_type=FORM),
    Row("a file called model", FIELD + FILE.replace(b'"file"', b'"model"') % b"x" + END, content_type=FORM),
    Row("an epilogue", FIELD + END + b"--b\r\nwhatever", content_type=FORM),
    Row("no field", FILE % b"x" + END, PASSES, NONE, FORM),
    Row("nested names", FIELD.replace(b'"model"', b'"x[model]"') + END, PASSES, NONE, FORM),
    Row("an empty field", FIELD.replace(b"\r\nm\r", b"\r\n\r") + END, PASSES, NONE, FORM),
    Row("a preamble", b"preamble\r\n" + FIELD + END, BAD, content_type=FORM),
    Row("lines that end in LF", (FIELD + END).replace(b"\r", b""), BAD, content_type=FORM),
    Row("no closing boundary", FIELD, BAD, content_type=FORM),
    Row("another boundary", FIELD + END, BAD, content_type="multipart/form-data; boundary=c"),
    Row("no boundary", FIELD + END, BAD, content_type="multipart/form-data"),
    Row("a field that is not UTF-8", FIELD.replace(b"\r\nm\r", b"\r\n\xff\r") + END, BAD, content_type=FORM),
    # -- encodings
    *(
        Row(f"JSON in {name}", encode(M, name), encoding=name)
        for name in ("gzip", "x-gzip", "deflate", "br", "zstd", "gzip, br")
    ),
    Row("a form in gzip", gzip.compress(FILE % TEXT + FIELD + END), content_type=FORM, encoding="GZIP", bbr=LARGE),
    Row("a smaller form in gzip", gzip.compress(FILE % b"x" + FIELD + END), content_type=FORM, encoding="GZIP"),
    Row("identity", M, encoding="identity"),
    Row("plain, and it says gzip", M, BAD, encoding="gzip"),
    Row("gzip, and it does not say so", gzip.compress(M), BAD),
    Row("gzip that is cut", gzip.compress(M)[:-1], BAD, encoding="gzip"),
    Row("gzip and then more", gzip.compress(M) + b"x", BAD, encoding="gzip"),
    Row("gzip of what is no JSON", gzip.compress(b"{"), BAD, encoding="gzip"),
    Row("gzip of nothing", gzip.compress(b""), PASSES, NONE, encoding="gzip"),
    Row("64 MiB in 64 KB", gzip.compress(bytes(64 * 2**20)), LARGE, encoding="gzip"),
    Row("an encoding that nobody knows", M, PASSES, UNKNOWN, encoding="rot13"),
    Row("three encodings", encode(M, "br, br, br"), PASSES, UNKNOWN, encoding="br, br, br"),
]


ANY = [
    # Under a path that is no API of a model server, a body may be anything; a model is read where there is one.
    Row("a list", b'[{"jsonrpc":"2.0"}]', PASSES, NONE),
    Row("a string", b'"m"', PASSES, NONE),
    Row("cut", M[:-1], PASSES, NONE),
    Row("NULs", bytes(10), PASSES, NONE),
    Row("text of no kind", b"m", PASSES, NONE, ""),
    Row("a number for a name", b'{"model":1}', PASSES, NONE),
    Row("an object for a name", b'{"model":{"id":"m"}}', PASSES, NONE),
    Row("a line break in the name", b'{"model":"m\\n"}', PASSES, NONE),
    Row("100,000 levels", b"[" * 100_000 + b"]" * 100_000, PASSES, NONE),
    Row("a form without a closing boundary", FIELD, PASSES, NONE, FORM),
    Row("a form without a boundary", FIELD + END, PASSES, NONE, "multipart/form-data"),
    Row("plain, and it says gzip", M, PASSES, NONE, encoding="gzip"),
    Row("64 MiB in 64 KB", gzip.compress(bytes(64 * 2**20)), PASSES, UNKNOWN, encoding="gzip"),
    Row("a model", M),
    Row("a model in a form", FIELD + END, content_type=FORM),
    Row("a model in gzip", gzip.compress(M), encoding="gzip"),
]


@pytest.fixture
def deployment() -> Deployment:
    found = Deployment()
    found.add_pool("one", 1)
    found.add_pool("two", 1)
    return found


@pytest.mark.parametrize("row", TABLE, ids=[row.what for row in TABLE])
def test_every_kind_of_body(deployment: Deployment, row: Row) -> None:
    of = _head("/v1/chat/completions", row)
    assert _seen(deployment, of, row.body, "bbr") == row.bbr
    assert _seen(deployment, of, row.body, "gateway") == (row.gateway or row.bbr)


@pytest.mark.parametrize("path", ["/mcp", "/upload", "/files/1", "/v1/threads/t/messages"])
@pytest.mark.parametrize("row", ANY, ids=[row.what for row in ANY])
def test_bodies_of_paths_that_are_no_api_of_a_model_server(deployment: Deployment, row: Row, path: str) -> None:
    of = _head(path, row)
    assert _seen(deployment, of, row.body, "bbr") == row.bbr
    assert _seen(deployment, of, row.body, "epp") == "picked"
    assert _seen(deployment, of, row.body, "gateway") == (row.gateway or row.bbr)


def _head(path: str, row: Row) -> RequestHead:
    told = {"content-type": row.content_type, "content-encoding": row.encoding}
    return RequestHead({**head(path).headers, **{name: value.encode() for name, value in told.items() if value}})


def _seen(deployment: Deployment, of: RequestHead, body: bytes, which: str) -> str:
    """The model, `picked`, `passes`, or status and code of the error."""
    stages: dict[str, tuple[Stage, ...]] = {
        "bbr": (deployment.headers(),),
        "epp": (deployment.picker("one", model_required=True),),
        "gateway": (deployment.headers(), deployment.routes(one=["m"], two=["other"]), deployment.picker(None)),
    }
    try:
        decision = deployment.director(*stages[which]).decide(Decide(of, body, True))
    except ExtProcError as error:
        return f"{error.status} {error.code}"
    assert isinstance(decision, Decision)
    if which == "epp":
        return "picked" if decision.destination else PASSES
    return dict(decision.set_headers).get("X-Gateway-Model-Name", PASSES)
