"""Backdoors under each defense: table 4.1, and where its gain in accuracy comes from."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from typing import Annotated

import torch
from pydantic import Field

from fairveil.data.images import LabeledImages
from fairveil.experiment.published import published_table
from fairveil.experiment.study import SYNTHETIC, Measurement, Results, Trial
from fairveil.experiment.workbench import Workbench
from fairveil.report.tables import Table, beside
from fairveil.sanitize.attacks import PatchedClass
from fairveil.sanitize.backdoor import Backdoor
from fairveil.sanitize.defenses import PUBLISHED, defense
from fairveil.sanitize.paper.setting import (
    PoisonSettings,
    PoisonSettingsType,
    PoisonStudy,
    differences_of,
    differences_of_forms,
    gathered,
    paired_change,
    pictures,
    pooled_table,
    tiny,
    with_rows_of_ours,
)
from fairveil.sanitize.poisoning import rows_of, some_of
from fairveil.sanitize.published import PUBLISHED_TRIGGER
from fairveil.sanitize.trials import Scenario
from fairveil.sanitize.triggers import Trigger
from fairveil.sanitize.victims import PUBLISHED_VICTIM, DefenseName, Victim
from fairveil.training import Training

SUCCESS, ACCURACY = "Poison Success", "Val Accuracy"
"""What table 4.1 calls them."""

RECALL = "Target Recall"
"""Of clean test pictures of the target class, how many are still taken for it: table 4.1 has no such column."""

_UNPATCHED = "without the patch"


class Backdoors(PoisonSettings):
    """Settings.

    Attributes:
        shares: how much of the target class is poisoned.
        trigger: the patch; one of pattern "bernoulli" is drawn anew in each run.
        classes: on how many classes victims are trained, the target class and the base class among them, with equally
            many pictures of each; None for all, as they come.
    """

    victim: Victim = Victim()
    defenses: tuple[DefenseName, ...] = ("Baseline", "mixup", "CutMix", "cutout", "MaxUp-cutout")
    shares: tuple[Annotated[float, Field(gt=0, le=1)], ...] = (1.0, 0.1)
    trigger: Trigger = Trigger(place=(20, 20))
    # Settings that came later are written only where they are not the default, so that older records stay valid.
    classes: int | None = Field(None, ge=2, exclude_if=lambda count: count is None)
    runs: int = Field(4, ge=1)


class Infection(Trial):
    """One victim: a defense, a share of the target class, and a run, the seed of all that is drawn; see `Backdoors`."""

    victim: Victim
    defense: DefenseName
    share: float
    trigger: Trigger
    classes: int | None = Field(None, ge=2, exclude_if=lambda count: count is None)
    run: int

    @property
    def label(self) -> str:
        """The defense, the share and the run."""
        return f"{self.defense}, {self.share:.0%}, run {self.run + 1}"


class InfectionStudy(PoisonStudy[PoisonSettingsType, Infection]):
    """A study of backdoors."""

    def run(self, trial: Infection, bench: Workbench) -> list[Measurement]:
        """Poison, train a new network under the defense, and look at the patched pictures of the base class.

        Returns:
            The share of patched pictures of the base class that are taken for the target class; the same without the
            patch; the accuracy on clean test pictures; and the recall of the target class: the share of its own clean
            test pictures that are still taken for it.
        """
        victim = trial.victim
        generator = torch.Generator().manual_seed(trial.run)
        data, test, target, base = _drawn(trial, generator)
        aim = PatchedClass(Backdoor(trigger=trial.trigger, share=trial.share), test, target, base)
        poisoned = aim.poison(data, generator)
        scenario = Scenario.of(victim, data, test, bench.cache, bench.device)
        under = defense(trial.defense, size=min(data.images.shape[2:]), padding=victim.padding)
        with bench.timed("train"):
            network = scenario.learner.learn(poisoned, under, seed=trial.run)
        with bench.timed("test"):
            success = aim.success(network)
            right = scenario.right(network)
        own = right[test.labels == target]
        counted = {
            SUCCESS: (success.base.share, success.base.trials),
            _UNPATCHED: (success.base_unpatched.share, success.base_unpatched.trials),
            ACCURACY: (float(right.float().mean()), len(right)),
            RECALL: (float(own.float().mean()), len(own)),
        }
        classes = {"target": data.classes[target], "base": data.classes[base]}
        return [
            Measurement(labels={"what": what} | classes, value=value, count=count)
            for what, (value, count) in counted.items()
        ]


class BackdoorStudy(InfectionStudy[Backdoors]):
    """A study of defenses against backdoors."""

    def trials(self, settings: Backdoors) -> list[Infection]:
        """Every defense against every share, as often as there are runs."""
        return [
            Infection(
                victim=settings.victim,
                defense=name,
                share=share,
                trigger=_anew(settings.trigger, number),
                classes=settings.classes,
                run=number,
            )
            for number, share, name in product(range(settings.runs), settings.shares, settings.defenses)
        ]

    def tables(self, settings: Backdoors, results: Results[Infection]) -> list[Table]:
        """Ours beside table 4.1, and how often pictures are taken for the target class without the patch."""
        ours = pooled_table(
            gathered(results, lambda trial, one: (trial.defense, f"{one.labels['what']} ({trial.share:.0%})")),
            columns=[f"{what} ({share:.0%})" for share in settings.shares for what in (SUCCESS, ACCURACY, RECALL)],
            title="Backdoors",
            caption=f"Means over up to {settings.runs} runs with new target and base classes, pictures and seeds each, "
            "the same under every defense. Intervals: 95 %, with runs, not pictures, for the sample.",
        )
        base_rate = pooled_table(
            gathered(
                results,
                lambda trial, one: (trial.defense, f"{trial.share:.0%}") if one.labels["what"] == _UNPATCHED else None,
            ),
            columns=[f"{share:.0%}" for share in settings.shares],
            title="Taken for the target class without the patch, ours",
            caption="The same pictures of the base class as they were: what is left of success without any trigger.",
        )
        published = with_rows_of_ours(published_table("4.1").table(), settings.defenses)
        return [*beside(ours, published), *_changes(settings, results), base_rate]

    def differences(self, settings: Backdoors) -> list[str]:
        """What differs from section 4.4.1."""
        victim, said = settings.victim, []
        if settings.classes is not None:
            said.append(f"Classes: {settings.classes} of CIFAR-10's, drawn in each run, instead of all 10.")
        said += differences_of(victim)
        few = victim.data != SYNTHETIC and victim.images is not None and settings.classes is None
        if few and victim.images is not None and min(settings.shares) < 1:
            said.append(
                f"A tenth of one of ten classes is then {victim.images // 100} pictures. With 30 no backdoor is "
                "learned, whatever the defense, and with 250 (25,000 pictures, 15 epochs) hardly any (4 to 8 % "
                "success): they say nothing of defenses."
            )
        if settings.trigger.pattern == "bernoulli":
            said.append(
                "Trigger: as in the published code, 4×4 random pixels in the lower right corner, but black or white in "
                "each channel; the code's exceed the range of pixels. The usual crops cut it off now and then."
            )
        else:
            said.append(
                "Trigger: the text says 4×4 patches, and neither where nor what they show; ours is a checker that the "
                "usual crops never cut. The published code has random pixels in the corner."
            )
        if extra := [
            name for name in settings.defenses if name.removeprefix(PUBLISHED) not in ("Baseline", "mixup", "CutMix")
        ]:
            said.append(f"{', '.join(extra)} are rows of ours; table 4.1 has none.")
        return said + differences_of_forms(settings.defenses)

    def rehearsal(self, settings: Backdoors) -> Backdoors:
        """The same rows on a few generated pictures, one epoch each."""
        return settings.model_copy(update={"victim": tiny(settings.victim), "runs": 1})


def _changes(settings: Backdoors, results: Results[Infection]) -> list[Table]:
    """What each defense changes against none, paired by run; nothing where there are fewer than two runs."""
    values: Mapping[tuple[str, float, str, int], float] = {
        (trial.defense, trial.share, one.labels["what"], trial.run): one.value
        for trial, found in results.items()
        for one in found
    }
    columns = list(product(settings.shares, (SUCCESS, ACCURACY, RECALL)))
    rows = []
    for name in settings.defenses[1:]:
        cells = []
        for share, what in columns:
            changes = [
                values[name, share, what, run] - values[settings.defenses[0], share, what, run]
                for run in range(settings.runs)
                if {(one, share, what, run) for one in (name, settings.defenses[0])} <= values.keys()
            ]
            cells.append(paired_change(changes))
        if any(cell.measured for cell in cells):
            rows.append((name, tuple(cells)))
    if not rows:
        return []
    return [
        Table(
            title=f"Changes against {settings.defenses[0]}, ours",
            columns=tuple(f"{what} ({share:.0%})" for share, what in columns),
            rows=tuple(rows),
            caption="Means of the differences of the same runs, with Student's 95 % intervals over runs. Where "
            "accuracy gains what the recall of the target class gains, it is that class which is learned again: where "
            "all of it is patched, a network without a defense may learn the patch instead.",
            row_name="defense",
        )
    ]


def _anew(trigger: Trigger, run: int) -> Trigger:
    """The patch of a run."""
    return trigger.model_copy(update={"seed": run}) if trigger.pattern == "bernoulli" else trigger


def _drawn(trial: Infection, generator: torch.Generator) -> tuple[LabeledImages, LabeledImages, int, int]:
    """The pictures of a run to train on and to test with, its target class and its base class."""
    data, test = pictures(trial.victim)
    drawn = torch.randperm(len(data.classes), generator=generator).tolist()
    target, base = drawn[:2]
    if trial.classes is not None and trial.classes < len(drawn):
        kept = drawn[: trial.classes]
        data, test = _of_classes(data, kept, trial.victim.images, generator), _of_classes(test, kept, None, generator)
        target, base = 0, 1
    else:
        data = _some(data, trial.victim.images, generator)
    return data, _some(test, trial.victim.test_images, generator), target, base


def _some(data: LabeledImages, count: int | None, generator: torch.Generator) -> LabeledImages:
    rows = torch.randperm(len(data), generator=generator)
    return data if count is None or count >= len(data) else data.take(rows[:count])


def _of_classes(data: LabeledImages, kept: list[int], count: int | None, generator: torch.Generator) -> LabeledImages:
    """Pictures of some classes, which are then numbered in this order; equally many of each if they are counted."""
    each = None if count is None else max(1, count // len(kept))
    rows = []
    for number in kept:
        own = rows_of(data, number)
        rows.append(own if each is None else some_of(own, each, generator))
    labels = torch.repeat_interleave(torch.arange(len(kept)), torch.tensor([len(own) for own in rows]))
    some = data.take(torch.cat(rows))
    return replace(some, labels=labels, classes=tuple(data.classes[number] for number in kept))


_OURS = ("Baseline", "mixup", "CutMix", "cutout", "MaxUp-cutout")
_THREE = _OURS[:3]

BACKDOOR_DEFENSES = BackdoorStudy(
    name="backdoor-defenses",
    title="Augmentations against backdoors",
    question="How often does a patch still mean the attacker's class when the victim trains with strong augmentation?",
    source="table 4.1",
    small=Backdoors(),
    paper=Backdoors(
        victim=PUBLISHED_VICTIM,
        defenses=(*_OURS, *(f"{PUBLISHED}{name}" for name in _OURS)),
        trigger=PUBLISHED_TRIGGER,
    ),
    smoke={"defenses": ("Baseline", "CutMix", "MaxUp-cutout")},
)

_TWO_CLASSES = Backdoors(
    victim=Victim(
        images=700, test_images=None, training=Training(epochs=15, batch_size=64, learning_rate=0.1, precision="bf16")
    ),
    defenses=_THREE,
    shares=(1.0,),
    classes=2,
    runs=6,
)

BACKDOOR_RECALL = BackdoorStudy(
    name="backdoor-recall",
    title="Where CutMix gains accuracy",
    question="Is the accuracy that CutMix gains on a fully patched class the recall of that class?",
    source="section 4.4.1",
    small=_TWO_CLASSES,
    paper=_TWO_CLASSES.model_copy(
        update={
            "victim": PUBLISHED_VICTIM,
            "defenses": (*_THREE, *(f"{PUBLISHED}{name}" for name in _THREE)),
            "trigger": PUBLISHED_TRIGGER,
            "runs": 8,
        }
    ),
)
