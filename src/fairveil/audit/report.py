"""The report of an audit: what the page, the terminal and other programs are told of it."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fairveil.audit.auditing import Audit, Curve
from fairveil.audit.bias import Response
from fairveil.audit.human import Agreement
from fairveil.audit.imbalance import Kind
from fairveil.audit.searches import miss_table, open_set_record, ties_told, wrong_matches_table
from fairveil.base.errors import shown
from fairveil.base.estimate import Estimate, recorded
from fairveil.report.plots import Series, lines
from fairveil.report.sections import Section, write_sections
from fairveil.report.study import Figure
from fairveil.report.tables import Cell, Table, Unit

_FPIRS = (0.01, 0.1)

CAVEATS = (
    "Rates are of these people and photos. Intervals say what other people looked for in these galleries might give. "
    "They know nothing of other people in the gallery, other cameras, countries or times.",
    "Labels of groups are taken as they are. Gender presentation, as data sets record it, is no gender.",
    "The recognizer may have seen these people in training, which makes it look better than it is.",
    "Groups differ in more than the recognizer's fairness: in light, pose, age, and how many photos of them are alike. "
    "A difference in error is no cause. Even networks with random weights do not err equally on groups.",
    "The two groups that are set in relation are those whose errors lie furthest apart; of many groups the two ends "
    "lie apart by chance alone. Intervals of ratios are made wider for that, those of single groups are not.",
    "Identification of people who are in the gallery (closed set) is not all of a system: where searches for strangers "
    "count, look at the rates of misses (FNIR) at a fixed rate of false positives.",
)
"""What a reader of any audit should know."""


def write_audit(
    page: Path,
    audits: Sequence[Audit],
    *,
    title: str,
    date: str,
    about: Mapping[str, str],
    overwrite: bool = False,
) -> None:
    """Write audits of recognizers on the same faces as one HTML page, in the order that ISO/IEC 19795-10 has.

    Args:
        page: the file to write; its folder must exist.
        audits: one for each recognizer.
        title: of the page.
        date: when it was made, as readers see it.
        about: what is known of each recognizer, in a sentence.
        overwrite: replace a page that already exists.

    Raises:
        FairveilError: the page already exists, or cannot be written.
    """
    write_sections(
        page,
        sections_of(audits, about),
        title=title,
        date=date,
        note="The order of the sections is that of ISO/IEC 19795-10.",
        overwrite=overwrite,
    )


def sections_of(audits: Sequence[Audit], about: Mapping[str, str]) -> list[Section]:
    """Data and their make-up, recognizers, protocol, results, sensitivity to make-up, caveats."""
    first = audits[0]
    results, sensitivity = [], []
    for audit in audits:
        search = audit.search
        results.append(accuracy_table(audit))
        results += filter(None, [open_set_table(audit), wrong_matches_table(search, audit.column)])
        sensitivity += [curve_table(audit, curve) for curve in audit.curves.values()]
    data = (*first.left_out, *(f"{a.recognizer}: {sentence}" for a in audits for sentence in copies_told(a)))
    without = [f"{audit.recognizer}: {sentence}" for audit in audits for sentence in curves_missing(audit)]
    warnings = [f"{a.recognizer}: {a.masked.warning}" for a in audits if a.masked and a.masked.warning]
    return [
        Section("Data and their make-up", tables=[data_table(first)], points=data),
        Section("Recognisers" if len(audits) > 1 else "Recogniser", points=[about[a.recognizer] for a in audits]),
        Section("Protocol", paragraphs=_protocol(first)),
        Section(
            "Results by group",
            points=[f"{a.recognizer}: {sentence}" for a in audits for sentence in reading(a)],
            tables=results,
        ),
        Section(
            "Sensitivity to the make-up of the gallery",
            paragraphs=[
                "The same recognizer on galleries of another make-up, all with the same number of identities and of "
                "images. More identities of a group give its people more others to be taken for; more images of each "
                "make them easier to find."
            ],
            warnings=warnings,
            points=[*(f"{a.recognizer}: {s}" for a in audits for s in sensitivity_reading(a)), *without],
            tables=[*masked_tables(audits), *sensitivity],
            plots=[curve_plot(audit, curve) for audit in audits for curve in audit.curves.values()],
        ),
        Section("Caveats", points=CAVEATS),
    ]


def data_table(audit: Audit) -> Table:
    """What there is of each group."""
    columns: dict[str, Unit] = {
        "people": "count",
        "images": "count",
        "images each": "ratio",
        "to be found by": "ratio",
        "people of one image": "count",
        "images with a copy": "count",
        "without a face": "count",
    }
    rows = [
        (
            f"{audit.column} {shown(group)}",
            (
                Cell.of(one.identities),
                Cell.of(one.images),
                Cell.of(one.images / one.identities),
                Cell.of(one.mates),
                Cell.of(one.lone),
                Cell.of(one.copies),
                Cell.of(one.without_face),
            ),
        )
        for group, one in audit.groups.items()
    ]
    return Table(
        title="What was audited",
        columns=tuple(columns),
        rows=tuple(rows),
        unit=tuple(columns.values()),
        caption="People of one image cannot be found, and are only in the gallery. To be found by: how many other "
        "images of its person a probe has, on average; where groups differ in this, one is easier to find for that "
        "alone. A copy is a picture of the same person that the recognizer cannot tell from it, which makes it easy to "
        "find. Images without a face were not enrolled; – where nobody counted them.",
        row_name="group",
    )


def accuracy_table(audit: Audit) -> Table:
    """Rank-k accuracy of each group among all faces."""
    frame = audit.metrics.by_group
    shares: Unit = "%"
    count: Unit = "count"
    rows = []
    for group in frame.index:
        rates = [audit.accuracy(group, k) for k in audit.ranks]
        cells = (*map(Cell, rates), Cell.of(rates[0].count), Cell.of(rates[0].n))
        rows.append((f"{audit.column} {shown(str(group))}", cells))
    return Table(
        title=f"{audit.recognizer}: rank-k accuracy by group",
        columns=(*(f"rank-{k}" for k in audit.ranks), "probes", "people"),
        rows=tuple(rows),
        caption="Share of probes with their person among the k nearest of all other faces; 95 % intervals take people "
        "for the sample, not photos, and are of each group alone.",
        unit=(*(shares,) * len(audit.ranks), count, count),
        row_name="group",
    )


def open_set_table(audit: Audit) -> Table | None:
    """FPIR and FNIR of each group at one threshold for all; None where there are too few probes."""
    return miss_table(audit.search, _FPIRS, audit.column)


def curve_table(audit: Audit, curve: Curve) -> Table:
    """Accuracy, error ratio and who supplied wrong matches, by the make-up of the gallery."""
    response, groups = curve.response, curve.response.groups
    columns: list[tuple[str, str, Unit]] = [("rank-1 accuracy", group, "%") for group in groups]
    columns.append(("errors", f"{audit.versus[0]} to {audit.versus[1]}", "ratio"))
    columns += [("wrong matches of the own group", group, "%") for group in groups]
    columns += [("± between draws", group, "%") for group in groups]
    rows = []
    for place in range(len(response.tallies)):
        cells = [Cell(response.accuracy(place, group)) for group in groups]
        cells.append(Cell(response.error_ratio(place, audit.versus)))
        cells += [Cell(response.supplied_by_own(place, group)) for group in groups]
        cells += [Cell.of(response.spread(place, group)) for group in groups]
        rows.append((make_up_name(response, place, curve.kind), tuple(cells)))
    sizes = response.tallies[0].make_up
    return Table(
        title=f"{audit.recognizer}: galleries with unequal {curve.kind} ({' : '.join(groups)})",
        columns=tuple(name for _, name, _ in columns),
        groups=(
            ("rank-1 accuracy", len(groups)),
            ("errors", 1),
            ("wrong matches of the own group", len(groups)),
            ("± between draws", len(groups)),
        ),
        rows=tuple(rows),
        unit=tuple(unit for *_, unit in columns),
        caption=f"Every gallery has {sum(sizes.identities.values()):,} people and {sum(sizes.images.values()):,} "
        f"images, each image looked for among the others; {response.draws} draws of each make-up. "
        "95 % intervals take people for the sample.",
        row_name=f"{curve.kind} {' : '.join(groups)}",
    )


def curve_plot(audit: Audit, curve: Curve) -> Figure:
    """Figure 5.3: rank-1 accuracy of each group against the share of one of them."""
    return Figure(
        caption=f"{audit.recognizer}: galleries with unequal {curve.kind}. Bands are 95 % intervals.",
        svg=lines(
            [series_of(curve.response, curve.shares, group) for group in curve.response.groups],
            x_name=f"share of {curve.kind} that are {audit.column} {curve.focus}",
            y_name="rank-1 accuracy",
            whole=False,
        ),
    )


def series_of(response: Response, shares: Sequence[float], group: str) -> Series:
    """The accuracy of a group over the shares of make-ups, without those in which it is absent."""
    found = [(share, response.accuracy(place, group)) for place, share in enumerate(shares)]
    points = [(share, rate) for share, rate in found if rate is not None]
    return Series(group, [share for share, _ in points], [rate for _, rate in points])


def masked_tables(audits: Sequence[Audit]) -> list[Table]:
    """The error ratio on a balanced gallery beside that on one like the train set, or these data if none was named."""
    known = [(audit, audit.masked) for audit in audits if audit.masked is not None]
    if not known:
        return []
    whose = " or ".join(sorted({masked.whose for _, masked in known}))
    rows = []
    for audit, masked in known:
        name = f"{audit.recognizer}, {audit.versus[0]} to {audit.versus[1]}"
        rows.append((name, tuple(map(Cell, (masked.balanced, masked.matched, masked.change)))))
    told = {
        f"{masked.whose}: "
        + "; ".join(
            f"{group} {float(people):.0%} of people and {float(masked.train.images[group]):.0%} of images"
            for group, people in masked.train.identities.items()
        )
        for _, masked in known
    }
    return [
        Table(
            title=f"The same bias on a balanced test set and on one made up like {whose}",
            columns=("balanced", f"like {whose}", "change"),
            rows=tuple(rows),
            unit="ratio",
            caption=f"How many times as often the first group is missed as the second. Made up like "
            f"{', or '.join(sorted(told))}. The change is the second ratio over the first, people redrawn together.",
            row_name="recognizer, errors of",
        )
    ]


def reading(audit: Audit) -> Iterator[str]:
    """What the rates by group allow to say, in sentences."""
    worst, best = audit.versus
    times = audit.error_ratio
    if not times.measured:
        least = f"; it would be {times.low:.1f} at the least" if times.low > 1 else ""
        yield f"nobody of {best} is missed at rank 1, so there is no ratio of errors{least}."
    else:
        many = len(audit.groups)
        of_all = f", made for all pairs of {many} groups," if many > 2 else ""
        yield (
            f"among all faces {worst} is missed {_times(times)} times as often as {best} at rank 1; "
            f"the interval{of_all} "
            + ("leaves out 1." if times.excludes(1) else "holds 1: no difference can be told from chance.")
        )
    if (visible := audit.visible_ratio) is not None:
        alike = "" if audit.correlation is None else f" (images of one person fare alike: {audit.correlation:.2f})"
        yield f"with so many people{alike}, four of five audits would see a difference of {visible:.1f} times or more."


def sensitivity_reading(audit: Audit) -> Iterator[str]:
    """What the curves allow to say, in sentences."""
    worst, best = audit.versus
    for curve in audit.curves.values():
        point, share = curve.fair_point, curve.fair_point.share
        tried = f"share of {curve.focus} among {curve.kind} that was tried"
        if point.nearest is None:
            yield f"neither {worst} nor {best} is missed at any {tried}, so nothing can be told of their errors there."
            continue
        if not share.measured and point.more is not None:
            yield (
                f"{point.more} is missed more often than {worst if point.more == best else best} at every {tried}; "
                "no interval holds equal errors."
            )
            continue
        below, above = math.isinf(share.low), math.isinf(share.high)
        if not share.measured or (below and above):
            figures = (
                "at none, but intervals hold equal errors"
                if not share.measured
                else f"at {share.value:.0%}, but the interval holds all of the shares"
            )
            yield (
                f"at which {tried} {worst} and {best} are missed equally often cannot be told: by the figures "
                f"{figures} (in {point.certainty:.0%} of resamples there is such a point)."
            )
            continue
        low = "below the shares tried" if below else f"{share.low:.0%}"
        high = "above the shares tried" if above else f"{share.high:.0%}"
        ends = f" [{low}–{high}]" if share.bounded else f" [{low} to {high}]"
        yield (
            f"{worst} and {best} are missed equally often where {share.value:.0%}{ends} of the {curve.kind} are "
            f"{curve.focus} (in {point.certainty:.0%} of resamples there is such a point)."
        )
    masked = audit.masked
    if masked is None:
        yield str(audit.without_masked)
    elif masked.change is None:
        yield (
            f"whether a test set made up like {masked.whose} would hide bias cannot be told: there are too few people "
            "or errors."
        )
    elif masked.warning is None:
        yield (
            f"a test set made up like {masked.whose} shows {_times(masked.change)} times the ratio that a balanced one "
            "shows: no difference can be told from chance."
        )


def curves_missing(audit: Audit) -> Iterator[str]:
    """Which galleries could not be drawn, in sentences."""
    for kind, why in audit.without_curve.items():
        yield f"nothing is said of galleries with unequal {kind}. {why}"


def copies_told(audit: Audit) -> Iterator[str]:
    """What looks wrong with the data, in sentences."""
    search = audit.search
    yield from ties_told(search)
    if search.collapsed:  # whoever looks like everybody has copies everywhere, and no label is to blame
        return
    if search.copies:
        yield f"{search.copies:,} faces have a copy of themselves among the others: keep one of each for a harder test."
    if search.renamed_copies:
        yield (
            f"{search.renamed_copies:,} faces have a copy under another name: look at the labels, one of two is wrong."
        )


def agreement_table(found: Agreement) -> Table:
    """Correlations of L2 ratio and human accuracy: of all questions, of each group, and within groups."""
    named = {"all questions": found.overall}
    for column, values in found.by_group.items():
        named |= {f"{column} {shown(value)}": one for value, one in values.items()}
    named |= {f"within {column}": one for column, one in found.within.items()}
    units: tuple[Unit, ...] = ("cosine", "count", "count")
    left_out = [
        f"{column} {shown(value)} is left out: {why}"
        for column, values in found.left_out.items()
        for value, why in values.items()
    ]
    return Table(
        title=f"{found.recognizer}: correlation of L2 ratio and human accuracy",
        columns=("Pearson's r", "questions", "people"),
        rows=tuple((name, (Cell(one), Cell.of(one.count), Cell.of(one.n))) for name, one in named.items()),
        unit=units,
        caption="95 % intervals take people for the sample. Where a figure is lower within groups than overall, it may "
        "be that both find the same groups harder rather than the same questions in them.",
        notes=tuple(left_out),
        row_name="questions",
    )


def audit_record(audit: Audit) -> dict[str, Any]:
    """All of it for machines."""
    frame = audit.metrics.by_group
    masked = audit.masked
    return {
        "recognizer": audit.recognizer,
        "column": audit.column,
        "data": recorded(audit.groups),
        "left_out": list(audit.left_out),
        "copies": {"same_name": audit.search.copies, "other_name": audit.search.renamed_copies},
        "ties": audit.search.tied,
        "collapsed": audit.search.collapsed,
        "accuracy": [
            {"group": str(group), "rank": k, **recorded(audit.accuracy(group, k))}
            for group in frame.index
            for k in audit.ranks
        ],
        "versus": list(audit.versus),
        "error_ratio": recorded(audit.error_ratio),
        "power": {"correlation": audit.correlation, "visible_ratio": audit.visible_ratio},
        "open_set": open_set_record(audit.search, _FPIRS, audit.column),
        "curves": {kind: _curve_record(audit, curve) for kind, curve in audit.curves.items()},
        "without_curve": dict(audit.without_curve),
        "masked_bias": masked
        and {
            "train": {
                what: {group: float(share) for group, share in getattr(masked.train, what).items()}
                for what in ("identities", "images")
            },
            "stated": masked.stated,
            "balanced": recorded(masked.balanced),
            "matched": recorded(masked.matched),
            "change": recorded(masked.change),
            "warning": masked.warning,
        },
        "reading": [*reading(audit), *sensitivity_reading(audit)],
    }


def _curve_record(audit: Audit, curve: Curve) -> dict[str, Any]:
    response, point = curve.response, curve.fair_point
    low, high = point.share.ends
    return {
        "focus": curve.focus,
        "draws": response.draws,
        "fair_point": {
            "share": point.share.value if point.share.measured else None,
            "low": low,
            "high": high,
            "certainty": point.certainty,
            "nearest": point.nearest,
            "more": point.more,
        },
        "points": [
            {
                "share": share,
                "identities": dict(response.tallies[place].make_up.identities),
                "images": dict(response.tallies[place].make_up.images),
                "error": {group: recorded(response.error(place, group)) for group in response.groups},
                "spread": {group: response.spread(place, group) for group in response.groups},
                "error_ratio": recorded(response.error_ratio(place, audit.versus)),
                "supplied_by_own": {
                    group: recorded(response.supplied_by_own(place, group)) for group in response.groups
                },
                "wrong": response.tallies[place].wrong.tolist(),
            }
            for place, share in enumerate(curve.shares)
        ],
    }


def make_up_name(response: Response, place: int, kind: Kind) -> str:
    """A make-up as "81 : 325" people or images, whichever are unequal."""
    make_up = response.tallies[place].make_up
    counts = make_up.identities if kind == "identities" else make_up.images
    return " : ".join(f"{counts[group]:,}" for group in response.groups)


def _protocol(audit: Audit) -> list[str]:
    search = audit.search
    return [
        f"Closed-set identification (1:N): every one of {len(search.probes):,} faces is looked for among all the "
        "others by cosine similarity, and found if the nearest (or one of the k nearest) is of the same person. People "
        "of one image are in the gallery as others. Similarities that differ by less than a millionth are equal; of "
        "equals any order is as likely, and a face has the rank expected over them: 1, and the others that are nearer, "
        "and o / (m + 1) of o others and m own photos that are equal.",
        "Intervals of 95 % take people, not photos, for what was sampled: Wilson's with Student's quantile for as many "
        "independent trials as the photos of each person are worth. Ratios of two groups' errors have intervals put "
        "together from such intervals (MOVER-R), which of more than two groups are wide enough for all pairs at once "
        "(Tukey's studentized range); what is compared on the same people resamples them.",
        f"Galleries of another make-up are drawn at random, each {audit.draws} "
        "times, with equal totals of people and images throughout; a person counts with all draws.",
    ]


def _times(times: Estimate) -> str:
    high = f"{times.high:.2f}" if times.bounded else "without bound"
    return f"{times.value:.2f} [{times.low:.2f}–{high}]"


def display_of(audit: Audit) -> tuple[Sequence[str], Sequence[Table]]:
    """What an audit shows of itself: what it says, and how often the right person is found."""
    said = (f"{sentence[:1].upper()}{sentence[1:]}" for sentence in reading(audit))
    return (*audit.left_out, *said), (accuracy_table(audit),)
