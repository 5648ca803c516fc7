"""Tables of embeddings as other programs write them: which columns are vectors, and what the rest is.

insightface's faces have `bbox`, `kps`, `pose`, `landmark_3d_68`, `det_score` beside `embedding`; deepface has
`facial_area` and `face_confidence`; pandas adds an index, and spreads vectors over columns f0 … f511.
"""

import json
import re
from collections.abc import Mapping, Sequence

import polars as pl

from fairveil.data.labels import INDEX

_GEOMETRY = re.compile(
    r"(.*_)?(bbox|box|boxes|rect|kps|keypoints?|pose|rotation|facial_area|region)|(.*_)?(landmarks?|lmk|mesh)(_.*)?",
    re.IGNORECASE,
)
_SCORES = {"det_score", "face_confidence", "detection_score", "embedding_norm"}
_COUNTED = re.compile(r"index|level_\d+")  # by pandas' reset_index
_NUMBERED = re.compile(r"\('(?P<level>.*)', (?P<place>\d+)\)|(?P<name>.*?)[_\-. \[(]*(?P<number>\d+)(?:\.0)?[\])]*")
_FEWEST = 16  # numbers that a vector has at the least where columns stand for them, or where longer vectors are there
_LONG = 64  # numbers that a vector has, beside which a short list is something else


def vector_columns(
    frame: pl.DataFrame, metadata: Mapping[str, str], known: Sequence[str]
) -> tuple[pl.DataFrame, list[str], list[str]]:
    """Find the columns of embeddings in a table of another program.

    Args:
        frame: the table.
        metadata: of the Parquet file.
        known: columns that say something of a face already and are left alone.

    Returns:
        The table without pandas' index, geometry and scores of faces, numbers spread over columns put together; the
        names of the columns of vectors; and in sentences what was taken for something else.
    """
    notes = []
    index = [
        name
        for name in frame.columns
        if name not in ("image", "identity")
        and (
            name in _pandas_index(metadata)
            or INDEX.fullmatch(name)
            or (_COUNTED.fullmatch(name) and frame[name].dtype.is_integer() and frame[name].is_unique().all())
        )
    ]
    geometry = [
        name
        for name, kind in frame.schema.items()
        if name not in (*known, *index)
        and ((kind.is_nested() and _GEOMETRY.fullmatch(name)) or (kind.is_numeric() and name in _SCORES))
    ]
    if index:
        notes.append(f"{_columns(index)} an index of pandas and left out.")
    if geometry:
        notes.append(f"{_columns(geometry)} of where a face is, not whose, and left out.")
    frame = frame.drop(index, geometry)
    for name, parts in _spread(frame, known).items():
        vectors = pl.concat_arr([pl.col(part).cast(pl.Float32) for part in parts]).alias(name)
        frame = frame.with_columns(vectors).drop(part for part in parts if part != name)
        notes.append(f"The columns {parts[0]} to {parts[-1]} are taken for vectors of {len(parts)} numbers, {name!r}.")
    frame = frame.with_columns(_of_one_row(frame[name]) for name in frame.columns if name not in known)
    found = [name for name, kind in frame.schema.items() if name not in known and _holds_floats(kind)]
    widths = {name: _width(frame[name]) for name in found}
    if widths and max(widths.values()) >= _LONG:
        short = [name for name in found if widths[name] < _FEWEST]
        if short:
            notes.append(f"{_columns(short)} too short for a vector of a face, and left out.")
            frame = frame.drop(short)
            found = [name for name in found if name not in short]
    return frame, found, notes


def _columns(names: Sequence[str]) -> str:
    return f"The column {names[0]} is" if len(names) == 1 else f"The columns {', '.join(names)} are"


def _holds_floats(kind: pl.DataType) -> bool:
    return isinstance(kind, (pl.Array, pl.List)) and isinstance(kind.inner, pl.DataType) and kind.inner.is_float()


def _of_one_row(column: pl.Series) -> pl.Series:
    """A column of matrices (1, D), as networks give for one face, as vectors (D,); any other as it is."""
    inner = getattr(column.dtype, "inner", None)
    if not (isinstance(inner, pl.DataType) and _holds_floats(inner)):
        return column
    rows = column.arr.to_list() if isinstance(column.dtype, pl.Array) else column
    return rows.list.first() if (rows.list.len().drop_nulls() == 1).all() else column


def _width(column: pl.Series) -> int:
    return len(column[0]) if len(column) and column[0] is not None else 0


def _pandas_index(metadata: Mapping[str, str]) -> set[str]:
    """Columns that pandas wrote because it has an index."""
    try:
        columns = json.loads(metadata.get("pandas", "{}"))["index_columns"]
        return {name for name in columns if isinstance(name, str)}
    except (ValueError, KeyError, TypeError):
        return set()


def _spread(frame: pl.DataFrame, known: Sequence[str]) -> dict[str, list[str]]:
    """Columns of numbers, mostly fractions, that are called alike but for a count from 0 or 1 on, by their name."""
    numbered: dict[str, dict[int, str]] = {}
    for name, kind in frame.schema.items():
        match = _NUMBERED.fullmatch(name)
        if match and kind.is_numeric() and name not in known:  # zeros alone are often written as whole numbers
            prefix, number = match["level"] or match["name"] or "", match["place"] or match["number"]
            numbered.setdefault(prefix, {})[int(number)] = name
    found = {}
    for prefix, parts in numbered.items():
        first = min(parts)
        floats = sum(frame.schema[name].is_float() for name in parts.values())
        complete = first in (0, 1) and max(parts) == first + len(parts) - 1
        if len(parts) >= _FEWEST and 2 * floats > len(parts) and complete:
            found[prefix or "embedding"] = [parts[number] for number in sorted(parts)]
    return {name: parts for name, parts in found.items() if name not in frame.columns}
