"""Reading a foreign pickle of NumPy arrays without letting it do anything else.

A pickle is a program. This runs the few instructions that nested dictionaries of plain arrays need, with
stand-ins for NumPy's constructors, and refuses every other global by name.
"""

import io
import pickle
import pickletools
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairveil.base.errors import FairveilError, clipped

_LARGEST = 1 << 30
"""Bytes of the largest file read. The largest in the catalogue has 59 MB."""

_MOST_OPERATIONS = 10_000
"""A checkpoint of some thirty arrays takes a thousand; one that nests deep enough to do harm, more."""

_PLAIN_KINDS = "biuf"
"""NumPy's codes for booleans, signed and unsigned integers, and floats."""


def read_numpy_pickle(path: Path) -> dict[str, Any]:
    """Read a pickle that holds nothing but nested dictionaries of plain numeric arrays.

    Args:
        path: the file, as `pickle.dump` writes it under protocols 3 and 4.

    Returns:
        Dictionaries with string keys whose leaves are writable arrays; one that was shared still is.

    Raises:
        FairveilError: the file asks for anything else, is truncated, or claims more than it holds. Nothing
            that it names has been run.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise pickle.UnpicklingError(f"it is larger than {_LARGEST} bytes")
        data = path.read_bytes()
        _check_claims(data)
        return _writable_arrays(ArraysOnly(io.BytesIO(data)).load(), room=len(data))
    except Exception as error:  # a hostile pickle can make its reader raise whatever it likes
        raise FairveilError(
            f"{path} is not a checkpoint of plain arrays, so it was not read: {clipped(str(error), 300)}."
        ) from error


def _check_claims(data: bytes) -> None:
    """Walk through the instructions without running them; refuse what would exhaust memory or the stack."""
    for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):  # refuses what is longer than the file
        if count > _MOST_OPERATIONS:
            raise pickle.UnpicklingError("it has more instructions than arrays need")
        if opcode.name in {"PUT", "LONG_BINPUT"} and int(argument or 0) > _MOST_OPERATIONS:
            raise pickle.UnpicklingError(f"it gives an object the number {argument}")


class PickledDtype:
    """Stands for NumPy's type of numbers while arrays are read."""

    def __init__(self, code: object, *_: object) -> None:
        if not isinstance(code, str):
            raise pickle.UnpicklingError("refused an array of no plain type")
        self.dtype = np.dtype(code)
        if self.dtype.kind not in _PLAIN_KINDS or self.dtype.subdtype is not None:
            raise pickle.UnpicklingError(f"refused an array of {code!r}")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, order, *rest = state
        if rest[:3] != [None, None, None]:
            raise pickle.UnpicklingError("refused an array of structures")
        self.dtype = self.dtype.newbyteorder(order)


class PickledArray:
    """Stands for NumPy's array while it is read.

    Attributes:
        array: what it holds, read-only.
    """

    array: NDArray[Any]

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, pickled, in_fortran_order, content = state
        if not isinstance(pickled, PickledDtype) or not isinstance(content, bytes):
            raise pickle.UnpicklingError("refused an array whose content is not plain numbers")
        flat = np.frombuffer(content, dtype=pickled.dtype)
        self.array = flat.reshape(shape, order="F" if in_fortran_order else "C")


class ArraysOnly(pickle.Unpickler):
    """An unpickler for which NumPy's constructors are stand-ins of ours, and no other global exists."""

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for a global; any other is refused."""
        match module, name:
            case (("numpy.core.multiarray" | "numpy._core.multiarray"), "_reconstruct"):
                return PickledArray
            case "numpy", "ndarray":
                return None  # only ever an argument of _reconstruct, which needs none
            case "numpy", "dtype":
                return PickledDtype
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is refused")


def _writable_arrays(content: object, room: int) -> dict[str, Any]:
    """Copy the arrays out of what was unpickled, at most `room` bytes: sharing content cannot multiply it."""
    if not isinstance(content, dict):
        raise pickle.UnpicklingError("it does not hold named arrays")
    result: dict[str, Any] = {}
    entries = 0
    copies: dict[int, Any] = {}
    pending = [(content, result)]
    while pending:
        source, target = pending.pop()
        for key, value in source.items():
            entries += 1
            if entries > _MOST_OPERATIONS or not isinstance(key, str):
                raise pickle.UnpicklingError("its dictionaries are not plain names of arrays")
            if isinstance(value, dict):
                target[key] = {}
                pending.append((value, target[key]))
            elif isinstance(value, PickledArray):
                if id(value) not in copies:
                    room -= value.array.nbytes
                    if room < 0:
                        raise pickle.UnpicklingError("its arrays are larger than the file")
                    copies[id(value)] = value.array.copy()
                target[key] = copies[id(value)]
            else:
                raise pickle.UnpicklingError(f"it holds a {type(value).__name__} where an array should be")
    return result
