"""The model of a JSON body that is read piece by piece and never held: for streams that decide before the body's end.

Follows RFC 8259 as far as it takes to see every top-level key, however the body is cut and however the key is spelled. What
lies in between is looked at only for where it ends: strings, brackets, and that nothing stands outside strings which a reader
with extensions (comments, other quotes) might take for the beginning or end of a string. So no reader finds a `model` here
that this scanner did not see; whether numbers and words are well formed is left to the model server, which refuses them.

Speed comes from `bytes.find` for long strings and from possessive regular expressions for the rest; ranges, because `re`
tests a range set by one bitmap. State is a few fields, whatever the body's size or depth.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from itertools import accumulate, islice
from typing import Final, TypeAlias

import orjson

from extproc.domain import RequestHead
from extproc.errors import ConflictingModel, ExtProcError, InvalidBody, InvalidModel
from extproc.media import is_json, media_type
from extproc.names import INVOCATIONS
from extproc.request.parse import MAX_MODEL_BYTES, read_path
from extproc.request.paths import Api, api_of

_SPACE: Final = rb"[\t\n\r ]*+"
_CHARS: Final = rb"[\x00-\x21\x23-\x5b\x5d-\xff]"
"""Of a string: all but quote and backslash."""
_PLAIN: Final = rb"[\x00-\x21\x23-\x5a\x5e-\x7a\x7c\x7e-\xff]"
"""And no bracket."""
_OUTSIDE: Final = rb"[\t\n\r +\-.,:0-9A-Za-z]*+"
_NESTING: Final = rb"[\t\n\r +\-.,:0-9A-Za-z\[\]{}]*+"
_WORD: Final = rb"[0-9A-Za-z+\-.]"

_SKIP_SPACE: Final = re.compile(_SPACE)
_KEY: Final = re.compile(_SPACE + rb'"(' + _CHARS + rb'{0,64}+)"' + _SPACE + rb":" + _SPACE)
_SCALAR: Final = re.compile(_WORD + rb"*+")
_IN_STRING: Final = re.compile(_CHARS + rb"*+(?:\\." + _CHARS + rb"*+)*+", re.DOTALL)
# What has long strings or escapes is left to single steps and to bytes.find; all else is skipped without leaving `re`.
_SHORT: Final = rb'"' + _CHARS + rb'{0,256}+"'
_LEAF: Final = rb"[\[{]" + _OUTSIDE + rb"(?:" + _SHORT + _OUTSIDE + rb")*+[\]}]"
_OTHER_PAIRS: Final = re.compile(
    rb"(?:%(ws)b(?!\"model\")\"%(char)b{0,64}+\"%(ws)b:%(ws)b(?:%(short)b|%(word)b++|%(leaf)b)%(ws)b,)*+"
    % {b"ws": _SPACE, b"char": _CHARS, b"short": _SHORT, b"word": _WORD, b"leaf": _LEAF}
)
_NESTED: Final = re.compile(_NESTING + rb'(?:"' + _PLAIN + rb'{0,256}+"' + _NESTING + rb")*+")
_BRACKET: Final = re.compile(rb"[\[\]{}]")
_DOWN: Final = b"\xff"
_UP_AND_DOWN: Final = bytes.maketrans(b"[{]}", b"\x01\x01" + 2 * _DOWN)
_NO_BRACKET: Final = bytes(set(range(256)) - set(b"[]{}"))

_QUOTE, _BACKSLASH, _COLON, _COMMA = b'"\\:,'
_OPEN, _CLOSE = b"{}"
_OPENS: Final = b"[{"

_KEY_BYTES: Final = len(r"\u006d" * len("model"))
"""No longer key can be `model`, in any spelling."""
_VALUE_BYTES: Final = 6 * MAX_MODEL_BYTES
"""No longer value can be a model's name that we accept: an escape is six bytes for each of one."""

_Step: TypeAlias = Callable[["ModelScanner", bytes, int], int]


class ModelScanner:
    """Reads one body. `known` once its first `model` was seen whole; from then on every later one must be the same."""

    __slots__ = (
        "_base",
        "_depth",
        "_error",
        "_escaped",
        "_held",
        "_is_model",
        "_sealed",
        "_step",
        "_value_at",
        "known",
        "model",
        "spans",
    )

    def __init__(self) -> None:
        self.known = False
        self.model = ""
        """The first one, once known."""
        self.spans: list[tuple[int, int]] = []
        """Where the values of all `model` keys so far begin and end, quotes included."""
        self._step: _Step = ModelScanner._begin
        self._depth = 0
        self._escaped = False
        """The last piece ended behind a backslash in a string."""
        self._is_model = False
        self._held = b""
        """Of the key, or of a model's value, as far as it came."""
        self._base = 0
        self._value_at = 0
        self._sealed = False
        self._error: ExtProcError | None = None

    def __repr__(self) -> str:
        return f"<ModelScanner {self._step.__name__.strip('_')} at {self._base} known={self.known}>"

    def feed(self, piece: bytes | memoryview) -> ExtProcError | None:
        """Read on. None: all is well so far. An error is final, and returned for every further piece.

        InvalidBody: not a JSON object that every reader cuts into the same keys. InvalidModel: a `model` that is no string or
        is empty. ConflictingModel: a `model` that differs from the first.
        """
        if self._error is not None:
            return self._error
        data = piece if isinstance(piece, bytes) else bytes(piece)
        at, size = 0, len(data)
        try:
            while at < size:
                at = self._step(self, data, at)
        except ExtProcError as error:
            self._error = error
        self._base += size
        return self._error

    def seal(self) -> None:
        """From now on every `model` is an error, also one that is the same: the first was changed on its way."""
        self._sealed = True

    # Each step reads from `at`, which is inside `data`, and returns where the next one goes on.

    def _begin(self, data: bytes, at: int) -> int:
        at = _after_space(data, at)
        if at == len(data):
            return at
        if data[at] != _OPEN:
            raise self._broken(at)
        self._step = ModelScanner._first_key
        return at + 1

    def _first_key(self, data: bytes, at: int) -> int:
        at = _after_space(data, at)
        if at == len(data):
            return at
        if data[at] == _CLOSE:
            self._step = ModelScanner._after
            return at + 1
        self._step = ModelScanner._key  # whole pairs may end with the piece, and then another has to follow
        return self._key(data, at)

    def _key(self, data: bytes, at: int) -> int:
        at = _end(_OTHER_PAIRS, data, at)
        whole = _KEY.match(data, at)
        if whole is not None and whole.end() < len(data):
            self._is_model = whole[1] == b"model"
            return self._value(data, whole.end())
        at = _after_space(data, at)
        if at == len(data):
            return at
        if data[at] != _QUOTE:
            raise self._broken(at)
        self._held = b""
        self._step = ModelScanner._in_key
        return at + 1

    def _in_key(self, data: bytes, at: int) -> int:
        end, closed = self._string(data, at)
        if len(self._held) <= _KEY_BYTES:
            self._held += data[at : min(end, at + _KEY_BYTES + 1)]
        if not closed:
            return end
        self._is_model = self._spells_model(at)
        self._step = ModelScanner._colon
        return end + 1

    def _colon(self, data: bytes, at: int) -> int:
        at = _after_space(data, at)
        if at == len(data):
            return at
        if data[at] != _COLON:
            raise self._broken(at)
        self._step = ModelScanner._value
        return at + 1

    def _value(self, data: bytes, at: int) -> int:
        at = _after_space(data, at)
        if at == len(data):
            return at
        first = data[at]
        if first == _QUOTE:
            self._held = b""
            if self._is_model:
                self._value_at = self._base + at
            self._step = ModelScanner._in_value
            return at + 1
        if self._is_model:
            raise self._conflict() if self.known else InvalidModel("'model' must be a string", param="model")
        if first in _OPENS:
            self._depth = 1
            self._step = ModelScanner._nested
            return at + 1
        end = _end(_SCALAR, data, at)
        if end == at:
            raise self._broken(at)
        self._step = ModelScanner._in_scalar
        return end

    def _in_value(self, data: bytes, at: int) -> int:
        end, closed = self._string(data, at)
        if self._is_model:
            if len(self._held) + end - at > _VALUE_BYTES:
                raise self._conflict() if self.known else InvalidModel("the model's name is too long", param="model")
            self._held += data[at:end]
        if not closed:
            return end
        if self._is_model:
            self._named(at)
            self.spans.append((self._value_at, self._base + end + 1))
        self._step = ModelScanner._next
        return end + 1

    def _in_scalar(self, data: bytes, at: int) -> int:
        at = _end(_SCALAR, data, at)
        return at if at == len(data) else self._next(data, at)

    def _next(self, data: bytes, at: int) -> int:
        self._step = ModelScanner._next
        at = _after_space(data, at)
        if at == len(data):
            return at
        mark = data[at]
        if mark == _COMMA:
            self._step = ModelScanner._key
        elif mark == _CLOSE:
            self._step = ModelScanner._after
        else:
            raise self._broken(at)
        return at + 1

    def _nested(self, data: bytes, at: int) -> int:
        end = _end(_NESTED, data, at)
        # The brackets alone, as +1 and -1: how deep the run leads, and whether the value ends in it.
        steps = data[at:end].translate(_UP_AND_DOWN, _NO_BRACKET)
        down = steps.count(_DOWN)
        if down < self._depth:
            self._depth += len(steps) - 2 * down
        else:
            depths = list(accumulate(memoryview(steps).cast("b"), initial=self._depth))
            self._depth = depths[-1]
            if 0 in depths:
                self._depth = 0
                self._step = ModelScanner._next
                return next(islice(_BRACKET.finditer(data, at, end), depths.index(0) - 1, None)).end()
        if end == len(data):
            return end
        if data[end] != _QUOTE:
            raise self._broken(end)
        self._step = ModelScanner._nested_string
        return end + 1

    def _nested_string(self, data: bytes, at: int) -> int:
        end, closed = self._string(data, at)
        if not closed:
            return end
        self._step = ModelScanner._nested
        return end + 1

    def _after(self, data: bytes, at: int) -> int:
        at = _after_space(data, at)
        if at < len(data):
            raise self._broken(at)
        return at

    def _string(self, data: bytes, at: int) -> tuple[int, bool]:
        """Where the string that `at` is in ends: at its quote (True), or with the piece (False)."""
        size = len(data)
        if self._escaped:
            self._escaped = False
            at += 1
            if at == size:
                return at, False
        quote = data.find(b'"', at)
        if quote < 0:
            if data[-1] != _BACKSLASH:
                return size, False
        elif quote == at or data[quote - 1] != _BACKSLASH:
            return quote, True
        end = _end(_IN_STRING, data, at)
        if end == size:
            return end, False
        if data[end] == _QUOTE:
            return end, True
        self._escaped = True
        return size, False

    def _spells_model(self, at: int) -> bool:
        raw = self._held
        if len(raw) > _KEY_BYTES or b"\\" not in raw:
            return raw == b"model"
        return self._text(at) == "model"

    def _named(self, at: int) -> None:
        model = self._text(at)
        if self.known:
            if model != self.model or self._sealed:
                raise self._conflict()
        elif not model:
            raise InvalidModel("'model' is empty", param="model")
        else:
            self.model = model
            self.known = True

    def _text(self, at: int) -> str:
        """What the held bytes spell; they are let go."""
        raw, self._held = self._held, b""
        try:
            return str(orjson.loads(b'"%b"' % raw))
        except orjson.JSONDecodeError:
            raise self._broken(at) from None

    def _broken(self, at: int) -> InvalidBody:
        return InvalidBody(f"request body is not valid JSON: unexpected at byte {self._base + at}")

    def _conflict(self) -> ConflictingModel:
        return ConflictingModel("the request names two different models", param="model")


class NamedByPath:
    """For a request whose path names the model: nothing in its body can change that."""

    known: Final = True

    def feed(self, piece: bytes | memoryview) -> None:
        """All is well."""

    def seal(self) -> None:
        """The body is not changed for its model."""


_NAMED_BY_PATH: Final = NamedByPath()


def scanner_of(head: RequestHead) -> ModelScanner | NamedByPath | None:
    """A scanner for the body that `head` announces; None when only the whole body can tell the model.

    What is asked of a serving endpoint, forms, compressed bodies, JSON that is not said to be UTF-8, and what is under a path
    of no API that we know (lines of JSON, say) are read whole. A body without a content type is JSON, as for `parse`.
    """
    read = read_path(head)
    if read.model is not None:
        return None if read.path.endswith(INVOCATIONS) else _NAMED_BY_PATH
    if api_of(read.path) is Api.UNKNOWN:
        return None
    headers = head.headers
    encoding = headers.get("content-encoding")
    if encoding and encoding.strip().lower() != b"identity":
        return None
    return ModelScanner() if _is_utf8_json(headers.get("content-type", b"")) else None


@lru_cache(maxsize=256)
def _is_utf8_json(content_type: bytes) -> bool:
    _, _, parameters = content_type.lower().partition(b";")
    kind = media_type(content_type)
    if kind and not is_json(kind):
        return False
    return all(
        value.strip(b' \t"') in (b"utf-8", b"utf8")
        for name, _, value in (parameter.partition(b"=") for parameter in parameters.split(b";"))
        if name.strip() == b"charset"
    )


def _after_space(data: bytes, at: int) -> int:
    return _end(_SKIP_SPACE, data, at)


def _end(pattern: re.Pattern[bytes], data: bytes, at: int) -> int:
    """Where the match at `at` ends; the pattern matches everywhere, if nothing else then nothing."""
    match = pattern.match(data, at)
    assert match is not None
    return match.end()
