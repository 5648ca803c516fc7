"""All interventions by what commands call them: what help texts, trainers, cards and studies read."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from fairveil.base.errors import FairveilError, did_you_mean
from fairveil.fair.interventions.base import KINDS, Intervention, Task


def intervention(kind: str, **settings: object) -> "Intervention":
    """An intervention by its kind.

    Args:
        kind: one of `KINDS`.
        settings: of it, such as a weight.

    Raises:
        FairveilError: there is no such intervention, or it has no such setting.

    >>> intervention("equal-loss", weight=0.5, on="holdout").name
    'equal-loss 0.5 on holdout'
    """
    entry = entry_of(kind)
    try:
        return entry.model_validate(settings)
    except ValidationError as error:
        first = error.errors()[0]
        where = first["loc"][-1]
        raise FairveilError(
            f"{kind} does not take {where}={settings.get(str(where))!r} ({first['msg'].lower()}): it takes "
            f"{', '.join(_settings(entry)) or 'nothing'}."
        ) from None


def entry_of(kind: str) -> "type[Intervention]":
    """The entry of a kind.

    Raises:
        FairveilError: there is no such intervention.
    """
    if kind not in KINDS:
        raise FairveilError(
            f"There is no intervention {kind!r}: choose from {', '.join(KINDS)}.{did_you_mean(kind, KINDS)}"
        )
    return KINDS[kind]


def everything(task: "Task", *, better: str, worse: str, weight: float = 1.0) -> "list[Intervention]":
    """Every intervention that a task allows, in the forms in which they are compared: see `Intervention.candidates`.

    Args:
        task: which.
        better: the better-off group, whose labels are flipped.
        worse: the group that is worse off, whose margin is raised and whom all are to look like.
        weight: α of the penalties.
    """
    fitting = [entry for entry in KINDS.values() if task in entry.tasks]
    return [one for entry in fitting for one in entry.candidates(task, better=better, worse=worse, weight=weight)]


def _settings(entry: "type[Intervention]") -> list[str]:
    return [name for name in entry.model_fields if name != "kind"]


@dataclass(frozen=True)
class Option:
    """An option that sets something of interventions.

    Attributes:
        name: such as "weight"; commands write dashes in front.
        settings: by the kinds that take it, the name of the setting.
        type: of its values.
        help: what it is, for which kinds, with ranges and defaults.
    """

    name: str
    settings: Mapping[str, str]
    type: Any
    help: str


def options() -> list[Option]:
    """The options of all interventions; settings of one name share one, and so do those that name a group."""
    found: dict[str, dict[str, str]] = {}
    for kind, entry in KINDS.items():
        for name in _settings(entry):
            option = "whose" if name in entry.group_settings() else name.replace("_", "-")
            found.setdefault(option, {})[kind] = name
    return [Option(option, takes, _type(takes), ". ".join(_told(takes)) + ".") for option, takes in found.items()]


def _type(settings: Mapping[str, str]) -> Any:
    """Of the first kind's setting: those of one name are alike, and each kind checks its own."""
    kind, name = next(iter(settings.items()))
    return KINDS[kind].model_fields[name].annotation


def _told(settings: Mapping[str, str]) -> Iterator[str]:
    """What a setting is, for all kinds of which the same is to be told."""
    same: dict[str, list[str]] = {}
    for kind, name in settings.items():
        field = KINDS[kind].model_fields[name]
        limits = [getattr(one, end) for end in ("ge", "le") for one in field.metadata if hasattr(one, end)]
        told = field.description or name
        if len(limits) == 2:
            told += f", {limits[0]:g} to {limits[1]:,.0f}"
        if not field.is_required():
            told += f"; by default {field.default:{'g' if isinstance(field.default, float) else ''}}"
        same.setdefault(told, []).append(kind)
    yield from (f"{told} ({', '.join(kinds)})" for told, kinds in same.items())
