"""Protect a real portrait and ask seven real recognizers whether they still know the face: what `make demo` runs.

The photo is the public-domain portrait of the astronaut Eileen Collins that scikit-image ships. No second photo of her
can be had without a network, so the "other photo" is the same one, mirrored, darkened, halved and compressed.
"""

import subprocess
import sys
from pathlib import Path

from PIL import Image, ImageEnhance, ImageOps
from skimage import data

OUT = Path("out/demo")


def run(*arguments: str | Path) -> None:
    """Run a fairveil command as a person would, and show it."""
    print("\n$ fairveil", *arguments, flush=True)
    subprocess.run([Path(sys.executable).with_name("fairveil"), *arguments], check=True)


def main() -> None:
    """Make the two photos, protect one, and check it against the other."""
    OUT.mkdir(parents=True, exist_ok=True)
    portrait = Image.fromarray(data.astronaut())
    portrait.save(OUT / "portrait.jpg", quality=97)
    mirrored = ImageOps.mirror(portrait).resize((256, 256))
    ImageEnhance.Brightness(mirrored).enhance(0.7).save(OUT / "other-photo.jpg", quality=80)

    run("protect", OUT / "portrait.jpg", "-o", OUT / "protected", "--overwrite")
    run(
        *("check", OUT / "portrait.jpg", OUT / "protected" / "portrait.jpg", "--probe", OUT / "other-photo.jpg"),
        *("--report", OUT / "report.html", "--overwrite"),
    )
    print(f"\nBefore, after and who still recognizes the face: open {OUT / 'report.html'} in a browser.")


if __name__ == "__main__":
    main()
