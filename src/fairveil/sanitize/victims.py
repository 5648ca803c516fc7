"""Who is poisoned: on how many pictures a victim is trained, and how. Rehearsals and studies have the same ones."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from fairveil.base.errors import FairveilError, did_you_mean
from fairveil.sanitize.defenses import defense
from fairveil.sanitize.published import PUBLISHED_TRAINING
from fairveil.training import NETWORKS, Training


def _known_defense(name: str) -> str:
    try:
        return defense(name, size=32).name
    except FairveilError as error:
        raise ValueError(str(error)) from error


def _known_network(name: str) -> str:
    if name not in NETWORKS:
        raise ValueError(f"there is no network {name!r}.{did_you_mean(name, NETWORKS)} There are {', '.join(NETWORKS)}")
    return name


DefenseName = Annotated[str, AfterValidator(_known_defense)]
"""One of `DEFENSES` or `PUBLISHED_DEFENSES`."""

NetworkName = Annotated[str, AfterValidator(_known_network)]
"""One of `fairveil.training.NETWORKS`."""


class Victim(BaseModel):
    """Who is poisoned, and how it trains.

    Attributes:
        data: on which pictures in studies, "cifar10" or "synthetic"; a rehearsal is given its own.
        content: a hash of these, put in when a study is run.
        images: how many of the training pictures; None for all.
        test_images: how many of the test pictures.
        network: one of `fairveil.training.NETWORKS`.
        padding: by how many pixels the usual crops shift pictures.
        training: how; the seed of each run is its own.
        usual: the defense that stands for training without one: what attackers expect who know nothing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: str = "cifar10"
    content: str | None = None
    images: int | None = Field(3000, ge=10)
    test_images: int | None = Field(2000, ge=10)
    network: NetworkName = "resnet-8-fast"
    padding: int = Field(2, ge=0)
    training: Training = Training(epochs=25, batch_size=64, learning_rate=0.1, precision="bf16")
    # It came later, and is written only where it is not the default, so that older records stay valid.
    usual: DefenseName = Field("Baseline", exclude_if=lambda name: name == "Baseline")

    @property
    def apart(self) -> int:
        """How many pictures frozen features are trained on; 0 where every network is trained from scratch."""
        return 0


class TransferVictim(Victim):
    """A victim that may train a new head only.

    Attributes:
        features_from: on how many pictures, others than the victim's, frozen features are trained, whose head alone is
            retrained then: the transfer regime. None trains every network from scratch.
    """

    features_from: int | None = Field(None, ge=10)

    @property
    def apart(self) -> int:
        """See `Victim`."""
        return self.features_from or 0


PUBLISHED_VICTIM = Victim(images=None, test_images=None, network="resnet-18", padding=4, training=PUBLISHED_TRAINING)
"""The dissertation's, on all pictures of CIFAR-10."""

HEAD_VICTIM = TransferVictim(
    images=2500,
    test_images=1000,
    network="resnet-8",
    padding=4,
    training=Training(epochs=14, precision="bf16"),
    features_from=10_000,
)
"""Against whom two cores can afford many trials of gradient matching."""
