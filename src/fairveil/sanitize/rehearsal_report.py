"""A rehearsal as readers see it: a table, the plot of figure 4.3, and its section of a page."""

import re
from collections.abc import Mapping
from typing import Any

from fairveil.faces.rates import Rate
from fairveil.report.plots import Series, frontier
from fairveil.report.study import Figure, StudySection, TrialRow
from fairveil.report.tables import Cell, Table
from fairveil.sanitize.learners import FromScratch, HeadOnly, Learner
from fairveil.sanitize.rehearsal import Rehearsal, Rehearsed
from fairveil.sanitize.verdict import Verdict


def table_of(verdict: Verdict) -> Table:
    """How every defence fared, and what looks like success without poison."""
    standings = (verdict.undefended, *verdict.standings)
    rows = [(one.name, (_cell(one.success), _cell(one.accuracy), _significance(one.p_value))) for one in standings]
    return Table(
        title=f"{verdict.attack[:1].upper()}{verdict.attack[1:]}",
        columns=("poison success", "clean accuracy", "p"),
        rows=(*rows, ("no poison", (_cell(verdict.base_rate), Cell(), Cell()))),
        caption=f"Over {verdict.trials} trials, the same under every defence. Intervals: 95 %, of trials (Wilson's "
        "where each is about one picture). p: of a paired one-sided permutation test against no defence, times the "
        "number of defences.",
        unit=("%", "%", "ratio"),
        row_name="defence",
    )


def frontier_of(verdict: Verdict) -> Figure:
    """The plot of figure 4.3: the further right and the lower, the better."""
    series = [
        Series(one.name, [one.accuracy.value], [one.success.value], [one.success.low], [one.success.high], [one.name])
        for one in (verdict.undefended, *verdict.standings)
    ]
    svg = frontier(series, x_name="clean accuracy", y_name="poison success")
    return Figure(f"Poison success by clean accuracy under {verdict.attack}: lower and further right is better.", svg)


def section_of(rehearsal: Rehearsal, done: Rehearsed, *, preset: str) -> StudySection:
    """The section of a page on one rehearsal.

    Args:
        rehearsal: that was held.
        done: what came of it.
        preset: how large it was.
    """
    scenario = rehearsal.scenario
    settings: Mapping[str, Any] = {
        "data": scenario.train.name,
        "training pictures": len(scenario.train),
        "test pictures": len(scenario.test),
        "trials at the most": rehearsal.trials,
        "seed": rehearsal.seed,
        "attack": repr(rehearsal.attack),
        "defences": tuple(rehearsal.defenses),
        "victims": _learning(scenario.learner),
    }
    said = ["Networks, training and attack are of the size of the preset: see the settings."]
    if isinstance(scenario.learner, HeadOnly):
        said.append(
            "Victims fit a new head to frozen features, and the attacker knows these very features (a white box): an "
            "easier attack than one on networks trained from scratch, so that success is higher than it would be there."
        )
    if done.stopped_early:
        said.append(
            "It stopped early, since the 99 % intervals of the best defence and of none were apart. The other defences "
            "had fewer trials for it than they would have had."
        )
    by_trial = list(zip(*done.outcomes.values(), strict=True))
    return StudySection(
        name=re.sub(r"\W+", "-", rehearsal.attack.name).strip("-"),
        title=f"Rehearsal: {rehearsal.attack.name}",
        question=done.verdict.recommendation,
        source="chapter 4",
        preset=preset,
        settings=settings,
        tables=(table_of(done.verdict),),
        plots=(frontier_of(done.verdict),),
        differences=said,
        trials=tuple(
            TrialRow(of_trial[0].aim, sum(one.seconds for one in of_trial), "finished") for of_trial in by_trial
        ),
    )


def _learning(learner: Learner) -> str:
    """How victims learn, without the weights that tell them apart."""
    if isinstance(learner, FromScratch):
        return f"from scratch, {learner.training!r}"
    return "a new head on frozen features" if isinstance(learner, HeadOnly) else type(learner).__name__


def _cell(rate: Rate) -> Cell:
    return Cell(rate.value, rate.low, rate.high)


def _significance(p_value: float | None) -> Cell:
    return Cell() if p_value is None else Cell(text="< 0.001" if p_value < 0.001 else f"{p_value:.3f}")
