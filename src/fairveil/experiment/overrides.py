"""Settings changed from the command line or from a TOML file: typed, checked, and refused with the nearest name."""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from fairveil.base.errors import FairveilError, clipped, did_you_mean, listed
from fairveil.base.files import read_ordinary_file

Settings = TypeVar("Settings", bound=BaseModel)

_LARGEST = 100_000
"""Bytes of a file of settings. The reader of TOML takes time with the square of how deep keys are nested."""

_NO_TOML = (ValueError, RecursionError)
"""What the reader of TOML raises, for numbers of thousands of digits and for values nested too deep."""


def override(settings: Settings, assignments: Sequence[str]) -> Settings:
    """Settings with some keys set to other values.

    Args:
        settings: what to start from.
        assignments: each `key=value`; keys of nested settings and entries of dictionaries are joined by dots, values
            are written as in TOML, and text needs no quotes, lists of words no brackets. `none` stands for no value,
            and takes an entry out of a dictionary.

    Raises:
        FairveilError: an unknown key (the nearest is named), a value of the wrong type, or no assignment at all.

    >>> from fairveil.protection.lowkey import LowKey
    >>> override(LowKey(), ["steps=10", "smoothing=none"]).steps
    10
    """
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals:
            raise FairveilError(f"{clipped(assignment)!r} sets nothing: write it as key=value.")
        settings = _validated(settings, key.strip(), list(_readings(text.strip())), text.strip())
    return settings


def override_from_file(settings: Settings, path: Path) -> Settings:
    """Settings with the keys set that a TOML file names; tables of the file are nested settings or dictionaries.

    Raises:
        FairveilError: the file cannot be read, or sets what `override` would refuse.
    """
    try:
        given = tomllib.loads(read_ordinary_file(path, _LARGEST).decode())
        leaves = [(key, value, repr(value)) for key, value in _leaves(settings, given)]
    except (OSError, *_NO_TOML) as error:
        raise FairveilError(f"The settings in {path} cannot be read: {clipped(str(error), 300)}.") from error
    for key, value, shown in leaves:
        settings = _validated(settings, key, [value], shown)
    return settings


def keys_of(settings: BaseModel) -> dict[str, Any]:
    """Every key that can be set and its value; keys of nested settings are joined by dots.

    Entries of a dictionary can be set too, by its key, a dot and theirs: they are not among these.
    """
    keys: dict[str, Any] = {}
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, BaseModel):
            keys |= {f"{name}.{inner}": deep for inner, deep in keys_of(value).items()}
        else:
            keys[name] = value
    return keys


def _validated(settings: Settings, key: str, readings: Sequence[Any], shown: str) -> Settings:
    """The settings with a key set to the first reading that its type takes."""
    *places, last = _path(settings, key)
    complaints: list[tuple[int, str]] = []
    for reading in readings:
        changed = settings.model_dump()
        place = changed
        for name in places:
            place = place[name]
        if reading is None and isinstance(_found(settings, places), Mapping):
            if last not in place:
                raise FairveilError(f"There is no {key} to take out.{did_you_mean(last, place)}")
            del place[last]
        else:
            place[last] = reading
        try:
            return type(settings).model_validate(changed)
        except ValidationError as error:
            first = error.errors()[0]
            complaints.append((len(first["loc"]), first["msg"].removeprefix("Value error, ")))
    _, complaint = max(complaints, key=itemgetter(0))  # of the reading whose form came nearest
    complaint = clipped(f"{complaint[:1].lower()}{complaint[1:]}", 300)
    raise FairveilError(f"{key} cannot be {clipped(shown)}: {complaint}.")


def _path(settings: BaseModel, key: str, above: str = "") -> tuple[str, ...]:
    """The names that lead to what a key sets: fields, and entries of dictionaries, which may hold dots themselves."""
    known = keys_of(settings)
    if key in known:
        return tuple(key.split("."))
    for name, entries in known.items():
        if isinstance(entries, Mapping) and key.startswith(f"{name}."):
            rest = key.removeprefix(f"{name}.")
            within = [
                entry for entry in entries if rest.startswith(f"{entry}.") and isinstance(entries[entry], BaseModel)
            ]
            if rest in entries or not within:
                return (*name.split("."), rest)
            entry = max(within, key=len)
            deeper = _path(entries[entry], rest.removeprefix(f"{entry}."), f"{above}{name}.{entry}.")
            return (*name.split("."), entry, *deeper)
    names = [f"{above}{name}" for name in known]
    raise FairveilError(
        f"There is no setting {clipped(above + key)!r}.{did_you_mean(above + key, names)} There are {listed(names)}."
    )


def _found(settings: BaseModel, path: Sequence[str]) -> Any:
    """What is at a path of fields and entries."""
    place: Any = settings
    for name in path:
        place = place[name] if isinstance(place, Mapping) else getattr(place, name)
    return place


def _readings(text: str) -> Iterator[Any]:
    """What a value on the command line may mean, likeliest first."""
    try:
        read = tomllib.loads(f"value = {text}")
        if len(read) == 1:  # a line of its own behind the value would be another setting
            yield read["value"]
        yield text
    except _NO_TOML:
        if text.lower() == "none":
            yield None
        yield text
        yield [part.strip() for part in text.split(",") if part.strip()]


def _leaves(
    place: BaseModel | Mapping[str, Any], given: Mapping[str, Any], above: str = ""
) -> Iterator[tuple[str, Any]]:
    """Keys and values of a TOML file: its tables are taken apart where the settings have settings or entries."""
    for name, value in given.items():
        here = place.get(name) if isinstance(place, Mapping) else getattr(place, name, None)
        if isinstance(value, Mapping) and isinstance(here, BaseModel | Mapping):
            yield from _leaves(here, value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value
