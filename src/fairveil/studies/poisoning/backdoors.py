"""Backdoors under each defence: table 4.1."""

from collections.abc import Mapping
from itertools import product
from operator import attrgetter
from typing import Annotated

import torch
from pydantic import BaseModel, ConfigDict, Field

from fairveil.data.images import LabelledImages
from fairveil.report.tables import Table, beside, pivot
from fairveil.sanitize.backdoor import Backdoor, backdoor_success, poison
from fairveil.sanitize.defenses import defense
from fairveil.sanitize.triggers import Trigger
from fairveil.studies.poisoning.victims import SYNTHETIC, DefenseName, Victim, pictures, pooled_measurements, resolved
from fairveil.studies.published import published_table
from fairveil.studies.study import Measurement, Results, Study, Trial
from fairveil.studies.workbench import Workbench
from fairveil.training import Training, build_network, evaluate, train


class Backdoors(BaseModel):
    """Settings.

    Attributes:
        victim: see there.
        defenses: names out of `fairveil.sanitize.defenses.DEFENSES`.
        shares: how much of the target class is poisoned.
        trigger: the patch.
        runs: how often, each with target and base class, pictures and seeds of its own, the same under every defence.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    victim: Victim = Victim()
    defenses: tuple[DefenseName, ...] = ("Baseline", "mixup", "CutMix", "cutout", "MaxUp-cutout")
    shares: tuple[Annotated[float, Field(gt=0, le=1)], ...] = (1.0, 0.1)
    trigger: Trigger = Trigger(place=(20, 20))
    runs: int = Field(4, ge=1)


class Infection(Trial):
    """One victim: a defence, a share of the target class, and a run.

    Attributes:
        victim: see `Backdoors`, as are the others.
        defense: its name.
        share: of the target class.
        trigger: the patch.
        run: from 0; the seed of all that is drawn.
    """

    victim: Victim
    defense: DefenseName
    share: float
    trigger: Trigger
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
        Infection(victim=settings.victim, defense=name, share=share, trigger=settings.trigger, run=number)
        for number, share, name in product(range(settings.runs), settings.shares, settings.defenses)
    ]


def run(trial: Infection, bench: Workbench) -> list[Measurement]:
    """Poison, train a new network under the defence, and look at the patched pictures of the base class.

    Returns:
        The share of patched pictures of the base class that are taken for the target class; the same without the
        patch; and the accuracy on clean test pictures.
    """
    data, test = pictures(trial.victim)
    generator = torch.Generator().manual_seed(trial.run)
    target, base = torch.randperm(len(data.classes), generator=generator)[:2].tolist()
    data, test = _some(data, trial.victim.images, generator), _some(test, trial.victim.test_images, generator)
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
        accuracy = evaluate(network, test)
    counted = {
        SUCCESS: (success.base.rate, success.base.trials),
        "without the patch": (success.base_unpatched.rate, success.base_unpatched.trials),
        ACCURACY: (accuracy, len(test)),
    }
    return [
        Measurement(
            labels={"what": what, "target": data.classes[target], "base": data.classes[base]}, value=value, count=n
        )
        for what, (value, n) in counted.items()
    ]


SUCCESS, ACCURACY = "Poison Success", "Val Accuracy"
"""What table 4.1 calls them."""


def tables(settings: Backdoors, results: Results[Infection]) -> list[Table]:
    """Ours beside table 4.1, and how often pictures are taken for the target class without the patch."""
    columns = [f"{what} ({share:.0%})" for share in settings.shares for what in (SUCCESS, ACCURACY)]
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
    return [*beside(ours, published_table("4.1").table()), base_rate]


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
    if victim.data == SYNTHETIC:
        said.append(
            "Data: generated stripes of a few classes instead of CIFAR-10: they say that everything runs, no more."
        )
    elif victim.images is not None:
        said.append(
            f"Data: {victim.images:,} pictures of CIFAR-10 to train on instead of 50,000. A tenth of one of ten "
            f"classes is then {victim.images // 100} pictures. With 30 no backdoor is learnt, whatever the defence, "
            "and with 250 (25,000 pictures, 15 epochs) hardly any (4 to 8 % success): they say nothing of defences."
        )
    if victim.network != "resnet-18":
        said.append(f"Network: {victim.network} instead of ResNet-18, {victim.training.epochs} epochs.")
    said.append(
        "Trigger: the text says 4×4 patches, and neither where nor what they show; ours is a checker that the usual "
        "crops never cut. Number of epochs and learning rate are not published."
    )
    said.append("cutout and MaxUp-cutout are rows of ours; table 4.1 has none.")
    return said


def rehearsal(settings: Backdoors) -> Backdoors:
    """The same rows on a few generated pictures, one epoch each."""
    training = settings.victim.training.model_copy(update={"epochs": 1, "batch_size": 32})
    victim = Victim(data=SYNTHETIC, images=64, test_images=40, network="resnet-8-fast", padding=1, training=training)
    return settings.model_copy(update={"victim": victim, "runs": 1})


def _some(data: LabelledImages, count: int | None, generator: torch.Generator) -> LabelledImages:
    rows = torch.randperm(len(data), generator=generator)
    return data if count is None or count >= len(data) else data.take(rows[:count])


_PAPER = Victim(
    images=None,
    test_images=None,
    network="resnet-18",
    padding=4,
    training=Training(epochs=40, schedule="steps", precision="bf16"),
)

BACKDOOR_DEFENSES = Study(
    name="backdoor-defenses",
    title="Augmentations against backdoors",
    question="How often does a patch still mean the attacker's class when the victim trains with strong augmentation?",
    source="table 4.1",
    presets={
        "smoke": rehearsal(Backdoors(defenses=("Baseline", "CutMix", "MaxUp-cutout"))),
        "small": Backdoors(),
        "paper": Backdoors(victim=_PAPER, trigger=Trigger()),
    },
    trials=trials,
    run=run,
    tables=tables,
    differences=differences,
    rehearsal=rehearsal,
    resolve=resolve,
    data=attrgetter("victim.data"),
)
