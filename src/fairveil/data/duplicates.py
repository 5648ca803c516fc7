"""Near-duplicates: photos that are the same picture but for size, compression or small retouches."""

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
import polars as pl
from imagehash import dhash
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from fairveil.base.errors import FairveilError
from fairveil.data.table import FaceTable
from fairveil.images import as_image

HASH_SIDE = 16
"""A hash has as many bits as a square of this side."""

DISTANCE = 24
"""Bits, of 256, in which photos of one person may differ and still be called near-duplicates.

On Labeled Faces in the Wild, by which it was chosen, this finds 8 of the 10 known pairs and no other, as does all up
to 36. Aligned crops differ less: there 32 already joins different photos.
"""

_BLOCK = 2048  # rows compared at once: a block of distances takes 16 MiB


def perceptual_hashes(table: FaceTable, *, on_photo: Callable[[], None] = lambda: None) -> NDArray[np.bool_]:
    """Hash each photo by the signs of the differences between neighbors along the rows of its thumbnail.

    Args:
        table: photos.
        on_photo: called after each.

    Returns:
        (N, HASH_SIDE²) bits.

    Raises:
        FairveilError: a photo is not there or cannot be read.
    """
    hashes = np.empty((len(table), HASH_SIDE**2), np.bool_)
    for row in range(len(table)):
        hashes[row] = dhash(as_image(table.photo(row)), hash_size=HASH_SIDE).hash.reshape(-1)
        on_photo()
    return hashes


def near_duplicates(
    table: FaceTable,
    *,
    distance: int = DISTANCE,
    across_identities: bool = False,
    hashes: NDArray[np.bool_] | None = None,
) -> list[list[int]]:
    """Find groups of photos whose hashes differ in at most `distance` bits, directly or through others of the group.

    Args:
        table: photos; those without an identity are compared with each other.
        distance: in bits of the hash.
        across_identities: whether photos of different identities are compared as well.
        hashes: what `perceptual_hashes` gave for this table, where it is at hand.

    Returns:
        The rows of each group of two or more, ascending, groups by their first row.

    Raises:
        FairveilError: the distance is no number of bits, the hashes are of another table, or a photo cannot be read.
    """
    bits = HASH_SIDE**2
    if not 0 <= distance <= bits:
        raise FairveilError(f"The distance of near-duplicates lies between 0 and {bits} bits, and {distance} does not.")
    hashes = perceptual_hashes(table) if hashes is None else hashes
    if hashes.shape != (len(table), bits):
        raise FairveilError(f"{table.name} has {len(table)} photos, and hashes of shape {hashes.shape} are not theirs.")
    rows = pl.DataFrame({"identity": pl.Series(table.identities, dtype=pl.String)}).with_row_index("row")
    if across_identities:
        rows = rows.with_columns(identity=pl.lit(None, pl.String))
    compared = rows.group_by("identity", maintain_order=True).agg("row").filter(pl.col("row").list.len() > 1)
    groups = [group for one in compared["row"] for group in _linked(hashes, one.to_numpy(), distance)]
    return sorted(groups)


def drop_near_duplicates(
    table: FaceTable,
    *,
    distance: int = DISTANCE,
    across_identities: bool = False,
    hashes: NDArray[np.bool_] | None = None,
) -> tuple[FaceTable, int]:
    """Keep the first photo of each group of near-duplicates; see `near_duplicates`.

    Returns:
        The table without the others, rows in their old order, and how many were dropped.
    """
    groups = near_duplicates(table, distance=distance, across_identities=across_identities, hashes=hashes)
    kept = np.ones(len(table), np.bool_)
    kept[[row for group in groups for row in group[1:]]] = False
    return replace(table, frame=table.frame.filter(pl.Series(kept))), int((~kept).sum())


def _linked(hashes: NDArray[np.bool_], rows: NDArray[np.uint32], distance: int) -> Iterable[list[int]]:
    """The groups of two or more among some rows."""
    # Equal hashes stand as one, so that many copies of one picture do not make a pair of every two.
    distinct, places = np.unique(np.packbits(hashes[rows], axis=1), axis=0, return_inverse=True)
    labels = _components(distinct, distance)[places.reshape(-1)]  # (n,)
    order = np.argsort(labels, kind="stable")
    starts = np.flatnonzero(np.diff(labels[order])) + 1
    return [rows[group].tolist() for group in np.split(order, starts) if len(group) > 1]


def _components(packed: NDArray[np.uint8], distance: int) -> NDArray[np.int32]:
    """Which component each hash is in, where those at most `distance` apart are joined; memory linear in their number.

    The inner product of hashes as signs is bits − 2 · distance, exact in float32.
    """
    least = 8 * packed.shape[1] - 2 * distance
    labels = np.arange(len(packed), dtype=np.int32)
    for top in range(0, len(packed), _BLOCK):
        rows = _signs(packed[top : top + _BLOCK])
        for left in range(top, len(packed), _BLOCK):
            first, second = np.nonzero(rows @ _signs(packed[left : left + _BLOCK]).T >= least)
            labels = _joined(labels, first + top, second + left)
    return labels


def _signs(packed: NDArray[np.uint8]) -> NDArray[np.float32]:
    return 2 * np.unpackbits(packed, axis=1).astype(np.float32) - 1


def _joined(labels: NDArray[np.int32], first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.int32]:
    """Labels after joining the components of pairs."""
    apart = labels[first] != labels[second]
    if not apart.any():
        return labels
    ends = labels[first[apart]], labels[second[apart]]
    edges = coo_array((np.ones(len(ends[0]), np.bool_), ends), shape=(len(labels), len(labels)))
    return np.asarray(connected_components(edges, directed=False)[1][labels], np.int32)
