"""What training a recognizer by our loop costs beside a bare one with the same network, head and crops.

Loop and bare loop train the same network with the same head on the same crops in the same run, in turn, best of some
repetitions. The bare one has its batch ready in memory, normalized, and mirrors nothing, so the ratio counts everything
that is not network, head and optimizer. The loader's share is that of putting batches together: drawing rows by
identity, gathering crops, turning bytes into floats.

    python bench/recognizers.py
    python bench/recognizers.py --backbones mobilefacenet ir-50 --identities 8000
"""

import argparse
from collections.abc import Callable

import torch
import torch.nn.functional as F

from fairveil.data.face_crops import FaceCrops
from fairveil.faces.backbones import BACKBONES, build_backbone
from fairveil.faces.heads import MarginHead
from fairveil.faces.recognizer_training import SMALL, Recognition
from fairveil.faces.recognizers import Framing
from fairveil.training import Batches, Training, train
from fairveil.training.sampling import ClassBalanced
from timing import best_in_turns


def noise_crops(count: int, identities: int, size: int) -> FaceCrops:
    """Crops of nobody: what they show costs no time."""
    images = torch.randint(256, (count, 3, size, size), generator=torch.Generator().manual_seed(0)).byte()
    people, names = tuple(map(str, range(identities))), tuple(map(str, range(count)))
    return FaceCrops(images, torch.arange(count) % identities, people, "noise", names)


def bare_loop(name: str, crops: FaceCrops, training: Training) -> Callable[[], object]:
    """The same steps by hand, on a batch that already exists."""
    network = build_backbone(name, seed=0, size=crops.size).to(memory_format=torch.channels_last).train()
    head = MarginHead(len(crops.classes), 512, seed=0)
    parameters = [*network.parameters(), *head.parameters()]
    optimizer = torch.optim.SGD(parameters, 0.01, momentum=0.9, weight_decay=5e-4)
    images = Framing(size=crops.size).normalize(crops.images[: training.batch_size].float() / 255)
    images, labels = images.contiguous(memory_format=torch.channels_last), crops.labels[: training.batch_size]

    def epoch() -> None:
        for _ in range(len(crops) // training.batch_size):
            loss = F.cross_entropy(head(network(images), labels), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return epoch


def our_loop(name: str, crops: FaceCrops, training: Training) -> Callable[[], object]:
    """An epoch by the loop of the package, with the objective and the order of `train_recognizer`."""
    network = build_backbone(name, seed=0, size=crops.size)
    objective = Recognition(MarginHead(len(crops.classes), 512, seed=0), Framing(size=crops.size))
    order = ClassBalanced(crops.labels)
    return lambda: train(network, crops, training, objective=objective, order=order, device="cpu")


def loading(crops: FaceCrops, training: Training) -> Callable[[], object]:
    """All batches of an epoch, put together and left unused."""
    batches = Batches(crops, training.batch_size, ClassBalanced(crops.labels), channels_last=True)
    return lambda: [len(batch) for batch in batches.epoch(torch.Generator().manual_seed(0))]


def compare(name: str, crops: FaceCrops, training: Training, repeat: int) -> None:
    """Print one row: images a second, the ratio, and the loader's share."""
    ways = {
        "bare": bare_loop(name, crops, training),
        "ours": our_loop(name, crops, training),
        "loading": loading(crops, training),
    }
    best_in_turns(ways, repeat=1)  # the first time is slower
    seconds = best_in_turns(ways, repeat)
    print(
        f"{name:<14} bare {len(crops) / seconds['bare']:6.1f} images/s   ours {len(crops) / seconds['ours']:6.1f} "
        f"images/s   ours/bare {seconds['bare'] / seconds['ours']:.3f}   "
        f"loader {seconds['loading'] / seconds['ours']:.2%} of a step"
    )


def main() -> None:
    """Compare the loops."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbones", nargs="+", choices=list(BACKBONES), default=["mobilefacenet", "resnet-18"])
    parser.add_argument("--identities", type=int, default=100)
    parser.add_argument("--size", type=int, default=112, help="of the crops")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=4, help="of each epoch that is timed")
    parser.add_argument("--repeat", type=int, default=3)
    asked = parser.parse_args()
    training = SMALL.model_copy(update={"epochs": 1, "batch_size": asked.batch_size})
    crops = noise_crops(asked.steps * asked.batch_size, asked.identities, asked.size)
    print(f"{torch.get_num_threads()} threads, batches of {asked.batch_size}, torch {torch.__version__}")
    for name in asked.backbones:
        compare(name, crops, training, asked.repeat)


if __name__ == "__main__":
    main()
