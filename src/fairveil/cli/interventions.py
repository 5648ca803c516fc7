"""The interventions as commands take them: help texts and options are read off the registry."""

from collections.abc import Mapping
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from fairveil.base.errors import FairveilError

if TYPE_CHECKING:  # the registry is read when a command needs it, not when any is started
    from fairveil.fair.interventions import Intervention, Task

_PANEL = "Options of interventions"
_KINDS = "{kinds}"

CHOSEN = "options of interventions"
"""Where a command `TakesInterventionOptions` options finds them in its context's `meta`: values by flags."""

One = Annotated[
    str, typer.Option(metavar="NAME", help=f"Intervention: {_KINDS}. An option that it does not take is refused.")
]
Several = Annotated[
    str, typer.Option(metavar="NAMES", help=f"Interventions: all, or some with commas between them: {_KINDS}.")
]


class ListsInterventions(TyperCommand):
    """A command whose help lists the interventions."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Those of the command, with the kinds of interventions in their help."""
        from fairveil.fair.interventions import KINDS

        params = super().get_params(ctx)
        for param in params:
            if _KINDS in (getattr(param, "help", None) or ""):
                param.help = param.help.replace(_KINDS, ", ".join(KINDS))  # type: ignore[attr-defined]
        return params


class TakesInterventionOptions(ListsInterventions):
    """A command that also takes the options of all interventions: those that were used are in the context's `meta`."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Those of the command and of all interventions; --help stays the last."""
        *own, last = super().get_params(ctx)
        return [*own, *_params(), last]

    def invoke(self, ctx: Any) -> Any:
        """Run the command, whose function has no parameters for these options."""
        given = {param.opts[0]: ctx.params.pop(param.name) for param in _params()}
        ctx.meta[CHOSEN] = {flag: value for flag, value in given.items() if value is not None}
        return super().invoke(ctx)


def _params() -> list[Any]:
    """The options of all interventions, as typer makes them of a function that has them as parameters."""
    from fairveil.fair.interventions import options

    def taking(**_: Any) -> None: ...

    parameters = []
    for option in options():
        metavar = "GROUP" if option.name == "whose" else None
        described = typer.Option(f"--{option.name}", help=option.help, metavar=metavar, rich_help_panel=_PANEL)
        kind: Any = Annotated[option.type | None, described]
        name = option.name.replace("-", "_")
        parameters.append(Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=kind))
    taking.__signature__ = signature(taking).replace(parameters=parameters)  # type: ignore[attr-defined]
    alone = typer.Typer(add_completion=False)
    alone.command()(taking)
    return typer.main.get_command(alone).params


def chosen_one(kind: str, chosen: Mapping[str, Any], column: str) -> "Intervention":
    """The intervention that options ask for, each of which it has to take.

    Raises:
        FairveilError: it does not take an option, or is not told which group of the column is meant.
    """
    from fairveil.fair.interventions import entry_of, intervention, options

    entry_of(kind)  # says which there are
    takes = {f"--{option.name}": option.settings[kind] for option in options() if kind in option.settings}
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
    from fairveil.fair.interventions import entry_of, everything

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
