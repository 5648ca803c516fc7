"""The interventions as commands take them: help texts and options are read off the registry."""

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fairveil.base.errors import FairveilError
from fairveil.fair.interventions import KINDS, entry_of, everything, intervention, options

if TYPE_CHECKING:
    from fairveil.fair.interventions import Intervention, Task

_PANEL = "Options of interventions"

One = Annotated[str, typer.Option(metavar="NAME", help=f"{', '.join(KINDS)}. Their options are listed below.")]
Several = Annotated[
    str,
    typer.Option(
        metavar="NAMES",
        help=f"all, or some with commas between them: {', '.join(kind for kind in KINDS if kind != 'baseline')}.",
    ),
]


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of all interventions; those that were used it is told by their flags, as `chosen`."""
    added = {option.flag.removeprefix("--").replace("-", "_"): option for option in options()}

    @wraps(command)
    def with_all(**given: Any) -> None:
        used = {option.flag: given.pop(name) for name, option in added.items()}
        command(**given, chosen={flag: value for flag, value in used.items() if value is not None})

    signature = inspect.signature(command)
    parameters = [one for one in signature.parameters.values() if one.name != "chosen"]
    for name, option in added.items():
        metavar = "GROUP" if option.flag == "--whose" else None
        described = typer.Option(option.flag, help=option.help, metavar=metavar, rich_help_panel=_PANEL)
        kind: Any = Annotated[option.type | None, described]
        parameters.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind))
    with_all.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in parameters]
    )
    return with_all


def chosen_one(kind: str, chosen: Mapping[str, Any], column: str) -> "Intervention":
    """The intervention that options ask for, each of which it has to take.

    Raises:
        FairveilError: it does not take an option, or is not told which group of the column is meant.
    """
    entry_of(kind)  # says which there are
    takes = {option.flag: option.settings[kind] for option in options() if kind in option.settings}
    for flag in chosen:
        if flag not in takes:
            raise FairveilError(
                f"{kind} does not take {flag}, but {' and '.join(takes) or 'no options of its own'}: leave it out."
            )
    if "--whose" in takes and "--whose" not in chosen:
        raise FairveilError(f"{kind} needs to be told whose: name a group of {column} with --whose.")
    return intervention(kind, **{takes[flag]: value for flag, value in chosen.items()})


def chosen_ones(task: "Task", names: str, *, better: str, worse: str, weight: float) -> "list[Intervention]":
    """The interventions of some kinds, in all forms in which they are compared; "all" for every kind of a task.

    Raises:
        FairveilError: there is no such intervention, or it is for another task.
    """
    every = everything(task, better=better, worse=worse, weight=weight)
    if names == "all":
        return every
    chosen: list[Intervention] = []
    for name in filter(None, map(str.strip, names.split(","))):
        entry_of(name)  # says which there are
        fitting = [one for one in every if one.kind == name]
        if not fitting:
            raise FairveilError(f"{name} is not for {task}: leave it out, or choose another task.")
        chosen += fitting
    if all(one.kind == "baseline" for one in chosen):
        raise typer.BadParameter(
            "Name at least one intervention; the baseline is there anyway.", param_hint="--interventions"
        )
    return chosen
