"""Our own recognizers: trained ones as one portable file with their model card, and random ones by name."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from fairveil.base.errors import FairveilError
from fairveil.base.files import sha256_of
from fairveil.base.tensor_files import load_copies, read_tensors, write_tensors
from fairveil.faces.alignment import TEMPLATE_SIZE
from fairveil.faces.backbones import Projected, Projection, build_backbone
from fairveil.faces.heads import MARGINS, HeadKind
from fairveil.faces.recognizers import Framing, Recognizer
from fairveil.version import __version__

if TYPE_CHECKING:  # reading a trained recognizer should not wait for what training needs
    from fairveil.data.face_crops import FaceCrops
    from fairveil.training import History, Training

RANDOM = "random:"
"""What names of random recognizers begin with; a backbone follows, and if wanted a colon and a seed."""

LICENCE = "Yours to choose, within what the photos it was trained on allow; fairveil claims none."
"""What a file says of its weights' license."""

_KIND = {"format": "fairveil recogniser 1", "what": "recognizer", "maker": "fairveil train"}


class ModelCard(BaseModel):
    """What a file says of its recognizer: how it was trained, on whom, and how good it is.

    Attributes:
        backbone: one of `BACKBONES`.
        dimension: of its embeddings.
        projected: whether a `Projection` follows the backbone, which took the group out of its embeddings.
        size: side of its crops, which are framed as `Framing(size=size)`.
        training: settings of the run.
        head: which margin.
        margin: one for all identities, or one for each.
        loss: of the logits.
        balanced: whether identities were drawn equally often.
        data: name of the train set.
        data_sha256: its fingerprint.
        identities: people in it.
        images: of them.
        make_up: by group column and value, identities and images of the train set.
        rank1: accuracy on people it was not trained on; None where it was not measured.
        intervention: what was done for fairness, in settings of `fairveil.fair`; None for nothing.
        licence: of the weights.
        fairveil: version of the program that trained it.
    """

    model_config = ConfigDict(frozen=True)

    backbone: str
    dimension: int = Field(ge=1, le=8192)
    projected: bool = False
    size: int = Field(ge=16, le=1024)
    training: dict[str, Any]
    head: str
    margin: float | tuple[float, ...]
    loss: str
    balanced: bool
    data: str
    data_sha256: str
    identities: int
    images: int
    make_up: dict[str, dict[str, dict[str, int]]]
    rank1: float | None
    intervention: dict[str, Any] | None = None
    licence: str = LICENCE
    fairveil: str = __version__

    @classmethod
    def of(
        cls,
        crops: "FaceCrops",
        training: "Training",
        history: "History | None",
        *,
        backbone: str,
        head: HeadKind = "cosface",
        margin: float | Tensor | None = None,
        balanced: bool = True,
        loss: str = "cross-entropy",
        dimension: int = 512,
    ) -> "ModelCard":
        """The model card of what `train_recognizer` made of the same; its validation score is the rank-1 accuracy.

        Without a history nothing is known of the accuracy.
        """
        return cls(
            backbone=backbone,
            dimension=dimension,
            size=crops.size,
            training=training.model_dump(mode="json"),
            head=head,
            margin=MARGINS[head] if margin is None else margin.tolist() if isinstance(margin, Tensor) else margin,
            loss=loss,
            balanced=balanced,
            data=crops.name,
            data_sha256=crops.fingerprint(),
            identities=len(crops.classes),
            images=len(crops),
            make_up=crops.make_up(),
            rank1=None if history is None else history.epochs[history.kept - 1].score,
        )


def save_trained(path: Path, recognizer: Recognizer, card: ModelCard) -> None:
    """Write a recognizer of `train_recognizer`, whole or not at all, as safetensors.

    Raises:
        FairveilError: the file already exists or cannot be written.
    """
    write_tensors(path, recognizer.state_dict(), {"pedigree": card.model_dump_json()}, format=_KIND["format"])


def load_trained(path: Path) -> Recognizer:
    """Read a recognizer; it is called like the file. Nothing in the file is run.

    Raises:
        FairveilError: there is no such file, it is damaged, or it holds no recognizer of ours.
    """
    with read_tensors(path, **_KIND) as (tensors, metadata):
        card = ModelCard.model_validate_json(metadata["pedigree"])
        with torch.device("meta"):  # no memory for weights that the file may not hold
            network = build_backbone(card.backbone, seed=0, dimension=card.dimension, size=card.size)
            if card.projected:
                network = Projected(network, Projection(card.dimension))
        recognizer = Recognizer(path.stem, network, Framing(size=card.size), sha256=sha256_of(path))
        load_copies(recognizer, tensors)
    return recognizer.float().eval().requires_grad_(False)


def read_model_card(path: Path) -> ModelCard:
    """What a file says of its recognizer: how it was trained, on whom, and how good it is.

    Raises:
        FairveilError: as `load_trained`.
    """
    with read_tensors(path, **_KIND) as (_, metadata):
        return ModelCard.model_validate_json(metadata["pedigree"])


def random_recognizer(name: str, *, size: int = TEMPLATE_SIZE) -> Recognizer:
    """A recognizer that was never trained (section 5.7.1), "random:BACKBONE" or "random:BACKBONE:SEED".

    Args:
        name: of the backbone, and the seed of its weights, 0 where none is given.
        size: side of the crops.

    Raises:
        FairveilError: the name is none of these.

    >>> random_recognizer("random:mobilefacenet:3").name
    'random:mobilefacenet:3'
    """
    backbone, _, seed = name.removeprefix(RANDOM).partition(":")
    if seed and not (seed.isdecimal() and int(seed) < 1 << 63):
        raise FairveilError(f"{name!r} names no seed: write it like {RANDOM}{backbone}:3.")
    network = build_backbone(backbone, seed=int(seed or 0), size=size)
    return Recognizer.from_module(network, name=name, framing=Framing(size=size))
