import json

import pytest
import torch
from safetensors.torch import save_file

from fairveil.audit.imbalance import Shares, draw, largest
from fairveil.base.errors import FairveilError
from fairveil.data.face_crops import FaceCrops
from fairveil.data.population import Population


def _crops(labels, *, classes=None, groups=None):
    labels = torch.tensor(labels)
    images = torch.arange(len(labels) * 3 * 16 * 16).reshape(-1, 3, 16, 16).byte()
    people = classes or tuple(f"p{number}" for number in range(int(labels.max()) + 1))
    return FaceCrops(images, labels, people, "some", tuple(map(str, range(len(labels)))), groups or {})


def _six_people():
    groups = {"tone": tuple("ccwcww"), "shape": tuple("lrlrlr")}
    rows = [number for number in range(6) for _ in range(4)]
    return _crops(rows, groups={column: tuple(values[row] for row in rows) for column, values in groups.items()})


def test_the_frame_is_what_audits_draw_sets_from():
    crops = _six_people()
    assert crops.frame.columns == ["image", "identity", "tone", "shape"]
    population = Population.of(crops.frame, "tone")
    make_up = largest(population, [Shares.balanced(population.groups)])[0]
    drawn = crops.take(draw(population, make_up, seed=0))
    counts = drawn.make_up()["tone"]
    assert {tone: of["identities"] for tone, of in counts.items()} == make_up.identities
    assert {tone: of["images"] for tone, of in counts.items()} == make_up.images
    assert len(drawn.classes) == sum(make_up.identities.values())


def test_rows_taken_keep_their_pictures_people_and_groups_and_nobody_else_is_left():
    crops = _crops([0, 1, 2, 2], groups={"g": ("a", None, "b", "b")})
    taken = crops.take([3, 0])
    assert taken.classes == ("p0", "p2")
    assert taken.labels.tolist() == [1, 0]
    assert torch.equal(taken.images, crops.images[[3, 0]])
    assert taken.frame.rows() == [("3", "p2", "b"), ("0", "p0", "a")]


def test_people_held_out_are_others_and_have_two_crops():
    crops = _crops([0, 0, 1, 1, 2, 3, 3, 4, 4, 5])
    rest, held = crops.hold_out(0.3, seed=3)
    assert not {*rest.classes} & {*held.classes}
    assert {*rest.classes} | {*held.classes} == {*crops.classes}
    assert len(held.classes) == 2
    assert not {"p2", "p5"} & {*held.classes}
    assert crops.hold_out(0.3, seed=3)[1].classes == held.classes


@pytest.mark.parametrize("labels", [[0, 0, 1, 1, 2, 2], [0, 1, 2, 3, 4, 4]])
def test_too_few_people_to_hold_out_are_told_of(labels):
    with pytest.raises(FairveilError, match=r"too few to hold out 2 .*a share of 0"):
        _crops(labels).hold_out(0.1, seed=0)


def test_what_is_written_is_read_again_and_lies_in_the_file(tmp_path):
    crops = _six_people()
    crops.write(tmp_path / "some.crops")
    read = FaceCrops.read(tmp_path / "some.crops")
    assert torch.equal(read.images, crops.images)
    assert torch.equal(read.labels, crops.labels)
    assert read.frame.equals(crops.frame)
    assert (read.name, read.classes, read.fingerprint()) == (crops.name, crops.classes, crops.fingerprint())
    with open("/proc/self/maps") as maps:  # noqa: PTH123
        assert "some.crops" in maps.read()
    with pytest.raises(FairveilError, match="already exists"):
        crops.write(tmp_path / "some.crops")


def test_damaged_and_foreign_files_are_refused(tmp_path):
    path = tmp_path / "some.crops"
    with pytest.raises(FairveilError, match="is not there or is damaged"):
        FaceCrops.read(path)
    _six_people().write(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(FairveilError, match="is not there or is damaged"):
        FaceCrops.read(path)


def test_the_fingerprint_tells_groups_apart():
    assert (
        _crops([0, 1], groups={"g": ("a", "b")}).fingerprint() != _crops([0, 1], groups={"g": ("b", "a")}).fingerprint()
    )


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"images": torch.zeros(2, 3, 16, 8, dtype=torch.uint8)}, r"must be uint8 of shape \(N, 3, S, S\)"),
        ({"image_names": ("a",)}, "2 crops, but 1 values of image"),
        ({"groups": {"identity": ("a", "b")}}, "another name"),
        ({"labels": torch.tensor([0, 2])}, "must lie between 0 and 1"),
    ],
)
def test_what_does_not_fit_together_is_refused(changed, sentence):
    given = {
        "images": torch.zeros(2, 3, 16, 16, dtype=torch.uint8),
        "labels": torch.tensor([0, 1]),
        "classes": ("a", "b"),
        "name": "two",
        "image_names": ("1", "2"),
    }
    with pytest.raises(FairveilError, match=sentence):
        FaceCrops(**{**given, **changed})


def test_the_fingerprint_is_that_of_earlier_versions():
    images = torch.arange(3 * 3 * 4 * 4).reshape(3, 3, 4, 4).byte()
    groups = {"g": ("u", None, "v")}
    crops = FaceCrops(images, torch.tensor([0, 1, 1]), ("a", "b"), "x", ("1", "2", "3"), groups, {"gone": 2})
    assert crops.fingerprint() == "8b6cfd1f18d25f68b45b503877431d1589253866463d769066295928ad23e8f9"


def test_a_file_of_an_earlier_version_is_read(tmp_path):
    words = {
        "classes": ["a", "b"],
        "name": "x",
        "image_names": ["1", "2"],
        "groups": {"g": ["u", None]},
        "left_out": {"no face found": 1},
    }
    metadata = {"format": "fairveil crops 1", **{key: json.dumps(value) for key, value in words.items()}}
    pixels = torch.arange(2 * 3 * 16).reshape(2, 3, 4, 4).byte()
    tensors = {"images": pixels, "labels": torch.tensor([0, 1])}
    save_file(tensors, tmp_path / "old.crops", metadata)
    crops = FaceCrops.read(tmp_path / "old.crops")
    assert torch.equal(crops.images, pixels)
    assert crops.frame.rows() == [("1", "a", "u"), ("2", "b", None)]
    assert crops.left_out == {"no face found": 1}
    save_file(tensors, tmp_path / "odd.crops", metadata | {"odd": "1"})
    with pytest.raises(FairveilError, match=r"is damaged: give a file of FaceCrops\.write"):
        FaceCrops.read(tmp_path / "odd.crops")
