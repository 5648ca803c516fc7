"""Measure the match thresholds that the zoo carries, on labelled photos of faces.

Takes a CSV with the columns image and identity, and the folder its paths start from. In each photo the face
nearest the centre counts. Of each identity at most --per-identity photos are used, so that nobody dominates the
pairs. The threshold is the smallest similarity that at most --false-match-rate of all pairs of different people
reach.

    python bench/thresholds.py --csv lfw.csv --root lfw/ --only dlib-resnet
"""

import argparse
import csv
from collections import Counter
from pathlib import Path

import torch
from rich.progress import track
from torch import Tensor

from fairveil.faces.detection import Detector
from fairveil.faces.zoo import ZOO, load_recognizer
from fairveil.protection.photos import read_photo
from fairveil.protection.verification import view_of_face


def threshold_at(similarities: Tensor, rate: float) -> float:
    """The smallest similarity that no more than a share `rate` of `similarities` reach."""
    allowed = int(rate * len(similarities))
    return float(similarities.topk(allowed + 1).values[-1]) + 1e-6


def main() -> None:
    """Print one line per recogniser."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--csv", type=Path, required=True)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=list(ZOO))
    parser.add_argument("--per-identity", type=int, default=2)
    parser.add_argument("--false-match-rate", type=float, default=1e-3)
    arguments = parser.parse_args()

    with arguments.csv.open(newline="") as table:
        rows = [row for row in csv.DictReader(table) if not row.get("dup_group")]
    taken: Counter[str] = Counter()
    detector = Detector.pretrained(minimum_face=40)
    recognizers = [load_recognizer(name) for name in arguments.only]
    identities: list[str] = []
    embeddings: dict[str, list[Tensor]] = {recognizer.name: [] for recognizer in recognizers}
    for row in track(rows, description="embedding"):
        if taken[row["identity"]] == arguments.per_identity:
            continue
        photo = read_photo(arguments.root / row["image"]).pixels
        faces = detector.detect([photo])[0]
        if not len(faces):
            continue
        centre = torch.tensor([photo.shape[2], photo.shape[1]]) / 2
        nearest = int((faces.landmarks.mean(1) - centre).norm(dim=1).argmin())
        taken[row["identity"]] += 1
        identities.append(row["identity"])
        with torch.no_grad():
            for recognizer in recognizers:
                embeddings[recognizer.name].append(recognizer.embed(*view_of_face(photo, faces.landmarks[nearest])))

    labels = torch.tensor([sorted(taken).index(identity) for identity in identities])
    first, second = torch.triu_indices(len(labels), len(labels), 1)
    same = labels[first] == labels[second]
    print(f"{len(labels)} photos of {len(taken)} people: {int(same.sum())} same pairs, {int((~same).sum())} others")
    for name, rows_of_one in embeddings.items():
        unit = torch.cat(rows_of_one)
        similarity = (unit @ unit.T)[first, second]
        threshold = threshold_at(similarity[~same], arguments.false_match_rate)
        misses = float((similarity[same] < threshold).float().mean())
        hits = float((similarity[~same] >= threshold).float().mean())
        print(f"{name:20s} threshold {threshold:.4f}  false matches {hits:.2e}  false non-matches {misses:.4f}")


if __name__ == "__main__":
    main()
