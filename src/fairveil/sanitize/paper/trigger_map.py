"""Where CutMix stops helping: backdoors by size and place of the patch, and by how far crops shift it."""

from itertools import product
from typing import Annotated, Literal

from pydantic import Field

from fairveil.experiment.study import SYNTHETIC, Measurement, Results
from fairveil.report.tables import Table
from fairveil.sanitize.paper.backdoors import (
    ACCURACY,
    SUCCESS,
    Infection,
    InfectionStudy,
)
from fairveil.sanitize.paper.setting import (
    PoisonSettings,
    differences_of,
    gathered,
    pooled_table,
    tiny,
)
from fairveil.sanitize.triggers import Trigger
from fairveil.sanitize.victims import PUBLISHED_VICTIM, DefenseName, Victim

Place = Literal["corner", "inner corner", "centre"]
"""At the very edge; 4 pixels from it, where crops of 4 pixels never cut the patch; in the middle."""


class TriggerMap(PoisonSettings):
    """Settings; the victim's padding is replaced.

    Attributes:
        sizes: sides of the patch in pixels.
        places: where it lies.
        paddings: by how many pixels the usual crops shift pictures.
    """

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
        """The patch, the crops, the defense and the run."""
        trigger, padding = self.trigger, self.victim.padding
        place = "centre" if trigger.place == "centre" else f"{trigger.margin} px from the corner"
        return f"{trigger.size} px, {place}, crops ±{padding} px, {self.defense}, run {self.run + 1}"


class TriggerMapStudy(InfectionStudy[TriggerMap]):
    """A study of patches."""

    def trials(self, settings: TriggerMap) -> list[Infection]:
        """Every patch under every defense; all of the target class is poisoned."""
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

    def tables(self, settings: TriggerMap, results: Results[Infection]) -> list[Table]:
        """Success by patch and defense, a table for each padding."""
        patches = {
            _trigger(place, size): f"{place}, {size} px" for place, size in product(settings.places, settings.sizes)
        }

        def table(padding: int) -> Table:
            def place(trial: Infection, one: Measurement) -> tuple[str, str] | None:
                if trial.victim.padding != padding:
                    return None
                return patches[trial.trigger], f"{one.labels['what']}, {trial.defense}"

            return pooled_table(
                gathered(results, place),
                row="patch",
                columns=[f"{what}, {name}" for what in (SUCCESS, ACCURACY) for name in settings.defenses],
                title=f"Backdoors by patch, crops of ±{padding} px, ours",
                caption=f"All of the target class is patched; up to {settings.runs} runs. Intervals: 95 %, with runs, "
                "not pictures, for the sample; none of a single run.",
            )

        return [table(padding) for padding in settings.paddings]

    def differences(self, settings: TriggerMap) -> list[str]:
        """What the map is of."""
        victim = settings.victim
        if victim.data == SYNTHETIC:
            return differences_of(victim)[:1]
        count = f"{victim.images:,} of" if victim.images else "all"
        return [f"Network: {victim.network}, {victim.training.epochs} epochs on {count} CIFAR-10 pictures."]

    def rehearsal(self, settings: TriggerMap) -> TriggerMap:
        """A few patches on a few generated pictures, one epoch each."""
        return settings.model_copy(update={"victim": tiny(settings.victim), "sizes": settings.sizes[:2], "runs": 1})


def _trigger(place: Place, size: int) -> Trigger:
    match place:
        case "corner":
            return Trigger(size=size, margin=0)
        case "inner corner":
            return Trigger(size=size, margin=4)
        case "centre":
            return Trigger(size=size, place="centre")


TRIGGER_MAP = TriggerMapStudy(
    name="trigger-map",
    title="Backdoors by size and place of the patch",
    question="For which patches does CutMix stop helping, and which are never learned at all?",
    source="beyond the dissertation",
    small=TriggerMap(),
    paper=TriggerMap(victim=PUBLISHED_VICTIM, sizes=(2, 3, 4, 6, 8), paddings=(0, 2, 4), runs=4),
)
