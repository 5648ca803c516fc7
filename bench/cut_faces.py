"""How many faces that the border of their photo cuts are found, without and with windows that reach over the border.

    python bench/cut_faces.py --csv lfw.csv --root lfw.tar --photos 60

In each photo the largest face is cut off on each side in turn by a share of its box, and looked for in what is left. It
counts as found where a box overlaps its whole box by 0.3 or more. The error of the landmarks is their mean distance to
those found in the whole photo, over the distance of the eyes. Boxes on no face of the whole photo are counted as false.
Whole photos tell what is found in addition there, and by how much longer it takes; so does one of 12 million pixels.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import torch
import torch.nn.functional as F
from torch import Tensor

from fairveil.data import FaceTable
from fairveil.faces.boxes import overlaps
from fairveil.faces.detection import Detector, Faces
from timing import best_in_turns

SHARES = (0.1, 0.2, 0.3, 0.4, 0.5)


def cut_at_each_side(photo: Tensor, box: Tensor, share: float) -> Iterator[tuple[Tensor, Tensor]]:
    """The photo (3, H, W) without a share of a box (4,) and what lies beyond it, and the corner (x, y) it begins at."""
    x0, y0, x1, y1 = (round(side) for side in box.clamp(min=0).tolist())
    across, down = round(share * (x1 - x0)), round(share * (y1 - y0))
    yield photo[:, :, x0 + across :], torch.tensor([x0 + across, 0])
    yield photo[:, :, : x1 - across], torch.tensor([0, 0])
    yield photo[:, y0 + down :], torch.tensor([0, y0 + down])
    yield photo[:, : y1 - down], torch.tensor([0, 0])


def moved(faces: Faces, by: Tensor) -> Faces:
    """Faces of a part of a photo in pixels of the whole."""
    return Faces(faces.boxes + by.repeat(2), faces.scores, faces.landmarks + by)


def error_of(found: Faces, face: Faces) -> float | None:
    """How far off the landmarks of a face are, over the distance of its eyes; None where it is not found."""
    shares = overlaps(found.boxes, face.boxes)[:, 0]
    if not len(found) or shares.max() < 0.3:
        return None
    landmarks = face.landmarks[0]
    off = (found.landmarks[shares.argmax()] - landmarks).norm(dim=1).mean()
    return float(off / (landmarks[1] - landmarks[0]).norm())


def main() -> None:
    """Print one line per share that is cut off."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--csv", type=Path, required=True, help="with the columns image and identity")
    parser.add_argument("--root", type=Path, required=True, help="the folder or archive its paths start from")
    parser.add_argument("--photos", type=int, default=60, help="how many, of one person each")
    parser.add_argument("--minimum-face", type=float, default=40)
    arguments = parser.parse_args()

    table = FaceTable.from_csv(arguments.csv, root=arguments.root)
    table = table.filter(pl.col("identity").is_first_distinct())
    over = Detector.pretrained(minimum_face=arguments.minimum_face)
    without = Detector(over.pnet, over.rnet, over.onet, minimum_face=over.minimum_face, at_border=False)
    ways = {"without": without, "with": over}
    photos = [table.photo(row) for row in range(min(arguments.photos, len(table)))]
    errors: dict[tuple[str, float], list[float]] = defaultdict(list)
    tries, false = 0, dict.fromkeys(ways, 0)
    for photo in photos:
        faces = without.detect([photo])[0]
        if not len(faces):
            continue
        tries += 4
        everyone = over.detect([photo])[0].boxes
        for share in SHARES:
            for part, corner in cut_at_each_side(photo, faces.boxes[0], share):
                for name, detector in ways.items():
                    found = moved(detector.detect([part])[0], corner)
                    error = error_of(found, faces[:1])
                    errors[name, share] += [] if error is None else [error]
                    false[name] += int((overlaps(found.boxes, everyone) < 0.2).all(1).sum())
    print(f"{tries} cuts of each share; found, with the median and 90 % error of the landmarks:")
    for share in SHARES:
        told = []
        for name in ways:
            here = torch.tensor(errors[name, share])
            median, most = here.quantile(torch.tensor([0.5, 0.9])).tolist() if len(here) else (0, 0)
            told.append(f"{name} {len(here):4d} ({median:.2f}, {most:.2f})")
        print(f"{share:4.0%} cut off: {'   '.join(told)}")
    print("false:", ", ".join(f"{name} {count}" for name, count in false.items()), f"in {tries * len(SHARES)} cuts")

    changed = added = newly = 0
    for photo in photos:
        before, after = (detector.detect([photo])[0] for detector in ways.values())
        same = (overlaps(before.boxes, after.boxes) > 0.999).any(1)
        changed += int((~same).sum())
        added += len(after) - len(before)
        newly += not len(before) and len(after) > 0
    print(f"{len(photos)} whole photos: {added} faces more, {newly} photos with one that had none, {changed} changed")
    large = F.interpolate(photos[0][None].float(), (3000, 4000), mode="bicubic").clamp(0, 255).byte()[0]
    for size, batch in (("photos as they are", photos[:10]), ("12 million pixels", [large])):
        seconds = best_in_turns({name: lambda d=d, b=batch: d.detect(b) for name, d in ways.items()}, repeat=3)
        print(f"time with over without, {size}: {seconds['with'] / seconds['without']:.2f}")


if __name__ == "__main__":
    main()
