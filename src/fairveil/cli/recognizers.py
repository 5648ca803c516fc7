"""The option --recognizer, which many commands have."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from fairveil.errors import FairveilError

if TYPE_CHECKING:  # torch takes seconds to import: --help should not wait for it
    from fairveil.faces.recognizers import Recognizer


def load_recognizers(names: list[str] | None, *, everything: bool) -> list["Recognizer"]:
    """Recognisers by name or file; by default those of the zoo that protect attacks, or all of it."""
    from fairveil.faces.recognizers import check_names
    from fairveil.faces.zoo import DEFAULT_ENSEMBLE, ZOO

    loaded = [_load_one(name) for name in dict.fromkeys(names or (ZOO if everything else DEFAULT_ENSEMBLE))]
    check_names(loaded)
    return loaded


def _load_one(name: str) -> "Recognizer":
    from fairveil.faces import zoo
    from fairveil.faces.recognizers import Recognizer
    from fairveil.faces.trained import load_trained

    from_file = {".onnx": Recognizer.from_onnx, ".safetensors": load_trained}.get(Path(name).suffix)
    if from_file is not None:
        if (stem := Path(name).stem) in zoo.ZOO:
            raise typer.BadParameter(
                f"{name} would be called {stem}, like a recogniser of the zoo: rename the file.",
                param_hint="--recognizer",
            )
        return from_file(Path(name))
    try:
        return zoo.load_recognizer(name)
    except FairveilError as error:
        if name in zoo.ZOO:  # its weights cannot be had
            raise
        raise typer.BadParameter(str(error), param_hint="--recognizer") from None
