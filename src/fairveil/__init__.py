"""fairveil: photos that face recognition can no longer match, and honest tests of what it does to whom.

>>> import fairveil
>>> protected, record = fairveil.protect(photo, "medium")  # doctest: +SKIP
>>> receipt = fairveil.verify(photo, protected)  # doctest: +SKIP

The four chapters are `fairveil.protection`, `fairveil.sanitize`, `fairveil.audit` and `fairveil.fair`; `fairveil.faces`
finds, aligns and embeds faces. Everything is imported when it is first asked for.
"""

from typing import TYPE_CHECKING

from fairveil.base.errors import AlreadyExistsError as AlreadyExistsError
from fairveil.base.errors import FairveilError as FairveilError
from fairveil.base.errors import MissingExtraError as MissingExtraError
from fairveil.base.errors import NoFaceError as NoFaceError
from fairveil.base.errors import UnreadableFileError as UnreadableFileError
from fairveil.base.lazy import lazy_exports
from fairveil.version import __version__ as __version__

if TYPE_CHECKING:
    from fairveil import audit as audit
    from fairveil import faces as faces
    from fairveil import fair as fair
    from fairveil import protection as protection
    from fairveil import sanitize as sanitize
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

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "base.errors": "AlreadyExistsError FairveilError MissingExtraError NoFaceError UnreadableFileError",
        "faces.detection": "Detector Faces",
        "faces.recognizers": "Framing MatchThreshold Recognizer",
        "faces.zoo": "DEFAULT_ENSEMBLE ZOO load_recognizer",
        "protection.lowkey": "LowKey PRESETS",
        "protection.protecting": "ProtectionRecord protect",
        "protection.verification": "Receipt verify",
        "version": "__version__",
    },
    "audit faces fair protection sanitize",
)
