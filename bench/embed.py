"""How many photos a second `embed_faces` embeds, beside a bare loop that takes one photo and one face at a time.

Both read, search and embed the same photos, a portion of them in turn, so that a busy machine slows both alike. Their
embeddings are compared as well.

    python bench/embed.py --csv lfw.csv --root lfw.tar --photos 300
"""

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from fairveil.data.table import FaceTable
from fairveil.faces.canvas import view_of_face
from fairveil.faces.detection import Detector
from fairveil.faces.embedding import MINIMUM_FACE, embed_faces
from fairveil.faces.recognizers import Recognizer
from fairveil.faces.zoo import ZOO, load_recognizer

PORTION = 50


@torch.no_grad()
def bare_loop(table: FaceTable, recognizers: Sequence[Recognizer], detector: Detector) -> dict[str, Tensor]:
    """Embed the largest face of each photo the simplest way: nothing is batched or shared."""
    found: dict[str, list[Tensor]] = {recognizer.name: [] for recognizer in recognizers}
    for row in range(len(table)):
        photo = table.photo(row)
        faces = detector.detect([photo])[0]
        if len(faces):
            view = view_of_face(photo, faces.landmarks[0])
            for recognizer in recognizers:
                found[recognizer.name].append(recognizer.embed(*view))
    return {name: torch.cat(vectors) for name, vectors in found.items()}


def batches(table: FaceTable, recognizers: Sequence[Recognizer], detector: Detector) -> dict[str, Tensor]:
    """Embed the same faces with `embed_faces`."""
    embeddings = embed_faces(table, recognizers, detector=detector, which="largest")
    return {name: embeddings.vectors(name) for name in embeddings.recognizers}


def measure(table: FaceTable, recognizers: Sequence[Recognizer], detector: Detector) -> None:
    """Print the speed of both ways, and by how much they differ in the result."""
    seconds: dict[Callable[..., dict[str, Tensor]], float] = {bare_loop: 0.0, batches: 0.0}
    furthest = 0.0
    for way in seconds:
        way(table.take(range(2)), recognizers, detector)  # networks are slower the first time
    for start in range(0, len(table), PORTION):
        portion = table.take(range(start, min(start + PORTION, len(table))))
        found = {}
        for way in seconds:
            started = time.perf_counter()
            found[way] = way(portion, recognizers, detector)
            seconds[way] += time.perf_counter() - started
        for name, vectors in found[bare_loop].items():
            furthest = max(furthest, float((vectors - found[batches][name]).abs().max()))
    loop, batched = (len(table) / seconds[way] for way in (bare_loop, batches))
    names = recognizers[0].name if len(recognizers) == 1 else f"{len(recognizers)} recognizers"
    print(f"{names}: bare loop {loop:.1f} photos/s, embed_faces {batched:.1f} photos/s, ratio {batched / loop:.2f}")
    print(f"  furthest apart in any number of any embedding: {furthest:.1e}", flush=True)


def main() -> None:
    """Measure with one recognizer and with all of the zoo."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--csv", type=Path, required=True, help="the photos: a column image")
    parser.add_argument("--root", type=Path, required=True, help="the folder or tar its paths start from")
    parser.add_argument("--photos", type=int, default=300)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of torch; 1 on a busy machine")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    table = FaceTable.from_csv(arguments.csv, root=arguments.root)
    table = table.take(range(min(arguments.photos, len(table))))
    detector = Detector.pretrained(minimum_face=MINIMUM_FACE)
    measure(table, [load_recognizer("mobilefacenet-512")], detector)
    measure(table, [load_recognizer(name) for name in ZOO], detector)


if __name__ == "__main__":
    main()
