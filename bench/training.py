"""What the training loop costs beside a bare one, and what the small network reaches in how long.

Loop and bare loop train the same network on the same pictures in the same run, in turn, best of some repetitions. The
bare one has its batch ready in memory, so the ratio counts everything that is not network and optimizer.

    python bench/training.py
    python bench/training.py --networks resnet-8-fast --precision fp32 bf16
    python bench/training.py --accuracy --epochs 10       # CIFAR-10 in the folder FAIRVEIL_DATA names
"""

import argparse
from collections.abc import Callable

import torch
import torch.nn.functional as F

from fairveil.data.cifar10 import read_cifar10
from fairveil.data.images import LabeledImages, synthetic_images
from fairveil.sanitize import FlipAndCrop
from fairveil.training import NETWORKS, Batches, Classification, Training, build_network, train
from timing import best_in_turns


def bare_loop(name: str, data: LabeledImages, settings: Training) -> Callable[[], object]:
    """The same steps by hand, on a batch that already exists."""
    network = build_network(name, len(data.classes), seed=0).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    images = (data.images[: settings.batch_size].float() / 255).contiguous(memory_format=torch.channels_last)
    labels = data.labels[: settings.batch_size]

    def epoch() -> None:
        for _ in range(len(data) // settings.batch_size):
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=settings.precision == "bf16"):
                loss = F.cross_entropy(network(images).float(), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return epoch


def our_loop(name: str, data: LabeledImages, settings: Training) -> Callable[[], object]:
    """An epoch by the loop of the package."""
    network = build_network(name, len(data.classes), seed=0)
    return lambda: train(network, data, settings, device="cpu")


def loading(data: LabeledImages, settings: Training) -> Callable[[], object]:
    """All batches of an epoch, put together and left unused."""
    batches = Batches(data, settings.batch_size, channels_last=settings.channels_last)
    return lambda: [len(batch) for batch in batches.epoch(torch.Generator().manual_seed(0))]


def compare(name: str, precision: str, steps: int, repeat: int) -> None:
    """Print one row: pictures a second, the ratio, and the loader's share."""
    settings = Training.model_validate({"epochs": 1, "precision": precision})
    data = synthetic_images(steps * settings.batch_size, classes=10, size=32)
    ways = {
        "bare": bare_loop(name, data, settings),
        "ours": our_loop(name, data, settings),
        "loading": loading(data, settings),
    }
    best_in_turns(ways, repeat=1)  # the first time is slower
    seconds = best_in_turns(ways, repeat)
    print(
        f"{name:<14} {precision:<5} bare {len(data) / seconds['bare']:7.0f} images/s   "
        f"ours {len(data) / seconds['ours']:7.0f} images/s   ours/bare {seconds['bare'] / seconds['ours']:.3f}   "
        f"loader {seconds['loading'] / seconds['ours']:.1%} of a step"
    )


def accuracy(name: str, precision: str, epochs: int) -> None:
    """Print what a network reaches on CIFAR-10, epoch by epoch."""
    settings = Training.model_validate({"epochs": epochs, "precision": precision, "warmup": min(1, epochs / 4)})
    network = build_network(name, 10, seed=0)
    history = train(
        network,
        read_cifar10(),
        settings,
        objective=Classification(FlipAndCrop(padding=4)),
        validation=read_cifar10(split="test"),
        device="cpu",
        on_epoch=lambda epoch: print(
            f"  epoch {epoch.number:>2}: loss {epoch.loss:.3f}, accuracy {epoch.score:.4f}, {epoch.seconds:.1f} s"
        ),
    )
    seconds = sorted(epoch.seconds for epoch in history.epochs)[len(history.epochs) // 2]
    print(f"{name} {precision}: accuracy {history.epochs[-1].score:.4f}, {seconds:.1f} s an epoch (median)")


def main() -> None:
    """Compare the loops, and train on CIFAR-10 if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=["resnet-8", "resnet-8-fast"])
    parser.add_argument("--precision", nargs="+", choices=["fp32", "bf16"], default=["fp32", "bf16"])
    parser.add_argument("--steps", type=int, default=20, help="of each epoch that is timed")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--accuracy", action="store_true", help="train the last network on CIFAR-10 instead")
    parser.add_argument("--epochs", type=int, default=10, help="of the training on CIFAR-10")
    asked = parser.parse_args()
    print(f"{torch.get_num_threads()} threads, batches of 128, torch {torch.__version__}")
    if asked.accuracy:
        accuracy(asked.networks[-1], asked.precision[-1], asked.epochs)
        return
    for name in asked.networks:
        for precision in asked.precision:
            compare(name, precision, asked.steps, asked.repeat)


if __name__ == "__main__":
    main()
