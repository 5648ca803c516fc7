"""What protecting a photo costs: ours, the literal algorithm, and the floor, side by side in one run.

For photos of 640, 1,600 and 4,000 pixels this measures, each in a process of its own so that peak memory is its own:

- ours: `protect_file` as the command runs it: read, detect, attack, write;
- literal: the dissertation's algorithm on the same photo: LPIPS, smoothing and gradient over the whole photo at every
  step, features with and without smoothing and of the mirrored face (preset "lowkey", canvas="photo");
- floor: nothing but the forward and backward passes of our ensemble on ready-made face crops, as many as ours makes.

The photo is scikit-image's public-domain portrait of the astronaut Eileen Collins, resized. Starting Python and loading
the models is left out of all three. The ratios are what counts; absolute times depend on the machine.

    python bench/protect.py [--sizes 640,1600,4000] [--literal-steps 50] [--strength medium]
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from PIL import Image
from skimage import data

from fairveil.faces.detection import Detector
from fairveil.faces.zoo import DEFAULT_ENSEMBLE, ZOO, load_recognizer
from fairveil.photos import Saving, as_image, read_photo
from fairveil.protection.folders import Job, protect_file
from fairveil.protection.lowkey import PRESETS, LowKey
from fairveil.protection.perceptual import LPIPS
from fairveil.protection.protecting import SMALLEST_FACE, protect
from fairveil.protection.verification import AS_SAVED, verify

LITERAL = LowKey(canvas="photo")


def passes_of(settings: LowKey) -> int:
    """How many forward and backward passes one face needs under each recogniser."""
    looks = {"both": 2, "alternate": 1, "none": 1}[settings.smoothing]
    return settings.steps * looks * (2 if settings.mirror else 1)


def measure(method: str, photo: Path, steps: int, ours: LowKey) -> dict[str, object]:
    """Run one method on one photo and say how long it took and what it achieved."""
    ensemble = [load_recognizer(name) for name in DEFAULT_ENSEMBLE]
    detector = Detector.pretrained(minimum_face=SMALLEST_FACE)
    perceptual = LPIPS.pretrained("alexnet")
    perceptual(torch.rand(1, 3, 224, 224), torch.rand(1, 3, 224, 224))
    for recognizer in ensemble:  # the first call of a network is slower than the rest
        recognizer.embed_crops(torch.rand(1, 3, recognizer.framing.size, recognizer.framing.size))

    target = photo.with_name(f"{method}-{photo.name}")
    settings = ours if method == "ours" else LITERAL.model_copy(update={"steps": steps})
    started = time.perf_counter()
    if method == "floor":
        for recognizer in ensemble:
            crops = torch.rand(1, 3, recognizer.framing.size, recognizer.framing.size, requires_grad=True)
            for _ in range(passes_of(ours)):
                torch.autograd.grad(recognizer.embed_crops(crops).sum(), crops)
    elif method == "ours":
        protect_file(Job(photo, target), settings, ensemble, detector, Saving())
    else:
        protected, _ = protect(read_photo(photo).pixels, settings, recognizers=ensemble, detector=detector)
        as_image(protected).save(target, quality=95, subsampling=0)
    seconds = time.perf_counter() - started
    # Linux gives the peak in kilobytes.
    figures: dict[str, object] = {
        "seconds": seconds,
        "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    if method != "floor":
        held_out = [load_recognizer(name) for name in ZOO if name not in DEFAULT_ENSEMBLE]
        receipt = verify(read_photo(photo).pixels, read_photo(target).pixels, [*ensemble, *held_out])
        figures["similarity"] = {
            c.recognizer: round(c.similarity, 2) for c in receipt.faces[0].against_itself if c.condition == AS_SAVED
        }
        figures["lpips_vgg"] = round(receipt.faces[0].quality.lpips_vgg, 3)
    return figures


def main() -> None:
    """Print a table of times, ratios and peak memory, and what each method achieved."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--sizes", default="640,1600,4000", help="longer sides of the photos, in pixels")
    parser.add_argument("--literal-steps", default=50, type=int, help="fewer are scaled up, and said so")
    parser.add_argument("--strength", default="medium", help="of ours")
    parser.add_argument("--measure", nargs=2, metavar=("METHOD", "PHOTO"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        method, photo = arguments.measure
        print(json.dumps(measure(method, Path(photo), arguments.literal_steps, PRESETS[arguments.strength])))
        return

    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads; ensemble {', '.join(DEFAULT_ENSEMBLE)}")
    print(f"{'photo':>6} {'ours':>8} {'floor':>8} {'literal':>9} {'ours/floor':>11} {'literal/ours':>13}  peak MB")
    with tempfile.TemporaryDirectory() as folder:
        for size in map(int, arguments.sizes.split(",")):
            photo = Path(folder) / f"{size}.jpg"
            portrait = Image.fromarray(data.astronaut()).crop((0, 0, 512, 384))
            portrait.resize((size, size * 3 // 4), Image.Resampling.LANCZOS).save(photo, quality=95)
            found = {}
            for method in ("floor", "ours", "literal"):
                command = [sys.executable, __file__, "--measure", method, str(photo)]
                command += ["--literal-steps", str(arguments.literal_steps), "--strength", arguments.strength]
                found[method] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
            literal = found["literal"]["seconds"] * LITERAL.steps / arguments.literal_steps
            ours, floor = found["ours"]["seconds"], found["floor"]["seconds"]
            memory = " / ".join(str(found[method]["megabytes"]) for method in ("ours", "floor", "literal"))
            print(
                f"{size:>6} {ours:>7.1f}s {floor:>7.1f}s {literal:>8.1f}s {ours / floor:>11.2f} {literal / ours:>13.1f}"
                f"  {memory}"
            )
            for method in ("ours", "literal"):
                print(f"       {method}: VGG-LPIPS {found[method]['lpips_vgg']}, {found[method]['similarity']}")
    if arguments.literal_steps != LITERAL.steps:
        print(f"The literal algorithm ran {arguments.literal_steps} of {LITERAL.steps} steps; its time is scaled up.")


if __name__ == "__main__":
    main()
