"""Which photos are probes: drawn by hash, so that neither the order of rows nor other people change the draw."""

import hashlib

import polars as pl

from fairveil.base.errors import FairveilError
from fairveil.data.table import FaceTable


def draws(table: FaceTable, seed: int) -> pl.Series:
    """One number a photo, uniform over 56 bits, that depends on nothing but the seed, its identity and its path."""
    texts = zip(table.identities, table.frame["image"], strict=True)
    return pl.Series([_draw(f"{seed}/{identity}/{image}") for identity, image in texts], dtype=pl.Int64)


def split_probes(table: FaceTable, *, share: float = 0.1, seed: int = 0) -> tuple[FaceTable, FaceTable]:
    """Keep a share of each identity's photos as probes (section 3.4: one tenth); the rest is the gallery.

    An identity of one photo has no probe, one of two or more at least one, and none has all its photos as probes.

    Args:
        table: photos with identities; those without are in the gallery.
        share: of each identity's photos, rounded to the nearest number.
        seed: of the draw.

    Returns:
        The gallery and the probes, rows in their old order.

    Raises:
        FairveilError: the share is not between 0 and 1, or the table has no identities.
    """
    if not 0 < share < 1:
        raise FairveilError(f"The share of probes lies between 0 and 1, and {share} does not.")
    if "identity" not in table.frame.columns:
        raise FairveilError(f"{table.name} has no identities, so nobody's photos can be split.")
    frame = table.frame.select("identity").with_columns(draw=draws(table, seed))
    place = pl.col("draw").rank("ordinal").over("identity")
    count = pl.len().over("identity")
    wanted = (count * share).round().clip(1, None)
    is_probe = frame.select(
        pl.col("identity").is_not_null() & (place <= pl.min_horizontal(wanted, count - 1))
    ).to_series()
    return table.filter(~is_probe), table.filter(is_probe)


def _draw(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7])
