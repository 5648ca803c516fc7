"""Names for files by what they hold or depend on."""

import hashlib
import json
from typing import Any


def content_key(*parts: Any, digits: int = 20) -> str:
    """A name for content: equal content gives equal names, on every machine and in every process.

    Args:
        parts: hashed one after the other: bytes as they are, text as UTF-8, tensors by their values (not by shape or
            type), all others as JSON with sorted keys. Put what might run together into one list.
        digits: how many hexadecimal digits of the SHA-256 are kept, at most 64.

    >>> content_key({"study": "naps", "seed": 0}) == content_key({"seed": 0, "study": "naps"})
    True
    >>> content_key("abc", digits=8)
    'ba7816bf'
    """
    digest = hashlib.sha256()
    for part in parts:
        digest.update(_as_bytes(part))
    return digest.hexdigest()[:digits]


def _as_bytes(part: Any) -> bytes:
    if isinstance(part, bytes):
        return part
    if isinstance(part, str):
        return part.encode(errors="surrogateescape")  # names of files may hold bytes that are no text
    if hasattr(part, "detach"):  # a tensor, for which torch need not be imported here
        values: bytes = part.detach().cpu().contiguous().numpy().tobytes()
        return values
    return json.dumps(part, sort_keys=True).encode()
