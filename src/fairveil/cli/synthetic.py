"""The command `fairveil faces generate`."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from fairveil.cli.options import AsJson, Overwrite, Seed
from fairveil.cli.terminal import named_path, print_sentence, progress_bar


class FramingName(StrEnum):
    """What a picture shows beside the face."""

    photo = "photo"
    crop = "crop"


class ImageFormat(StrEnum):
    """Format of the pictures."""

    png = "png"
    jpg = "jpg"


def generate(
    out: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", parser=named_path, help="New folder for the photos.", show_default=False),
    ],
    identities: Annotated[int, typer.Option(min=1, max=100_000, help="Number of people.")] = 100,
    per_identity: Annotated[int, typer.Option(min=1, max=1_000, help="Number of photos of each person.")] = 10,
    size: Annotated[int, typer.Option(min=64, max=512, help="Side of the photos in pixels.")] = 250,
    framing: Annotated[
        FramingName, typer.Option(help="Framing: photo is a portrait, crop is the upright face alone.")
    ] = FramingName.photo,
    warm_share: Annotated[
        float, typer.Option(min=0, max=1, help="Share of people of warm tone; the others are cool.")
    ] = 0.5,
    long_share: Annotated[
        float, typer.Option(min=0, max=1, help="Share of people of long shape; the others are round.")
    ] = 0.5,
    likeness: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GROUP=NUMBER",
            help="How much alike people of a group look, such as cool=1.5: more above 1, less below; repeatable.",
        ),
    ] = None,
    disturbance: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GROUP=NUMBER",
            help="How much photos of a group differ in pose, light and noise: more above 1, less below; repeatable.",
        ),
    ] = None,
    format: Annotated[ImageFormat, typer.Option(help="Format of the photos.")] = ImageFormat.png,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Generate faces of people who do not exist, labeled by identity and two groups.

    Groups are warm or cool in tone, and long or round in shape. The same command again generates what is missing, and
    several at once share the work.

    Example: fairveil faces generate people/ --identities 200 --likeness cool=1.5
    """
    from fairveil.data.synthetic import SyntheticFaces, write_faces

    faces = SyntheticFaces(
        identities=identities,
        per_identity=per_identity,
        size=size,
        framing=framing.value,
        warm_share=warm_share,
        long_share=long_share,
        difficulty=_difficulty({"likeness": likeness or [], "disturbance": disturbance or []}),
        format=format.value,
        seed=seed,
    )
    with progress_bar() as progress:
        task = progress.add_task("people", total=identities)
        table = write_faces(
            faces, out, overwrite=overwrite, on_identity=lambda count: progress.update(task, completed=count)
        )
    counts = table.frame.unique("identity").group_by("tone", "shape").len("people").sort("tone", "shape")
    if as_json:
        made = {"table": str(out / "faces.csv"), "photos": len(table), "people": counts.to_dicts()}
        typer.echo(json.dumps({**made, "settings": faces.model_dump(mode="json")}, indent=2))
        return
    groups = ", ".join(f"{people} {tone} and {shape}" for tone, shape, people in counts.iter_rows())
    print_sentence(f"{len(table)} photos of {identities} people ({groups}): {out / 'faces.csv'}")


def _difficulty(options: dict[str, list[str]]) -> dict[str, dict[str, float]]:
    """From `cool=1.5` and the like to the difficulty of each group."""
    from pydantic import ValidationError

    from fairveil.data.synthetic import GROUPS, Difficulty

    known = [value for values in GROUPS.values() for value in values]
    of_group: dict[str, dict[str, float]] = {}
    for name, texts in options.items():
        for text in texts:
            group, _, number = text.partition("=")
            if group not in known:
                raise typer.BadParameter(f"{text!r} names no group: write {name} of {', '.join(known)} as cool=1.5.")
            try:
                Difficulty.model_validate({name: number})
            except ValidationError as error:
                raise typer.BadParameter(f"{text!r} is no {name}: {error.errors()[0]['msg'].lower()}.") from None
            of_group.setdefault(group, {})[name] = float(number)
    return of_group
