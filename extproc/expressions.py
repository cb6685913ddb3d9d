"""Expressions that users write about a request, in CEL (https://cel.dev): the one place that knows the library.

What an expression may cost is known when it is compiled. CEL has no loops but for its macros over lists (`all`, `map` ...),
and those are refused; patterns are RE2's, in linear time, and stand in the expression, never in the request; headers and fields
of a body are named by it, so that no others are handed over. What a request holds of them is bounded: what is larger gives no
answer.

The library is Google's `cel-expr-python` over cel-cpp, which checks types and names when it compiles, and takes 4 to 10 µs for
an evaluation. (`common-expression-language`, in Rust, checks no types and takes 40 µs. `cel-python` was not measured.)
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, NamedTuple

HINT: Final = "expressions need cel-expr-python: pip install 'extproc[cel]'"
MAX_CHARS: Final = 2000
MAX_VALUES: Final = 1000
"""Of a request, in all that an expression reads of it."""
MAX_TEXT: Final = 65_536
"""Characters, likewise."""
MAX_DEPTH: Final = 32

TEXT: Final = "text"
TEXTS: Final = "texts"
"""A list of texts."""
HEADERS: Final = "headers"
"""Texts by name, of which the expression names each."""
FIELDS: Final = "fields"
"""Values of a JSON object by name, of which the expression names each."""
NUMBER: Final = "number"
TIME: Final = "time"
TRUTH: Final = "truth"

Variables = tuple[tuple[str, str], ...]
"""What an expression may name, each with its kind. Names may have dots."""

REQUEST: Final[Variables] = (
    ("headers", HEADERS),
    ("path", TEXT),
    ("method", TEXT),
    ("model", TEXT),
    ("body", FIELDS),
    ("subject", TEXT),
    ("groups", TEXTS),
    ("region", TEXT),
    ("now", TIME),
)
"""Of conditions on requests."""

_MACROS: Final = frozenset({"all", "exists", "exists_one", "existsOne", "map", "filter", "transformList", "transformMap"})
_TOKEN: Final = re.compile(
    r"""(?P<comment>//[^\n]*)
    |(?P<text>[bB]?[rR]?(?:'{3}(?:\\.|[^\\])*?'{3}|\"{3}(?:\\.|[^\\])*?\"{3}|'(?:\\.|[^\\'\n])*'|\"(?:\\.|[^\\"\n])*\"))
    |(?P<name>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<number>\d[\w.]*)
    |(?P<blank>\s+)
    |(?P<sign>.)""",
    re.VERBOSE | re.DOTALL,
)
_SAID: Final = re.compile(r"<input>:(?P<line>\d+):(?P<column>\d+): (?P<words>[^\n]*)")
_PLAIN_KEY: Final = re.compile(r"""(['"])([^'"\\]*)\1\Z""")


class BadExpression(ValueError):
    """An expression that can't be used; the message begins with where, as `line 1, column 5`."""

    def __init__(self, words: str, line: int = 1, column: int = 1) -> None:
        super().__init__(f"line {line}, column {column}: {words}")
        self.line = line
        self.column = column


class _Token(NamedTuple):
    kind: str
    text: str
    begin: int


class Answer(NamedTuple):
    """What came of an evaluation."""

    value: object = None
    """None: there is none, as something that it names is not there, or as it failed."""
    failed: bool = False
    """It is not that something is not there: types that do not fit, too much to read."""


NO_ANSWER: Final = Answer()
FAILED: Final = Answer(failed=True)


class Expression:
    """A compiled expression. Immutable; may be asked by one thread at a time."""

    __slots__ = ("_compiled", "_fields", "_headers", "_names", "gives", "text")

    def __init__(
        self, text: str, compiled: Any, kinds: Mapping[str, str], keys: Mapping[str, tuple[str, ...]], gives: str
    ) -> None:
        self.text = text
        self.gives = gives
        self._compiled = compiled
        self._names = tuple(name for name, kind in kinds.items() if kind not in (HEADERS, FIELDS))
        self._headers = {name: keys[name] for name, kind in kinds.items() if kind == HEADERS}
        self._fields = {name: keys[name] for name, kind in kinds.items() if kind == FIELDS}

    @property
    def names(self) -> tuple[str, ...]:
        """The variables that it names, so that no others need be given."""
        return (*self._names, *self._headers, *self._fields)

    def evaluate(self, values: Mapping[str, Any]) -> Answer:
        """Its value for these variables, of which one may be missing. Raises nothing. Headers are bytes by name."""
        given: dict[str, Any] = {}
        budget = _Budget()
        for name in self._names:
            if (value := values.get(name)) is not None:
                given[name] = budget.of(value)
        for name, keys in self._headers.items():
            headers = values.get(name) or {}
            given[name] = {key: budget.of(headers[key].decode("latin-1")) for key in keys if key in headers}
        for name, keys in self._fields.items():
            fields = values.get(name)
            if not isinstance(fields, Mapping):
                fields = {}
            given[name] = {key: budget.of(fields[key]) for key in keys if key in fields}
        if budget.spent:
            return FAILED
        try:
            answer = self._compiled.eval(data=given)
            value = answer.value()
            if answer.type().name() != "ERROR":
                return Answer(value)
        except (RuntimeError, TypeError, ValueError, OverflowError):  # such as half a surrogate pair
            return FAILED
        return NO_ANSWER if str(value).startswith(("NOT_FOUND", "UNKNOWN: No value with name")) else FAILED

    def matches(self, values: Mapping[str, Any]) -> bool:
        """Whether it is true; what can't be said is not."""
        return self.evaluate(values).value is True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Expression) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"<Expression {self.text[:80]!r}>"


class _Budget:
    """What an evaluation may still read."""

    __slots__ = ("spent", "text", "values")

    def __init__(self) -> None:
        self.values = MAX_VALUES
        self.text = MAX_TEXT
        self.spent = False

    def of(self, value: Any, depth: int = 0) -> Any:
        """The value, or None when it is too much; then it is spent."""
        self.values -= 1
        if isinstance(value, str):
            self.text -= len(value)
        elif isinstance(value, Mapping) and depth < MAX_DEPTH and len(value) <= self.values:
            return {key: self.of(inner, depth + 1) for key, inner in value.items() if not self.spent}
        elif isinstance(value, list | tuple) and depth < MAX_DEPTH and len(value) <= self.values:
            return [self.of(inner, depth + 1) for inner in value if not self.spent]
        elif not (value is None or isinstance(value, bool | int | float | datetime)):
            self.spent = True
        if self.values < 0 or self.text < 0:
            self.spent = True
        return None if self.spent else value


def compiled(text: str, variables: Variables = REQUEST, gives: str = TRUTH) -> Expression:
    """The expression, which is to give a truth, or a `NUMBER`. Raises BadExpression, which says where it is wrong."""
    if not 1 <= len(text) <= MAX_CHARS:
        raise BadExpression(f"expected text of 1 to {MAX_CHARS} characters")
    for place, letter in enumerate(text):
        if (letter < " " and letter not in "\n\t\r") or "\ud800" <= letter <= "\udfff" or letter == "\x7f":
            raise _bad(text, place, "a character that is none of an expression")
    types = _environment(variables)
    try:
        program = types.compile(text)
    except (RuntimeError, TypeError, ValueError) as error:
        raise _explained(str(error)) from None
    tokens = list(_tokens(text))
    kinds = _named(tokens, variables)
    keys = {name: _keys(text, tokens, name, kind) for name, kind in kinds.items() if kind in (HEADERS, FIELDS)}
    _check_bounded(text, tokens)
    _check_type(program.return_type().name(), gives)
    return Expression(text, program, kinds, keys, gives)


def _check_type(found: str, gives: str) -> None:
    wanted = {TRUTH: ("BOOL",), NUMBER: ("INT", "UINT", "DOUBLE", "DYN")}[gives]
    if found not in wanted:
        what = "true or false" if gives == TRUTH else "a number"
        hint = "; compare it, as in ... == true" if found == "DYN" else ""
        raise BadExpression(f"it gives {'a value of any type' if found == 'DYN' else found.lower()}; expected {what}{hint}")


@lru_cache(maxsize=16)
def _environment(variables: Variables) -> Any:
    try:
        from cel_expr_python import cel
    except ImportError:
        raise BadExpression(HINT) from None
    kind = cel.Type
    types = {
        TEXT: kind.STRING,
        TEXTS: kind.List(kind.STRING),
        HEADERS: kind.Map(kind.STRING, kind.STRING),
        FIELDS: kind.Map(kind.STRING, kind.DYN),
        NUMBER: kind.DOUBLE,
        TIME: kind.TIMESTAMP,
    }
    return cel.NewEnv(variables={name: types[what] for name, what in variables})


def _tokens(text: str) -> Iterator[_Token]:
    for found in _TOKEN.finditer(text):
        if found.lastgroup not in ("blank", "comment"):
            yield _Token(str(found.lastgroup), found[0], found.start())


def _named(tokens: list[_Token], variables: Variables) -> dict[str, str]:
    """The variables that the expression names."""
    words = {token.text for index, token in enumerate(tokens) if token.kind == "name" and not _follows(tokens, index, ".")}
    return {name: kind for name, kind in variables if name.partition(".")[0] in words}


def _follows(tokens: list[_Token], index: int, sign: str) -> bool:
    return index > 0 and tokens[index - 1].text == sign


def _keys(text: str, tokens: list[_Token], name: str, kind: str) -> tuple[str, ...]:
    """The keys by which a map is read: `headers["x"]`, `headers.x`, `"x" in headers`."""
    keys: dict[str, None] = {}
    for index, token in enumerate(tokens):
        if token.kind != "name" or token.text != name or _follows(tokens, index, "."):
            continue
        after = [each.text for each in tokens[index + 1 : index + 4]]
        plain = None
        if after[:1] == ["["] and after[2:3] == ["]"]:
            plain = _plain(after[1])
        elif after[:1] == ["."] and len(after) > 1 and tokens[index + 2].kind == "name":
            plain = after[1]
        elif _follows(tokens, index, "in") and index > 1:
            plain = _plain(tokens[index - 2].text)
        if plain is None:
            raise _bad(text, token.begin, f'{name} is read by a key that stands here, as in {name}["x"] or "x" in {name}')
        if kind == HEADERS and plain != plain.lower():
            raise _bad(text, token.begin, f"header names are in lower case here; expected {plain.lower()!r}")
        keys[plain] = None
    return tuple(keys)


def _plain(token: str) -> str | None:
    found = _PLAIN_KEY.match(token)
    return None if found is None else found[2]


def _check_bounded(text: str, tokens: list[_Token]) -> None:
    for index, token in enumerate(tokens):
        if token.kind != "name" or index + 1 >= len(tokens) or tokens[index + 1].text != "(":
            continue
        if token.text in _MACROS and _follows(tokens, index, "."):
            raise _bad(text, token.begin, f"{token.text} is a loop; expected an expression without one")
        if token.text == "matches":
            last = next((each.text for each in tokens[index + 2 :]), "") if _follows(tokens, index, ".") else ""
            if not last or last[-1] not in "'\"" or [each.text for each in tokens[index + 3 : index + 4]] != [")"]:
                raise _bad(text, token.begin, 'the pattern of matches stands in the expression, as in model.matches("^a+$")')


def _bad(text: str, place: int, words: str) -> BadExpression:
    line = text.count("\n", 0, place) + 1
    return BadExpression(words, line, place - text.rfind("\n", 0, place))


def _explained(said: str) -> BadExpression:
    """The library's words, of which there may be several lines and a picture."""
    found = _SAID.search(said)
    if found is None:
        return BadExpression("it is nested too deeply" if "recursion limit" in said else said.splitlines()[0][:200])
    words = found["words"].removesuffix(" [INVALID_ARGUMENT]").replace(" (in container '')", "")
    return BadExpression(words[:300], int(found["line"]), int(found["column"]))
