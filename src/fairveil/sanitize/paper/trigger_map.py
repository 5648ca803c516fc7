"""Where CutMix stops helping: backdoors by size and place of the patch, and by how far crops shift it."""

from itertools import product
from operator import attrgetter
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from fairveil.experiment.study import Measurement, Results, Study
from fairveil.report.tables import Table, pivot
from fairveil.sanitize.paper.backdoors import ACCURACY, SUCCESS, Infection, run
from fairveil.sanitize.paper.victims import SYNTHETIC, DefenseName, Victim, pooled_measurements, resolved
from fairveil.sanitize.published import PUBLISHED_TRAINING
from fairveil.sanitize.triggers import Trigger

Place = Literal["corner", "inner corner", "centre"]
"""At the very edge; 4 pixels from it, where crops of 4 pixels never cut the patch; in the middle."""


class TriggerMap(BaseModel):
    """Settings.

    Attributes:
        victim: see there; its padding is replaced.
        defenses: names out of `fairveil.sanitize.defenses.DEFENSES`.
        sizes: sides of the patch in pixels.
        places: where it lies.
        paddings: by how many pixels the usual crops shift pictures.
        runs: how often, each with classes, pictures and seeds of its own, the same for every patch and defence.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    victim: Victim = Victim()
    defenses: tuple[DefenseName, ...] = ("Baseline", "CutMix")
    sizes: tuple[Annotated[int, Field(ge=1)], ...] = (2, 4, 8)
    places: tuple[Place, ...] = ("corner", "inner corner", "centre")
    paddings: tuple[Annotated[int, Field(ge=0)], ...] = (0, 4)
    runs: int = Field(1, ge=1)


class Patched(Infection):
    """One victim of one patch."""

    @property
    def label(self) -> str:
        """The patch, the crops, the defence and the run."""
        trigger, padding = self.trigger, self.victim.padding
        place = "centre" if trigger.place == "centre" else f"{trigger.margin} px from the corner"
        return f"{trigger.size} px, {place}, crops ±{padding} px, {self.defense}, run {self.run + 1}"


def resolve(settings: TriggerMap) -> TriggerMap:
    """Settings with a hash of CIFAR-10, or with generated pictures where it is not here."""
    return settings.model_copy(update={"victim": resolved(settings.victim)})


def trials(settings: TriggerMap) -> list[Patched]:
    """Every patch under every defence; all of the target class is poisoned."""
    return [
        Patched(
            victim=settings.victim.model_copy(update={"padding": padding}),
            defense=name,
            share=1.0,
            trigger=_trigger(place, size),
            run=number,
        )
        for number, padding, place, size, name in product(
            range(settings.runs), settings.paddings, settings.places, settings.sizes, settings.defenses
        )
    ]


def tables(settings: TriggerMap, results: Results[Patched]) -> list[Table]:
    """Success by patch and defence, a table for each padding."""
    patches = {_trigger(place, size): f"{place}, {size} px" for place, size in product(settings.places, settings.sizes)}
    return [
        pivot(
            [
                pooled_measurements(found, {"patch": patch, "column": column})
                for (other, patch, column), found in _cells(results, patches).items()
                if other == padding
            ],
            row="patch",
            column="column",
            columns=[f"{what}, {name}" for what in (SUCCESS, ACCURACY) for name in settings.defenses],
            title=f"Backdoors by patch, crops of ±{padding} px, ours",
            caption=f"All of the target class is patched; up to {settings.runs} runs. Intervals: 95 %, with runs, not "
            "pictures, for the sample; none of a single run.",
        )
        for padding in settings.paddings
    ]


def differences(settings: TriggerMap) -> list[str]:
    """What the map is of."""
    victim = settings.victim
    if victim.data == SYNTHETIC:
        return ["Data: generated stripes of a few classes: they say that everything runs, no more."]
    count = f"{victim.images:,} of" if victim.images else "all"
    return [f"Network: {victim.network}, {victim.training.epochs} epochs on {count} CIFAR-10 pictures."]


def rehearsal(settings: TriggerMap) -> TriggerMap:
    """A few patches on a few generated pictures, one epoch each."""
    training = settings.victim.training.model_copy(update={"epochs": 1, "batch_size": 32})
    victim = Victim(data=SYNTHETIC, images=64, test_images=40, network="resnet-8-fast", training=training)
    return settings.model_copy(update={"victim": victim, "sizes": settings.sizes[:2], "runs": 1})


def _trigger(place: Place, size: int) -> Trigger:
    match place:
        case "corner":
            return Trigger(size=size, margin=0)
        case "inner corner":
            return Trigger(size=size, margin=4)
        case "centre":
            return Trigger(size=size, place="centre")


_Cells = dict[tuple[int, str, str], list[Measurement]]


def _cells(results: Results[Patched], patches: dict[Trigger, str]) -> _Cells:
    """The measurements of all runs, by padding, patch and column."""
    cells: _Cells = {}
    for trial, found in results.items():
        for one in found:
            key = trial.victim.padding, patches[trial.trigger], f"{one.labels['what']}, {trial.defense}"
            cells.setdefault(key, []).append(one)
    return cells


_PAPER = Victim(
    images=None,
    test_images=None,
    network="resnet-18",
    training=PUBLISHED_TRAINING,
)

TRIGGER_MAP = Study(
    name="trigger-map",
    title="Backdoors by size and place of the patch",
    question="For which patches does CutMix stop helping, and which are never learnt at all?",
    source="beyond the dissertation",
    presets={
        "smoke": rehearsal(TriggerMap()),
        "small": TriggerMap(),
        "paper": TriggerMap(victim=_PAPER, sizes=(2, 3, 4, 6, 8), paddings=(0, 2, 4), runs=4),
    },
    trials=trials,
    run=run,
    tables=tables,
    differences=differences,
    rehearsal=rehearsal,
    resolve=resolve,
    data=attrgetter("victim.data"),
)
