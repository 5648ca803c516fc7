"""What users bring along themselves, named by where Python can import it from."""

from importlib import import_module
from typing import Any

from fairveil.base.errors import FairveilError


def imported(name: str, what: str) -> Any:
    """The object that `package.module:NAME` names.

    Args:
        name: where it is.
        what: what a complaint calls it.

    Raises:
        FairveilError: it cannot be imported.
    """
    module, _, attribute = name.partition(":")
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise FairveilError(
            f"The {what} {name!r} cannot be imported: {error}. If its module is in this folder, put PYTHONPATH=. in "
            "front of the command."
        ) from error
