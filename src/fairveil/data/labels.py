"""Names of people and groups as they are meant, whichever program wrote them."""

import re

import polars as pl

MISSING = (
    "", "nan", "NaN", "NAN", "-nan", "<NA>", "NA", "N/A", "n/a", "#N/A", "NaT", "None", "null", "NULL",
)  # fmt: skip
"""What counts as no label: nothing, and what pandas, R, Python and databases write for it."""

INDEX = re.compile(r"__index_level_\d+__|Unnamed: \d+|")
"""What pandas calls an index in files: a number of the row and no label."""


def tidy_labels(column: pl.Series) -> pl.Series:
    """A column of names, groups or labels as text, so that what is one label is one text.

    Spaces around labels are dropped. Letters with accents are composed (Unicode's NFC), as macOS writes them in parts.
    `MISSING` and NaN become null. Whole numbers are written without a fraction: 1, 1.0 and "1.0" are "1"; truth values
    as "true" and "false", whichever program spelled them. Zeros before a number stay, since "01" may be another label
    than "1"; see `padding_told`.

    >>> tidy_labels(pl.Series([1.0, float("nan"), 2.5])).to_list()
    ['1', None, '2.5']
    >>> tidy_labels(pl.Series(["Zoe\u0308 ", "1.0", "01"])).to_list() == ["Zo\u00eb", "1", "01"]
    True
    """
    if column.dtype.is_float():
        column = column.fill_nan(None)
        numbers = column.cast(pl.Int64, strict=False).cast(pl.String)
        whole = (column.round() == column) & numbers.is_not_null()  # larger ones stay as they are
        column = (
            pl.select(pl.when(whole).then(numbers).otherwise(column.cast(pl.String))).to_series().alias(column.name)
        )
    text = column.cast(pl.String).str.normalize("NFC").str.strip_chars()
    text = text.str.replace(r"^(-?\d+)\.0+$", "$1").replace(list(MISSING), None)
    return text.replace({"True": "true", "TRUE": "true", "False": "false", "FALSE": "false"})


def tidy_columns(frame: pl.DataFrame, names: "list[str] | tuple[str, ...]") -> pl.DataFrame:
    """A table with some of its columns as `tidy_labels` writes them."""
    return frame.with_columns(tidy_labels(frame[name]) for name in names)


def padding_told(first: pl.Series, second: pl.Series) -> str | None:
    """That names would match but for zeros before them, in a sentence; None if none would.

    >>> padding_told(pl.Series(["01", "02"]), pl.Series(["1", "2"]))
    "2 names differ only in zeros before them, such as '01' and '1': write them alike if they are the same people."
    """
    known = {name.lstrip("0"): name for name in second.drop_nulls().unique().sort() if name.isdigit()}
    alike = [
        (name, known[name.lstrip("0")])
        for name in first.drop_nulls().unique().sort()
        if name.isdigit() and known.get(name.lstrip("0"), name) != name
    ]
    if not alike:
        return None
    return (
        f"{len(alike):,} names differ only in zeros before them, such as {alike[0][0]!r} and {alike[0][1]!r}: write "
        "them alike if they are the same people."
    )
