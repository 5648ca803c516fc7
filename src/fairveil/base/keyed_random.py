"""Random numbers that depend on keys alone, so that what is generated stays the same whatever else is."""

import torch
from torch import Tensor


def evenly(positions: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Which positions of a sequence are chosen so that any start of it has its share, and how many are before each."""
    before = (positions * share + 1e-9).floor().long()
    return ((positions + 1) * share + 1e-9).floor().long() > before, before


def mixed(keys: Tensor) -> Tensor:
    """One step of SplitMix64 (Steele, Lea and Flood 2014): int64 to int64 that look random and independent."""

    def shifted(bits: int) -> Tensor:
        return (keys >> bits) & ((1 << (64 - bits)) - 1)  # a shift that brings in zeros

    keys = keys + _signed(0x9E3779B97F4A7C15)
    keys = (keys ^ shifted(30)) * _signed(0xBF58476D1CE4E5B9)
    keys = (keys ^ shifted(27)) * _signed(0x94D049BB133111EB)
    return keys ^ shifted(31)


def _signed(word: int) -> int:
    return word - (1 << 64) if word >> 63 else word


def deviates_of(keys: Tensor, count: int) -> Tensor:
    """Standard normal deviates, (B, count), from keys, int64 (B,)."""
    words = mixed(mixed(keys)[:, None] + torch.arange(1, count + 1))
    uniform = (((words >> 11) & ((1 << 53) - 1)).double() + 0.5) / (1 << 53)
    deviates: Tensor = torch.special.ndtri(uniform)
    return deviates.float()
