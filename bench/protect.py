"""What protecting a photo costs: ours, the literal algorithm, and the floor, side by side in one run.

For photos of 640, 1,600 and 4,000 pixels this measures, each in a process of its own so that peak memory is its own:

- ours: `protect_file` as the command runs it: read, detect, attack, write;
- literal: the dissertation's algorithm on the same photo: LPIPS, smoothing and gradient over the whole photo at every
  step, features with and without smoothing and of the mirrored face (preset "lowkey", canvas="photo");
- floor: nothing but the forward and backward passes of our ensemble on ready-made face crops, as many as ours makes.

Ours and the floor are run three times in turns, and the fastest counts. "a step" compares steps alone, which are
what twice as many take longer, with the floor: reading, finding faces and writing are left out.

Then it measures whole commands, start included: `fairveil protect` on a folder of copies of the smallest photo, in one
thread (`--workers 1` with `OMP_NUM_THREADS=1`), in one process (`--workers 1`) and as by default; and on one photo, as
by default and in one thread, alone and beside as many processes that do nothing but count as there are cores.

The photo is scikit-image's public-domain portrait of the astronaut Eileen Collins, resized. Starting Python and loading
the models is left out of the first three. The ratios are what counts; absolute times depend on the machine.

    python bench/protect.py [--sizes 640,1600,4000] [--literal-steps 50] [--strength medium] [--folder 12]
    python bench/protect.py --only commands
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from skimage import data

from fairveil.base.executors import usable_cores
from fairveil.faces.detection import Detector
from fairveil.faces.zoo import DEFAULT_ENSEMBLE, ZOO, load_recognizer
from fairveil.images import Saving, as_image, read_photo
from fairveil.protection.folders import PhotoJob, protect_file
from fairveil.protection.lowkey import PRESETS, LowKey
from fairveil.protection.perceptual import LPIPS
from fairveil.protection.protecting import SMALLEST_FACE, protect
from fairveil.protection.verification import AS_SAVED, verify

LITERAL = LowKey(canvas="photo")

REPEATS = 3


def passes_of(settings: LowKey) -> int:
    """How many forward and backward passes one face needs under each recognizer."""
    looks = {"both": 2, "alternate": 1, "none": 1}[settings.smoothing]
    return settings.steps * looks * (2 if settings.mirror else 1)


def measure(method: str, photo: Path, steps: int, ours: LowKey) -> dict[str, object]:
    """Run one method on one photo and say how long it took and what it achieved."""
    ensemble = [load_recognizer(name) for name in DEFAULT_ENSEMBLE]
    detector = Detector.pretrained(minimum_face=SMALLEST_FACE)
    perceptual = LPIPS.pretrained("alexnet")
    perceptual(torch.rand(1, 3, 224, 224), torch.rand(1, 3, 224, 224))
    for recognizer in ensemble:  # the first call of a network is slower than the rest
        crops = torch.rand(1, 3, recognizer.framing.size, recognizer.framing.size, requires_grad=True)
        torch.autograd.grad(recognizer.embed_crops(crops).sum(), crops)

    target = Path(tempfile.mkdtemp(dir=photo.parent)) / photo.name  # a photo that is there is not made again
    settings = ours if method == "ours" else LITERAL.model_copy(update={"steps": steps})
    if method == "ours":  # so is the first photo
        once = target.with_name(f"first-{photo.name}")
        protect_file(PhotoJob(photo, once), settings.model_copy(update={"steps": 2}), ensemble, detector, Saving())
    started = time.perf_counter()
    if method == "floor":
        for recognizer in ensemble:
            crops = torch.rand(1, 3, recognizer.framing.size, recognizer.framing.size, requires_grad=True)
            for _ in range(passes_of(ours)):
                torch.autograd.grad(recognizer.embed_crops(crops).sum(), crops)
    elif method == "ours":
        protect_file(PhotoJob(photo, target), settings, ensemble, detector, Saving())
    else:
        protected, _ = protect(read_photo(photo).pixels, settings, recognizers=ensemble, detector=detector)
        as_image(protected).save(target, quality=95, subsampling=0)
    seconds = time.perf_counter() - started
    # Linux gives the peak in kilobytes.
    figures: dict[str, object] = {
        "seconds": seconds,
        "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    if method == "ours":
        twice = settings.model_copy(update={"steps": 2 * settings.steps})
        started = time.perf_counter()
        protect_file(PhotoJob(photo, target.with_name(f"twice-{photo.name}")), twice, ensemble, detector, Saving())
        figures["twice"] = time.perf_counter() - started
    if method != "floor":
        held_out = [load_recognizer(name) for name in ZOO if name not in DEFAULT_ENSEMBLE]
        receipt = verify(read_photo(photo).pixels, read_photo(target).pixels, [*ensemble, *held_out])
        figures["similarity"] = {
            c.recognizer: round(c.similarity, 2) for c in receipt.faces[0].against_itself if c.condition == AS_SAVED
        }
        figures["lpips_vgg"] = round(receipt.faces[0].quality.lpips_vgg, 3)
    return figures


def command_seconds(photos: Path, strength: str, *options: str, one_thread: bool = False) -> float:
    """How long `fairveil protect` takes, from its start to its end, on photos it has not seen."""
    program = "from fairveil.cli import main; main()"
    around = os.environ | ({"OMP_NUM_THREADS": "1"} if one_thread else {})
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-c", program, "protect", str(photos), "-o", out, "--strength", strength, *options]
        started = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, env=around)
        return time.perf_counter() - started


@contextmanager
def busy_cores() -> Iterator[None]:
    """As many processes that count as there are cores, beside whatever is done meanwhile."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(usable_cores())]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def measure_commands(photo: Path, copies: int, strength: str) -> None:
    """Print what several processes gain for a folder, and what one photo loses where the cores are busy."""
    folder = photo.with_name("folder")
    folder.mkdir()
    for number in range(copies):
        shutil.copy(photo, folder / f"{number}.jpg")
    bare = command_seconds(folder, strength, "--workers", "1", one_thread=True)
    one, default = (command_seconds(folder, strength, *options) for options in (("--workers", "1"), ()))
    print(
        f"{copies} photos: one thread {bare:.1f} s, one process {one:.1f} s, by default {default:.1f} s: "
        f"{bare / default:.2f} times the rate of one thread, {one / default:.2f} times that of one process"
    )
    for name, around in (("idle", nullcontext), ("busy", busy_cores)):
        with around():
            one, default = (command_seconds(photo, strength, one_thread=alone) for alone in (True, False))
        print(f"one photo, {name} cores: one thread {one:.1f} s, by default {default:.1f} s: ratio {default / one:.2f}")


def portrait_of(size: int, folder: Path) -> Path:
    """The portrait as a JPEG of so many pixels across."""
    photo = folder / f"{size}.jpg"
    portrait = Image.fromarray(data.astronaut()).crop((0, 0, 512, 384))
    portrait.resize((size, size * 3 // 4), Image.Resampling.LANCZOS).save(photo, quality=95)
    return photo


def measure_methods(sizes: Sequence[int], literal_steps: int, strength: str) -> None:
    """Print a table of times, ratios and peak memory, and what each method achieved."""
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads; ensemble {', '.join(DEFAULT_ENSEMBLE)}")
    print(
        f"{'photo':>6} {'ours':>8} {'floor':>8} {'literal':>9} {'ours/floor':>11} {'a step':>7} {'literal/ours':>13}"
        "  peak MB"
    )
    with tempfile.TemporaryDirectory() as folder:
        for size in sizes:
            photo = portrait_of(size, Path(folder))
            runs: dict[str, list[dict[str, Any]]] = {method: [] for method in ("floor", "ours", "literal")}
            for method in (*("floor", "ours") * REPEATS, "literal"):
                command = [sys.executable, __file__, "--measure", method, str(photo)]
                command += ["--literal-steps", str(literal_steps), "--strength", strength]
                runs[method].append(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))
            seconds = {method: min(run["seconds"] for run in those) for method, those in runs.items()}
            ours, floor, literal = seconds["ours"], seconds["floor"], seconds["literal"] * LITERAL.steps / literal_steps
            step = min(run["twice"] for run in runs["ours"]) - ours
            memory = " / ".join(str(runs[method][0]["megabytes"]) for method in ("ours", "floor", "literal"))
            print(
                f"{size:>6} {ours:>7.1f}s {floor:>7.1f}s {literal:>8.1f}s {ours / floor:>11.2f} "
                f"{step / floor:>7.2f} {literal / ours:>13.1f}  {memory}"
            )
            for method in ("ours", "literal"):
                run = runs[method][0]
                print(f"       {method}: VGG-LPIPS {run['lpips_vgg']}, {run['similarity']}")
    if literal_steps != LITERAL.steps:
        print(f"The literal algorithm ran {literal_steps} of {LITERAL.steps} steps; its time is scaled up.")


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--sizes", default="640,1600,4000", help="longer sides of the photos, in pixels")
    parser.add_argument("--literal-steps", default=50, type=int, help="fewer are scaled up, and said so")
    parser.add_argument("--strength", default="medium", help="of ours")
    parser.add_argument("--folder", default=12, type=int, metavar="N", help="photos of the folder")
    parser.add_argument("--only", choices=("methods", "commands"), help="measure only these")
    parser.add_argument("--measure", nargs=2, metavar=("METHOD", "PHOTO"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        method, photo = arguments.measure
        print(json.dumps(measure(method, Path(photo), arguments.literal_steps, PRESETS[arguments.strength])))
        return

    sizes = list(map(int, arguments.sizes.split(",")))
    if arguments.only != "commands":
        measure_methods(sizes, arguments.literal_steps, arguments.strength)
    if arguments.only != "methods":
        with tempfile.TemporaryDirectory() as folder:
            measure_commands(portrait_of(min(sizes), Path(folder)), arguments.folder, arguments.strength)


if __name__ == "__main__":
    main()
