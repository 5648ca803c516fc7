"""Backdoors under each defense: table 4.1, and where its gain in accuracy comes from."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from operator import attrgetter
from typing import Annotated

import torch
from pydantic import BaseModel, ConfigDict, Field

from fairveil.data.images import LabelledImages
from fairveil.experiment.published import published_table
from fairveil.experiment.study import Measurement, Results, Study, Trial
from fairveil.experiment.workbench import Workbench
from fairveil.report.tables import Table, beside, pivot
from fairveil.sanitize.backdoor import Backdoor, backdoor_success, poison
from fairveil.sanitize.defenses import defense
from fairveil.sanitize.paper.victims import (
    SYNTHETIC,
    DefenseName,
    Victim,
    paired_change,
    pictures,
    pooled_measurements,
    resolved,
    with_rows_of_ours,
)
from fairveil.sanitize.poisoning import rows_of, some_of
from fairveil.sanitize.published import PUBLISHED_TRAINING, PUBLISHED_TRIGGER
from fairveil.sanitize.triggers import Trigger
from fairveil.training import Training, build_network, evaluate, train


class Backdoors(BaseModel):
    """Settings.

    Attributes:
        victim: see there.
        defenses: names out of `fairveil.sanitize.defenses.DEFENSES`.
        shares: how much of the target class is poisoned.
        trigger: the patch; one of pattern "bernoulli" is drawn anew in each run.
        classes: on how many classes victims are trained, the target class and the base class among them, with equally
            many pictures of each; None for all, as they come.
        runs: how often, each with target and base class, pictures and seeds of its own, the same under every defense.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    victim: Victim = Victim()
    defenses: tuple[DefenseName, ...] = ("Baseline", "mixup", "CutMix", "cutout", "MaxUp-cutout")
    shares: tuple[Annotated[float, Field(gt=0, le=1)], ...] = (1.0, 0.1)
    trigger: Trigger = Trigger(place=(20, 20))
    # Settings that came later are written only where they are not the default, so that older records stay valid.
    classes: int | None = Field(None, ge=2, exclude_if=lambda count: count is None)
    runs: int = Field(4, ge=1)


class Infection(Trial):
    """One victim: a defence, a share of the target class, and a run.

    Attributes:
        victim: see `Backdoors`, as are the others.
        defense: its name.
        share: of the target class.
        trigger: the patch.
        classes: on how many classes; see `Backdoors`.
        run: from 0; the seed of all that is drawn.
    """

    victim: Victim
    defense: DefenseName
    share: float
    trigger: Trigger
    classes: int | None = Field(None, ge=2, exclude_if=lambda count: count is None)
    run: int

    @property
    def label(self) -> str:
        """The defence, the share and the run."""
        return f"{self.defense}, {self.share:.0%}, run {self.run + 1}"


def resolve(settings: Backdoors) -> Backdoors:
    """Settings with a hash of CIFAR-10, or with generated pictures where it is not here."""
    return settings.model_copy(update={"victim": resolved(settings.victim)})


def trials(settings: Backdoors) -> list[Infection]:
    """Every defence against every share, as often as there are runs."""
    return [
        Infection(
            victim=settings.victim,
            defense=name,
            share=share,
            trigger=_drawn(settings.trigger, number),
            classes=settings.classes,
            run=number,
        )
        for number, share, name in product(range(settings.runs), settings.shares, settings.defenses)
    ]


def run(trial: Infection, bench: Workbench) -> list[Measurement]:
    """Poison, train a new network under the defence, and look at the patched pictures of the base class.

    Returns:
        The share of patched pictures of the base class that are taken for the target class; the same without the
        patch; the accuracy on clean test pictures; and the recall of the target class: the share of its own clean
        test pictures that are still taken for it.
    """
    data, test = pictures(trial.victim)
    generator = torch.Generator().manual_seed(trial.run)
    drawn = torch.randperm(len(data.classes), generator=generator).tolist()
    target, base = drawn[:2]
    if trial.classes is not None and trial.classes < len(drawn):
        kept = drawn[: trial.classes]
        data, test = _of_classes(data, kept, trial.victim.images, generator), _of_classes(test, kept, None, generator)
        target, base = 0, 1
    else:
        data = _some(data, trial.victim.images, generator)
    test = _some(test, trial.victim.test_images, generator)
    attack = Backdoor(trigger=trial.trigger, share=trial.share)
    poisoned = poison(data, attack, target_class=target, generator=generator)
    network = build_network(trial.victim.network, len(data.classes), seed=trial.run)
    under = defense(trial.defense, size=min(data.images.shape[2:]), padding=trial.victim.padding)
    training = trial.victim.training.model_copy(update={"seed": trial.run})
    with bench.timed("train"):
        train(
            network,
            poisoned.data,
            training,
            objective=under.objective,
            gradients=under.gradients,
            device=bench.device,
        )
    network.cpu()
    with bench.timed("test"):
        success = backdoor_success(network, test, trial.trigger, target_class=target, base_class=base)
        own = test.take((test.labels == target).nonzero().flatten())
        accuracy, recall = evaluate(network, test), evaluate(network, own)
    counted = {
        SUCCESS: (success.base.share, success.base.trials),
        "without the patch": (success.base_unpatched.share, success.base_unpatched.trials),
        ACCURACY: (accuracy, len(test)),
        RECALL: (recall, len(own)),
    }
    return [
        Measurement(
            labels={"what": what, "target": data.classes[target], "base": data.classes[base]}, value=value, count=n
        )
        for what, (value, n) in counted.items()
    ]


SUCCESS, ACCURACY = "Poison Success", "Val Accuracy"
"""What table 4.1 calls them."""

RECALL = "Target Recall"
"""Of clean test pictures of the target class, how many are still taken for it: table 4.1 has no such column."""


def tables(settings: Backdoors, results: Results[Infection]) -> list[Table]:
    """Ours beside table 4.1, and how often pictures are taken for the target class without the patch."""
    columns = [f"{what} ({share:.0%})" for share in settings.shares for what in (SUCCESS, ACCURACY, RECALL)]
    ours = pivot(
        [
            pooled_measurements(found, _labels(name, f"{what} ({share:.0%})"))
            for (name, share, what), found in _cells(results).items()
        ],
        row="defense",
        column="column",
        columns=columns,
        title="Backdoors",
        caption=f"Means over up to {settings.runs} runs with new target and base classes, pictures and seeds each, the "
        "same under every defence. Intervals: 95 %, with runs, not pictures, for the sample.",
    )
    base_rate = pivot(
        [
            pooled_measurements(found, _labels(name, f"{share:.0%}"))
            for (name, share, what), found in _cells(results).items()
            if what == "without the patch"
        ],
        row="defense",
        column="column",
        columns=[f"{share:.0%}" for share in settings.shares],
        title="Taken for the target class without the patch, ours",
        caption="The same pictures of the base class as they were: what is left of success without any trigger.",
    )
    published = with_rows_of_ours(published_table("4.1").table(), settings.defenses)
    return [*beside(ours, published), *_changes(settings, results), base_rate]


def _changes(settings: Backdoors, results: Results[Infection]) -> list[Table]:
    """What each defense changes against none, paired by run; nothing where there are fewer than two runs."""
    values = {
        (trial.defense, trial.share, one.labels["what"], trial.run): one.value
        for trial, found in results.items()
        for one in found
    }
    rows = []
    for name in settings.defenses[1:]:
        cells = []
        for share, what in product(settings.shares, (SUCCESS, ACCURACY, RECALL)):
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
            columns=tuple(
                f"{what} ({share:.0%})" for share, what in product(settings.shares, (SUCCESS, ACCURACY, RECALL))
            ),
            rows=tuple(rows),
            caption="Means of the differences of the same runs, with Student's 95 % intervals over runs. Where "
            "accuracy gains what the recall of the target class gains, it is that class which is learned again: where "
            "all of it is patched, a network without a defense may learn the patch instead.",
            row_name="defense",
        )
    ]


_Cells = Mapping[tuple[str, float, str], list[Measurement]]


def _cells(results: Results[Infection]) -> _Cells:
    """The measurements of all runs, by defence, share, and what they are of."""
    cells: dict[tuple[str, float, str], list[Measurement]] = {}
    for trial, measurements in results.items():
        for one in measurements:
            cells.setdefault((trial.defense, trial.share, one.labels["what"]), []).append(one)
    return cells


def _labels(name: str, column: str) -> dict[str, str]:
    return {"defense": name, "column": column}


def differences(settings: Backdoors) -> list[str]:
    """What differs from section 4.4.1."""
    victim, said = settings.victim, []
    if settings.classes is not None:
        said.append(f"Classes: {settings.classes} of CIFAR-10's, drawn in each run, instead of all 10.")
    if victim.data == SYNTHETIC:
        said.append(
            "Data: generated stripes of a few classes instead of CIFAR-10: they say that everything runs, no more."
        )
    elif victim.images is not None:
        said.append(f"Data: {victim.images:,} pictures of CIFAR-10 to train on instead of 50,000.")
        if min(settings.shares) < 1 and settings.classes is None:
            said.append(
                f"A tenth of one of ten classes is then {victim.images // 100} pictures. With 30 no backdoor is "
                "learned, whatever the defense, and with 250 (25,000 pictures, 15 epochs) hardly any (4 to 8 % "
                "success): they say nothing of defenses."
            )
    if victim.network != "resnet-18":
        said.append(f"Network: {victim.network} instead of ResNet-18, {victim.training.epochs} epochs.")
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
        name for name in settings.defenses if name.removeprefix("published-") not in ("Baseline", "mixup", "CutMix")
    ]:
        said.append(f"{', '.join(extra)} are rows of ours; table 4.1 has none.")
    if any(name.startswith("published-") for name in settings.defenses):
        said.append("Rows with published- in front are as the chapter's code has them, the others as its text does.")
    return said


def _drawn(trigger: Trigger, run: int) -> Trigger:
    """The patch of a run."""
    return trigger.model_copy(update={"seed": run}) if trigger.pattern == "bernoulli" else trigger


def rehearsal(settings: Backdoors) -> Backdoors:
    """The same rows on a few generated pictures, one epoch each."""
    training = settings.victim.training.model_copy(update={"epochs": 1, "batch_size": 32})
    victim = Victim(data=SYNTHETIC, images=64, test_images=40, network="resnet-8-fast", padding=1, training=training)
    return settings.model_copy(update={"victim": victim, "runs": 1})


def _some(data: LabelledImages, count: int | None, generator: torch.Generator) -> LabelledImages:
    rows = torch.randperm(len(data), generator=generator)
    return data if count is None or count >= len(data) else data.take(rows[:count])


def _of_classes(data: LabelledImages, kept: list[int], count: int | None, generator: torch.Generator) -> LabelledImages:
    """Pictures of some classes, which are then numbered in this order; equally many of each if they are counted."""
    each = None if count is None else max(1, count // len(kept))
    rows = []
    for number in kept:
        own = rows_of(data, number)
        rows.append(own if each is None else some_of(own, each, generator))
    labels = torch.repeat_interleave(torch.arange(len(kept)), torch.tensor([len(own) for own in rows]))
    some = data.take(torch.cat(rows))
    return replace(some, labels=labels, classes=tuple(data.classes[number] for number in kept))


_PAPER = Victim(images=None, test_images=None, network="resnet-18", padding=4, training=PUBLISHED_TRAINING)
_OURS = ("Baseline", "mixup", "CutMix", "cutout", "MaxUp-cutout")

BACKDOOR_DEFENSES = Study(
    name="backdoor-defenses",
    title="Augmentations against backdoors",
    question="How often does a patch still mean the attacker's class when the victim trains with strong augmentation?",
    source="table 4.1",
    presets={
        "smoke": rehearsal(Backdoors(defenses=("Baseline", "CutMix", "MaxUp-cutout"))),
        "small": Backdoors(),
        "paper": Backdoors(
            victim=_PAPER, defenses=(*_OURS, *(f"published-{name}" for name in _OURS)), trigger=PUBLISHED_TRIGGER
        ),
    },
    trials=trials,
    run=run,
    tables=tables,
    differences=differences,
    rehearsal=rehearsal,
    resolve=resolve,
    data=attrgetter("victim.data"),
)

_TWO_CLASSES = Backdoors(
    victim=Victim(
        images=700,
        test_images=None,
        training=Training(epochs=15, batch_size=64, learning_rate=0.1, precision="bf16"),
    ),
    defenses=("Baseline", "mixup", "CutMix"),
    shares=(1.0,),
    classes=2,
    runs=6,
)

BACKDOOR_RECALL = Study(
    name="backdoor-recall",
    title="Where CutMix gains accuracy",
    question="Is the accuracy that CutMix gains on a fully patched class the recall of that class?",
    source="section 4.4.1",
    presets={
        "smoke": rehearsal(_TWO_CLASSES),
        "small": _TWO_CLASSES,
        "paper": _TWO_CLASSES.model_copy(
            update={
                "victim": _PAPER.model_copy(update={"images": None}),
                "defenses": (
                    "Baseline",
                    "mixup",
                    "CutMix",
                    "published-Baseline",
                    "published-mixup",
                    "published-CutMix",
                ),
                "trigger": PUBLISHED_TRIGGER,
                "runs": 8,
            }
        ),
    },
    trials=trials,
    run=run,
    tables=tables,
    differences=differences,
    rehearsal=rehearsal,
    resolve=resolve,
    data=attrgetter("victim.data"),
)
