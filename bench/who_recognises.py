"""Who recognizes a person before and after their photos are protected, by recognizers attacked and left out.

Every photo of the person is protected. Then, for every way to choose two of them as clean probes, the others, as they
were and as protected, are put into a gallery of strangers, and each probe looks for its nearest neighbors: rank-k is
the share of probes among whose k nearest is one of the person. This is done with the default ensemble, and once for
each --leave-out with those recognizers left out of the attack.

    python bench/who_recognises.py --photos her/*.jpg --csv lfw.csv --root lfw/ \
        --leave-out dlib-resnet --leave-out faceres,faceres-deep
"""

import argparse
import itertools
import time
from pathlib import Path

import torch
from torch import Tensor

from fairveil.faces.canvas import view_of_face
from fairveil.faces.detection import Detector
from fairveil.faces.zoo import DEFAULT_ENSEMBLE, ZOO, load_recognizer
from fairveil.images import read_photo
from fairveil.protection.protecting import SMALLEST_FACE, protect
from fairveil.protection.verification import verify
from labeled_faces import embed_labeled_faces

RANKS = (1, 50)


def rank_accuracies(probes: Tensor, gallery: Tensor, strangers: Tensor) -> list[float]:
    """Rank-k accuracy for every k of `RANKS`, over all pairs of probes and the gallery of the remaining photos.

    Args:
        probes: embeddings of the clean photos, (P, D).
        gallery: embeddings of the same photos as the gallery holds them, (P, D).
        strangers: the rest of the gallery, (S, D).
    """
    to_strangers = (probes @ strangers.T).sort(1, descending=True).values
    to_gallery = probes @ gallery.T
    found = []
    for pair in itertools.combinations(range(len(probes)), 2):
        others = [index for index in range(len(probes)) if index not in pair]
        for probe in pair:
            nearest = to_gallery[probe, others].max()
            found.append([bool(nearest > to_strangers[probe, rank - 1]) for rank in RANKS])
    return torch.tensor(found).float().mean(0).tolist()


def main() -> None:
    """Print a table for each ensemble."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--photos", type=Path, nargs="+", required=True, help="of one person, one face each")
    parser.add_argument("--csv", type=Path, required=True, help="the strangers: columns image and identity")
    parser.add_argument("--root", type=Path, required=True, help="the folder its paths start from")
    parser.add_argument("--per-identity", type=int, default=2)
    parser.add_argument("--strength", nargs="*", default=["medium"])
    parser.add_argument("--leave-out", action="append", default=[], help="names, separated by commas; repeatable")
    arguments = parser.parse_args()

    recognizers = {name: load_recognizer(name) for name in ZOO}
    _, strangers = embed_labeled_faces(
        arguments.csv, arguments.root, list(recognizers.values()), arguments.per_identity
    )
    detector = Detector.pretrained(minimum_face=SMALLEST_FACE)
    photos = [read_photo(path).pixels for path in arguments.photos]
    views = [view_of_face(photo, detector.detect([photo])[0].landmarks[0]) for photo in photos]
    with torch.no_grad():
        clean = {name: torch.cat([r.embed(*view) for view in views]) for name, r in recognizers.items()}
    print(f"{len(photos)} photos, {len(next(iter(strangers.values())))} strangers' faces")
    for left_out in ["", *arguments.leave_out]:
        ensemble = [recognizers[name] for name in DEFAULT_ENSEMBLE if name not in left_out.split(",")]
        for strength in arguments.strength:
            measure_ensemble(ensemble, photos, clean, strangers, strength, detector)


def measure_ensemble(
    ensemble: list, photos: list[Tensor], clean: dict, strangers: dict, strength: str, detector: Detector
) -> None:
    """Protect every photo with one ensemble and print who still recognizes the person."""
    started = time.perf_counter()
    protected = [
        protect(photo, strength, recognizers=ensemble, faces="largest", detector=detector)[0] for photo in photos
    ]
    seconds = (time.perf_counter() - started) / len(photos)
    views, costs = [], []
    for before, after in zip(photos, protected, strict=True):
        faces = detector.detect([after])[0]
        views.append(view_of_face(after, faces.landmarks[0]))
        costs.append(verify(before, after, [], detector=detector).faces[0].quality)
    names = [recognizer.name for recognizer in ensemble]
    print(f"\n{strength}; attacked: {', '.join(names)}; {seconds:.1f} s a photo", flush=True)
    for field in ("lpips", "lpips_vgg", "ssim", "psnr", "delta_e", "delta_chroma"):
        values = [getattr(cost, field) for cost in costs]
        print(f"  {field}: mean {sum(values) / len(values):.3f}, from {min(values):.3f} to {max(values):.3f}")
    for name in ZOO:
        recognizer = load_recognizer(name)
        with torch.no_grad():
            embeddings = torch.cat([recognizer.embed(*view) for view in views])
        before = rank_accuracies(clean[name], clean[name], strangers[name])
        after = rank_accuracies(clean[name], embeddings, strangers[name])
        role = "attacked" if name in names else "left out"
        itself = float((clean[name] * embeddings).sum(1).mean())
        shown = "  ".join(f"rank-{k} {b:.2f} -> {a:.2f}" for k, b, a in zip(RANKS, before, after, strict=True))
        print(f"  {name:20s} {role}  {shown}  similarity to itself {itself:+.2f}")


if __name__ == "__main__":
    main()
