"""The options that several commands have, each declared once, so that it means the same everywhere."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from fairveil.base.errors import FairveilError
from fairveil.cli.terminal import named_path


class Face(StrEnum):
    """Which faces of a photo are used."""

    central = "central"
    largest = "largest"
    all = "all"
    aligned = "aligned"


class TrainedFace(StrEnum):
    """Which face of a photo is the labeled one."""

    central = "central"
    largest = "largest"
    aligned = "aligned"


class PresetName(StrEnum):
    """How large a study is."""

    smoke = "smoke"
    small = "small"
    paper = "paper"


class TrainingPreset(StrEnum):
    """How long networks are trained, and with which settings."""

    small = "small"
    paper = "paper"


def recognizer_option(*, default: str) -> Any:
    """The option --recognizer; `default` says which recognizers are used where it is not given."""
    return typer.Option(
        metavar="NAME|FILE",
        help="Recognizer to use: a name of the zoo, an ONNX file, or a model of `fairveil train`; repeatable. "
        f"By default {default}.",
        show_default=False,
    )


def folder_option(what: str) -> Any:
    """The option --out of commands that keep what they made in a folder; `what` explains it."""
    return typer.Option("--out", "-o", metavar="FOLDER", parser=named_path, help=what)


Data = Annotated[
    str,
    typer.Argument(
        metavar="FOLDER|CSV|PACK",
        help="Photos: a folder, a table with a column image, or a tar file of photos.",
        show_default=False,
    ),
]
PersonFolder = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Which folder names the person, where folders lie in folders: 1 for the first, -1 for the one that holds "
        "the photo.",
    ),
]
FACE_HELP = (
    "Face to use in each photo: central (the one nearest the center), largest, {all}or aligned, where the photos are "
    "aligned crops already."
)
FaceChoice = Annotated[Face, typer.Option(help=FACE_HELP.format(all="all, "))]
TrainedFaceChoice = Annotated[TrainedFace, typer.Option(help=FACE_HELP.format(all=""))]
MinimumFace = Annotated[float, typer.Option(min=12, help="Side of the smallest face to look for, in pixels.")]
Groups = Annotated[
    list[str] | None,
    typer.Option(
        "--group",
        metavar="COLUMN",
        help="Column of groups to compare; repeatable. Several, also with commas between them, are crossed with each "
        "other.",
    ),
]
Bins = Annotated[
    list[str] | None,
    typer.Option(
        metavar="COLUMN=NUMBERS",
        help="Where the bins of a number such as age begin: age=18,30,60; repeatable.",
    ),
]
Preset = Annotated[
    PresetName,
    typer.Option(
        help="Size of the run: smoke takes seconds, small is made for two cores, paper is the published setting."
    ),
]
TrainingLength = Annotated[
    TrainingPreset,
    typer.Option("--preset", help="Settings: small takes minutes a model on two cores, paper is as published."),
]
Epochs = Annotated[int | None, typer.Option(min=1, help="Number of epochs, by default the preset's.")]
ModelFile = Annotated[
    Path,
    typer.Option(
        "--out",
        "-o",
        metavar="FILE",
        parser=named_path,
        help="New file for the weights (.safetensors).",
        show_default=False,
    ),
]
_REPORT: Any = typer.Option(
    metavar="FILE",
    parser=named_path,
    help="Write the report to this HTML file, and the same results as JSON beside it.",
)
Report = Annotated[Path | None, _REPORT]
ReportFile = Annotated[Path, _REPORT]
"""The same, for commands that always write one."""

Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files that already exist.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the results as JSON.")]
Seed = Annotated[int, typer.Option(min=0, max=2**31, help="Random seed: the same seed gives the same result.")]
Device = Annotated[str, typer.Option(help="Device that networks run on, as torch names it: cpu, cuda, cuda:1.")]


def check_device(device: str) -> None:
    """Find out before the work whether networks run on a device.

    Raises:
        FairveilError: they do not.
    """
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # the latter where torch was built without CUDA
        raise FairveilError(f"Networks cannot run on {device!r} here: {str(error).splitlines()[0]}") from error
