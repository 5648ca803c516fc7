"""A figure and its interval: the one form in which all that was measured is carried, shown and written."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal

Method = Literal[
    "",
    "Wilson",
    "Student",
    "Bonett-Price",
    "MOVER",
    "MOVER-R",
    "Fisher",
    "bootstrap",
    "bootstrap or Wilson",
    "mean of ends",
    "lowest and highest",
]
"""How an interval was made: "" where there is none, or where it was read from a file. The functions that make intervals
give their formulas and sources."""

RESOLUTION = 1e-9
"""What figures differ by through rounding alone."""

_SINGLE = 1e-6  # likewise, of shares that were computed with 32 bits


@dataclass(frozen=True)
class Estimate:
    """A figure and its interval, of 95 % where nothing else is said.

    Attributes:
        value: the figure; shares are in [0, 1]. NaN where there is none, such as a ratio to zero.
        low: lower end of the interval; minus infinity where nothing is known of it.
        high: upper end; infinity where it is not bounded.
        n: the size of the sample, as the interval takes it: how many `unit`.
        unit: what was sampled, such as "people", "runs", "trials".
        method: how the interval was made.
        count: how many probes, photos or pairs the figure is of, often several of one unit.

    >>> -Estimate(0.2, 0.1, 0.4)
    Estimate(value=-0.2, low=-0.4, high=-0.1, n=None, unit='', method='', count=None)
    """

    value: float
    low: float = -math.inf
    high: float = math.inf
    n: int | None = None
    unit: str = ""
    method: Method = ""
    count: int | None = None

    def __rsub__(self, number: float) -> "Estimate":
        """A number less the figure: 1 less an accuracy is the error."""
        low, high = number - self.high, number - self.low
        return Estimate(number - self.value, low, high, self.n, self.unit, self.method, self.count)

    def __neg__(self) -> "Estimate":
        """The same of minus the figure."""
        return 0.0 - self  # gives 0.0 where -0.0 would be shown with a sign

    @property
    def measured(self) -> bool:
        """Whether there is a figure."""
        return not math.isnan(self.value)

    @property
    def bounded(self) -> bool:
        """Whether the interval has two ends."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    @classmethod
    def from_ends(
        cls,
        value: float,
        low: float | None,
        high: float | None,
        *,
        n: int | None = None,
        unit: str = "",
        count: int | None = None,
    ) -> "Estimate":
        """An estimate from what files hold: an end that is None is none; the other way round is `ends`."""
        known = -math.inf if low is None else low, math.inf if high is None else high
        return cls(value, *known, n, unit, count=count)

    @property
    def ends(self) -> tuple[float | None, float | None]:
        """Both ends, None where there is none: what files hold."""
        low, high = (end if math.isfinite(end) else None for end in (self.low, self.high))
        return low, high

    def excludes(self, number: float) -> bool:
        """Whether the number lies outside of the interval, so that the figure can be told from it.

        An interval without any width, of runs that all gave the same, has nothing to go by and excludes nothing.
        """
        return self.high - self.low >= RESOLUTION and (self.low > number or self.high < number)


@dataclass(frozen=True)
class BinomialCount:
    """How often something happened in so many trials: whole numbers, from which shares are computed.

    Attributes:
        successes: how often it did.
        trials: of how many times.

    Raises:
        ValueError: there are fewer successes than none, or more than trials.

    >>> BinomialCount(3, 4).share
    0.75
    """

    successes: int
    trials: int

    def __post_init__(self) -> None:
        if not 0 <= self.successes <= self.trials:
            raise ValueError(f"{self.successes} successes in {self.trials} trials are not possible.")

    @classmethod
    def of_share(cls, share: float, trials: int) -> "BinomialCount":
        """The count that a share was computed from, such as one in a file.

        Raises:
            ValueError: no whole number of successes gives this share.

        >>> BinomialCount.of_share(0.07, 100)
        BinomialCount(successes=7, trials=100)
        """
        count = cls(round(share * trials), trials)
        if trials and abs(count.share - share) > _SINGLE:
            raise ValueError(f"{share} is no share of {trials} trials.")
        return count

    @property
    def share(self) -> float:
        """The share of successes, in [0, 1]; NaN of no trial."""
        return self.successes / self.trials if self.trials else math.nan


def recorded(one: Any, *, n: str = "identities", count: str = "probes") -> Any:
    """Results as JSON has them: an estimate, or dataclasses, mappings and sequences with estimates in them.

    Args:
        one: what is to be written.
        n: the name under which the size of a sample is written, where it is known.
        count: the name of the count, likewise.

    >>> recorded({"ratio": Estimate(2.0, 1.0), "rate": Estimate(0.5, 0.2, 0.8, 4, count=9)})["rate"]
    {'value': 0.5, 'low': 0.2, 'high': 0.8, 'probes': 9, 'identities': 4}
    """
    if isinstance(one, Estimate):
        low, high = one.ends
        known = {name: size for name, size in ((count, one.count), (n, one.n)) if size is not None}
        return {"value": one.value if one.measured else None, "low": low, "high": high, **known}
    if is_dataclass(one):
        return {field.name: recorded(getattr(one, field.name), n=n, count=count) for field in fields(one)}
    if isinstance(one, Mapping):
        return {name: recorded(value, n=n, count=count) for name, value in one.items()}
    return [recorded(value, n=n, count=count) for value in one] if isinstance(one, list | tuple) else one
