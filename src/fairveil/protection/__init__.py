"""LowKey: photos that face recognition can no longer match, and the receipt that shows it (chapter 3).

The package is not called `protect`, as that is the name of the function `fairveil.protect`.
"""

from typing import TYPE_CHECKING

from fairveil.base.lazy import lazy_exports

if TYPE_CHECKING:
    from fairveil.protection.lowkey import PRESETS as PRESETS
    from fairveil.protection.lowkey import LowKey as LowKey
    from fairveil.protection.protecting import FaceRecord as FaceRecord
    from fairveil.protection.protecting import ProtectionRecord as ProtectionRecord
    from fairveil.protection.protecting import protect as protect
    from fairveil.protection.verification import Receipt as Receipt
    from fairveil.protection.verification import verify as verify

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "lowkey": "PRESETS LowKey",
        "protecting": "FaceRecord ProtectionRecord protect",
        "verification": "Receipt verify",
    },
)
