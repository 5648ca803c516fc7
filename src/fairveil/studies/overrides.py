"""Settings changed from the command line or from a TOML file: typed, checked, and refused with the nearest name."""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from fairveil.errors import FairveilError, did_you_mean

Settings = TypeVar("Settings", bound=BaseModel)


def override(settings: Settings, assignments: Sequence[str]) -> Settings:
    """Settings with some keys set to other values.

    Args:
        settings: what to start from.
        assignments: each `key=value`; keys of nested settings are joined by dots, values are written as in TOML, and
            text needs no quotes, lists of words no brackets, `none` stands for no value.

    Raises:
        FairveilError: an unknown key (the nearest is named), a value of the wrong type, or no assignment at all.

    >>> from fairveil.protection.lowkey import LowKey
    >>> override(LowKey(), ["steps=10", "smoothing=none"]).steps
    10
    """
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals:
            raise FairveilError(f"{assignment!r} sets nothing: write it as key=value.")
        settings = _validated(settings, key.strip(), list(_readings(text.strip())), text.strip())
    return settings


def override_from_file(settings: Settings, path: Path) -> Settings:
    """Settings with the keys set that a TOML file names; tables of the file are nested settings.

    Raises:
        FairveilError: the file cannot be read, or sets what `override` would refuse.
    """
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise FairveilError(f"The settings in {path} cannot be read: {error}.") from error
    for key, value in _leaves(given):
        settings = _validated(settings, key, [value], repr(value))
    return settings


def keys_of(settings: BaseModel) -> dict[str, Any]:
    """Every key that can be set and its value; keys of nested settings are joined by dots."""
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
    known = keys_of(settings)
    if key not in known:
        raise FairveilError(f"There is no setting {key!r}.{did_you_mean(key, known)} There are {', '.join(known)}.")
    complaint = ""
    for reading in readings:
        changed = settings.model_dump()
        *folders, last = key.split(".")
        place = changed
        for folder in folders:
            place = place[folder]
        place[last] = reading
        try:
            return type(settings).model_validate(changed)
        except ValidationError as error:
            first = error.errors()[0]
            complaint = complaint or first["msg"].removeprefix("Value error, ")
    raise FairveilError(f"{key} cannot be {shown}: {complaint[:1].lower()}{complaint[1:]}.")


def _readings(text: str) -> Iterator[Any]:
    """What a value on the command line may mean, likeliest first."""
    try:
        yield tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        if text.lower() == "none":
            yield None
    yield text
    yield [part.strip() for part in text.split(",") if part.strip()]


def _leaves(given: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in given.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value
