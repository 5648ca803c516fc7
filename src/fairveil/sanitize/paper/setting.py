"""What the studies of chapter 4 share: whose pictures are poisoned, and how several runs become one figure."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from fairveil.base.differences import mean_of_runs
from fairveil.base.errors import FairveilError
from fairveil.base.estimate import Estimate
from fairveil.base.rates import pooled
from fairveil.data.cifar10 import read_cifar10
from fairveil.data.images import LabeledImages, synthetic_images
from fairveil.experiment.study import SYNTHETIC, Measurement, Results, Study, TrialType
from fairveil.report.tables import Cell, Table, pivot
from fairveil.sanitize.defenses import PUBLISHED
from fairveil.sanitize.victims import DefenseName, Victim

VictimType = TypeVar("VictimType", bound=Victim)


class PoisonSettings(BaseModel):
    """Settings that every study of the chapter has.

    Attributes:
        victim: who is poisoned.
        defenses: names out of `fairveil.sanitize.defenses.DEFENSES`.
        runs: how often, each with classes, pictures and seeds of its own, the same under every defense.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    victim: Victim
    defenses: tuple[DefenseName, ...]
    runs: int = Field(ge=1)


PoisonSettingsType = TypeVar("PoisonSettingsType", bound=PoisonSettings)


class PoisonStudy(Study[PoisonSettingsType, TrialType]):
    """A study of poisoned victims."""

    def resolve(self, settings: PoisonSettingsType) -> PoisonSettingsType:
        """Settings with a hash of CIFAR-10, or with generated pictures where it is not here."""
        if settings.victim.data == SYNTHETIC:
            return settings
        try:
            found = {"content": read_cifar10().fingerprint()}
        except FairveilError:
            found = {"data": SYNTHETIC}
        return settings.model_copy(update={"victim": settings.victim.model_copy(update=found)})

    def data(self, settings: PoisonSettingsType) -> str:
        """Which pictures they are."""
        return settings.victim.data


def tiny(victim: VictimType, **changes: Any) -> VictimType:
    """A victim of a few generated pictures that is trained for one epoch."""
    update = {
        "data": SYNTHETIC,
        "content": None,
        "images": 64,
        "test_images": 40,
        "network": "resnet-8-fast",
        "padding": 1,
        "training": victim.training.model_copy(update={"epochs": 1, "batch_size": 32}),
    }
    return victim.model_copy(update=update | changes)


def differences_of(victim: Victim) -> list[str]:
    """In what pictures and network differ from section 4.4."""
    said = []
    if victim.data == SYNTHETIC:
        said.append(
            "Data: generated stripes of a few classes instead of CIFAR-10: they say that everything runs, no more."
        )
    elif victim.images is not None:
        said.append(f"Data: {victim.images:,} pictures of CIFAR-10 to train on instead of 50,000.")
    if victim.network != "resnet-18":
        said.append(f"Network: {victim.network} instead of ResNet-18, {victim.training.epochs} epochs.")
    return said


def differences_of_forms(defenses: tuple[str, ...]) -> list[str]:
    """Which rows are as the chapter's code has them, where there are any."""
    if not any(name.startswith(PUBLISHED) for name in defenses):
        return []
    return [f"Rows with {PUBLISHED} in front are as the chapter's code has them, the others as its text does."]


@lru_cache(maxsize=1)
def pictures(victim: Victim) -> tuple[LabeledImages, LabeledImages]:
    """The pictures to train on and to test with: all of CIFAR-10, or as many generated ones as are needed."""
    if victim.data == SYNTHETIC:
        counts = (victim.images or 1000) + victim.apart, victim.test_images or 200
        return synthetic_images(counts[0], size=32, seed=0), synthetic_images(counts[1], size=32, seed=1)
    return read_cifar10(split="train"), read_cifar10(split="test")


Key = TypeVar("Key", bound=Hashable)


def gathered(
    results: Results[TrialType], key: Callable[[TrialType, Measurement], Key | None]
) -> dict[Key, list[Measurement]]:
    """The measurements of all runs by a key; those without one are left out."""
    found: dict[Key, list[Measurement]] = {}
    for trial, measurements in results.items():
        for one in measurements:
            if (place := key(trial, one)) is not None:
                found.setdefault(place, []).append(one)
    return found


def pooled_table(
    cells: Mapping[tuple[str, str], Sequence[Measurement]],
    *,
    columns: Sequence[str],
    title: str,
    caption: str,
    row: str = "defense",
) -> Table:
    """A table of runs taken together.

    Args:
        cells: the measurements of all runs, by row and column.
        columns: in which order.
        title: of the table.
        caption: of the table.
        row: what rows are.
    """
    measured = [pooled_measurements(found, {row: name, "column": column}) for (name, column), found in cells.items()]
    return pivot(measured, row=row, column="column", columns=columns, title=title, caption=caption)


def pooled_measurements(found: Sequence[Measurement], labels: dict[str, str]) -> Measurement:
    """All runs together, with an interval that takes runs, not pictures, for the sample; none of a single run."""
    together = pooled([one.counted for one in found])
    return Measurement.of(labels, Estimate(together.value, count=together.count) if together.n == 1 else together)


def paired_change(changes: Sequence[float]) -> Cell:
    """The mean of a change over runs, with Student's 95 % interval; no interval of a single run."""
    return Cell(mean_of_runs(changes, least=2)) if changes else Cell()


def with_rows_of_ours(published: Table, defenses: Sequence[str]) -> Table:
    """The published table, each of whose rows also stands at the form of it that the published code has.

    Args:
        published: with the names of defenses for rows.
        defenses: names that were tried, some of them of `PUBLISHED_DEFENSES`.
    """
    rows = dict(published.rows)
    both = {f"published-{name}": cells for name, cells in published.rows if f"published-{name}" in defenses}
    return replace(published, rows=tuple((rows | both).items()))
