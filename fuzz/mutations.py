"""What a hostile or unlucky hand does to a file: cut it, flip its bits, lie about sizes, repeat and nest parts."""

import random
import struct

_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x7FFFFFFFFFFFFFFF)
"""Sizes and offsets that programs forget to check."""

_LONGEST = 1 << 20
"""Bytes of the longest file made: small ones find the same faults sooner."""


def mutated(data: bytes, chance: random.Random, *, words: tuple[bytes, ...] = ()) -> bytes:
    """A file with one to six things done to it.

    Args:
        data: a valid file.
        chance: where the choices come from.
        words: pieces that mean something in this format, to be put in anywhere.
    """
    changed = bytearray(data)
    for _ in range(chance.randint(1, 6)):
        chance.choice(_EDITS)(changed, chance)
        if words and chance.random() < 0.3:
            place = chance.randint(0, len(changed))
            over = chance.random() < 0.5
            word = chance.choice(words)
            changed[place : place + (len(word) if over else 0)] = word
    return bytes(changed[:_LONGEST])


def _stretch(data: bytearray, chance: random.Random, longest: int = 64) -> slice:
    start = chance.randint(0, len(data))
    return slice(start, min(len(data), start + chance.randint(1, longest)))


def _cut_end(data: bytearray, chance: random.Random) -> None:
    del data[chance.randint(0, len(data)) :]


def _flip_bits(data: bytearray, chance: random.Random) -> None:
    for _ in range(chance.choice((1, 2, 8)) if data else 0):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def _flip_near_start(data: bytearray, chance: random.Random) -> None:
    """Headers come first, and say more than what follows."""
    if data:
        data[chance.randrange(min(len(data), 128))] = chance.randrange(256)


def _lie_about_size(data: bytearray, chance: random.Random) -> None:
    number, (form, width) = chance.choice(_NUMBERS), chance.choice((("B", 1), ("H", 2), ("I", 4), ("Q", 8)))
    start = chance.randint(0, len(data))
    data[start : start + width] = struct.pack(chance.choice("<>") + form, number % (1 << 8 * width))


def _leave_out(data: bytearray, chance: random.Random) -> None:
    del data[_stretch(data, chance)]


def _repeat(data: bytearray, chance: random.Random) -> None:
    part = _stretch(data, chance, 512)
    data[part.start : part.start] = data[part] * chance.choice((1, 2, 10, 500))
    del data[_LONGEST:]


def _move(data: bytearray, chance: random.Random) -> None:
    part, start = bytes(data[_stretch(data, chance, 512)]), chance.randint(0, len(data))
    data[start : start + len(part)] = part


def _blank(data: bytearray, chance: random.Random) -> None:
    part = _stretch(data, chance, 256)
    data[part] = bytes([chance.choice((0, 0xFF))]) * (part.stop - part.start)


def _put_noise(data: bytearray, chance: random.Random) -> None:
    part = _stretch(data, chance)
    data[part] = chance.randbytes(part.stop - part.start)


_EDITS = (
    _cut_end,
    _flip_bits,
    _flip_bits,
    _flip_near_start,
    _lie_about_size,
    _lie_about_size,
    _leave_out,
    _repeat,
    _move,
    _blank,
    _put_noise,
)
