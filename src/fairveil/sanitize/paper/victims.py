"""Who is poisoned in the studies of chapter 4."""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from fairveil.base.differences import mean_of_runs
from fairveil.base.errors import FairveilError
from fairveil.base.estimate import Estimate
from fairveil.base.rates import pooled
from fairveil.data.cifar10 import read_cifar10
from fairveil.data.images import LabelledImages, synthetic_images
from fairveil.experiment.study import Measurement
from fairveil.report.tables import Cell, Table
from fairveil.sanitize.defenses import defense
from fairveil.training import Training

SYNTHETIC = "synthetic"
"""The name that stands for generated pictures where data are asked for."""


def _known(name: str) -> str:
    try:
        return defense(name, size=32).name
    except FairveilError as error:
        raise ValueError(str(error)) from error


DefenseName = Annotated[str, AfterValidator(_known)]


class Victim(BaseModel):
    """Who is poisoned, and how it trains.

    Attributes:
        data: "cifar10", or "synthetic".
        content: a hash of the training data, put in when a study is run.
        images: how many of the training pictures; None for all.
        test_images: how many of the test pictures.
        network: one of `fairveil.training.NETWORKS`.
        padding: by how many pixels the usual crops shift pictures.
        training: how; the seed of each run is its own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: str = "cifar10"
    content: str | None = None
    images: int | None = Field(3000, ge=10)
    test_images: int | None = Field(2000, ge=10)
    network: str = "resnet-8-fast"
    padding: int = Field(2, ge=0)
    training: Training = Training(epochs=25, batch_size=64, learning_rate=0.1, precision="bf16")


VictimType = TypeVar("VictimType", bound=Victim)


def resolved(victim: VictimType) -> VictimType:
    """The victim with a hash of CIFAR-10, or with generated pictures where it is not here."""
    if victim.data == SYNTHETIC:
        return victim
    try:
        found = {"content": read_cifar10().fingerprint()}
    except FairveilError:
        found = {"data": SYNTHETIC}
    return victim.model_copy(update=found)


@lru_cache(maxsize=1)
def pictures(victim: Victim, more: int = 0) -> tuple[LabelledImages, LabelledImages]:
    """The pictures to train on and to test with: all of CIFAR-10, or as many generated ones, and `more`."""
    if victim.data == SYNTHETIC:
        counts = (victim.images or 1000) + more, victim.test_images or 200
        return synthetic_images(counts[0], size=32, seed=0), synthetic_images(counts[1], size=32, seed=1)
    return read_cifar10(split="train"), read_cifar10(split="test")


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
