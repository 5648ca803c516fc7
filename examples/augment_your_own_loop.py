"""CutMix in a training loop of one's own: plain PyTorch, then the same with accelerate.

python examples/augment_your_own_loop.py
"""

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from fairveil.data.images import synthetic_images
from fairveil.sanitize import Compose, CutMix, FlipAndCrop, as_collate, build_network

CLASSES = 3
AUGMENT = Compose((FlipAndCrop(padding=2), CutMix()))


def plain(images: torch.Tensor, labels: torch.Tensor, network: nn.Module, epochs: int = 2) -> float:
    """Augment each batch where the loop has it; gives the last loss."""
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    generator = torch.Generator().manual_seed(0)
    loss = torch.zeros(())
    for _ in range(epochs):
        for batch, classes in DataLoader(TensorDataset(images, labels), 16, shuffle=True, drop_last=True):
            mixed, soft = AUGMENT(batch, classes, generator, num_classes=CLASSES)
            loss = F.cross_entropy(network(mixed), soft)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return float(loss.detach())


def accelerated(images: torch.Tensor, labels: torch.Tensor, network: nn.Module, epochs: int = 2) -> float:
    """Augment where the loader puts batches together; gives the last loss."""
    accelerator = Accelerator(cpu=True)
    pairs = [(image, int(label)) for image, label in zip(images, labels, strict=True)]
    loader = DataLoader(pairs, 16, shuffle=True, drop_last=True, collate_fn=as_collate(AUGMENT, CLASSES))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    network, optimizer, loader = accelerator.prepare(network, optimizer, loader)
    loss = torch.zeros(())
    for _ in range(epochs):
        for mixed, soft in loader:
            loss = F.cross_entropy(network(mixed), soft)
            optimizer.zero_grad()
            accelerator.backward(loss)
            optimizer.step()
    return float(loss.detach())


def main() -> None:
    """Train twice on made-up pictures."""
    data = synthetic_images(96, classes=CLASSES, size=16)
    images = data.images.float() / 255
    for loop in (plain, accelerated):
        network = build_network("resnet-8-fast", CLASSES, seed=0)
        print(f"{loop.__name__}: the last loss is {loop(images, data.labels, network):.2f}")


if __name__ == "__main__":
    main()
