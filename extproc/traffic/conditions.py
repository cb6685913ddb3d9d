"""What may be asked of a request: conditions that hold for it or do not.

They are made when an endpoint is compiled: values as sets, and as bytes where headers are compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, tzinfo
from typing import Any, Final, NamedTuple, TypeAlias

from extproc import names
from extproc.document import as_dict
from extproc.domain import InferenceRequest
from extproc.expressions import Expression
from extproc.traffic.hashing import Hashed
from extproc.traffic.layout import BUCKETS

EXACT: Final = "exact"
PREFIX: Final = "prefix"
SUFFIX: Final = "suffix"
ONE_OF: Final = "one_of"
PRESENT: Final = "present"
EQUALS: Final = "equals"

Plain: TypeAlias = str | bool | int | float


class Wanted(NamedTuple):
    """What a value is compared with."""

    kind: str
    """One of the above."""
    values: tuple[Plain, ...]
    """One, but for `one_of`; of `present` whether it is to be there."""


class Window(NamedTuple):
    """A time, of the calendar and of the week. Each part holds by itself."""

    after_s: float | None = None
    """Since 1970; from then on."""
    before_s: float | None = None
    """Since 1970; until then, without it."""
    days: tuple[int, ...] = ()
    """Of the week, Monday is 0; () is all."""
    from_minute: int = 0
    """Of the day."""
    to_minute: int = 24 * 60
    """Of the day, without it; before `from_minute` it is of the next day."""
    zone: tzinfo = UTC
    """Whose days and hours these are."""

    def holds(self, now_s: float) -> bool:
        if self.after_s is not None and now_s < self.after_s:
            return False
        if self.before_s is not None and now_s >= self.before_s:
            return False
        whole_day = self.from_minute == 0 and self.to_minute == 24 * 60
        if whole_day and not self.days:
            return True
        now = datetime.fromtimestamp(now_s, self.zone)
        minute, day = now.hour * 60 + now.minute, now.weekday()
        if self.from_minute > self.to_minute:  # over midnight: the early hours belong to the day before
            if minute < self.to_minute:
                day = (day - 1) % 7
            elif minute < self.from_minute:
                return False
        elif not self.from_minute <= minute < self.to_minute:
            return False
        return not self.days or day in self.days


class Asking:
    """One request, as conditions ask about it."""

    __slots__ = ("_clock", "_now_s", "_region", "draw", "failed", "groups", "key", "model", "request", "subject")

    def __init__(
        self,
        request: InferenceRequest,
        model: str | None,
        clock: Callable[[], float],
        draw: Callable[[], float],
        key: bytes | None = None,
        subject: str = "",
        groups: tuple[str, ...] = (),
        region: bytes | None = None,
    ) -> None:
        """`clock` gives seconds since 1970, and is asked once when somebody needs it; `draw` gives numbers in [0, 1). `region`
        is where the request comes from, where somebody found that out; None: what its header says.
        """
        self.request = request
        self.model = model
        """As the client names it."""
        self.draw = draw
        self.key = key
        """Who asks, as the endpoint's split goes by; None when nothing is known."""
        self.subject = subject
        """Who asks, by a token that was checked; '' when none was."""
        self.groups = groups
        self.failed = 0
        """Expressions that gave no answer for it."""
        self._clock = clock
        self._now_s = -1.0
        self._region = region

    @property
    def now_s(self) -> float:
        if self._now_s < 0.0:
            self._now_s = self._clock()
        return self._now_s

    @property
    def region(self) -> bytes:
        """Where the request comes from, b'' when nothing says so."""
        region = self._region
        return self.request.head.headers.get(names.REGION_HEADER, b"") if region is None else region


class Condition:
    """Something that holds for a request or does not. Immutable by convention."""

    def holds(self, asking: Asking) -> bool:
        raise NotImplementedError

    def covers(self, other: Condition) -> bool:
        """Whether this holds for every request for which `other` does, as far as can be told without looking at requests."""
        raise NotImplementedError


class TextTest:
    """A test of a text that may not be there."""

    __slots__ = ("_any_of", "_kind", "_there", "_value")

    def __init__(self, test: Wanted) -> None:
        self._kind = test.kind
        self._value = str(test.values[0])
        self._any_of = frozenset([str(value) for value in test.values])
        self._there = bool(test.values[0])

    def passes(self, text: str | None) -> bool:
        """None: there is none."""
        kind = self._kind
        if kind == PRESENT:
            return (text is not None) == self._there
        if text is None:
            return False
        if kind == PREFIX:
            return text.startswith(self._value)
        if kind == SUFFIX:
            return text.endswith(self._value)
        return text in self._any_of


def implies(one: Wanted, other: Wanted) -> bool:
    """Whether what passes `one` passes `other`."""
    if one == other and all(type(a) is type(b) for a, b in zip(one.values, other.values, strict=True)):  # 1 == True
        return True
    if other.kind == PRESENT:
        return other.values[0] is True and one.kind != PRESENT
    if one.kind in (EXACT, ONE_OF) and other.kind != EQUALS:
        test = TextTest(other)
        return all(test.passes(str(value)) for value in one.values)
    if one.kind == other.kind == PREFIX:
        return str(one.values[0]).startswith(str(other.values[0]))
    if one.kind == other.kind == SUFFIX:
        return str(one.values[0]).endswith(str(other.values[0]))
    return False


class HeaderIs(Condition):
    """A header's value; compared as bytes, as headers are."""

    __slots__ = ("_any_of", "_kind", "_name", "_there", "_value", "test")

    def __init__(self, name: str, test: Wanted) -> None:
        self._name = name
        self.test = test
        self._kind = test.kind
        self._value = str(test.values[0]).encode()
        self._any_of = frozenset([str(value).encode() for value in test.values])
        self._there = bool(test.values[0])

    def holds(self, asking: Asking) -> bool:
        value = asking.request.head.headers.get(self._name)
        kind = self._kind
        if kind == PRESENT:
            return (value is not None) == self._there
        if value is None:
            return False
        if kind == PREFIX:
            return value.startswith(self._value)
        if kind == SUFFIX:
            return value.endswith(self._value)
        return value in self._any_of

    def covers(self, other: Condition) -> bool:
        return isinstance(other, HeaderIs) and other._name == self._name and implies(other.test, self.test)


class PathIs(Condition):
    """The path without its query string."""

    __slots__ = ("_passes", "test")

    def __init__(self, test: Wanted) -> None:
        self.test = test
        self._passes = TextTest(test)

    def holds(self, asking: Asking) -> bool:
        return self._passes.passes(asking.request.path)

    def covers(self, other: Condition) -> bool:
        return isinstance(other, PathIs) and implies(other.test, self.test)


class ModelIs(Condition):
    """The model that the client names."""

    __slots__ = ("_passes", "test")

    def __init__(self, test: Wanted) -> None:
        self.test = test
        self._passes = TextTest(test)

    def holds(self, asking: Asking) -> bool:
        return self._passes.passes(asking.model)

    def covers(self, other: Condition) -> bool:
        return isinstance(other, ModelIs) and implies(other.test, self.test)


class FieldIs(Condition):
    """A field of a JSON body. Of a body that is none, or was not read, nothing is there."""

    __slots__ = ("_passes", "_path", "test")

    def __init__(self, path: str, test: Wanted) -> None:
        self._path = tuple(path.split("."))
        self.test = test
        self._passes = TextTest(test)

    def holds(self, asking: Asking) -> bool:
        value: object = asking.request.payload
        for name in self._path:
            value = value.get(name) if isinstance(value, Mapping) else None
        test = self.test
        if test.kind == EQUALS:
            wanted = test.values[0]
            # 1 == True in Python, and not in JSON
            return isinstance(value, bool) == isinstance(wanted, bool) and value == wanted
        if test.kind == PRESENT:
            return (value is not None) == bool(test.values[0])
        return isinstance(value, str) and self._passes.passes(value)

    def covers(self, other: Condition) -> bool:
        return isinstance(other, FieldIs) and other._path == self._path and implies(other.test, self.test)


class RegionIs(Condition):
    """Where the request comes from."""

    __slots__ = ("_any_of",)

    def __init__(self, regions: tuple[str, ...]) -> None:
        self._any_of = frozenset([region.encode() for region in regions])

    def holds(self, asking: Asking) -> bool:
        return asking.region in self._any_of

    def covers(self, other: Condition) -> bool:
        return isinstance(other, RegionIs) and other._any_of <= self._any_of


class TimeIs(Condition):
    """When the request comes."""

    __slots__ = ("window",)

    def __init__(self, window: Window) -> None:
        self.window = window

    def holds(self, asking: Asking) -> bool:
        return self.window.holds(asking.now_s)

    def covers(self, other: Condition) -> bool:
        return isinstance(other, TimeIs) and other.window == self.window


class IsAmong(Condition):
    """A share of all keys, by a salt of its own; a request without a key is drawn."""

    __slots__ = ("_buckets", "_hashed")

    def __init__(self, salt: str, buckets: int) -> None:
        self._hashed = Hashed(salt)
        self._buckets = buckets

    def holds(self, asking: Asking) -> bool:
        key = asking.key
        bucket = int(asking.draw() * BUCKETS) if key is None else self._hashed.bucket_of(key)
        return bucket < self._buckets

    def covers(self, other: Condition) -> bool:
        return self._buckets == BUCKETS  # of a request without a key, two of the same are drawn each by itself


class ExpressionHolds(Condition):
    """What else users want to say of a request."""

    __slots__ = ("_expression", "_names")

    def __init__(self, expression: Expression) -> None:
        self._expression = expression
        self._names = frozenset(expression.names)

    def holds(self, asking: Asking) -> bool:
        named, request = self._names, asking.request
        headers = request.head.headers
        values: dict[str, Any] = {
            "headers": headers,
            "path": request.path,
            "model": asking.model,
            "subject": asking.subject,
            "groups": asking.groups,
        }
        if "body" in named:
            values["body"] = as_dict(request.payload)
        if "method" in named:
            values["method"] = request.head.text(":method")
        if "region" in named:
            values["region"] = asking.region.decode("latin-1")
        if "now" in named:
            values["now"] = datetime.fromtimestamp(asking.now_s, UTC)
        answer = self._expression.evaluate(values)
        if answer.failed:
            asking.failed += 1
        return answer.value is True

    def covers(self, other: Condition) -> bool:
        return isinstance(other, ExpressionHolds) and other._expression == self._expression
