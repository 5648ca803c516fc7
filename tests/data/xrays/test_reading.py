import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_lists import chexpert, nih, plain, write

from fairveil.base.errors import FairveilError
from fairveil.data.xrays import read_xrays

DATA = Path(os.environ.get("FAIRVEIL_DATA") or Path(__file__).parents[2].parent / "shared" / "data")


def test_what_is_read_has_everything_of_the_list(tmp_path):
    done = []
    xrays = read_xrays(chexpert(tmp_path), size=12, on_image=done.append)
    assert done == [1, 2, 3, 4, 5]
    assert xrays.images.shape == (5, 1, 12, 12)
    assert xrays.images.float().mean((1, 2, 3)).round().tolist() == [0, 10, 20, 30, 40]
    assert xrays.labels.shape == (5, 5)
    assert xrays.groups["view"] == ("AP", "PA", "lateral", "AP", "AP")
    assert xrays.patients == ("patient00001", *["patient00002"] * 3, "patient00003")
    assert (xrays.name, xrays.left_out) == ("CheXpert train", {})


def test_a_path_may_be_a_string_and_a_folder(tmp_path):
    assert len(read_xrays(str(nih(tmp_path).parent), size=8)) == 4


def _slow_resize(image, size):
    """Each pixel is a triangle-weighted mean over the old pixels around its middle."""

    def weights(length):
        factor = length / size
        reach = max(factor, 1)
        table = np.zeros((size, length))
        for row in range(size):
            middle = (row + 0.5) * factor
            table[row] = np.maximum(0, 1 - np.abs(np.arange(length) + 0.5 - middle) / reach)
            table[row] /= table[row].sum()
        return table

    return weights(image.shape[0]) @ image @ weights(image.shape[1]).T


@pytest.mark.parametrize("shape", [(37, 61), (64, 20), (5, 7)])
def test_images_are_resized_as_a_whole_without_aliases(tmp_path, shape):
    picture = np.random.default_rng(0).integers(256, size=shape, dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "a.png")
    path = write(tmp_path / "list.csv", "image,patient,Edema", "a.png,p,1")
    read = read_xrays(path, size=16).images[0, 0].numpy()
    assert np.abs(_slow_resize(picture.astype(float), 16) - read).max() <= 0.51


def test_images_of_the_right_size_are_taken_byte_by_byte(tmp_path):
    picture = np.random.default_rng(0).integers(256, size=(16, 16), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "a.png")
    path = write(tmp_path / "list.csv", "image,patient,Edema", "a.png,p,1")
    assert np.array_equal(read_xrays(path, size=16).images[0, 0].numpy(), picture)


def test_deep_colored_and_transparent_images_become_gray_bytes(tmp_path):
    gray = np.arange(256, dtype=np.uint8).reshape(16, 16)
    color = np.random.default_rng(0).integers(256, size=(16, 16, 3), dtype=np.uint8)
    Image.fromarray((gray.astype(np.uint16) << 8) + 77).save(tmp_path / "deep.png")
    Image.fromarray(np.dstack([gray, gray, gray, 255 - gray])).save(tmp_path / "clear.png")
    Image.fromarray(color).save(tmp_path / "colour.png")
    names = ("deep", "clear", "colour")
    path = write(tmp_path / "list.csv", "image,patient,Edema", *(f"{name}.png,p,1" for name in names))
    deep, clear, mixed = read_xrays(path, size=16).images[:, 0].numpy()
    assert np.array_equal(deep, gray) and np.array_equal(clear, gray)
    assert np.abs(color @ np.array([0.299, 0.587, 0.114]) - mixed).max() <= 0.51


def test_images_that_cannot_be_read_are_left_out_and_counted(tmp_path):
    path = plain(tmp_path)
    (tmp_path / "a.png").write_text("nothing")
    (tmp_path / "b.png").unlink()
    done = []
    xrays = read_xrays(path, size=8, on_image=done.append)
    assert (xrays.image_names, xrays.patients) == (("c.png",), ("p2",))
    assert xrays.labels.tolist() == [[0, 1]]
    assert xrays.groups == {"sex": (None,), "age": (None,)}
    assert xrays.left_out == {"not readable": 2}
    assert done == [1, 2, 3]


def test_no_readable_image_at_all_is_told_of_with_the_place(tmp_path):
    path = plain(tmp_path)
    for name in "abc":
        (tmp_path / f"{name}.png").unlink()
    with pytest.raises(FairveilError, match=r"None of the 3 X-rays of list can be read\. The first: .*a\.png is not"):
        read_xrays(path, size=8)
    with pytest.raises(FairveilError, match="None of the 3 X-rays"):
        read_xrays(path, size=8, folder=tmp_path / "kept")
    assert not [*(tmp_path / "kept").glob("*.safetensors")]


def test_kept_images_are_read_once_and_lie_in_a_file(tmp_path):
    path, kept, told = plain(tmp_path), tmp_path / "kept", []

    def read(**options):
        return read_xrays(path, **{"size": 8, "folder": kept, "on_image": told.append, **options})

    first, again = read(), read()
    assert told == [1, 2, 3]
    in_memory = read_xrays(path, size=8)
    for xrays in (first, again):
        assert xrays.fingerprint() == in_memory.fingerprint()
        assert (xrays.left_out, xrays.name) == (in_memory.left_out, in_memory.name)
    (file,) = kept.glob("[!.]*")
    with open("/proc/self/maps") as maps:  # noqa: PTH123
        assert file.name in maps.read()


_WITH_DOUBT = ("image,patient,sex,age,view,Edema,Effusion", "a.png,p1,M,30,PA,1,0", "b.png,p2,F,61,L,0,-1")


@pytest.mark.parametrize("options", [{"size": 9}, {"findings": ["Edema"]}, {"groups": ["view"]}, {"uncertain": "ones"}])
def test_kept_images_are_not_taken_for_what_else_is_asked_for(tmp_path, options):
    path, kept, told = plain(tmp_path, *_WITH_DOUBT), tmp_path / "kept", []
    read_xrays(path, size=8, folder=kept)
    other = read_xrays(path, **{"size": 8, "folder": kept, "on_image": told.append, **options})
    assert told
    assert other.fingerprint() == read_xrays(path, **{"size": 8, **options}).fingerprint()


def test_other_images_of_the_same_name_are_read_anew(tmp_path):
    path = plain(tmp_path)
    before = read_xrays(path, size=8, folder=tmp_path / "kept")
    Image.new("L", (30, 30), 200).save(tmp_path / "a.png")
    assert not torch.equal(read_xrays(path, size=8, folder=tmp_path / "kept").images, before.images)


def test_impossible_sizes_and_folders_are_told_of(tmp_path):
    path = plain(tmp_path)
    with pytest.raises(FairveilError, match="give at least 1"):
        read_xrays(path, size=0)
    with pytest.raises(FairveilError, match="cannot be a folder"):
        read_xrays(path, size=8, folder=tmp_path / "a.png")


def test_the_small_real_set_is_whole():
    if not all((DATA / f"xray.{suffix}").is_file() for suffix in ("csv", "tar")):
        pytest.skip(f"xray.csv and xray.tar are not in {DATA}: set FAIRVEIL_DATA to the folder they are in.")
    xrays = read_xrays(DATA / "xray.csv", size=64)
    assert (len(xrays), len({*xrays.patients})) == (1000, 264)
    assert xrays.left_out == {"no finding known": 178}
    assert xrays.classes == ("Cardiomegaly", "Edema", "Consolidation", "Atelectasis", "Effusion")
    assert xrays.labels.sum(0).tolist() == [83, 31, 42, 95, 170]
    assert {sex: xrays.groups["sex"].count(sex) for sex in "MF"} == {"M": 491, "F": 509}
    assert {*xrays.groups["age"]} == {"<40", "40-59", "60-79", "80+"}
    assert math.isclose(float(xrays.images.float().mean()), 130, abs_tol=25)


def _deep_list(tmp_path, *pictures):
    """A plain list of 16-bit X-rays."""
    for number, values in enumerate(pictures):
        Image.fromarray(np.asarray(values, np.uint16)).save(tmp_path / f"{number}.png")
    rows = [f"{number}.png,p{number},{number % 2}" for number in range(len(pictures))]
    (tmp_path / "deep.csv").write_text("\n".join(["image,patient,Edema", *rows]))
    return tmp_path / "deep.csv"


@pytest.mark.parametrize(("bits", "said"), [(8, True), (10, True), (12, True), (14, True), (16, False)])
def test_values_of_fewer_bits_in_16_bit_files_are_read_in_their_own_range(tmp_path, bits, said):
    ramp = np.linspace(0, (1 << bits) - 1, 64).round().reshape(8, 8)
    xrays = read_xrays(_deep_list(tmp_path, ramp, ramp[::-1]), size=8)
    expected = np.floor(ramp / (1 << bits) * 256)
    assert np.abs(xrays.images[0, 0].numpy() - expected).max() <= 1
    assert any(f"{bits}-bit values in 16-bit files" in remark for remark in xrays.remarks) == said


def test_a_dark_x_ray_stays_dark_among_others(tmp_path):
    dark, bright = np.full((8, 8), 400), np.full((8, 8), 4000)
    xrays = read_xrays(_deep_list(tmp_path, dark, bright, dark), size=8, folder=tmp_path / "kept")
    assert xrays.images.float().mean((1, 2, 3)).tolist() == [25, 250, 25]
    assert "3 X-rays hold 12-bit values" in xrays.remarks[1]
    again = read_xrays(tmp_path / "deep.csv", size=8, folder=tmp_path / "kept")
    assert again.remarks == xrays.remarks


def test_x_rays_of_another_range_than_the_others_are_told(tmp_path):
    ramp = np.linspace(0, 255, 64).round().reshape(8, 8)
    remarks = read_xrays(_deep_list(tmp_path, ramp, 16 * ramp, 16 * ramp), size=8).remarks
    assert any("1 of 3 X-rays in 16-bit files have no value above 255" in remark for remark in remarks)


def test_what_pandas_writes_for_nothing_is_unknown_and_nobody(tmp_path):
    path = _deep_list(tmp_path, *[np.full((8, 8), 40000)] * 4)
    path.write_text("image,patient,Edema,Atelectasis\n0.png,a,1,NaN\n1.png,b,NA,0\n2.png,nan,1,1\n3.png,c,0,None")
    xrays = read_xrays(path, size=8)
    assert xrays.patients == ("a", "b", "c")
    assert torch.equal(xrays.labels.isnan(), torch.tensor([[False, True], [True, False], [False, True]]))


def test_nearly_black_sets_are_told(tmp_path):
    stray = np.full((8, 8), 300)
    stray[0, 0] = 65535  # a marker that was burnt in
    remarks = read_xrays(_deep_list(tmp_path, stray, stray), size=8).remarks
    assert "nearly black" in remarks[-1]
    gray = read_xrays(_deep_list(tmp_path, stray + 9000, stray), size=8).remarks
    assert not any("nearly black" in remark for remark in gray)


@pytest.mark.parametrize(
    ("uncertain", "labels", "words"),
    [
        (None, [1, 0, math.nan], "unknown"),
        ("ones", [1, 0, 1], "present"),
        ("zeros", [1, 0, 0], "absent"),
        ("mixed", [1, 0, 1], "present for Edema"),
    ],
)
def test_doubt_in_a_plain_list_is_unknown_unless_asked_and_counted(tmp_path, uncertain, labels, words):
    rows = ["0.png,a,1,1", "1.png,b,0,0", "2.png,c,-1,0"]
    for number in range(3):
        Image.new("L", (8, 8), 90).save(tmp_path / f"{number}.png")
    (tmp_path / "list.csv").write_text("\n".join(["image,patient,Edema,Consolidation", *rows]))
    xrays = read_xrays(tmp_path / "list.csv", size=8, uncertain=uncertain)
    edema = xrays.labels[:, xrays.classes.index("Edema")].tolist()
    assert edema == pytest.approx(labels, nan_ok=True)
    assert f"-1 (uncertain) stands 1 times and counts as {words}" in xrays.remarks[1]
    assert "Consolidation 1 / 2 / 0" in xrays.remarks[0]
