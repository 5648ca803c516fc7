"""Rows and plots of chapter 5: accuracy of two groups and the ratio of their errors, by how a set is made up."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean

from fairveil.audit.bias import Response
from fairveil.base.estimate import Estimate
from fairveil.experiment.published import PublishedTable, published_table
from fairveil.experiment.study import Measurement
from fairveil.experiment.subjects import Subjects
from fairveil.report.plots import Series, lines
from fairveil.report.study import Figure
from fairveil.report.tables import Cell, Table, Unit

FOCUS, OTHER, RATIO = "M Acc", "F Acc", "Error Ratio"
"""What the tables call the accuracies of the two groups, men and women, and the ratio of their errors, women to men."""

MODELS = ("MFN CosFace", "MFN ArcFace", "ResNet-152 CosFace", "ResNet-152 ArcFace")
"""The published recognizers."""


def ratio_name(part: int) -> str:
    """How the tables write it: 3 of ten is 3:7."""
    return f"{part}:{10 - part}"


def measured(response: Response, place: int, subjects: Subjects, labels: dict[str, str]) -> list[Measurement]:
    """Both accuracies and the error ratio of one make-up, where the groups are there."""
    found = []
    for what, group in ((FOCUS, subjects.focus), (OTHER, subjects.other)):
        if (rate := response.accuracy(place, group)) is not None:
            found.append(Measurement.of(labels | {"what": what}, rate))
    ratio = response.error_ratio(place, (subjects.other, subjects.focus))
    if ratio is not None and ratio.measured:
        found.append(Measurement.of(labels | {"what": RATIO}, ratio))
    return found


def together(runs: Sequence[Measurement]) -> Estimate:
    """What several runs came to: their mean, with the lowest and the highest; a single run with its own interval."""
    if len(runs) == 1:
        return runs[0].estimate
    values = [run.value for run in runs]
    return Estimate(fmean(values), min(values), max(values), len(values), "runs", "lowest and highest")


Curves = Mapping[tuple[str, str, str], Estimate]
"""By recognizer, by what, and by the name of the make-up."""


def curves_of(measurements: Iterable[tuple[str, Measurement]]) -> dict[tuple[str, str, str], Estimate]:
    """Measurements of several runs by recognizer, what and make-up.

    Args:
        measurements: each with the recognizer it is of; its labels are `what` and `ratio`.
    """
    runs: dict[tuple[str, str, str], list[Measurement]] = {}
    for recognizer, one in measurements:
        runs.setdefault((recognizer, one.labels["what"], one.labels["ratio"]), []).append(one)
    return {key: together(found) for key, found in runs.items()}


def tables_beside(
    curves: Curves, number: str, subjects: Subjects, parts: Sequence[int], *, caption: str, title: str
) -> list[Table]:
    """Ours beside the published, a table for each of the accuracies and one for the ratio.

    Args:
        curves: ours.
        number: of the published table.
        subjects: whose groups.
        parts: the make-ups.
        caption: how ours were measured.
        title: of the tables.
    """
    published = published_table(number)
    recognizers = list(dict.fromkeys(recognizer for recognizer, *_ in curves))
    names = {
        FOCUS: f"rank-1 accuracy of {subjects.column} {subjects.focus}",
        OTHER: f"rank-1 accuracy of {subjects.column} {subjects.other}",
        RATIO: f"errors, {subjects.other} to {subjects.focus}",
    }
    rows = list(dict.fromkeys([*map(ratio_name, parts), *(row.rpartition(" ")[2] for row in published.rows)]))
    rows.sort(key=lambda name: int(name.split(":")[0]))
    unit: Mapping[str, Unit] = {FOCUS: "%", OTHER: "%", RATIO: "ratio"}
    return [
        Table(
            title=f"{title}: {names[what]}",
            columns=(*recognizers, *MODELS),
            groups=(("ours", len(recognizers)), (f"published ({published.name}, men and women)", len(MODELS))),
            rows=tuple(
                (row, (*(cell_of(curves, name, what, row) for name in recognizers),
                       *(_theirs(published, model, what, row) for model in MODELS)))
                for row in rows
            ),
            unit=unit[what],
            caption=caption,
            row_name=f"{subjects.focus} : {subjects.other}",
        )
        for what in (FOCUS, OTHER, RATIO)
    ]  # fmt: skip


def plots_of(curves: Curves, subjects: Subjects, parts: Sequence[int], *, x_name: str) -> list[Figure]:
    """Both accuracies against the share of a group, one plot for each recognizer, and the second one turned round.

    Turned round, a curve shows what the share of its own group does to a group: the two would lie on each other if
    groups differed in nothing else (the bottom rows of figures 5.2 to 5.4).
    """
    figures = []
    for name in dict.fromkeys(recognizer for recognizer, *_ in curves):
        first = _series(curves, name, FOCUS, parts, subjects.focus)
        second = _series(curves, name, OTHER, parts, subjects.other)
        turned = _series(curves, name, OTHER, parts, f"{subjects.other}, by its own share", turned=True)
        figures.append(
            Figure(name, lines([first, second, turned], x_name=x_name, y_name="rank-1 accuracy", whole=False))
        )
    return figures


def _series(
    curves: Curves, recognizer: str, what: str, parts: Sequence[int], name: str, *, turned: bool = False
) -> Series:
    known = [(part, curves[recognizer, what, ratio_name(part)]) for part in parts
             if (recognizer, what, ratio_name(part)) in curves]  # fmt: skip
    points = [((10 - part) / 10 if turned else part / 10, point) for part, point in known]
    points.sort(key=lambda point: point[0])
    return Series(name, [x for x, _ in points], [Estimate(one.value) if turned else one for _, one in points])


def cell_of(curves: Curves, recognizer: str, what: str, row: str) -> Cell:
    """What was measured of a recognizer at a make-up, empty where nothing was."""
    return Cell(curves.get((recognizer, what, row)))


def _theirs(published: PublishedTable, model: str, what: str, row: str) -> Cell:
    key = f"{model} {row}", what
    return Cell.of(published.values.get(key), note=published.notes.get(key))
