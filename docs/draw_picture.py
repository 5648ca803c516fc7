"""Draw the picture of the first page: a portrait before and after, and who recognizes it.

    python docs/draw_picture.py -o docs/pictures/before-and-after.png

Without `-o` it is drawn into `out/`, and the committed picture stays as it is.

The portrait is the public-domain one of Eileen Collins that scikit-image ships, at 320 pixels, protected by
`fairveil protect --strength medium`. It is compared with the same portrait mirrored, darkened, reduced and compressed,
since there is no second photo of her that could be shown; that is easier for a recognizer than another photo.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from matplotlib import pyplot as plt
from PIL import Image, ImageEnhance, ImageOps
from skimage import data

SHOWN = (20, 0, 260, 250)  # the part of the portrait that is drawn, in its pixels
PICTURE = Path(__file__).parents[1] / "out" / "before-and-after.png"
RECOGNIZED, LOST = "#b34700", "#00629b"  # told apart also by those who see few colors, and by the words beside them


def main() -> None:
    """Protect the portrait, ask who still recognizes it, and draw both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=PICTURE, help="where to, instead of out/")
    output = parser.parse_args().output
    with TemporaryDirectory() as name:
        folder = Path(name)
        portrait = Image.fromarray(data.astronaut())
        small = portrait.resize((320, 320), Image.Resampling.LANCZOS)
        small.save(folder / "portrait.png")
        mirrored = ImageOps.mirror(portrait).resize((256, 256))
        ImageEnhance.Brightness(mirrored).enhance(0.7).save(folder / "other.jpg", quality=80)
        fairveil("protect", folder / "portrait.png", "-o", folder / "protected.png", "--strength", "medium")
        answer = fairveil(
            "check", folder / "portrait.png", folder / "protected.png", "--probe", folder / "other.jpg", "--json"
        )
        draw(small, Image.open(folder / "protected.png"), json.loads(answer), output)


def fairveil(*arguments: str | Path) -> str:
    """What a command prints."""
    code = "from fairveil.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def draw(before: Image.Image, after: Image.Image, receipt: dict, output: Path) -> None:
    """Both portraits side by side at their own pixels, with the answer of every recognizer under each."""
    (face,) = receipt["faces"]
    (answers,) = face["against_probes"].values()
    answers = sorted(answers, key=lambda answer: not answer["attacked"])
    width, height, gap, below = SHOWN[2] - SHOWN[0], SHOWN[3] - SHOWN[1], 120, 60 + 23 * len(answers)
    size = 2 * width + 3 * gap, height + below
    figure = plt.figure(figsize=(size[0] / 100, size[1] / 100), dpi=100)
    sides = (("before", before, "before", "matched_before"), ("after", after, "similarity", "matches"))
    for place, (title, picture, similarity, matches) in enumerate(sides):
        left = gap + place * (width + gap)
        count = sum(answer[matches] for answer in answers)
        figure.figimage(np.asarray(picture.convert("RGB").crop(SHOWN)), xo=left, yo=below)
        heading = f"{title}: {count} of {len(answers)} recognize her"
        figure.text((left + width / 2) / size[0], (below - 26) / size[1], heading, ha="center", size=11, weight="bold")
        for line, answer in enumerate(answers):
            words = "recognised" if answer[matches] else "not recognized"
            role = "" if answer["attacked"] else " (held out)"
            height_of_line = (below - 52 - 23 * line) / size[1]
            color = RECOGNIZED if answer[matches] else LOST
            name = f"{answer['recognizer']}{role}"
            figure.text((left - 50) / size[0], height_of_line, name, size=9)
            figure.text((left + width + 50) / size[0], height_of_line, words, size=9, ha="right", color=color)
            value = f"{answer[similarity]:+.2f}".replace("-", "−")
            figure.text((left + width - 60) / size[0], height_of_line, value, size=9, ha="right", color="#555555")
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, pil_kwargs={"optimize": True})
    print(f"{output}: {output.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
