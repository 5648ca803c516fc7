import os
import re
from io import StringIO

import pytest
import torch
from rich.console import Console

from fairveil.base.errors import FairveilError
from fairveil.protection.report import receipt_tables, write_receipt
from fairveil.protection.verification import FaceComparison, FaceReceipt, Quality, Receipt, ReceiptFile


def _comparison(recognizer, similarity, *, attacked=True, threshold=0.5, condition="as saved"):
    return FaceComparison(
        recognizer=recognizer,
        attacked=attacked,
        threshold=threshold,
        condition=condition,
        similarity=similarity,
        before=0.91,
    )


@pytest.fixture
def receipt():
    conditions = ("as saved", "JPEG 90", "JPEG 75", "blur σ 2", "half size")
    return Receipt(
        date="2026-01-02T03:04:05+00:00",
        version="9.9",
        faces=(
            FaceReceipt(
                box=(10.0, 10.0, 60.0, 70.0),
                found=True,
                quality=Quality(lpips=0.0123, lpips_vgg=0.0876, ssim=0.9, psnr=34.56),
                against_itself=tuple(
                    _comparison(name, value, attacked=name != "judge", condition=condition)
                    for name, value in (("mobilefacenet-512", -0.25), ("judge", 0.75))
                    for condition in conditions
                ),
                against_probes={
                    "<b>.jpg": (_comparison("mobilefacenet-512", 0.12), _comparison("odd", 0.3, threshold=None))
                },
            ),
        ),
        thresholds={"mobilefacenet-512": "0.500: somewhere"},
        probes_without_face=("wall.jpg",),
    )


@pytest.fixture
def photos():
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(0, 256, (3, 80, 90), dtype=torch.uint8, generator=generator) for _ in range(2)]


def _printed(receipt):
    console = Console(width=80, record=True, file=StringIO())
    for part in receipt_tables(receipt):
        console.print(part)
    return console.export_text()


def test_the_table_fits_80_columns_and_marks_who_still_matches(receipt):
    text = _printed(receipt)
    assert "mobilefacenet-512" in text and "half size" in text
    judge = next(line for line in text.splitlines() if "judge" in line)
    assert judge.count("+0.75*") == 5
    attacked = next(line for line in text.splitlines() if "mobilefacenet-512" in line)
    assert attacked.count("-0.25") == 5 and "*" not in attacked
    assert text.index("attacked") < text.index("held out") < text.index("judge")


def test_the_tables_tell_of_a_lost_face_and_of_faceless_probes(receipt):
    lost = receipt.model_copy(update={"faces": (receipt.faces[0].model_copy(update={"found": False}),)})
    assert "No face was found in wall.jpg" in _printed(receipt) and "no longer finds" not in _printed(receipt)
    assert "no longer finds this face" in _printed(lost)


def test_the_page_names_the_files_by_their_content(receipt, photos, tmp_path):
    file = ReceiptFile(role="original", name="<me>.jpg", sha256="0123" * 16)
    write_receipt(tmp_path / "receipt.html", receipt.model_copy(update={"files": (file,)}), *photos, title="me")
    html = (tmp_path / "receipt.html").read_text(encoding="utf-8")
    assert f"original: &lt;me&gt;.jpg, SHA-256 {'0123' * 16}" in html


def test_a_device_is_not_replaced_by_a_page(receipt, photos, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(FairveilError, match="not an ordinary file"):
        write_receipt(pipe, receipt, *photos, title="me", overwrite=True)
    assert pipe.is_fifo()


def test_the_page_stands_alone_and_shows_the_figures(receipt, photos, tmp_path):
    page = tmp_path / "receipt.html"
    write_receipt(page, receipt, *photos, title="me.jpg")
    html = page.read_text(encoding="utf-8")
    assert not re.search(r"https?://", html)
    sources = re.findall(r'(?:src|href)="([^"]{0,30})', html)
    assert len(sources) == 3 and all(source.startswith("data:image/png;base64,") for source in sources)
    for figure in (
        "0.012",
        "0.088",
        "34.6",
        "+0.75 match",
        "-0.25 no",
        "+0.91 match",
        "held out",
        "wall.jpg",
        "unknown",
    ):
        assert figure in html
    assert receipt.caution[:40] in html


def test_the_page_says_if_the_face_is_no_longer_found_and_knows_no_noise_of_equal_pictures(receipt, photos, tmp_path):
    face = receipt.faces[0]
    quality = face.quality.model_copy(update={"psnr": None})
    lost = receipt.model_copy(update={"faces": (face.model_copy(update={"found": False, "quality": quality}),)})
    write_receipt(tmp_path / "receipt.html", lost, *photos, title="me")
    html = (tmp_path / "receipt.html").read_text(encoding="utf-8")
    assert "no longer finds this face" in html and "PSNR" not in html and "None" not in html
    assert "PSNR" not in _printed(lost)


@pytest.mark.parametrize("box", [(-20.0, -15.0, 30.0, 40.0), (60.0, 50.0, 120.0, 130.0), (-5.0, -5.0, 95.0, 85.0)])
def test_a_face_at_the_edge_of_the_photo_is_shown(receipt, photos, tmp_path, box):
    edge = receipt.model_copy(update={"faces": (receipt.faces[0].model_copy(update={"box": box}),)})
    write_receipt(tmp_path / "receipt.html", edge, *photos, title="me")
    assert (tmp_path / "receipt.html").read_text(encoding="utf-8").count("data:image/png") == 3


def test_markup_in_a_name_is_told_as_it_is(receipt):
    face = receipt.faces[0]
    odd = face.model_copy(
        update={
            "against_itself": (_comparison("[red]", 0.5),),
            "against_probes": {"[bold]x[/].jpg": (_comparison("[/]", 0.1),)},
        }
    )
    text = _printed(receipt.model_copy(update={"faces": (odd,)}))
    assert all(name in text for name in ("[red]", "[bold]x[/].jpg", "[/]"))


def test_names_are_escaped(receipt, photos, tmp_path):
    page = tmp_path / "receipt.html"
    write_receipt(page, receipt, *photos, title="<script>alert(1)</script>.jpg")
    html = page.read_text(encoding="utf-8")
    assert "<script" not in html and "<b>" not in html
    assert "&lt;script&gt;" in html


def test_a_page_that_is_there_is_not_replaced_unasked(receipt, photos, tmp_path):
    page = tmp_path / "receipt.html"
    page.write_text("mine")
    with pytest.raises(FairveilError, match="already exists"):
        write_receipt(page, receipt, *photos, title="me")
    assert page.read_text() == "mine"
    write_receipt(page, receipt, *photos, title="me", overwrite=True)
    assert page.read_text() != "mine"


def test_a_page_that_cannot_be_written_is_said_so(receipt, photos, tmp_path):
    with pytest.raises(FairveilError, match="could not be written"):
        write_receipt(tmp_path / "missing" / "receipt.html", receipt, *photos, title="me")
