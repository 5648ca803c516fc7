"""The receipt of a protection, as tables for the terminal and as one HTML page that opens anywhere."""

import base64
import io
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path

from rich import box
from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table as TerminalTable
from rich.text import Text
from torch import Tensor

from fairveil.faces.canvas import CONTEXT
from fairveil.images import as_image
from fairveil.protection.verification import FaceComparison, FaceReceipt, Receipt
from fairveil.report.rendering import environment, write_page
from fairveil.report.tables import Cell, Table

AMPLIFICATION = 10
"""By how much the page multiplies the difference between before and after, to make it visible."""

_CROP = 360  # side of the largest picture on the page, in pixels


def receipt_tables(receipt: Receipt) -> Iterable[RenderableType]:
    """For each face, who still matches it to the original and to the probes; fits a terminal of 80 columns."""
    for remark in receipt.remarks:
        yield Text(remark, "bold")
    for number, face in enumerate(receipt.faces, start=1):
        yield Text(_title(number, face, len(receipt.faces)))
        if sentence := _where_compared(face):
            yield Text(sentence)
        rows = _by_recognizer(face.against_itself).items()
        yield _table(
            face.conditions, [(same[0], [_verdict(c.similarity, c.matches) for c in same]) for _, same in rows]
        )
        for probe, closest in face.against_probes.items():
            yield Text(f"The same face against the closest face of {probe}")
            rows_of_probe = [
                (c, [_verdict(c.before, c.matched_before), _verdict(c.similarity, c.matches)]) for c in closest
            ]
            yield _table(("before", "after"), rows_of_probe)
    if receipt.probes_without_face:
        yield Text(f"No face was found in {', '.join(receipt.probes_without_face)}, so nothing is said of it.")
    yield Text("* still taken for the same person")


def tables_of(receipt: Receipt) -> Iterator[Table]:
    """For each face the same as tables of the report, for notebooks and plain text."""
    for number, face in enumerate(receipt.faces, start=1):
        note = "still taken for the same person"
        against = [(f"Face {number} against its original", face.conditions, face.against_itself)]
        against += [
            (f"Face {number} against the closest face of {probe}", ("before", "after"), closest)
            for probe, closest in face.against_probes.items()
        ]
        for title, columns, comparisons in against:
            rows = []
            for name, same in _by_recognizer(comparisons).items():
                cells = [Cell.of(one.similarity, note=note if one.matches else None) for one in same]
                if columns == ("before", "after"):
                    cells.insert(0, Cell.of(same[0].before, note=note if same[0].matched_before else None))
                rows.append((f"{name} ({'attacked' if same[0].attacked else 'held out'})", tuple(cells)))
            yield Table(title, columns, tuple(rows), unit="cosine", row_name="recognizer")


def _table(columns: Iterable[str], rows: Iterable[tuple[FaceComparison, list[str]]]) -> TerminalTable:
    """Recognizers in rows, those attacked first, under the columns given."""
    table = TerminalTable("recognizer", box=box.SIMPLE, pad_edge=False)
    for column in ("from", *columns):
        table.add_column(column, justify="right")
    attacked_first = sorted(rows, key=lambda row: not row[0].attacked)
    for attacked, group in groupby(attacked_first, key=lambda row: row[0].attacked):
        table.add_row("[bold]attacked[/]" if attacked else "[bold]held out[/]")
        for comparison, cells in group:
            threshold = "?" if comparison.threshold is None else f"{comparison.threshold:.2f}"
            table.add_row(escape(comparison.recognizer), threshold, *cells)
    return table


def write_receipt(
    page: Path, receipt: Receipt, original: Tensor, protected: Tensor, *, title: str, overwrite: bool = False
) -> None:
    """Write the receipt as one HTML page with its pictures inside.

    Args:
        page: the file to write; its folder must exist.
        receipt: what was measured.
        original: the photo as it was, uint8, (3, H, W).
        protected: the photo as it is now, of the same shape.
        title: what the page calls the photo.
        overwrite: replace a page that already exists.

    Raises:
        FairveilError: the page already exists, or cannot be written.
    """
    html = (
        environment()
        .get_template("receipt.html")
        .render(
            receipt=receipt,
            title=title,
            amplification=AMPLIFICATION,
            faces=[(face, _pictures(face, original, protected)) for face in receipt.faces],
            by_recognizer=_by_recognizer,
            where_compared=_where_compared,
        )
    )
    write_page(page, html, overwrite=overwrite)


def _title(number: int, face: FaceReceipt, count: int) -> str:
    quality = face.quality
    noise = "" if quality.psnr is None else f", PSNR {quality.psnr:.1f} dB"
    color = "" if quality.delta_e is None else f", ΔE {quality.delta_e:.2f} ({quality.delta_chroma:.2f} of it color)"
    change = f"LPIPS {quality.lpips:.3f} (VGG {quality.lpips_vgg:.3f}), SSIM {quality.ssim:.3f}{noise}{color}"
    return f"Face {number} of {count} against its original: {change}"


def _where_compared(face: FaceReceipt) -> str:
    """What to say of a face that was not found in the protected photo."""
    if face.found:
        return ""
    if face.by_hand:
        return "This face was framed by hand, and the detector does not find it: compared where it was."
    return "The detector no longer finds this face in the protected photo: compared where it was."


def _by_recognizer(comparisons: Iterable[FaceComparison]) -> dict[str, list[FaceComparison]]:
    grouped: dict[str, list[FaceComparison]] = {}
    for comparison in comparisons:
        grouped.setdefault(comparison.recognizer, []).append(comparison)
    return grouped


def _verdict(similarity: float, matches: bool | None) -> str:
    if matches is None:
        return f"{similarity:+.2f} "
    return f"[red]{similarity:+.2f}*[/]" if matches else f"[green]{similarity:+.2f}[/] "


def _pictures(face: FaceReceipt, original: Tensor, protected: Tensor) -> dict[str, str]:
    """Before, after and the amplified difference around a face, as data addresses."""
    x0, y0, x1, y1 = face.box
    reach = CONTEXT * max(x1 - x0, y1 - y0) / 2
    left, top = max(0, round((x0 + x1) / 2 - reach)), max(0, round((y0 + y1) / 2 - reach))
    right, bottom = round((x0 + x1) / 2 + reach), round((y0 + y1) / 2 + reach)
    before, after = (photo[:, top:bottom, left:right] for photo in (original, protected))
    difference = ((after.float() - before.float()) * AMPLIFICATION + 127.5).clamp(0, 255).byte()
    return {"before": _address(before), "after": _address(after), "difference": _address(difference)}


def _address(pixels: Tensor) -> str:
    image = as_image(pixels)
    image.thumbnail((_CROP * 2, _CROP * 2))
    stream = io.BytesIO()
    image.save(stream, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def display_of(receipt: Receipt) -> tuple[Sequence[str], Sequence[Table]]:
    """What a receipt shows of itself: what to know about it, and the recognizers' answers."""
    without = ", ".join(receipt.probes_without_face)
    missing = [f"No face was found in {without}."] if without else []
    return (*receipt.remarks, *missing, receipt.caution), tuple(tables_of(receipt))
