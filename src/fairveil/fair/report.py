"""The generalization card: did the fairness survive off the train set, what did it cost, and who else paid."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from fairveil.base.comparisons import family_confidence
from fairveil.base.differences import LEAST_RUNS, difference
from fairveil.base.estimate import RESOLUTION, Estimate, recorded
from fairveil.fair.comparing import SPLITS, Comparison
from fairveil.fair.experiments import Experiment
from fairveil.fair.gerrymandering import bystanders, drifts
from fairveil.fair.interventions import Task
from fairveil.fair.scores import LEAST_PEOPLE, MEAN, POSITIVES, figure_of
from fairveil.report.sections import Section, write_sections
from fairveil.report.tables import Cell, Table, Unit

CAVEATS = (
    "Intervals are Student's over runs that differ in their seed, on the same people: they say what other runs would "
    "give, not what other people would. With three runs they are wide, and a change that they do not tell from none "
    "may still be there. What other people would give, one table says of figures, and none of changes.",
    "Nobody looked for the best strength of any intervention. One that does nothing here may do something at another.",
    "Intervals of changes of groups, and of differences between more than two of them, hold for all groups at once, "
    "for one intervention on one split. Several interventions and splits are looked at: of twenty interventions that "
    "do nothing, one is told apart by chance. Only the intervals of who gained and who paid, and of who drifted apart, "
    "are wide enough for all interventions at once.",
    "Labels of groups are taken as they are. Sex and age, as data sets record them, are not all that people are.",
    "Equal figures are not fairness: who uses the system, on whom, and what a mistake costs is not in these data.",
)
"""What a reader of any card should know."""


_LEADS = 4
"""Of how many leads a reading may tell: with an intervention and without, where it was fitted and on the test."""

_FITTED = {"train": "the train set", "validation": "the validation set, of which its penalty was taken"}


def write_card(
    page: Path, comparison: Comparison, *, title: str, date: str, data: str, overwrite: bool = False
) -> None:
    """Write a comparison as one HTML page.

    Args:
        page: the file to write; its folder must exist.
        comparison: what to tell of.
        title: of the page.
        date: when it was made, as readers see it.
        data: what was trained on, in a sentence.
        overwrite: replace a page that already exists.

    Raises:
        FairveilError: the page already exists, or cannot be written.
    """
    note = f"What was made fairer: {comparison.column}. {data}"
    write_sections(page, sections_of(comparison), title=title, date=date, note=note, overwrite=overwrite)


def sections_of(comparison: Comparison) -> list[Section]:
    """The reading, the figures, who else paid, and caveats."""
    skipped = [
        f"{name}: in {share:.0%} of the batches fewer than two groups were there, so that nothing was compared."
        for name, share in comparison.skipped_fraction.items()
        if share
    ]
    leveled = [
        f"{name} leveled down: groups came closer on the test while some lost, and none is seen to have gained."
        for name in comparison.interventions
        if comparison.leveled_down(name) == "yes"
    ]
    drifted = [
        f"{one.intervention} brought {comparison.column} closer and drove {one.column} apart, by "
        f"{_told(one.change, comparison)}."
        for one in drifts(comparison)
        if one.gerrymandered
    ]
    tables = [
        gap_table(comparison),
        *(value_table(comparison, split) for split in SPLITS),
        *people_tables(comparison),
        change_table(comparison),
        count_table(comparison),
    ]
    matrix = gerrymandering_table(comparison)
    return [
        Section("What came of it", points=[reading(comparison, name) for name in comparison.interventions],
                warnings=leveled),
        Section("Figures", tables=tables, points=[*skipped, *left_out(comparison)]),
        Section(
            "Who else gained or paid",
            paragraphs=["Groups that nobody asked about, and intersections, on the test."] if matrix else
                       ["The data have no other column of groups, so nobody can be seen to have paid."],
            warnings=drifted,
            tables=[matrix] if matrix else [],
        ),
        Section("Caveats", points=CAVEATS),
    ]  # fmt: skip


def left_out(comparison: Comparison) -> list[str]:
    """Groups that are not compared, a sentence each."""
    return [
        f"{group} is not compared: on {' and '.join(splits)} there are {_too_few(comparison.task)}."
        if splits
        else f"{group} is not compared."
        for group, splits in comparison.left_out_groups.items()
    ]


def _too_few(task: Task) -> str:
    """Why there are no figures of a group."""
    people = f"fewer than {LEAST_PEOPLE} of these people"
    return people if task == "recognition" else f"{people}, or no finding that some of them have and others have not"


def reading(comparison: Comparison, intervention: str) -> str:
    """What an intervention came to in plain words, no stronger than its intervals."""
    baseline = comparison.baselines[intervention]
    fitted = comparison.fitted[intervention]
    after, before = (
        {split: comparison.gap(name, split) for split in (fitted, "test")} for name in (intervention, baseline)
    )
    best, worst = comparison.best_group, comparison.worst_group
    told = [
        f"from {_mean(before[split], comparison)} to {_mean(after[split], comparison)} on {where} "
        f"({comparison.measures[split]})"
        for split, where in ((fitted, _FITTED[fitted]), ("test", "the test"))
    ]
    figures = f"{intervention}: the gap between {best} and {worst} went {told[0]}, and {told[1]}."
    figures += "".join(f" {sentence}" for sentence in _turned(comparison, intervention))
    cost = comparison.change(intervention, "test")
    paid = ""
    if cost.excludes(0):
        paid = f" On the test everybody together {'gained' if cost.value > 0 else 'lost'} {_told(cost, comparison)}."
    down = {
        "yes": " It leveled down.",
        "perhaps": " Whether it leveled down cannot be told: no group is seen to have gained or lost.",
        "no": "",
        "too few": "",
    }[comparison.leveled_down(intervention)]
    return f"{figures} {_verdict(comparison, intervention)}{paid}{down}"


def _turned(comparison: Comparison, intervention: str) -> Iterator[str]:
    """Where other groups are ahead and behind than those the gap is named after, or none is, or none can be told."""
    baseline, fitted = comparison.baselines[intervention], comparison.fitted[intervention]
    named = (comparison.best_group, comparison.worst_group)
    if comparison.tied:
        yield f"At the baseline on validation all groups of {comparison.column} fare alike, so there is no better one."
    for split, where in {fitted: _FITTED[fitted], "test": "the test"}.items():
        before, after = (comparison.best_and_worst(name, split) for name in (baseline, intervention))
        leads = [_lead(comparison, name, split, ends) for name, ends in ((baseline, before), (intervention, after))]
        if before != named and leads[0] == "told":
            yield f"On {where} it is {before[0]} that is ahead at the baseline, by the means, and {before[1]} behind."
        elif before != named and leads[0] == "by chance":
            yield (
                f"On {where} the means of the baseline put {before[0]} first and {before[1]} last, which these runs "
                "cannot tell from chance."
            )
        if after != before and leads[1] == "told":
            yield f"With {intervention}, {after[0]} is ahead on {where}, by the means, and {after[1]} behind."
    gap = comparison.gap_over_people(baseline, "test")
    if gap is not None and not gap.excludes(0):
        yield f"Over people, the gap of the baseline on the test ({_signed(gap, comparison)}) cannot be told from none."


def _lead(comparison: Comparison, name: str, split: str, ends: tuple[str, str]) -> str:
    """Whether the best-off group is told to be ahead of the worst-off one, is by chance, or is not at all."""
    lead = comparison.difference(name, split, *ends, confidence=family_confidence(_LEADS))
    if lead.value <= RESOLUTION:
        return ""
    return "told" if lead.excludes(0) else "by chance"


def _verdict(comparison: Comparison, intervention: str) -> str:
    where = _FITTED[comparison.fitted[intervention]]
    apart = comparison.movement(intervention, comparison.fitted[intervention]) == "apart"
    told = {
        "carried over": "Groups came closer on the people of the test too: the fairness carried over to them.",
        "only on the test": f"On the people of the test groups came closer, which they are not seen to do on {where}"
        + (", where they moved apart." if apart else "."),
        "not seen on the test": f"What it bought on {where} is not seen on the test, where the change cannot be told "
        "from none.",
        "worse on the test": "On the people of the test, groups moved further apart"
        + (f", and so they did on {where}, which it is fitted to." if apart else "."),
        "no narrowing": f"Groups cannot be told to have come closer, neither on {where} nor on the test.",
        "moved apart where fitted": f"Groups moved apart on {where}, which it is fitted to; on the test the change "
        "cannot be told from none.",
        "too few": f"With fewer than {LEAST_RUNS} runs nothing can be told.",
    }
    outcome = comparison.outcome(intervention)
    unseen = outcome in ("not seen on the test", "no narrowing", "moved apart where fitted")
    return told[outcome] + (_could_have_been_told(comparison, intervention) if unseen else "")


def _could_have_been_told(comparison: Comparison, intervention: str) -> str:
    """How large a change of the spread of groups on the test had to be for these runs to tell it from none."""
    least = comparison.least_told(intervention, "test")
    if least is None:
        return ""
    least_of = _mean(Estimate(least), comparison)
    return f" As these runs spread, a change of more than {least_of} there would have been told."


def gap_table(comparison: Comparison) -> Table:
    """The gap on every split, and what became of it."""
    best, worst = comparison.best_group, comparison.worst_group
    rows = []
    for name in comparison.baselines:
        cells = [Cell(comparison.gap(name, split)) for split in SPLITS]
        changes = [
            Cell(text="") if name == comparison.baselines[name] else Cell(comparison.gap_change(name, split))
            for split in SPLITS
        ]
        closer = [Cell(text="") if name == comparison.baselines[name] else Cell(comparison.narrowing(name, split))
                  for split in SPLITS]  # fmt: skip
        rows.append((name, (*cells, *changes, *closer)))
    return Table(
        title=f"The gap: {best} less {worst}",
        columns=SPLITS * 3,
        rows=tuple(rows),
        unit=_unit(comparison),
        groups=(
            ("gap", len(SPLITS)),
            ("change from the baseline", len(SPLITS)),
            ("groups came closer by", len(SPLITS)),
        ),
        caption=figures_caption(comparison) + _all_at_once(comparison) + f" Below zero, {worst} is ahead. Changes are "
        "run by run against the baseline of the same seed. Groups came closer by what the best-off one is ahead of the "
        "worst-off one at the baseline, less what it is now.",
        row_name="intervention",
    )


def value_table(comparison: Comparison, split: str) -> Table:
    """How well models do for each group, on one split."""
    rows = [
        (name, tuple(Cell(comparison.value(name, split, group)) for group in ("", *comparison.groups)))
        for name in comparison.baselines
    ]
    return Table(
        title=f"{comparison.measures[split]} on {split}",
        columns=("everybody", *comparison.groups),
        rows=tuple(rows),
        unit=_unit(comparison),
        caption=figures_caption(comparison),
        row_name="intervention",
    )


def people_tables(comparison: Comparison) -> Iterator[Table]:
    """The figures of the test and the gap, with intervals that take people for the sample, where there are such."""
    best, worst = comparison.best_group, comparison.worst_group
    rows = []
    for name in comparison.baselines:
        found = [comparison.over_people(name, "test", group) for group in ("", *comparison.groups)]
        rows.append((name, tuple(map(Cell, (*found, comparison.gap_over_people(name, "test"))))))
    if any(cell.measured for _, cells in rows for cell in cells):
        yield Table(
            title=f"{comparison.measures['test']} on test, with intervals over people",
            columns=("everybody", *comparison.groups, f"{best} less {worst}"),
            rows=tuple(rows),
            unit=_unit(comparison),
            caption="In brackets 95 % intervals that take people for the sample: what other people would give, of "
            "networks like these. Their ends are means over runs; those of the gap are put together of those of its "
            "two groups (MOVER)"
            + (", and hold for all pairs of groups at once." if len(comparison.groups) > 2 else ".")
            + _averaged(comparison),
            row_name="intervention",
        )


def count_table(comparison: Comparison) -> Table:
    """How many samples and people figures are of, and of findings how many have each."""
    first = comparison.scores.filter(pl.col("intervention") == comparison.first_baseline)
    first = first.filter(pl.col("seed") == first["seed"].min())
    measures = [POSITIVES] if comparison.task == "findings" else sorted(set(comparison.measures.values()))
    rows = []
    for split in SPLITS:
        of_split = first.filter(
            pl.col("split") == split,
            pl.col("measure").is_in(measures),
            pl.col("column").is_in(["", comparison.column]),
        )
        if comparison.task != "findings":
            of_split = of_split.filter(pl.col("measure") == comparison.measures[split])
        for label in of_split["label"].unique(maintain_order=True):
            found = {row["group"]: row for row in of_split.filter(pl.col("label") == label).to_dicts()}
            cells = [_counted(found.get(group), comparison) for group in ("", *comparison.groups)]
            rows.append((f"{label}, {split}" if label else split, tuple(cells)))
    what = (
        "X-rays with each finding, of so many of which it is known"
        if comparison.task == "findings"
        else "Images that figures are of"
    )
    return Table(
        title="Who was counted",
        columns=("everybody", *comparison.groups),
        rows=tuple(rows),
        caption=f"{what}; in brackets the people. An area of few positives says little."
        if comparison.task == "findings"
        else f"{what}; in brackets the people.",
        row_name="finding and split" if comparison.task == "findings" else "split",
    )


def _counted(row: dict[str, Any] | None, comparison: Comparison) -> Cell:
    if row is None:
        return Cell(text="too few")
    people = "" if row["people"] is None else f" ({row['people']:,})"
    of = f"{row['value']:,.0f} of " if comparison.task == "findings" else ""
    return Cell(text=f"{of}{row['count']:,}{people}")


def change_table(comparison: Comparison) -> Table:
    """What each intervention did to each group on the test, and whether it leveled down."""
    rows = []
    for name in comparison.interventions:
        cells = map(Cell, (comparison.change(name, "test"), *comparison.group_changes(name, "test").values()))
        rows.append((name, (*cells, Cell(text=comparison.leveled_down(name)), Cell(text=comparison.outcome(name)))))
    return Table(
        title="What it cost: changes from the baseline on the test",
        columns=("everybody", *comparison.groups, "leveled down", "the fairness"),
        rows=tuple(rows),
        unit=_unit(comparison),
        caption=figures_caption(comparison) + _changes_at_once(comparison),
        row_name="intervention",
    )


def gerrymandering_table(comparison: Comparison, *, split: str = "test") -> Table | None:
    """The matrix of who gained and who paid; None if there are no other groups."""
    found = list(bystanders(comparison, split=split))
    columns = list(dict.fromkeys((one.column, one.group) for one in found))
    if not columns:
        return None
    cells = {(one.intervention, one.column, one.group): one for one in found}
    rows = []
    for name in comparison.interventions:
        row = []
        for column, group in columns:
            one = cells.get((name, column, group))
            note = f"{one.effect}: told from chance" if one is not None and one.effect else None
            row.append(Cell() if one is None else Cell(one.change, note=note))
        rows.append((name, tuple(row)))
    spans: dict[str, int] = {}
    for column, _ in columns:
        spans[column] = spans.get(column, 0) + 1
    return Table(
        title=f"Who gained and who paid: changes from the baseline on the {split}",
        columns=tuple(group for _, group in columns),
        rows=tuple(rows),
        unit=_unit(comparison),
        shade="high is good",
        groups=tuple(spans.items()),
        caption=runs_caption(comparison),
        row_name="intervention",
    )


def single_table(experiment: Experiment, scores: pl.DataFrame) -> Table:
    """How well one model does for each group on each split, and the gap between the best- and the worst-off one."""
    groups, rows = _figures(experiment, scores), []
    names = list(dict.fromkeys(name for found in groups.values() for name in found if name))
    for split, found in groups.items():
        cells = [Cell(found[name]) if name in found else Cell(text="too few") for name in ("", *names)]
        rows.append((f"{split} ({experiment.measures[split]})", (*cells, _best_less_worst(found))))
    compared = max(len(found) - 1 for found in groups.values())
    there = getattr(experiment, "groups", None)  # experiments of other people's need not have them
    untold = [] if there is None else [name for name in there.names if name not in names]
    return Table(
        title=f"By {experiment.column}",
        columns=("everybody", *names, "best less worst"),
        rows=tuple(rows),
        unit="AUC" if experiment.task == "findings" else "%",
        caption="Intervals: 95 %, people taken for the sample."
        + (" Those of the best less the worst hold for all pairs of groups at once." if compared > 2 else "")
        + (f" Nothing is told of {', '.join(untold)}: there are {_too_few(experiment.task)}." if untold else ""),
        row_name="split",
    )


def _best_less_worst(found: dict[str, Estimate]) -> Cell:
    """How far the best-off of some groups is ahead of the worst-off one, over people where they have intervals."""
    groups = {name: one for name, one in found.items() if name}
    if len(groups) < 2:
        return Cell(text="too few")
    best, *_, worst = sorted(sorted(groups), key=lambda name: -groups[name].value)
    note = f"{best} less {worst}" if groups[best].value > groups[worst].value else None
    return Cell(difference(groups[best], groups[worst], groups=len(groups)), note=note)


def single_record(experiment: Experiment, scores: pl.DataFrame) -> dict[str, Any]:
    """The same for other programs, and all scores."""
    groups = {
        split: {name or "everybody": recorded(replace(one, n=None, count=None)) for name, one in found.items()}
        for split, found in _figures(experiment, scores).items()
    }
    return {"column": experiment.column, "measures": experiment.measures, "groups": groups, "scores": scores.to_dicts()}


def _figures(experiment: Experiment, scores: pl.DataFrame) -> dict[str, dict[str, Estimate]]:
    """By split and group, "" for everybody: the figure with its interval."""
    label = MEAN if experiment.task == "findings" else ""
    wanted = scores.filter((pl.col("label") == label) & pl.col("column").is_in(["", experiment.column]))
    return {
        split: {
            row["group"]: figure_of(row)
            for row in wanted.filter((pl.col("split") == split) & (pl.col("measure") == measure)).to_dicts()
        }
        for split, measure in experiment.measures.items()
    }


def card_record(comparison: Comparison) -> dict[str, Any]:
    """All of it for other programs."""
    return {
        "task": comparison.task,
        "column": comparison.column,
        "measures": comparison.measures,
        "gap": [comparison.best_group, comparison.worst_group],
        "confidence": comparison.confidence,
        "groups left out": {group: list(splits) for group, splits in comparison.left_out_groups.items()},
        "findings": list(comparison.findings),
        "findings left out": list(comparison.left_out),
        "interventions": recorded([
            {
                "name": name,
                "baseline": comparison.baselines[name],
                "splits": {
                    split: {
                        "everybody": comparison.value(name, split),
                        "groups": {group: comparison.value(name, split, group) for group in comparison.groups},
                        "gap": comparison.gap(name, split),
                        "gap over people": comparison.gap_over_people(name, split),
                        "best and worst": list(comparison.best_and_worst(name, split)),
                        "gap change": comparison.gap_change(name, split),
                        "narrowing": comparison.narrowing(name, split),
                    }
                    for split in SPLITS
                },
                "outcome": comparison.outcome(name),
                "levelled_down": comparison.leveled_down(name),
                "reading": reading(comparison, name),
            }
            for name in comparison.interventions
        ], n="runs"),
        "bystanders": [recorded(one, n="runs") | {"effect": one.effect} for one in bystanders(comparison)],
        "scores": comparison.scores.to_dicts(),
    }  # fmt: skip


def tables_of(comparison: Comparison) -> Iterator[Table]:
    """What a terminal shows."""
    yield gap_table(comparison)
    yield change_table(comparison)
    yield from people_tables(comparison)
    yield count_table(comparison)


def _unit(comparison: Comparison) -> Unit:
    return "AUC" if comparison.task == "findings" else "%"


def runs_caption(comparison: Comparison) -> str:
    """How many runs figures are of, and what their intervals are."""
    runs = comparison.scores["seed"].n_unique()
    return f"Means of {runs} runs, in brackets 95 % intervals over runs." if runs >= LEAST_RUNS else "Means of runs."


def _all_at_once(comparison: Comparison) -> str:
    """What intervals of groups and differences between groups hold for."""
    groups, confidence = len(comparison.groups), comparison.confidence
    if groups <= 2 or comparison.scores["seed"].n_unique() < LEAST_RUNS:
        return ""
    return (
        f" Those of differences between groups are wider, {100 * confidence:.4g} % each, so that those of all pairs of "
        f"the {groups} groups hold at once."
    )


def _changes_at_once(comparison: Comparison) -> str:
    """What intervals of changes of groups hold for."""
    if comparison.scores["seed"].n_unique() < LEAST_RUNS:
        return ""
    each = f"{100 * comparison.change_confidence:.4g} % each"
    return f" Those of changes of groups are wider, {each}, so that those of all {len(comparison.groups)} hold at once."


def figures_caption(comparison: Comparison) -> str:
    """The same, and over which findings means are."""
    return runs_caption(comparison) + _averaged(comparison)


def _averaged(comparison: Comparison) -> str:
    if not comparison.findings:
        return ""
    over = f" Everybody's and groups' figures are means over {', '.join(comparison.findings)}."
    if not comparison.left_out:
        return over
    return (
        f"{over[:-1]}; not over {', '.join(comparison.left_out)}, which not every group has on every split, both "
        "present and absent."
    )


def _mean(one: Estimate, comparison: Comparison) -> str:
    return f"{one.value:.3f}" if comparison.task == "findings" else f"{100 * one.value:.1f} points"


def _signed(one: Estimate, comparison: Comparison) -> str:
    """A figure of any sign with its interval."""
    if comparison.task == "findings":
        return f"{one.value:.3f} [{one.low:.3f} to {one.high:.3f}]"
    return f"{100 * one.value:.1f} points [{100 * one.low:.1f} to {100 * one.high:.1f}]"


def _told(one: Estimate, comparison: Comparison) -> str:
    low, high = sorted((abs(one.low), abs(one.high)))
    if comparison.task == "findings":
        return f"{abs(one.value):.3f} [{low:.3f}–{high:.3f}]"
    return f"{100 * abs(one.value):.1f} points [{100 * low:.1f}–{100 * high:.1f}]"


def display_of(comparison: Comparison) -> tuple[Sequence[str], Sequence[Table]]:
    """What a comparison shows of itself: what became of each intervention, and the gaps."""
    said = [reading(comparison, name) for name in comparison.interventions]
    return [*said, *left_out(comparison)], (gap_table(comparison),)
