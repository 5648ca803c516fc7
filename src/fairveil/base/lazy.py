"""Packages that import a public name when it is first asked for, so that nobody waits for torch who needs none."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from fairveil.base.errors import missing_extra


def lazy_exports(
    package: str, homes: Mapping[str, str], subpackages: str = ""
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """What a package needs to export names lazily (PEP 562).

        __getattr__, __dir__, __all__ = lazy_exports(__name__, {"penalties": "equal_loss worst_group_loss"})

    Tools that read the code without running it need the same names imported under `if TYPE_CHECKING:`; a test compares
    the two.

    Args:
        package: its full name.
        homes: the public names, separated by spaces, by the module that has them: in full, or from the package on.
        subpackages: packages inside it that are public as well, separated by spaces.

    Returns:
        The package's `__getattr__`, `__dir__` and `__all__`.

    Raises:
        AttributeError: from `__getattr__`, for a name that is not public.
        MissingExtraError: from `__getattr__`, where a name needs a package that is not installed.
    """
    full = {home: home if home.startswith("fairveil.") else f"{package}.{home}" for home in homes}
    home_of = {name: full[home] for home, names in homes.items() for name in names.split()}
    public = sorted({*home_of, *subpackages.split()})

    def get(name: str) -> Any:
        if name not in public:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        try:
            if name in home_of:
                return getattr(import_module(home_of[name]), name)
            return import_module(f"{package}.{name}")
        except ModuleNotFoundError as error:
            raise missing_extra(error) from error

    return get, lambda: public, public
