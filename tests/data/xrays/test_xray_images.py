import json
import math

import pytest
import torch
from safetensors.torch import save_file

from fairveil.base.errors import FairveilError
from fairveil.data.xrays import Xrays
from fairveil.training import Batches

NAN = math.nan


def _xrays(patients="aabbbcd", *, labels=None, groups=None, classes=("Edema", "Atelectasis")):
    count = len(patients)
    images = torch.arange(count * 8 * 8).reshape(count, 1, 8, 8).byte()
    if labels is None:
        labels = torch.tensor([[row % 2, NAN if row == 1 else row % 3 == 0] for row in range(count)])
    names = tuple(map(str, range(count)))
    return Xrays(images, labels, classes, "some", names, groups or {}, patients=tuple(patients))


def test_rows_taken_keep_their_pictures_labels_patients_and_groups():
    xrays = _xrays("abcb", groups={"sex": ("M", None, "F", "F")})
    taken = xrays.take([3, 1])
    assert torch.equal(taken.images, xrays.images[[3, 1]])
    assert torch.equal(taken.labels.isnan(), xrays.labels[[3, 1]].isnan())
    assert torch.equal(taken.labels.nan_to_num(), xrays.labels[[3, 1]].nan_to_num())
    assert taken.frame.rows() == [("3", "b", "F"), ("1", "b", None)]
    assert (len(taken), taken.size, taken.classes) == (2, 8, xrays.classes)


@pytest.mark.parametrize("share", [0.01, 0.3, 0.5, 0.99])
def test_a_split_puts_a_share_of_the_patients_aside_with_all_their_images(share):
    xrays = _xrays("aabbbcdeefghij")
    rest, aside = xrays.split(share, seed=4)
    assert not {*rest.patients} & {*aside.patients}
    assert sorted(rest.image_names + aside.image_names) == sorted(xrays.image_names)
    assert len({*aside.patients}) == min(max(1, round(10 * share)), 9)
    for part in (rest, aside):
        assert [int(name) for name in part.image_names] == sorted(int(name) for name in part.image_names)


def test_who_is_put_aside_depends_on_the_seed_and_not_on_the_order_of_rows():
    xrays = _xrays("aabbbcdeefghij")
    drawn = {*xrays.split(0.5, seed=0)[1].patients}
    turned = xrays.take(list(range(len(xrays)))[::-1])
    assert {*turned.split(0.5, seed=0)[1].patients} == drawn
    assert any({*xrays.split(0.5, seed=seed)[1].patients} != drawn for seed in range(1, 6))


def test_too_few_patients_and_impossible_shares_are_told_of():
    with pytest.raises(FairveilError, match="X-rays of 1 patient, too few"):
        _xrays("aaa").split(0.5, seed=0)
    for share in (0, 1, -0.5):
        with pytest.raises(FairveilError, match="give one between 0 and 1"):
            _xrays().split(share, seed=0)


def test_what_is_written_is_read_again_and_lies_in_the_file(tmp_path):
    xrays = _xrays(groups={"sex": ("M", None, "F", "F", "M", "M", "F")})
    path = tmp_path / "some.xrays"
    xrays.write(path)
    read = Xrays.read(path)
    assert read.fingerprint() == xrays.fingerprint()
    assert torch.equal(read.images, xrays.images)
    assert torch.equal(read.labels.isnan(), xrays.labels.isnan())
    assert read.frame.equals(xrays.frame)
    assert (read.name, read.classes, read.left_out) == (xrays.name, xrays.classes, xrays.left_out)
    with open("/proc/self/maps") as maps:  # noqa: PTH123
        assert "some.xrays" in maps.read()
    with pytest.raises(FairveilError, match="already exists"):
        xrays.write(path)


def test_damaged_files_are_refused(tmp_path):
    path = tmp_path / "some.xrays"
    with pytest.raises(FairveilError, match="is not there or is damaged"):
        Xrays.read(path)
    _xrays().write(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(FairveilError, match="is not there or is damaged"):
        Xrays.read(path)


def test_the_fingerprint_tells_apart_everything_there_is():
    groups = {"g": tuple("xyxyxyx")}
    others = [
        _xrays(groups={"g": tuple("yxyxyxy")}),
        _xrays("aabbbcc", groups=groups),
        _xrays(groups=groups, classes=("Edema", "Fracture")),
        _xrays(groups=groups, labels=torch.zeros(7, 2)),
        _xrays(groups=groups).take([1, 0, 2, 3, 4, 5, 6]),
    ]
    prints = {xrays.fingerprint() for xrays in [_xrays(groups=groups), *others]}
    assert len(prints) == 6
    assert _xrays(groups=groups).fingerprint() in prints


def test_nan_is_nan_whatever_its_bits():
    odd = torch.tensor([0x7FC00001, 0x3F800000], dtype=torch.int32).view(torch.float32)
    plain = torch.tensor([NAN, 1.0])
    one, other = (_xrays("a", labels=labels[None]) for labels in (odd, plain))
    assert one.fingerprint() == other.fingerprint()


def test_they_can_be_put_into_batches():
    batch = next(Batches(_xrays(), batch_size=4).epoch(torch.Generator()))
    assert batch.images.shape == (4, 1, 8, 8)
    assert batch.targets.shape == (4, 2) and batch.classes is None


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"images": torch.zeros(2, 3, 8, 8, dtype=torch.uint8)}, r"uint8 \(2, 3, 8, 8\): they must be uint8 of shape"),
        ({"images": torch.zeros(2, 1, 8, 9, dtype=torch.uint8)}, "must be uint8 of shape"),
        ({"images": torch.zeros(2, 1, 8, 8)}, "are float32"),
        ({"labels": torch.zeros(2, 2)}, r"must be float32 \(2, 1\)"),
        ({"labels": torch.zeros(2, 1, dtype=torch.int64)}, "labels of two are int64"),
        ({"labels": torch.tensor([[0.0], [-1.0]])}, "has the label -1"),
        ({"labels": torch.tensor([[0.0], [math.inf]])}, "has the label inf"),
        ({"classes": (), "labels": torch.zeros(2, 0)}, "name one or more"),
        ({"classes": ("a", "a"), "labels": torch.zeros(2, 2)}, "each once"),
        ({"image_names": ("a",)}, "2 X-rays, but 1 values of image"),
        ({"patients": ("a", "b", "c")}, "2 X-rays, but 3 values of patient"),
        ({"groups": {"sex": ("M",)}}, "1 values of sex"),
        ({"groups": {"patient": ("a", "b")}}, "another name"),
    ],
)
def test_what_does_not_fit_together_is_refused(changed, sentence):
    given = {
        "images": torch.zeros(2, 1, 8, 8, dtype=torch.uint8),
        "labels": torch.tensor([[0.0], [1.0]]),
        "classes": ("Edema",),
        "name": "two",
        "image_names": ("1", "2"),
        "patients": ("a", "b"),
    }
    with pytest.raises(FairveilError, match=sentence):
        Xrays(**{**given, **changed})


def test_the_fingerprint_is_that_of_earlier_versions_and_remarks_do_not_count(tmp_path):
    images = torch.arange(3 * 3 * 4 * 4).reshape(3, 3, 4, 4).byte()[:, :1]
    labels = torch.tensor([[0.0, 1.0], [NAN, 0.0], [1.0, 1.0]])
    known = {"groups": {"g": ("u", None, "v")}, "patients": ("p", "q", "q"), "remarks": ("said so",)}
    xrays = Xrays(images, labels, ("E", "F"), "x", ("1", "2", "3"), **known)
    assert xrays.fingerprint() == "92f0310c19729ffc5a92fe512f6fb877fbfcaf234269df4fffe3627fd23e7894"
    xrays.write(tmp_path / "some.xrays")
    assert Xrays.read(tmp_path / "some.xrays").remarks == ("said so",)


def test_a_file_of_an_earlier_version_without_remarks_is_read(tmp_path):
    words = {"classes": ["E"], "name": "x", "image_names": ["1"], "patients": ["p"], "groups": {}, "left_out": {}}
    metadata = {"format": "fairveil xrays 1", **{key: json.dumps(value) for key, value in words.items()}}
    tensors = {"images": torch.zeros(1, 1, 4, 4, dtype=torch.uint8), "labels": torch.ones(1, 1)}
    save_file(tensors, tmp_path / "old.xrays", metadata)
    read = Xrays.read(tmp_path / "old.xrays")
    assert (read.patients, read.remarks, read.classes) == (("p",), (), ("E",))
