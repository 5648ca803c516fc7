"""What was found in a gallery, as tables, as lines and as a record for machines."""

from collections.abc import Iterator, Sequence
from typing import Any

import polars as pl

from fairveil.base.errors import shown
from fairveil.base.estimate import recorded
from fairveil.faces.searching import Search
from fairveil.report.tables import Cell, Table, Unit

_LEAST, _MOST = 3, 100  # neighbors shown of each probe, however few or many of them match


def accuracy_table(search: Search, ranks: Sequence[int], group: str | None = None) -> Table:
    """Rank-k accuracy for every k that the gallery has room for: of all probes and, if asked, of each group.

    Raises:
        FairveilError: as `Search.accuracy`.
    """
    possible = possible_ranks(search, ranks)
    rows = []
    for value, rates in search.accuracy(possible, group=group).items():
        some = next(iter(rates.values()))
        counts = Cell.of(some.count), Cell.of(some.n)
        rows.append(("all" if value is None else f"{group} {shown(value)}", (*map(Cell, rates.values()), *counts)))
    people = search.gallery.frame["identity"].drop_nulls().n_unique()
    how = "every face among all the others" if search.leave_one_out else f"{len(search.probes):,} probes"
    return Table(
        title=f"{search.recognizer}: {how}, in a gallery of {len(search.gallery):,} faces of {people:,} people",
        columns=(*(f"rank-{k}" for k in possible), "probes", "people"),
        rows=tuple(rows),
        caption="Share of probes with their person among the k nearest faces; 95 % intervals take people for the "
        "sample, not photos, and are of each row alone.",
        unit=(*_shares(len(possible)), "count", "count"),
        notes=tuple(_notes(search, ranks)),
        row_name="probes",
    )


def miss_table(search: Search, fpirs: Sequence[float], group: str | None = None) -> Table | None:
    """FPIR and FNIR at one threshold for everybody: of all probes and, if asked, of each group; None if there are none.

    The FNIR of a group at a threshold of its own stands beside it.

    Raises:
        FairveilError: as `Search.miss_rates`.
    """
    found = search.miss_rates(fpirs, group=group)
    if not found:
        return None
    own = search.own_miss_rates(fpirs, group=group) if group else {}
    thresholds = {fpir: miss.threshold for fpir, miss in found[None].items()}
    beside: tuple[tuple[str, Unit], ...] = (("own threshold", "ratio"), ("FNIR there", "%")) if group else ()
    columns: tuple[tuple[str, Unit], ...] = (("FPIR", "%"), ("FNIR", "%"), *beside)
    rows = []
    for value, misses in found.items():
        cells = []
        for fpir, miss in misses.items():
            cells += [Cell(miss.false_positives), Cell(miss.rate)]
            alone = own.get(str(value), {}).get(fpir) if value is not None else None
            cells += [Cell(), Cell()][: len(beside)] if alone is None else [Cell.of(alone.threshold), Cell(alone.rate)]
        name = "all" if value is None else f"{group} {shown(value)}"
        rows.append((name, (*cells, Cell.of(next(iter(misses.values())).searches))))
    count: Unit = "count"
    return Table(
        title=f"{search.recognizer}: somebody wrong found (FPIR) and probes missed (FNIR) at one threshold for all",
        columns=(*(name for name, _ in columns * len(thresholds)), "searches"),
        groups=(
            *((f"{fpir:g} overall: above {threshold:.3f}", len(columns)) for fpir, threshold in thresholds.items()),
            ("", 1),
        ),
        rows=tuple(rows),
        caption="Every probe is also a search for somebody who is not there, its own person being left out of the "
        "gallery. The threshold lets through the given share of all searches, and is the same for every group."
        + (
            " Beside it, the FNIR at a threshold of the group's own with the same FPIR, which no system has."
            * bool(group)
        )
        + " 95 % intervals take people for the sample, not photos.",
        unit=(*(unit for _, unit in columns * len(thresholds)), count),
        row_name="probes",
    )


def open_set_record(search: Search, fpirs: Sequence[float], group: str | None = None) -> list[dict[str, Any]]:
    """What `miss_table` says, for machines: the rates at one threshold for all, and at each group's own.

    Raises:
        FairveilError: as `Search.miss_rates`.
    """
    common = search.miss_rates(fpirs, group=group)
    own = search.own_miss_rates(fpirs, group=group) if group else {}
    return [
        {
            "group": value,
            "fpir": fpir,
            "threshold": miss.threshold,
            "threshold_of": whose,
            "searches": miss.searches,
            "false_positives": recorded(miss.false_positives),
            **recorded(miss.rate),
        }
        for whose, found in (("all", common), ("the group", own))
        for value, misses in found.items()
        for fpir, miss in misses.items()
    ]


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
        rows.append(
            (f"{group} {shown(value)}", (*(Cell.of(counts.get(other, 0) / total) for other in columns), Cell.of(total)))
        )
    rows.append(("the gallery", (*(Cell.of(share[other]) for other in columns), Cell.of(len(search.gallery)))))
    return Table(
        title=f"{search.recognizer}: whom probes are taken for when the nearest face is the wrong one",
        columns=(*map(shown, columns), "count"),
        rows=tuple(rows),
        caption="Share of wrong matches that each group of the gallery supplies, beside its share of the gallery.",
        unit=(*_shares(len(columns)), "count"),
        row_name="probes",
    )


def error_ratio_line(search: Search, k: int, group: str) -> str | None:
    """The ratio of the errors of the two groups furthest apart, as a sentence; None if there are no two groups.

    Raises:
        FairveilError: as `Search.error_ratio`.
    """
    found = search.error_ratio(k, group)
    if found is None:
        return None
    most, fewest, times = (*map(shown, found[:2]), found[2])
    if not times.measured:
        return f"Rank-{k} errors: no ratio between values of {group}, since {fewest} has no errors."
    high = f"{times.high:.2f}" if times.bounded else "without bound"
    many = len(search.comparable_errors(k, group))
    of_all = f", an interval for all pairs of {many} groups" if many > 2 else ""
    return (
        f"Rank-{k} errors, {group} {most} to {fewest}: {times.value:.2f} times as often "
        f"[{times.low:.2f}–{high}]{of_all}; "
        + ("it leaves out 1." if times.excludes(1) else "no difference can be told from chance.")
    )


def ties_told(search: Search) -> Iterator[str]:
    """In sentences: how many ranks hang on ties, and whether the recognizer tells nobody from anybody."""
    total = len(search.outcome.rank)
    if search.collapsed:
        yield (
            f"{search.renamed_copies:,} of {total:,} faces have a face of somebody else that {search.recognizer} "
            "cannot tell from them at all: the model has collapsed, or its vectors were made or read wrongly. No rate "
            "says anything about people or groups."
        )
    if search.tied:
        yield (
            f"{search.tied:,} of {total:,} probes are as similar to somebody else as to their own nearest photo "
            "(a tie): any order of the equals being as likely, each counts with its expected rank, and is found at "
            "rank k if that is k or less."
        )


def search_record(
    search: Search, ranks: Sequence[int], group: str | None = None, fpirs: Sequence[float] = ()
) -> dict[str, Any]:
    """What the tables say, for machines.

    Raises:
        FairveilError: as they.
    """
    rates = search.accuracy(possible_ranks(search, ranks), group=group)
    apart = search.error_ratio(1, group) if group else None
    return {
        "recognizer": search.recognizer,
        "probes": len(search.probes),
        "gallery": len(search.gallery),
        "strangers": search.strangers,
        "unlabelled": search.unlabeled,
        "copies": search.copies,
        "ties": search.tied,
        "collapsed": search.collapsed,
        "accuracy": [
            {"group": value, "rank": k, **recorded(rate)}
            for value, by_rank in rates.items()
            for k, rate in by_rank.items()
        ],
        "error_ratio": {"groups": apart[:2], "rank": 1, **recorded(apart[2])} if apart else None,
        "misses": open_set_record(search, fpirs, group),
        "wrong_matches": search.wrong_matches(group).to_dicts() if group else [],
    }


def neighbor_record(search: Search, k: int | None = None) -> dict[str, Any]:
    """What `neighbor_lines` say, for machines."""
    rows = _near(search, k).drop("recognizer")
    return {"recognizer": search.recognizer, "threshold": search.threshold, "nearest": rows.to_dicts()}


def neighbor_lines(search: Search, k: int | None = None) -> Iterator[str]:
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
        return search.neighbors(k)
    return search.neighbors(_MOST).filter(pl.col("match").fill_null(False) | (pl.col("place") <= _LEAST))


def possible_ranks(search: Search, ranks: Sequence[int]) -> list[int]:
    """The ranks that say something: with as many places as faces everybody is found."""
    return [k for k in ranks if k < search.candidates] or [1]


def certain_told(search: Search, ranks: Sequence[int]) -> Iterator[str]:
    """The ranks that `possible_ranks` leaves out, in a sentence; none where all say something."""
    possible = possible_ranks(search, ranks)
    if left_out := [k for k in ranks if k not in possible]:
        named = ", ".join(f"rank-{k}" for k in left_out)
        yield f"{named} would find everybody among {search.candidates:,} faces."


def _notes(search: Search, ranks: Sequence[int]) -> Iterator[str]:
    if told := search.strangers_told:
        yield told
    if search.unlabeled:
        yield f"{search.unlabeled:,} probes have no identity; they are left out."
    yield from ties_told(search)
    if search.copies and search.leave_one_out:
        yield f"{search.copies:,} probes have a copy among the other faces, which is easy to find: keep one of each."
    elif search.copies:
        yield (
            f"{search.copies:,} probes have a copy of themselves in the gallery, which is easy to find: leave copies "
            "out, or give the same photos on both sides, and none is compared with itself."
        )
    yield from certain_told(search, ranks)


def _shares(count: int) -> tuple[Unit, ...]:
    share: Unit = "%"
    return (share,) * count


def _with_many(frame: pl.DataFrame) -> set[str]:
    """The images with several faces."""
    return set(frame.filter(pl.col("image").is_duplicated())["image"])


def _face(image: str, number: object, many: set[str]) -> str:
    return shown(image) + (f", face {number}" if image in many else "")
