"""From published data sets of X-rays to one tensor: every image gray, square, and of one size."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from io import SEEK_END
from pathlib import Path
from typing import IO

import torch
import torch.nn.functional as F
from torch import Tensor

from fairveil.base.errors import FairveilError
from fairveil.base.files import file_state
from fairveil.base.keys import content_key
from fairveil.data.image_set import made_image_by_image
from fairveil.data.table import FaceTable
from fairveil.data.xrays.cells import Uncertain
from fairveil.data.xrays.images import Xrays
from fairveil.data.xrays.layouts import Listing, Views, list_xrays

_KEY_FORMAT = "fairveil xrays 2"
_LUMINANCE = (0.299, 0.587, 0.114)
_NEARLY_BLACK = 8  # of 255, on average
_DARKER = 4  # bits by which X-rays may be darker than others before that is told
_LOOKED_AT = 500  # X-rays of a set


def read_xrays(
    path: str | Path,
    *,
    findings: Sequence[str] | None = None,
    size: int = 256,
    uncertain: Uncertain | None = None,
    views: Views = "all",
    groups: Sequence[str] | None = None,
    folder: Path | None = None,
    on_image: Callable[[int], None] = lambda count: None,
) -> Xrays:
    """Read X-rays with findings, from a list in one of three layouts.

    - CheXpert's train.csv or valid.csv. Images are found from the list's folder or the one that is in.
    - ChestX-ray14's Data_Entry_2017.csv. Images lie beside it, in images/, or in images_001/images/ and so on.
    - Any CSV with the columns image (or file), patient, and a column a finding with 1, 0, -1 for uncertain, or nothing.

    Images are below the folder of the list, or in the tar archive beside it that is called like it. Each is read in 8
    bits of gray (of 16-bit files those that hold the brightest pixel of the set, often 12) and brought to the size as
    a whole, whatever its aspect, as in section 6.9.1. What is not mentioned in CheXpert counts as absent; an empty
    cell of a plain list, and -1, are unknown. Images that cannot be read, or of whose
    findings or patient nothing is known, are left out and counted.

    Args:
        path: the CSV, the archive beside it, or a folder with train.csv, Data_Entry_2017*.csv, or one CSV.
        findings: which are the classes, as the list spells them; by default the five of section 6.3.2, and of a plain
            list those of them that it has.
        size: side of the images in pixels.
        uncertain: what -1 counts as: "zeros" as absent, "ones" as present, "ignore" as unknown, "mixed" as present for
            Edema and Atelectasis and absent for all others, as in the code of section 6.3.2 (jfhealthcare/Chexpert). By
            default "mixed" for CheXpert and "ignore" for plain lists.
        views: whether only frontal or lateral images are read.
        groups: columns of groups; by default sex (M, F), age (<40, 40-59, 60-79, 80+) and, but for plain lists, view
            (PA, AP, lateral). Sex and age of plain lists are brought to the same values.
        folder: keeps the images in a file, from which pixels are read as they are used. What is in there already is
            not read again, and processes that are given one folder share the file. Without it they are in memory.
        on_image: called with the number of images that are done.

    Raises:
        FairveilError: the list is not there or in none of the layouts; it has no such finding or group; a label is not
            1, 0, or -1; an image comes twice; no image is left or can be read; or the folder cannot be written to.
    """
    if size < 1:
        raise FairveilError(f"X-rays cannot be brought to a size of {size} pixels: give at least 1.")
    listing = list_xrays(Path(path), findings=findings, uncertain=uncertain, views=views, groups=groups)
    return made_image_by_image(
        Xrays,
        lambda pixels: _write_pixels(listing, pixels, size, on_image),
        lambda pixels, known: _xrays(listing, *known, pixels, size),
        folder=folder,
        key=lambda: _key(listing, size),
    )


def _write_pixels(
    listing: Listing, pixels: IO[bytes], size: int, on_image: Callable[[int], None]
) -> tuple[list[int], tuple[str, ...]]:
    """Write images one after another, size · size bytes each; gives the rows they are of, and what was found."""
    rows: list[int] = []
    depths: dict[int, int] = {}  # of 16-bit files, by the place of the image
    reason = ""
    for row in range(len(listing.table)):
        try:
            photo = listing.table.read(row, gray_bits=None)
            pixels.write(_square(photo.pixels, size).numpy().tobytes())
            if photo.gray_bits is not None:
                depths[len(rows)] = photo.gray_bits
            rows.append(row)
        except FairveilError as error:
            reason = reason or str(error)
        on_image(row + 1)
    if not rows:
        raise FairveilError(
            f"None of the {len(listing.table)} X-rays of {listing.table.name} can be read. The first: {reason}"
        )
    deepest = max(depths.values(), default=16)
    for place, depth in depths.items():
        if depth < deepest:  # dark by itself: one range for all
            pixels.seek(place * size**2)
            photo = listing.table.read(rows[place], gray_bits=deepest)
            pixels.write(_square(photo.pixels, size).numpy().tobytes())
    pixels.seek(0, SEEK_END)
    return rows, tuple(_told(depths, deepest))


def _told(depths: Mapping[int, int], deepest: int) -> Iterator[str]:
    """What 16-bit files hold, in sentences."""
    if deepest < 16:
        yield f"{len(depths):,} X-rays hold {deepest}-bit values in 16-bit files: read as 0 to {(1 << deepest) - 1:,}."
    if dark := [depth for depth in depths.values() if depth <= deepest - _DARKER]:
        yield (
            f"{len(dark):,} of {len(depths):,} X-rays in 16-bit files have no value above {(1 << max(dark)) - 1:,}, "
            f"where others go up to {(1 << deepest) - 1:,}, and come out nearly black: bring all to one range."
        )


def _square(photo: Tensor, size: int) -> Tensor:
    """A picture, uint8 (3, H, W), as gray of (size, size)."""
    gray = photo[0].float()
    if not (torch.equal(photo[0], photo[1]) and torch.equal(photo[0], photo[2])):
        gray = torch.einsum("chw,c->hw", photo.float(), torch.tensor(_LUMINANCE))
    if gray.shape == (size, size):
        return gray.round().byte()
    resized = F.interpolate(gray[None, None], size=(size, size), mode="bilinear", antialias=True, align_corners=False)
    return resized[0, 0].round().clamp(0, 255).byte()


def _xrays(listing: Listing, rows: list[int], remarks: tuple[str, ...], pixels: Tensor, size: int) -> Xrays:
    """Images, uint8 (M · size · size,), with what is known of their M rows."""
    kept = listing.table.frame[rows]
    unreadable = len(listing.table) - len(rows)
    brightness = float(pixels.view(len(rows), -1)[:: max(len(rows) // _LOOKED_AT, 1)].float().mean())
    if brightness < _NEARLY_BLACK:
        remarks += (
            f"The X-rays of {listing.table.name} are nearly black ({brightness:.1f} of 255 on average): a network "
            "learns little from them. Are their values those of another range?",
        )
    return Xrays(
        pixels.view(-1, 1, size, size),
        listing.labels[rows],
        listing.classes,
        listing.table.name,
        tuple(listing.names[row] for row in rows),
        {column: tuple(kept[column]) for column in listing.table.groups},
        listing.left_out | ({"not readable": unreadable} if unreadable else {}),
        patients=tuple(kept["identity"]),
        remarks=(*listing.remarks, *remarks),
    )


def _key(listing: Listing, size: int) -> str:
    """A hash of what images and their labels depend on: the list, the files' sizes and dates, and the size."""
    table = listing.table
    files = [table.root] if table.root.is_file() else [table.root / image for image in table.frame["image"]]
    source = [repr(getattr(table, part.name)) for part in fields(FaceTable) if part.name != "frame"]
    said = [listing.names, listing.classes, listing.left_out, listing.labels.nan_to_num(nan=-1).tolist()]
    about = [_KEY_FORMAT, source, table.frame.write_csv(), said, list(map(file_state, files)), size]
    return content_key(about, digits=24)
