"""What was found in a gallery, as tables, as lines and as a record for machines."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import polars as pl

from fairveil.faces.rates import Rate
from fairveil.faces.searching import Search
from fairveil.photos import shown
from fairveil.report.tables import Cell, Table, Unit

_LEAST, _MOST = 3, 100  # neighbours shown of each probe, however few or many of them match


def accuracy_table(search: Search, ranks: Sequence[int], group: str | None = None) -> Table:
    """Rank-k accuracy for every k that the gallery has room for: of all probes and, if asked, of each group.

    Raises:
        FairveilError: as `Search.accuracy`.
    """
    possible = _possible(search, ranks)
    rows = []
    for value, rates in search.accuracy(possible, group=group).items():
        some = next(iter(rates.values()))
        counts = Cell(some.probes), Cell(some.identities)
        rows.append(("all" if value is None else f"{group} {value}", (*map(_cell, rates.values()), *counts)))
    people = search.gallery.frame["identity"].n_unique()
    how = "every face among all the others" if search.leave_one_out else f"{len(search.probes):,} probes"
    return Table(
        title=f"{search.recognizer}: {how}, in a gallery of {len(search.gallery):,} faces of {people:,} people",
        columns=(*(f"rank-{k}" for k in possible), "probes", "people"),
        rows=tuple(rows),
        caption="Share of probes with their person among the k nearest faces; 95 % intervals resample people.",
        unit=(*_shares(len(possible)), "count", "count"),
        notes=tuple(_notes(search, ranks)),
        row_name="probes",
    )


def wrong_matches_table(search: Search, group: str) -> Table | None:
    """Of which group the nearest face is where it is the wrong one, beside the make-up of the gallery; None without.

    Raises:
        FairveilError: as `Search.wrong_matches`.
    """
    pairs = search.wrong_matches(group).with_columns(pl.col("probes", "gallery").fill_null("unknown"))
    if not len(pairs):
        return None
    makeup = search.gallery.frame[group].cast(pl.String).fill_null("unknown").value_counts()
    columns = makeup[group].sort().to_list()
    share = dict(zip(makeup[group], makeup["count"] / len(search.gallery), strict=True))
    rows = []
    for (value,), part in pairs.group_by("probes", maintain_order=True):
        counts, total = dict(part.select("gallery", "count").iter_rows()), int(part["count"].sum())
        rows.append((f"{group} {value}", (*(Cell(counts.get(other, 0) / total) for other in columns), Cell(total))))
    rows.append(("the gallery", (*(Cell(share[other]) for other in columns), Cell(len(search.gallery)))))
    return Table(
        title=f"{search.recognizer}: whom probes are taken for when the nearest face is the wrong one",
        columns=(*columns, "count"),
        rows=tuple(rows),
        caption="Share of wrong matches that each group of the gallery supplies, beside its share of the gallery.",
        unit=(*_shares(len(columns)), "count"),
        row_name="probes",
    )


def search_record(search: Search, ranks: Sequence[int], group: str | None = None) -> dict[str, Any]:
    """What `accuracy_table` and `wrong_matches_table` say, for machines.

    Raises:
        FairveilError: as they.
    """
    rates = search.accuracy(_possible(search, ranks), group=group)
    return {
        "recognizer": search.recognizer,
        "probes": len(search.probes),
        "gallery": len(search.gallery),
        "strangers": search.strangers,
        "unlabelled": search.unlabelled,
        "copies": search.copies,
        "accuracy": [
            {"group": value, "rank": k, **asdict(rate)}
            for value, by_rank in rates.items()
            for k, rate in by_rank.items()
        ],
        "wrong_matches": search.wrong_matches(group).to_dicts() if group else [],
    }


def neighbour_record(search: Search, k: int | None = None) -> dict[str, Any]:
    """What `neighbour_lines` say, for machines."""
    rows = _near(search, k).drop("recognizer")
    return {"recognizer": search.recognizer, "threshold": search.threshold, "nearest": rows.to_dicts()}


def neighbour_lines(search: Search, k: int | None = None) -> Iterator[str]:
    """For each probe the faces of the gallery nearest to it, their similarity, and whether that is a match.

    These are the k nearest, or without k all that match, up to a hundred, and the three nearest in any case.
    """
    many = {
        side: _with_many(embeddings.frame) for side, embeddings in (("probe", search.probes), ("image", search.gallery))
    }
    yield f"{search.recognizer}: the nearest of {search.candidates:,} faces"
    for (probe, number), rows in _near(search, k).group_by("probe", "probe_face", maintain_order=True):
        yield _face(str(probe), number, many["probe"])
        for row in rows.iter_rows(named=True):
            who = f" ({shown(row['identity'])})" if row.get("identity") else ""
            match = "match" if row["match"] else "     "
            yield f"  {row['similarity']:+.2f}  {match}  {_face(row['image'], row['face'], many['image'])}{who}"
    if search.threshold is None:
        yield f"From which similarity on {search.recognizer} takes two faces for one person is not known."
    else:
        yield (
            f"A match is a similarity of {search.threshold:.2f} or more. Some strangers reach it too, the more the "
            "larger the gallery: look yourself."
        )


def _near(search: Search, k: int | None) -> pl.DataFrame:
    if k is not None:
        return search.neighbours(k)
    return search.neighbours(_MOST).filter(pl.col("match").fill_null(False) | (pl.col("place") <= _LEAST))


def _possible(search: Search, ranks: Sequence[int]) -> list[int]:
    """The ranks that say something: with as many places as faces everybody is found."""
    return [k for k in ranks if k < search.candidates] or [1]


def _notes(search: Search, ranks: Sequence[int]) -> Iterator[str]:
    if search.strangers:
        yield f"{search.strangers:,} probes are of people who are not in the gallery; they are left out."
    if search.unlabelled:
        yield f"{search.unlabelled:,} probes have no identity; they are left out."
    if search.copies:
        yield (
            f"{search.copies:,} probes have a copy of themselves in the gallery, which is easy to find: leave copies "
            "out, or give the same photos on both sides, and none is compared with itself."
        )
    if left_out := [k for k in ranks if k not in _possible(search, ranks)]:
        named = ", ".join(f"rank-{k}" for k in left_out)
        yield f"{named} would find everybody among {search.candidates:,} faces."


def _shares(count: int) -> tuple[Unit, ...]:
    share: Unit = "%"
    return (share,) * count


def _cell(rate: Rate) -> Cell:
    return Cell(rate.value, rate.low, rate.high)


def _with_many(frame: pl.DataFrame) -> set[str]:
    """The images with several faces."""
    return set(frame.filter(pl.col("image").is_duplicated())["image"])


def _face(image: str, number: object, many: set[str]) -> str:
    return shown(image) + (f", face {number}" if image in many else "")
