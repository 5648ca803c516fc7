"""Training of face recognizers: classification of identities with a margin, judged by people it never saw."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fairveil.base.errors import FairveilError
from fairveil.base.estimate import Estimate
from fairveil.base.rates import rank_accuracy
from fairveil.data.face_crops import FaceCrops
from fairveil.faces.backbones import build_backbone
from fairveil.faces.heads import HeadKind, MarginHead, focal_losses
from fairveil.faces.identification import identify
from fairveil.faces.recognizers import Framing, Recognizer
from fairveil.training import Batch, Epoch, History, Training, shuffled, train
from fairveil.training.sampling import ClassBalanced

Loss = Literal["cross-entropy", "focal"]
"""Of the logits: cross entropy as in the dissertation, or focal loss, which face.evoLVe offers too."""

PAPER = Training(
    epochs=120,
    batch_size=512,
    learning_rate=0.1,
    momentum=0.9,
    nesterov=False,
    weight_decay=5e-4,
    schedule="steps",
    milestones=(35 / 120, 65 / 120, 95 / 120),
    decay=0.1,
)
"""The settings of sections 3.8.1 and 6.9.2, which are those of face.evoLVe; focal loss is used there."""

SMALL = Training(epochs=20, batch_size=32, learning_rate=0.02, nesterov=False, warmup=1.0)
"""What two processor cores do with some hundred faces in minutes."""

_TOGETHER = 64  # crops that are embedded together


class Recognition(nn.Module):
    """The loss of a recognizer in training: an `Objective`, whose head is trained along with the network.

    Args:
        head: gives logits from features.
        framing: how pixels become the numbers that the network takes.
        loss: of the logits.

    Raises:
        FairveilError: there is no such loss.
    """

    def __init__(self, head: MarginHead, framing: Framing, loss: Loss = "cross-entropy") -> None:
        super().__init__()
        if loss not in get_args(Loss):
            raise FairveilError(f"There is no loss {loss!r}: choose from {', '.join(get_args(Loss))}.")
        self.head, self.framing, self.loss = head, framing, loss

    def forward(self, network: nn.Module, batch: Batch, generator: torch.Generator) -> Tensor:
        """The mean loss of a batch of crops, of which each is mirrored or not."""
        return self.losses(network, batch, generator).mean()

    def losses(self, network: nn.Module, batch: Batch, generator: torch.Generator) -> Tensor:
        """The loss of each crop, (B,), mirrored or not: what losses that compare groups are made of."""
        mirrored = torch.rand(len(batch), generator=generator, device=batch.images.device) < 0.5
        crops = torch.where(mirrored[:, None, None, None], batch.images.flip(-1), batch.images)
        logits = self.head(network(self.framing.normalize(crops)), batch.targets)
        return _LOSSES[self.loss](logits, batch.targets)

    def extra_repr(self) -> str:
        """What checkpoints tell objectives apart by, beside the head."""
        return f"{self.framing}, {self.loss!r}"


_LOSSES: dict[Loss, Callable[[Tensor, Tensor], Tensor]] = {
    "cross-entropy": partial(F.cross_entropy, reduction="none"),
    "focal": focal_losses,
}


@torch.no_grad()
def embed_all(recognizer: Recognizer, crops: FaceCrops) -> Tensor:
    """Embeddings of crops that are framed already: unit vectors (N, D), on the CPU.

    Raises:
        FairveilError: the recognizer wants other crops.
    """
    wanted, there = recognizer.framing, Framing(size=crops.size)
    if (wanted.size, wanted.zoom, wanted.drop) != (there.size, there.zoom, there.drop):
        raise FairveilError(
            f"The recognizer {recognizer.name} wants crops of {wanted.size} pixels (zoom {wanted.zoom:g}, drop "
            f"{wanted.drop:g}), which those of {crops.name}, of {crops.size} pixels, are not: embed the photos instead."
        )
    parts = torch.split(crops.images, _TOGETHER)
    return torch.cat([recognizer.embed_crops(part.to(recognizer.device).float() / 255).cpu() for part in parts])


def rank1(recognizer: Recognizer, crops: FaceCrops) -> Estimate:
    """Rank-1 accuracy by leave-one-out (section 5.3): how often the nearest of all other crops is of the same person.

    Crops of a person without another are looked for by nobody, but are among those that can be found instead.

    Args:
        recognizer: in evaluation mode.
        crops: of people it was not trained on.

    Raises:
        FairveilError: the recognizer wants other crops, or no identity has two.
    """
    vectors = embed_all(recognizer, crops)
    outcome = identify(vectors, vectors, crops.labels, crops.labels, exclude=torch.arange(len(vectors)))[0]
    if not bool((outcome.rank > 0).any()):
        raise FairveilError(f"No identity of {crops.name} has two images, so nobody could be found among the others.")
    return rank_accuracy(outcome.rank, 1, crops.labels)


@dataclass(frozen=True)
class _HeldOut:
    """A `Score`: rank-1 accuracy on some crops, which are what checkpoints tell it apart by."""

    crops: FaceCrops

    def __call__(self, network: nn.Module) -> float:
        return rank1(Recognizer("in training", network, Framing(size=self.crops.size)), self.crops).value

    def __repr__(self) -> str:
        return f"rank-1 on {self.crops.fingerprint()}"


def train_recognizer(
    crops: FaceCrops,
    training: Training = PAPER,
    *,
    backbone: str,
    head: HeadKind = "cosface",
    margin: float | Tensor | None = None,
    balanced: bool = True,
    loss: Loss = "cross-entropy",
    dimension: int = 512,
    validation: FaceCrops | None = None,
    checkpoint: Path | None = None,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
    on_step: Callable[[float, float], None] = lambda done, loss: None,
    device: torch.device | str | None = None,
    name: str | None = None,
) -> tuple[Recognizer, History]:
    """Train a recognizer on the identities of some crops (section 5.3).

    Args:
        crops: to train on.
        training: how; its seed is also that of the initial weights.
        backbone: one of `BACKBONES`.
        head: which margin.
        margin: one for all identities or one for each, (K,); by default the head's usual one.
        balanced: whether every identity is drawn as often as any other, however many crops it has; if not, every crop
            comes once an epoch (section 5.9.1).
        loss: of the logits.
        dimension: of the embeddings.
        validation: crops of other people, on whom the score of each epoch is rank-1 accuracy.
        checkpoint: written after each epoch; a run that finds it goes on from there (see `training.train`).
        on_epoch: told of each epoch.
        on_step: told of each step how many epochs are done, in fractions, and the loss.
        device: where to train; by default the best there is.
        name: what reports call the recognizer; by default the backbone and the head.

    Returns:
        The recognizer, on the CPU, and how training went.

    Raises:
        FairveilError: there are fewer than two identities, batches of one, people in both sets, or no such backbone,
            head or loss; or training fails (see `training.train`).
    """
    if len(crops.classes) < 2:
        raise FairveilError(
            f"{crops.name} has images of one identity only, {crops.classes[0]}, and nobody to tell it from: add people."
        )
    if training.batch_size < 2:
        raise FairveilError("A network with batch norm learns nothing from batches of one image: give larger ones.")
    if validation is not None and (both := {*crops.classes} & {*validation.classes}):
        raise FairveilError(
            f"{len(both)} identities, such as {min(both)}, are in {crops.name} and in {validation.name}: validate on "
            "people who are not trained on."
        )
    network = build_backbone(backbone, seed=training.seed, dimension=dimension, size=crops.size)
    framing = Framing(size=crops.size)
    margins = MarginHead(len(crops.classes), dimension, head, margin=margin, seed=training.seed)
    history = train(
        network,
        crops,
        training,
        objective=Recognition(margins, framing, loss),
        validation=None if validation is None else _HeldOut(validation),
        order=ClassBalanced(crops.labels) if balanced else shuffled,
        checkpoint=checkpoint,
        on_epoch=on_epoch,
        on_step=on_step,
        device=device,
    )
    return Recognizer.from_module(network.cpu(), name=name or f"{backbone}-{head}", framing=framing), history
