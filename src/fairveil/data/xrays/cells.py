"""What the cells of lists of X-rays mean: findings, ages, sexes."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Literal

import polars as pl
import torch
from torch import Tensor

from fairveil.base.errors import FairveilError, shown

Uncertain = Literal["mixed", "zeros", "ones", "ignore"]

MEANINGS: Mapping[Uncertain, str] = {
    "mixed": "present for Edema and Atelectasis, absent for all others",
    "zeros": "absent",
    "ones": "present",
    "ignore": "unknown",
}
"""What -1 counts as, in words."""

AGE_EDGES = (40, 60, 80)
"""Years at which the bands of ages begin, after the first."""

_OLDEST = 120  # ChestX-ray14 has patients of 414 years
_PRESENT_IF_UNCERTAIN = ("Edema", "Atelectasis")
_SEXES = {"m": "M", "male": "M", "f": "F", "female": "F", "u": None, "unknown": None}


def age_bands(ages: pl.Series) -> pl.Series:
    """Ages in years, by the bands that begin at `AGE_EDGES`; null where unknown or impossible.

    >>> age_bands(pl.Series([17.0, 40.0, 79.5, 80.0, 414.0, None])).to_list()
    ['<40', '40-59', '60-79', '80+', None, None]
    """
    later = [f"{low}-{high - 1}" for low, high in pairwise(AGE_EDGES)]
    bands = [f"<{AGE_EDGES[0]}", *later, f"{AGE_EDGES[-1]}+"]
    age = pl.col("age").cast(pl.Float64)
    number = pl.sum_horizontal(age >= edge for edge in AGE_EDGES)
    band = number.replace_strict(dict(enumerate(bands)), return_dtype=pl.String)
    return ages.to_frame("age").select(pl.when(age.is_between(0, _OLDEST)).then(band).alias("age")).to_series()


def read_labels(
    path: Path, frame: pl.DataFrame, findings: Sequence[str], uncertain: Uncertain, *, empty: float
) -> Tensor:
    """Columns of 1, 0, -1 for uncertain, and nothing, as labels, float32 (N, K), NaN where unknown.

    Args:
        path: of the list, for complaints.
        frame: the list, all strings.
        findings: the columns, K.
        uncertain: what -1 counts as; see `read_xrays`.
        empty: what nothing counts as.

    Raises:
        FairveilError: a cell holds something else.
    """
    columns = []
    for finding in findings:
        words = frame[finding]
        values = words.cast(pl.Float32, strict=False)
        odd = words.is_not_null() & ~values.is_in([1.0, 0.0, -1.0]).fill_null(False)
        if odd.any():
            row = int(odd.arg_max() or 0)
            raise FairveilError(
                f"Row {row + 1} of {shown(path)} has {words[row]!r} for {finding}: give 1 (present), 0 (absent), -1 "
                "(uncertain), or nothing."
            )
        doubt = {"zeros": 0.0, "ones": 1.0, "ignore": float("nan")}
        meant = doubt.get(uncertain, float(finding in _PRESENT_IF_UNCERTAIN))
        columns.append(values.replace({-1.0: meant}).fill_null(empty))
    return stack_labels(columns)


def stack_labels(columns: Sequence[pl.Series]) -> Tensor:
    """Columns (N,) as labels, float32 (N, K), NaN for null."""
    filled = [column.cast(pl.Float32).fill_null(float("nan")).to_numpy(writable=True) for column in columns]
    return torch.stack([torch.from_numpy(column) for column in filled], dim=1)


def years(ages: pl.Series) -> pl.Series:
    """Ages in years, of such as "58", "58.0", "058Y", "011M" (months) or "003D" (days); null for any other."""
    parts = ages.cast(pl.String).str.extract_groups(r"^(?i)(\d+(?:\.\d+)?)\s*([ymd]?)$").struct
    units = parts.field("2").str.to_lowercase().replace_strict({"m": 12, "d": 365}, default=1, return_dtype=pl.Float64)
    return parts.field("1").cast(pl.Float64) / units


def sexes(values: pl.Series) -> pl.Series:
    """M and F, however they are spelled; null where unknown, and other words as they are."""
    known = values.str.to_lowercase()
    return choose(known.is_in([*_SEXES]), known.replace_strict(_SEXES, default=None, return_dtype=pl.String), values)


def choose(holds: pl.Series, one: "pl.Series | str", other: pl.Series) -> pl.Series:
    """One where a series of truth values holds, else the other, also where it is null."""
    filled = pl.Series([one]).new_from_index(0, len(holds)) if isinstance(one, str) else one
    return filled.zip_with(holds.fill_null(False), other)
