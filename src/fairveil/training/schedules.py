"""How a run is set up, and how fast it learns when."""

from math import cos, pi
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Share = Annotated[float, Field(gt=0, lt=1)]


class Training(BaseModel):
    """The settings of a run of gradient descent.

    Attributes:
        epochs: how often the data are gone through.
        batch_size: pictures a step, over all processes together.
        learning_rate: the highest.
        optimizer: stochastic gradient descent, or Adam, which takes neither momentum nor nesterov.
        momentum: how much of the last step each step keeps.
        nesterov: whether momentum looks ahead.
        weight_decay: pulls all parameters toward zero.
        schedule: how the learning rate falls: along a cosine to zero, in steps, or not at all.
        milestones: of "steps": after which shares of the epochs it falls.
        decay: of "steps": by which factor.
        warmup: over how many epochs, at first, it rises in proportion; may be a fraction of one.
        precision: "bf16" computes networks in half precision where that is safe, which pays on processors with bf16
            instructions and on graphics cards, for convolutions.
        channels_last: whether pictures lie in memory pixel by pixel, which is faster for convolutions.
        patience: stop after so many epochs without a better score on the validation data, and go back to the best
            epoch's network; None never stops.
        seed: of everything that is drawn: order, augmentations, dropout, noise.

    >>> Training(epochs=40, schedule="steps").milestones
    (0.375, 0.625, 0.875)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: int = Field(default=40, ge=1)
    batch_size: int = Field(default=128, ge=1)
    learning_rate: float = Field(default=0.1, gt=0)
    optimizer: Literal["sgd", "adam"] = "sgd"
    momentum: float = Field(default=0.9, ge=0, lt=1)
    nesterov: bool = True
    weight_decay: float = Field(default=5e-4, ge=0)
    schedule: Literal["cosine", "steps", "constant"] = "cosine"
    milestones: tuple[Share, ...] = (0.375, 0.625, 0.875)
    decay: float = Field(default=0.1, gt=0, le=1)
    warmup: float = Field(default=0.0, ge=0)
    precision: Literal["fp32", "bf16"] = "fp32"
    channels_last: bool = True
    patience: int | None = Field(default=None, ge=1)
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _fits_together(self) -> "Training":
        if self.warmup > self.epochs:
            raise ValueError(f"warmup takes {self.warmup} epochs of {self.epochs}")
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs momentum: set nesterov to false")
        return self


def learning_rate_at(epoch: float, settings: Training) -> float:
    """The learning rate at a moment, in epochs since the start: a whole number is where an epoch begins.

    >>> [round(learning_rate_at(epoch, Training(epochs=4, learning_rate=0.1)), 4) for epoch in (0, 1, 2, 4)]
    [0.1, 0.0854, 0.05, 0.0]
    """
    rate = settings.learning_rate
    if epoch < settings.warmup:
        return rate * epoch / settings.warmup
    match settings.schedule:
        case "cosine":
            done = (epoch - settings.warmup) / max(settings.epochs - settings.warmup, 1e-12)
            return rate * (1 + cos(pi * done)) / 2
        case "steps":
            return rate * settings.decay ** sum(epoch >= share * settings.epochs for share in settings.milestones)
        case "constant":
            return rate
