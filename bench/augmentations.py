"""How many pictures a second our augmentations make, beside kornia's of the same name, in the same run.

Batches of CIFAR's size, in turn, best of some repetitions. Kornia's work on hard labels and give pairs of them with a
weight; ours give soft labels, and that is in their time.

    python bench/augmentations.py
    python bench/augmentations.py --batch 512 --threads 2
"""

import argparse
from collections.abc import Callable

import kornia.augmentation as K
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fairveil.sanitize import CutMix, Cutout, FlipAndCrop, Mixup
from fairveil.training.objectives import Augmentation
from timing import best_in_turns

PAIRS: dict[str, tuple[Augmentation, nn.Module]] = {
    "mixup": (Mixup(), K.RandomMixUpV2(p=1.0, data_keys=["input", "class"])),
    "CutMix": (CutMix(), K.RandomCutMixV2(p=1.0, use_correct_lambda=True, data_keys=["input", "class"])),
    "cutout": (Cutout(16), K.RandomErasing(scale=(0.25, 0.25), ratio=(1.0, 1.0), p=1.0)),
    "flips and crops": (
        FlipAndCrop(4),
        nn.Sequential(K.RandomHorizontalFlip(), K.RandomCrop((32, 32), padding=4, pad_if_needed=False)),
    ),
}


def theirs(augmentation: nn.Module, images: Tensor, labels: Tensor, mixes: bool) -> Callable[[], object]:
    """One batch by kornia."""
    return (lambda: augmentation(images, labels)) if mixes else (lambda: augmentation(images))


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=50)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.rand(options.batch, 3, 32, 32), torch.randint(10, (options.batch,))
    targets = F.one_hot(labels, 10).float()
    print(f"batches of {options.batch}, 32×32, {options.threads} threads: pictures a second")
    for name, (ours, kornias) in PAIRS.items():
        ways: dict[str, Callable[[], object]] = {
            "ours": lambda ours=ours: ours(images, targets, generator),  # type: ignore[misc]
            "kornia": theirs(kornias, images, labels, mixes=name in ("mixup", "CutMix")),
        }
        taken = best_in_turns(ways, options.repeat)
        print(
            f"  {name:16} {options.batch / taken['ours']:10,.0f}, kornia {options.batch / taken['kornia']:9,.0f}: "
            f"{taken['kornia'] / taken['ours']:5.1f} times as many"
        )


if __name__ == "__main__":
    main()
