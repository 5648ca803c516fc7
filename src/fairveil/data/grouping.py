"""What groups are compared by: a column, several crossed with each other, or a number such as age put into bins."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import polars as pl

from fairveil.base.errors import FairveilError, did_you_mean, listed
from fairveil.data.labels import tidy_labels

BOTH = " × "
"""Between the columns of an intersection, and between its groups."""

AGES = (18.0, 30.0, 45.0, 60.0)
"""Where bins of ages begin unless others are asked for."""

_MOST_VALUES = 12  # a column with more numbers than these is put into bins
_MOST_TOLD = 24  # groups whose counts are told


@dataclass(frozen=True)
class Grouping:
    """Tables with one column to compare by.

    Attributes:
        frames: the tables, in the order they were given.
        column: the name of the column that says the groups.
        bins: where the bins of each number begin, for other tables that are to have the same.
        notes: what was done, and how many people and images each group has, in sentences.
    """

    frames: tuple[pl.DataFrame, ...]
    column: str
    bins: Mapping[str, tuple[float, ...]]
    notes: tuple[str, ...]


def grouped(
    frames: Sequence[pl.DataFrame], columns: Sequence[str], bins: Mapping[str, Sequence[float]] | None = None
) -> Grouping:
    """Tables with the groups that are asked for: of one column as they are, of several their intersections.

    A column of more than a dozen different numbers is put into bins: those asked for, else `AGES` where its name says
    age, else quarters of the rows. A person with several numbers, such as photos of many years, is in the bin of their
    median, so that each is in one group.

    Args:
        frames: tables with the columns; `identity` where known.
        columns: which; a name with commas that is no column stands for several.
        bins: where bins begin, by column.

    Raises:
        FairveilError: a column is not there, or is to be put into bins and holds no numbers.

    >>> frame = pl.DataFrame({"race": ["a", "b"], "age": ["17", "64"], "identity": ["1", "2"]})
    >>> found = grouped([frame], ["race", "age"], {"age": [18]})
    >>> found.column, found.frames[0][found.column].to_list()
    ('race × age', ['a × below 18', 'b × 18 and above'])
    """
    names = column_names(frames[0].columns, columns)
    for frame in frames:
        for name in names:
            if name not in frame.columns:
                hint = did_you_mean(name, frame.columns)
                raise FairveilError(f"There is no column {name!r} of groups.{hint} There are {listed(frame.columns)}.")
    asked = {name: tuple(sorted(edges)) for name, edges in (bins or {}).items()}
    for name in asked:
        if name not in names:
            raise FairveilError(f"Bins are given for {name!r}, and groups are of {listed(names)}: name it as a group.")
    edges = {name: found for name in names if (found := asked.get(name) or _bins(frames, name))}
    notes = [
        f"{name} is put into bins that begin at {', '.join(f'{edge:g}' for edge in found)}; whoever has several values "
        "is in the bin of their median."
        for name, found in edges.items()
    ]
    done = tuple(frames)
    for name, found in edges.items():
        done = tuple(_binned(frame, name, found) for frame in done)
    column = BOTH.join(names)
    if len(names) > 1:
        both = pl.concat_str([pl.col(name).cast(pl.String) for name in names], separator=BOTH)
        done = tuple(frame.with_columns(both.alias(column)) for frame in done)
    if len(names) > 1 or edges:
        notes += [_counts(frame, column) for frame in done]
    return Grouping(done, column, edges, tuple(notes))


def bins_of(texts: Sequence[str]) -> dict[str, tuple[float, ...]]:
    """Bins as they are asked for on the command line, such as "age=18,30,60".

    Raises:
        FairveilError: one is not written like that.

    >>> bins_of(["age=18,30"])
    {'age': (18.0, 30.0)}
    """
    found = {}
    for text in texts:
        name, _, numbers = text.partition("=")
        try:
            found[name.strip()] = tuple(float(number) for number in numbers.split(","))
        except ValueError:
            raise FairveilError(f"{text!r} are no bins: write where they begin, like age=18,30,60.") from None
    return found


def column_names(there: Sequence[str], columns: Sequence[str]) -> list[str]:
    """Names of columns, each once; commas part them unless a column is called so.

    >>> column_names(["race", "sex"], ["race,sex", "race"])
    ['race', 'sex']
    """
    names = [
        part.strip() for name in columns for part in ([name] if name in there or "," not in name else name.split(","))
    ]
    return list(dict.fromkeys(names))


def _numbers(column: pl.Series) -> pl.Series | None:
    """A column of numbers or of their texts; None if it holds anything else, or nothing."""
    labels = tidy_labels(column)
    numbers = labels.cast(pl.Float64, strict=False).fill_nan(None)
    return numbers if 0 < labels.count() == numbers.count() else None


def _bins(frames: Sequence[pl.DataFrame], name: str) -> tuple[float, ...]:
    """Where bins of a column begin that nobody gave any for; none if it is no column of many numbers."""
    parts = [_numbers(frame[name]) for frame in frames]
    numbers = pl.concat([part for part in parts if part is not None] or [pl.Series([], dtype=pl.Float64)]).drop_nulls()
    if any(part is None for part in parts) or numbers.n_unique() <= _MOST_VALUES:
        return ()
    if "age" in name.lower().replace("-", "_").split("_"):
        return AGES
    quarters = [numbers.quantile(share, interpolation="nearest") for share in (0.25, 0.5, 0.75)]
    return tuple(sorted({float(edge) for edge in quarters if edge is not None}))


def _binned(frame: pl.DataFrame, name: str, edges: Sequence[float]) -> pl.DataFrame:
    numbers = _numbers(frame[name])
    if numbers is None:
        raise FairveilError(f"The column {name!r} cannot be put into bins: it holds something that is no number.")
    frame = frame.with_columns(numbers.alias(name))
    if "identity" in frame.columns:
        person = pl.col("identity").cast(pl.String)
        median = pl.col(name).median().over(person)
        frame = frame.with_columns(pl.when(person.is_null()).then(pl.col(name)).otherwise(median).alias(name))
    value, first, last = pl.col(name), edges[0], edges[-1]
    label = pl.when(value < first).then(pl.lit(f"below {first:g}"))
    for low, high in pairwise(edges):
        label = label.when(value < high).then(pl.lit(f"{low:g} to below {high:g}"))  # type: ignore[assignment]
    return frame.with_columns(label.when(value >= last).then(pl.lit(f"{last:g} and above")).alias(name))


def _counts(frame: pl.DataFrame, column: str) -> str:
    """How many people and images each group has, in a sentence."""
    people = pl.col("identity").n_unique() if "identity" in frame.columns else pl.lit(None, pl.UInt32)
    counts = (
        frame.drop_nulls(column).group_by(column).agg(people.alias("people"), pl.len().alias("images")).sort(column)
    )
    told = [
        f"{group} ({images:,} images{'' if people is None else f' of {people:,} people'})"
        for group, people, images in counts.head(_MOST_TOLD).select(column, "people", "images").iter_rows()
    ]
    more = f", and {len(counts) - _MOST_TOLD} more groups" if len(counts) > _MOST_TOLD else ""
    return f"Groups of {column}: {', '.join(told)}{more}."
