"""A rehearsal as readers see it: a table, the plot of figure 4.3, and its section of a page."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from fairveil.report.plots import Series, frontier
from fairveil.report.study import Figure, StudySection, TrialRow
from fairveil.report.tables import Cell, Table
from fairveil.sanitize.learners import FromScratch, HeadOnly, Learner
from fairveil.sanitize.rehearsal import Rehearsal, Rehearsed
from fairveil.sanitize.verdict import LEVEL, Conclusion, Verdict


def table_of(verdict: Verdict) -> Table:
    """How every defense fared, what it costs, and what looks like success without poison."""
    standings = (verdict.undefended, *verdict.standings)
    rows = [
        (
            one.name,
            (
                Cell(one.success),
                Cell(one.base_rate),
                Cell(one.clean_accuracy),
                Cell(one.price),
                Cell(one.poisoned_accuracy),
                _significance(one.p_value),
            ),
        )
        for one in standings
    ]
    trials = f"{verdict.trials} trial{'s' * (verdict.trials > 1)}"
    aims = f" with {verdict.aims} different aim{'s' * (verdict.aims > 1)}" if verdict.aims < verdict.trials else ""
    few = (
        ": they say how networks trained anew would fare with these aims and pictures, not with others"
        if verdict.aims * 2 <= verdict.trials
        else ""
    )
    return Table(
        title=f"{verdict.attack[:1].upper()}{verdict.attack[1:]}",
        columns=("poison success", "without poison", "clean accuracy", "accuracy lost", "accuracy with poison", "p"),
        rows=tuple(rows),
        caption=f"Over {trials}{aims}, the same under every defense. Intervals: 95 %; of success, of "
        "what looks like it without poison, and of accuracy with poison they take trials for the sample (Wilson's "
        f"where each is about one picture){few}. Clean accuracy is of one network trained under each defense on clean "
        "data, and what is lost of it is the price of the defense, both with pictures for the sample: training anew "
        "would give somewhat other figures. Accuracy with "
        "poison is of the victims, and no price: where a whole class is poisoned, it tells how well that class is "
        "still learned. p: of a paired one-sided permutation test against no defense, times the number of defenses. A "
        f"defense is recommended if p is below {LEVEL:g}, success falls by {100 * verdict.least_effect:g} points or "
        f"more and {100 * verdict.most_lost:g} points of clean accuracy or fewer are lost, by the ends of the "
        "intervals.",
        unit=("%", "%", "%", "%", "%", "ratio"),
        row_name="defense",
    )


def frontier_of(verdict: Verdict) -> Figure:
    """The plot of figure 4.3, by the accuracy of networks trained on clean data: further right and lower is better."""
    series = [
        Series(one.name, [one.accuracy.value], [one.success], [one.name])
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
        "defenses": tuple(rehearsal.defenses),
        "version": ", ".join(done.versions),
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
            "It stopped early, since the 99 % intervals of the best defense and of none were apart. The other defenses "
            "had fewer trials for it than they would have had."
        )
    if len(done.versions) > 1:
        said.append(mixed_versions(done))
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


def section_of_all(conclusion: Conclusion, *, preset: str) -> StudySection:
    """The first section of a page on several attacks: one verdict over all of them."""
    return StudySection(
        name="all-attacks",
        title="All attacks together",
        question=conclusion.recommendation,
        source="chapter 4",
        preset=preset,
        settings={"attacks": tuple(one.attack for one in conclusion.verdicts)},
        tables=(),
        plots=(),
        differences=(),
        trials=(),
    )


def mixed_versions(done: Rehearsed) -> str:
    """The sentence that tells of outcomes that other states of fairveil made."""
    return (
        f"The outcomes were made by {len(done.versions)} states of fairveil ({', '.join(done.versions)}): start "
        "anew in another folder to have all of one."
    )


def _learning(learner: Learner) -> str:
    """How victims learn, without the weights that tell them apart."""
    if isinstance(learner, FromScratch):
        return f"from scratch, {learner.training!r}"
    return "a new head on frozen features" if isinstance(learner, HeadOnly) else type(learner).__name__


def _significance(p_value: float | None) -> Cell:
    return Cell() if p_value is None else Cell(text="< 0.001" if p_value < 0.001 else f"{p_value:.3f}")


def display_of(verdict: Verdict) -> tuple[Sequence[str], Sequence[Table]]:
    """What a verdict shows of itself: the recommendation, and how each defense did."""
    return (verdict.recommendation,), (table_of(verdict),)
