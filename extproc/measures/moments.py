"""Number, mean and spread of values, that can be added up and subtracted.

Welford, Technometrics 4(3), 1962, for one value more; Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for
computing sample variances", 1979, for two of them together, and the same the other way round for what is left of both.
"""

from __future__ import annotations

from math import sqrt
from typing import Final, NamedTuple


class Moments(NamedTuple):
    """Of values that nobody kept."""

    n: int = 0
    mean: float = 0.0
    m2: float = 0.0
    """The sum of the squared distances from the mean."""

    @property
    def variance(self) -> float:
        """The sample's (divided by n - 1); 0 of less than two values."""
        return self.m2 / (self.n - 1) if self.n > 1 else 0.0

    @property
    def deviation(self) -> float:
        """The root of the variance."""
        return sqrt(self.variance)

    def plus(self, other: Moments) -> Moments:
        """Of both together."""
        if not self.n or not other.n:
            return self if self.n else other
        n = self.n + other.n
        apart = other.mean - self.mean
        mean = self.mean + apart * other.n / n
        return Moments(n, mean, self.m2 + other.m2 + apart * apart * self.n * other.n / n)

    def minus(self, earlier: Moments) -> Moments:
        """Of what is in this and was not in `earlier`, which is a part of it."""
        n = self.n - earlier.n
        if n <= 0:
            return NO_MOMENTS
        if not earlier.n:
            return self
        mean = (self.mean * self.n - earlier.mean * earlier.n) / n
        apart = mean - earlier.mean
        m2 = self.m2 - earlier.m2 - apart * apart * earlier.n * n / self.n
        return Moments(n, mean, max(0.0, m2) if n > 1 else 0.0)


NO_MOMENTS: Final = Moments()


class Spread:
    """Moments while values come."""

    __slots__ = ("m2", "mean", "n")

    def __init__(self) -> None:
        self.n = 0
        self.mean = 0.0
        self.m2 = 0.0

    def add(self, value: float) -> None:
        """One value more."""
        self.n += 1
        apart = value - self.mean
        self.mean += apart / self.n
        self.m2 += apart * (value - self.mean)

    def absorb(self, other: Moments) -> None:
        """All of the others' values more."""
        self.n, self.mean, self.m2 = self.moments().plus(other)

    def moments(self) -> Moments:
        """As they are now."""
        return Moments(self.n, self.mean, self.m2)
