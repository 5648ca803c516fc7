"""The option --recognizer, which many commands have, and those that say how its ONNX files are fed."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from fairveil.base.errors import FairveilError
from fairveil.cli.terminal import as_options, say

if TYPE_CHECKING:  # torch takes seconds to import: --help should not wait for it
    from fairveil.faces.recognizers import Recognizer, StatedFraming

_PANEL = "ONNX files: once for all or once for each; by default read from the file"


@dataclass(frozen=True)
class OnnxOptions:
    """How ONNX files are fed: lists of one value for all files, or of one for each in their order."""

    mean: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NUMBERS",
            rich_help_panel=_PANEL,
            help="Mean that is subtracted from the pixels, on the scale 0 to 255: 127.5, or three as "
            "123.7,116.3,103.5.",
        ),
    ] = None
    scale: Annotated[
        list[float] | None,
        typer.Option(
            rich_help_panel=_PANEL, help="Number that the difference is divided by, such as 128; 255 for 0 to 1."
        ),
    ] = None
    channels: Annotated[
        list[str] | None, typer.Option(metavar="RGB|BGR", rich_help_panel=_PANEL, help="Order of the colors.")
    ] = None
    size: Annotated[
        list[int] | None, typer.Option(rich_help_panel=_PANEL, help="Side of the crops in pixels, such as 112 or 160.")
    ] = None
    output: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", rich_help_panel=_PANEL, help="Output of the graph that is the embedding of a face."
        ),
    ] = None

    def refuse_without(self, files: Sequence[str], why: str = "none is named by --recognizer") -> None:
        """Complain of options that say nothing of anything, or not of each file."""
        for entry in fields(self):
            given = getattr(self, entry.name)
            if given and not files:
                raise typer.BadParameter(f"This says how an ONNX file is fed, and {why}.", param_hint=f"--{entry.name}")
            if given and len(given) not in (1, len(files)):
                raise typer.BadParameter(
                    f"This is given {len(given)} times for {len(files)} ONNX files: give it once for all of them, or "
                    "once for each in their order.",
                    param_hint=f"--{entry.name}",
                )

    def of(self, index: int) -> tuple["StatedFraming", str | None]:
        """What is said of the framing and the output of one of the files."""
        from fairveil.faces.recognizers import StatedFraming

        def said(name: str) -> Any:
            given = getattr(self, name)
            return None if not given else given[0] if len(given) == 1 else given[index]

        mean, channels = said("mean"), said("channels")
        try:
            stated = StatedFraming(
                size=said("size"),
                mean=None if mean is None else _mean(mean),
                scale=said("scale"),
                channels=None if channels is None else cast(Any, channels.upper()),
            )
        except FairveilError as error:
            raise typer.BadParameter(as_options(str(error)), param_hint="--mean, --scale, --channels, --size") from None
        return stated, said("output")


def _mean(text: str) -> tuple[float, float, float]:
    """One number for every channel, or three.

    >>> _mean("127.5"), _mean("123.7,116.3,103.5")
    ((127.5, 127.5, 127.5), (123.7, 116.3, 103.5))
    """
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 3):
        raise typer.BadParameter(
            f"{text!r} is neither a number nor three with commas between them.", param_hint="--mean"
        )
    first, second, third = numbers * 3 if len(numbers) == 1 else numbers
    return first, second, third


def load_recognizers(
    names: list[str] | None, *, everything: bool, onnx: OnnxOptions | None = None
) -> list["Recognizer"]:
    """Recognizers by name or file; by default those of the zoo that protect attacks, or all of it."""
    from fairveil.faces.recognizers import check_names
    from fairveil.faces.zoo import DEFAULT_ENSEMBLE, ZOO

    onnx = onnx or OnnxOptions()
    wanted = list(dict.fromkeys(names or (ZOO if everything else DEFAULT_ENSEMBLE)))
    files = [name for name in wanted if _is_onnx(name)]
    onnx.refuse_without(files)
    loaded = [_load_onnx(name, onnx, files.index(name)) if _is_onnx(name) else _load_one(name) for name in wanted]
    check_names(loaded)
    return loaded


def _is_onnx(name: str) -> bool:
    return Path(name).suffix.lower() == ".onnx"


def _load_onnx(name: str, onnx: OnnxOptions, index: int) -> "Recognizer":
    """A recognizer of an ONNX file, with a sentence on how it is fed."""
    from fairveil.faces.framing import described
    from fairveil.faces.graphs import GraphModule
    from fairveil.faces.recognizers import Recognizer

    _refuse_name_of_zoo(name)
    stated, output = onnx.of(index)
    recognizer = Recognizer.from_onnx(Path(name), framing=stated, output=output)
    if isinstance(recognizer.network, GraphModule):
        say(described(recognizer.network, recognizer.framing))
    return recognizer


def _refuse_name_of_zoo(name: str) -> None:
    from fairveil.faces.zoo import ZOO

    if (stem := Path(name).stem) in ZOO:
        raise typer.BadParameter(
            f"{name} would be called {stem}, like a recognizer of the zoo: rename the file.",
            param_hint="--recognizer",
        )


def _load_one(name: str) -> "Recognizer":
    from fairveil.faces import zoo
    from fairveil.faces.probing import ALIKE, least_likeness
    from fairveil.faces.trained import load_trained

    if Path(name).suffix == ".safetensors":
        _refuse_name_of_zoo(name)
        recognizer = load_trained(Path(name))
        if (least := least_likeness(recognizer)) > ALIKE:  # how it is fed is known: it was trained too little
            say(
                f"Warning: to {recognizer.name}, faces of four people who look nothing alike are nearly the same "
                f"(cosine {least:.3f} and more), so what it says means little: train it longer or on more people."
            )
        return recognizer
    try:
        return zoo.load_recognizer(name)
    except FairveilError as error:
        if name in zoo.ZOO:  # its weights cannot be had
            raise
        raise typer.BadParameter(as_options(str(error)), param_hint="--recognizer") from None
