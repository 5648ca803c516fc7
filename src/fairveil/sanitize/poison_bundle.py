"""A brewed poison as one portable file that checks itself: against damage, and against data it was not made for."""

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from fairveil.base.errors import AlreadyExistsError, FairveilError
from fairveil.base.files import atomic_path
from fairveil.data.images import LabeledImages
from fairveil.sanitize.gradient_matching import BrewedPoison, WitchesBrew
from fairveil.sanitize.plan import PoisonPlan
from fairveil.sanitize.poisoning import PoisonedImages

_FORMAT = "fairveil poison 1"


@dataclass(frozen=True, eq=False)
class PoisonBundle:
    """What one attack of gradient matching changed, and for what.

    Perturbations are whole steps of 8-bit pixels: what a victim's images can hold. Rounding keeps to the bound where it
    is whole steps too, as 16/255 is.

    Attributes:
        plan: target, classes and rows.
        perturbation: to be added to the rows' pixels before any augmentation, int8 (P, C, H, W).
        settings: of the attack.
        seed: of the attack.
        loss: the matching loss it ended with.
        made_for: the fingerprint of the clean images, labels and class names of the rows.
    """

    plan: PoisonPlan
    perturbation: Tensor
    settings: WitchesBrew
    seed: int
    loss: float
    made_for: str

    @classmethod
    def of(cls, data: LabeledImages, plan: PoisonPlan, brewed: BrewedPoison, settings: WitchesBrew) -> "PoisonBundle":
        """Put together what `brew` gave.

        Args:
            data: the clean training images it was brewed for.
            plan: of the attack.
            brewed: its result.
            settings: it was brewed with.
        """
        clean = data.images[plan.rows]
        poisoned = (clean + 255 * brewed.perturbation).round().clamp(0, 255)
        steps = (poisoned - clean).to(torch.int8)
        loss = float(brewed.losses[brewed.best, -1])
        return cls(plan, steps, settings, brewed.seed, loss, data.take(plan.rows).fingerprint())

    def poison(self, data: LabeledImages) -> PoisonedImages:
        """A copy of the training images with the poison in it.

        Raises:
            FairveilError: these are not the images it was made for.
        """
        rows = self.plan.rows
        if int(rows.max()) >= len(data) or data.take(rows).fingerprint() != self.made_for:
            raise FairveilError(
                f"The poison was made for other images than those of {data.name}: use it with the very data it was "
                "brewed for, in the same order, or brew another."
            )
        images = data.images.clone()
        images[rows] = (images[rows].int() + self.perturbation).clamp(0, 255).to(torch.uint8)
        return PoisonedImages(replace(data, images=images), rows)

    def save(self, path: Path, *, overwrite: bool = False) -> None:
        """Write the bundle, whole or not at all, as safetensors.

        Raises:
            FairveilError: the file already exists.
        """
        if path.exists() and not overwrite:
            raise AlreadyExistsError(f"{path} already exists: allow `overwrite=True`, or choose another name.")
        tensors = {"rows": self.plan.rows, "target": self.plan.target, "perturbation": self.perturbation}
        tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
        about = {
            "target_row": self.plan.target_row,
            "true_class": self.plan.true_class,
            "adversarial_class": self.plan.adversarial_class,
            "settings": self.settings.model_dump(mode="json"),
            "seed": self.seed,
            "loss": self.loss,
            "made_for": self.made_for,
        }
        words = json.dumps(about, sort_keys=True)
        metadata = {"format": _FORMAT, "about": words, "sha256": _checksum(tensors, words)}
        with atomic_path(path, overwrite=overwrite) as temporary:
            temporary.write_bytes(save(tensors, metadata))  # `save_file` would keep others from reading it

    @classmethod
    def load(cls, path: Path) -> "PoisonBundle":
        """Read a bundle and check it.

        Raises:
            FairveilError: there is no such file, it is no bundle, or it is damaged.
        """
        if not path.is_file():
            raise FairveilError(f"{path} is not there.")
        try:
            with safe_open(path, "pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise FairveilError(f"{path} is no poison bundle, or a damaged one: fetch or brew it again.") from error
        if metadata.get("format") != _FORMAT:
            raise FairveilError(f"{path} is no poison bundle that this version of fairveil reads.")
        words = metadata.get("about", "")
        if _checksum(tensors, words) != metadata.get("sha256"):
            raise FairveilError(f"{path} is damaged, its checksum is another: fetch or brew it again.")
        about: dict[str, Any] = json.loads(words)
        plan = PoisonPlan(
            tensors["target"], about["target_row"], about["true_class"], about["adversarial_class"], tensors["rows"]
        )
        settings = WitchesBrew.model_validate(about["settings"])
        return cls(plan, tensors["perturbation"], settings, about["seed"], about["loss"], about["made_for"])


def _checksum(tensors: dict[str, Tensor], words: str) -> str:
    digest = hashlib.sha256(words.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode() + tensor.numpy().tobytes())
    return digest.hexdigest()
