"""fairveil: photos that face recognition can no longer match, and honest tests of what it does to whom.

>>> import fairveil
>>> protected, record = fairveil.protect(photo, "medium")  # doctest: +SKIP
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fairveil.base.errors import FairveilError
from fairveil.version import __version__

if TYPE_CHECKING:  # the same as `_HOMES`, for tools that read the code without running it
    from fairveil.faces.detection import Detector as Detector
    from fairveil.faces.detection import Faces as Faces
    from fairveil.faces.recognizers import Framing as Framing
    from fairveil.faces.recognizers import MatchThreshold as MatchThreshold
    from fairveil.faces.recognizers import Recognizer as Recognizer
    from fairveil.faces.zoo import DEFAULT_ENSEMBLE as DEFAULT_ENSEMBLE
    from fairveil.faces.zoo import ZOO as ZOO
    from fairveil.faces.zoo import load_recognizer as load_recognizer
    from fairveil.protection.lowkey import PRESETS as PRESETS
    from fairveil.protection.lowkey import LowKey as LowKey
    from fairveil.protection.protecting import ProtectionRecord as ProtectionRecord
    from fairveil.protection.protecting import protect as protect
    from fairveil.protection.verification import Receipt as Receipt
    from fairveil.protection.verification import verify as verify

_HOMES = {
    "fairveil.faces.detection": ("Detector", "Faces"),
    "fairveil.faces.recognizers": ("Framing", "MatchThreshold", "Recognizer"),
    "fairveil.faces.zoo": ("DEFAULT_ENSEMBLE", "ZOO", "load_recognizer"),
    "fairveil.protection.lowkey": ("PRESETS", "LowKey"),
    "fairveil.protection.protecting": ("ProtectionRecord", "protect"),
    "fairveil.protection.verification": ("Receipt", "verify"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = ["FairveilError", "__version__", *_HOME_OF]  # noqa: PLE0604 - all are names


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for: importing torch takes seconds, `--help` should not."""
    if name not in _HOME_OF:
        raise AttributeError(f"module 'fairveil' has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)
