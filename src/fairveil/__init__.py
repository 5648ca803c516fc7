"""fairveil: photos that face recognition can no longer match, and honest tests of what it does to whom.

>>> import fairveil
>>> protected, record = fairveil.protect(photo, "medium")  # doctest: +SKIP
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fairveil.errors import FairveilError
from fairveil.version import __version__

if TYPE_CHECKING:
    from fairveil.faces.detection import Detector, Faces
    from fairveil.faces.recognizers import Framing, MatchThreshold, Recognizer
    from fairveil.faces.zoo import DEFAULT_ENSEMBLE, ZOO, load_recognizer
    from fairveil.protection.lowkey import PRESETS, LowKey
    from fairveil.protection.protecting import ProtectionRecord, protect
    from fairveil.protection.verification import Receipt, verify

_HOMES = {
    "fairveil.faces.detection": ("Detector", "Faces"),
    "fairveil.faces.recognizers": ("Framing", "MatchThreshold", "Recognizer"),
    "fairveil.faces.zoo": ("DEFAULT_ENSEMBLE", "ZOO", "load_recognizer"),
    "fairveil.protection.lowkey": ("PRESETS", "LowKey"),
    "fairveil.protection.protecting": ("ProtectionRecord", "protect"),
    "fairveil.protection.verification": ("Receipt", "verify"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "DEFAULT_ENSEMBLE",
    "PRESETS",
    "ZOO",
    "Detector",
    "Faces",
    "FairveilError",
    "Framing",
    "LowKey",
    "MatchThreshold",
    "ProtectionRecord",
    "Receipt",
    "Recognizer",
    "__version__",
    "load_recognizer",
    "protect",
    "verify",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for: importing torch takes seconds, `--help` should not."""
    if name not in _HOME_OF:
        raise AttributeError(f"module 'fairveil' has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)
