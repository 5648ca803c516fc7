"""Measure the match thresholds that the zoo carries, on labeled photos of faces.

In each photo the face nearest the center counts. Of each identity at most --per-identity photos are used, so that
nobody dominates the pairs. The threshold is the smallest similarity that at most --false-match-rate of all pairs of
different people reach.

    python bench/thresholds.py --csv lfw.csv --root lfw/ --only dlib-resnet
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor

from fairveil.faces.zoo import ZOO, load_recognizer
from labeled_faces import embed_labeled_faces


def threshold_at(similarities: Tensor, rate: float) -> float:
    """The smallest similarity that no more than a share `rate` of `similarities` reach."""
    allowed = int(rate * len(similarities))
    return float(similarities.topk(allowed + 1).values[-1]) + 1e-6


def main() -> None:
    """Print one line per recognizer."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--csv", type=Path, required=True, help="with the columns image and identity")
    parser.add_argument("--root", type=Path, required=True, help="the folder its paths start from")
    parser.add_argument("--only", nargs="*", default=list(ZOO))
    parser.add_argument("--per-identity", type=int, default=2)
    parser.add_argument("--false-match-rate", type=float, default=1e-3)
    arguments = parser.parse_args()

    recognizers = [load_recognizer(name) for name in arguments.only]
    identities, embeddings = embed_labeled_faces(arguments.csv, arguments.root, recognizers, arguments.per_identity)
    people = sorted(set(identities))
    labels = torch.tensor([people.index(identity) for identity in identities])
    first, second = torch.triu_indices(len(labels), len(labels), 1)
    same = labels[first] == labels[second]
    print(f"{len(labels)} photos of {len(people)} people: {int(same.sum())} same pairs, {int((~same).sum())} others")
    for name, unit in embeddings.items():
        similarity = (unit @ unit.T)[first, second]
        threshold = threshold_at(similarity[~same], arguments.false_match_rate)
        misses = float((similarity[same] < threshold).float().mean())
        hits = float((similarity[~same] >= threshold).float().mean())
        print(f"{name:20s} threshold {threshold:.4f}  false matches {hits:.2e}  false non-matches {misses:.4f}")


if __name__ == "__main__":
    main()
