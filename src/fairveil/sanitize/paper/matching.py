"""Gradient matching under each defense: table 4.2 and figure 4.3, and the same where only heads are retrained."""

from collections.abc import Mapping
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field

from fairveil.experiment.published import published_table
from fairveil.experiment.study import Measurement, Results, Trial
from fairveil.experiment.workbench import Workbench
from fairveil.report.plots import Series, frontier
from fairveil.report.study import Figure
from fairveil.report.tables import Table, beside
from fairveil.sanitize.attacks import SMALL_BREWING, GradientMatching, Knowing
from fairveil.sanitize.defenses import PUBLISHED, defense
from fairveil.sanitize.gradient_matching import WitchesBrew
from fairveil.sanitize.paper.setting import (
    PoisonSettings,
    PoisonStudy,
    differences_of,
    differences_of_forms,
    gathered,
    pictures,
    pooled_table,
    tiny,
    with_rows_of_ours,
)
from fairveil.sanitize.trials import Scenario
from fairveil.sanitize.victims import HEAD_VICTIM, PUBLISHED_VICTIM, DefenseName, TransferVictim

BASIC, ADAPTIVE, MIXING, ACCURACY = "Basic Attack", "Adaptive Attack", "Adaptive, mixing", "Validation Accuracy"
"""Columns; all but the third are table 4.2's."""

SUCCESS, BASE_RATE = "success", "without poison"

_COLUMNS: Mapping[Knowing, str] = {"nothing": BASIC, "training": ADAPTIVE, "mixing": MIXING}


class MatchingSettings(PoisonSettings):
    """Settings.

    Attributes:
        knowing: what attackers know of the defense; see `GradientMatching`.
        budgets: shares of the training pictures that are poisoned.
        brewing: settings of the attack.
    """

    victim: TransferVictim
    knowing: tuple[Knowing, ...] = ("nothing", "training")
    budgets: tuple[Annotated[float, Field(gt=0, le=1)], ...]
    brewing: WitchesBrew


class MatchingTrial(Trial):
    """One victim: a defense, an attacker, and a run, the seed of all that is drawn; see `MatchingSettings`."""

    victim: TransferVictim
    defense: DefenseName
    attack: GradientMatching
    run: int

    @property
    def label(self) -> str:
        """The defense, the attacker, their budget and the run."""
        column = _COLUMNS[self.attack.knows].lower()
        return f"{self.defense}, {column}, {self.attack.budget:.1%}, run {self.run + 1}"


class MatchingStudy(PoisonStudy[MatchingSettings, MatchingTrial]):
    """A study of defenses against gradient matching."""

    def trials(self, settings: MatchingSettings) -> list[MatchingTrial]:
        """Every defense against every attacker and budget, as often as there are runs."""
        attacks = [
            GradientMatching(brewing=settings.brewing, budget=budget, knows=knows)
            for budget, knows in product(settings.budgets, settings.knowing)
        ]
        return [
            MatchingTrial(victim=settings.victim, defense=name, attack=attack, run=number)
            for number, attack, name in product(range(settings.runs), attacks, settings.defenses)
        ]

    def run(self, trial: MatchingTrial, bench: Workbench) -> list[Measurement]:
        """Brew, train a new victim under the defense, and look at the target.

        Returns:
            Whether the target was given the adversarial class; the same of a clean network without a defense; and the
            accuracy on clean test pictures.
        """
        scenario = _scenario(trial.victim, bench.cache, bench.device)
        under = defense(trial.defense, size=min(scenario.train.images.shape[2:]), padding=trial.victim.padding)
        with bench.timed("brew and train"):
            outcome = scenario.outcome(trial.attack, under, [trial.run])
        counted = {SUCCESS: outcome.success, BASE_RATE: outcome.base_rate, ACCURACY: outcome.accuracy}
        return [
            Measurement(labels={"what": what, "aim": outcome.aim}, value=hits.share, count=hits.trials)
            for what, hits in counted.items()
        ]

    def tables(self, settings: MatchingSettings, results: Results[MatchingTrial]) -> list[Table]:
        """Ours beside table 4.2, and what looks like success without any poison."""
        several = len(settings.budgets) > 1
        ours = [
            _table(settings, results, budget, f" at {budget:.1%}, ours" if several else "")
            for budget in settings.budgets
        ]
        if not several:
            published = with_rows_of_ours(published_table("4.2").table(), settings.defenses)
            ours = list(beside(ours[0], published))
        return [*ours, _base_rates(settings, results)]

    def differences(self, settings: MatchingSettings) -> list[str]:
        """What differs from section 4.4.2."""
        victim, brewing = settings.victim, settings.brewing
        said = differences_of(victim)
        if victim.apart:
            said.append(
                "The transfer regime, not the published one: features are trained once, on "
                f"{victim.apart:,} other pictures, and frozen; victims fit a new head to them. The attacker knows "
                "the very features (a white box), which is an easier attack than one on networks trained from scratch. "
                "The noised rows of the table need steps of training, which a fitted head has not. From scratch, "
                "networks of the size that two cores can afford gave 0 successes in 3 trials although the matching "
                "loss fell well."
            )
        if settings.budgets != (0.01,):
            budgets = ", ".join(f"{budget:.0%}" for budget in settings.budgets)
            said.append(f"Budget: {budgets} of the training pictures instead of 1 %.")
        if (brewing.steps, brewing.restarts) != (250, 8):
            said.append(
                f"Attack: {brewing.steps} steps and {brewing.restarts} restart{'s' * (brewing.restarts > 1)} instead "
                "of 250 and 8, which are its authors'; the dissertation gives neither."
            )
        return said + differences_of_forms(settings.defenses)

    def rehearsal(self, settings: MatchingSettings) -> MatchingSettings:
        """The same rows on a few generated pictures, one epoch and one step each."""
        victim = tiny(settings.victim, network="resnet-8", features_from=40 if settings.victim.apart else None)
        brewing = settings.brewing.model_copy(update={"steps": 1, "restarts": 1})
        return settings.model_copy(update={"victim": victim, "brewing": brewing, "budgets": (0.05,), "runs": 1})

    def figures(self, settings: MatchingSettings, results: Results[MatchingTrial]) -> list[Figure]:
        """Success against accuracy, as figure 4.3: a plot for each kind of attacker."""
        drawn = []
        for budget in settings.budgets:
            table = _table(settings, results, budget, "")
            for place, column in enumerate(table.columns[:-1]):
                points = [(name, cells[place], cells[-1]) for name, cells in table.rows]
                series = [
                    Series(name, [accuracy.value], [cell.estimate], [name])
                    for name, cell, accuracy in points
                    if cell.estimate is not None and accuracy.value is not None
                ]
                if series:
                    svg = frontier(series, x_name="clean accuracy", y_name="poison success")
                    drawn.append(
                        Figure(
                            f"{column}, {budget:.1%} of the pictures poisoned: lower and further right is better.", svg
                        )
                    )
        return drawn


def _table(settings: MatchingSettings, results: Results[MatchingTrial], budget: float, title: str) -> Table:
    def place(trial: MatchingTrial, one: Measurement) -> tuple[str, str] | None:
        if trial.attack.budget != budget:
            return None
        if one.labels["what"] == SUCCESS:
            return trial.defense, _COLUMNS[trial.attack.knows]
        of_first = one.labels["what"] == ACCURACY and trial.attack.knows == settings.knowing[0]
        return (trial.defense, ACCURACY) if of_first else None

    return pooled_table(
        gathered(results, place),
        columns=[*(_COLUMNS[knows] for knows in settings.knowing), ACCURACY],
        title=f"Gradient matching{title}",
        caption=f"Over up to {settings.runs} runs with a new target and adversarial class each, the same under every "
        "defense. Intervals: 95 %, Wilson's for success; of accuracies with runs for the sample.",
    )


def _base_rates(settings: MatchingSettings, results: Results[MatchingTrial]) -> Table:
    """What looks like success without any poison: of each run once, since its clean network is the same everywhere."""
    clean = {
        (f"{trial.attack.budget:.1%}", trial.run): one
        for trial, found in results.items()
        for one in found
        if one.labels["what"] == BASE_RATE
    }
    cells: dict[tuple[str, str], list[Measurement]] = {}
    for (budget, _), one in clean.items():
        cells.setdefault(("no poison, no defence", budget), []).append(one)
    return pooled_table(
        cells,
        columns=[f"{budget:.1%}" for budget in settings.budgets],
        title="Targets given the adversarial class without poison, ours",
        caption="By networks trained on clean pictures: what is left of success without any attack.",
    )


@lru_cache(maxsize=1)
def _scenario(victim: TransferVictim, cache: Path, device: str) -> Scenario:
    """The victim's pictures and how it learns, the features trained or taken from the cache."""
    data, test = pictures(victim)
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))
    own = data.take(order[victim.apart :][: victim.images])
    apart = data.take(order[: victim.apart]) if victim.apart else None
    test = test if victim.test_images is None else test.take(torch.arange(min(victim.test_images, len(test))))
    return Scenario.of(victim, own, test, cache, device, apart=apart)


_MIXED = ("Baseline", "mixup", "mixup (4-way)", "CutMix", "cutout", "MaxUp-cutout")
_TABLE = ("Baseline", "DP-SGD (0.01)", "DP-SGD (0.05)", *_MIXED[1:])
_SMALL = MatchingSettings(victim=HEAD_VICTIM, defenses=_MIXED, budgets=(0.04,), brewing=SMALL_BREWING, runs=40)
_MANY = _SMALL.model_copy(
    update={"defenses": _MIXED[:-1], "knowing": ("nothing",), "budgets": (0.01, 0.04), "runs": 20}
)

GRADIENT_MATCHING_DEFENSES = MatchingStudy(
    name="gradient-matching-defenses",
    title="Augmentations against gradient matching",
    question="How often does Witches' Brew turn its target when the victim trains with strong augmentation or noise?",
    source="table 4.2, figure 4.3",
    small=_SMALL,
    paper=MatchingSettings(
        victim=TransferVictim(**dict(PUBLISHED_VICTIM) | {"usual": f"{PUBLISHED}Baseline"}),
        defenses=(*_TABLE, *(f"{PUBLISHED}{name}" for name in _TABLE)),
        budgets=(0.01,),
        brewing=WitchesBrew(),
        runs=20,
    ),
)

TRANSFER_DEFENSES = MatchingStudy(
    name="transfer-defenses",
    title="Augmentations where only a new head is trained",
    question="Which augmentation keeps poison out of a new head on features that everybody knows?",
    source="beyond the dissertation",
    small=_MANY,
    paper=_MANY.model_copy(
        update={
            "victim": TransferVictim(**dict(PUBLISHED_VICTIM) | {"images": 2500, "features_from": 40_000}),
            "brewing": WitchesBrew(),
            "runs": 100,
        }
    ),
)
