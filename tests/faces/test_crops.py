import polars as pl
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from tiny_backbone import drawn_crops

from fairveil.audit.imbalance import Shares, draw, largest
from fairveil.base.errors import FairveilError
from fairveil.data import FaceTable
from fairveil.data.population import Population
from fairveil.data.synthetic import SyntheticFaces
from fairveil.faces.crops import FaceCrops, cut_crops
from fairveil.faces.embedding import faces_that_count
from fairveil.faces.recognizers import Framing


def _crops(labels, *, classes=None, groups=None):
    labels = torch.tensor(labels)
    images = torch.arange(len(labels) * 3 * 16 * 16).reshape(-1, 3, 16, 16).byte()
    people = classes or tuple(f"p{number}" for number in range(int(labels.max()) + 1))
    return FaceCrops(images, labels, people, "some", tuple(map(str, range(len(labels)))), groups or {})


def test_the_frame_is_what_audits_draw_sets_from():
    crops = drawn_crops()
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
    crops = drawn_crops()
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
    drawn_crops().write(path)
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
        ({"images": torch.zeros(2, 3, 16, 8, dtype=torch.uint8)}, "RGB squares"),
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


@pytest.fixture
def people(tmp_path):
    """Aligned crops of some sizes in a table, one without identity, one that is no picture, one that is no square."""
    generator = torch.Generator().manual_seed(0)
    for name, size in (("a", (32, 32)), ("b", (64, 64)), ("c", (32, 32)), ("d", (32, 48)), ("f", (32, 32))):
        coarse = Image.fromarray(torch.randint(256, (4, 4, 3), generator=generator).byte().numpy())
        coarse.resize((size[1], size[0]), Image.Resampling.BICUBIC).save(tmp_path / f"{name}.png")
    (tmp_path / "e.png").write_text("nothing")
    frame = pl.DataFrame(
        {
            "image": [f"{name}.png" for name in "abcdef"],
            "identity": ["Bob", "Ann", None, "Ann", "Ann", "Bob"],
            "hair": ["red", "fair", "red", "fair", "fair", None],
        }
    )
    return FaceTable.of(frame, tmp_path, name="people")


def test_aligned_crops_are_taken_as_they_are_and_what_is_left_out_is_counted(people):
    done = []
    crops = cut_crops(people, size=32, which="aligned", on_photo=done.append)
    assert done == [1, 2, 3, 4, 5, 6]
    assert crops.frame.rows() == [("a.png", "Bob", "red"), ("b.png", "Ann", "fair"), ("f.png", "Bob", None)]
    assert crops.classes == ("Ann", "Bob")
    assert crops.left_out == {"no identity": 1, "not square, so no aligned crop": 1, "not readable": 1}
    assert torch.equal(crops.images[0], people.photo(0))
    smaller = F.interpolate(people.photo(1)[None].float(), (32, 32), mode="bilinear", antialias=True)[0]
    assert (crops.images[1].float() - smaller).abs().max() < 4


def test_kept_crops_are_cut_once_and_lie_in_a_file(people, tmp_path):
    def cut(table=people, size=32):
        return cut_crops(table, size=size, which="aligned", folder=tmp_path / "kept", on_photo=told.append)

    told = []
    first, again = cut(), cut()
    assert told == [1, 2, 3, 4, 5, 6]
    in_memory = cut_crops(people, size=32, which="aligned")
    for crops in (first, again):
        assert torch.equal(crops.images, in_memory.images)
        assert crops.fingerprint() == in_memory.fingerprint()
        assert crops.left_out == in_memory.left_out
    (kept,) = (tmp_path / "kept").glob("[!.]*")
    with open("/proc/self/maps") as maps:  # noqa: PTH123
        assert kept.name in maps.read()
    assert cut(size=16).size == 16
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")  # another photo of the same name
    assert not torch.equal(cut().images, in_memory.images)
    assert len(told) == 18


def test_generated_people_of_other_seeds_are_not_taken_for_those_that_are_kept(tmp_path):
    drawn = [
        cut_crops(
            SyntheticFaces(identities=2, per_identity=1, size=64, framing="crop", seed=seed).table(),
            size=64,
            which="aligned",
            folder=tmp_path,
        )
        for seed in (0, 1)
    ]
    assert drawn[0].image_names == drawn[1].image_names
    assert not torch.equal(drawn[0].images, drawn[1].images)


def test_faces_are_found_and_lie_where_a_recogniser_wants_them(detector, portrait, tmp_path):
    (tmp_path / "Collins").mkdir()
    Image.fromarray(portrait).save(tmp_path / "Collins" / "1.png")
    Image.new("RGB", (80, 80)).save(tmp_path / "Collins" / "2.png")
    crops = cut_crops(FaceTable.from_folder(tmp_path), size=112, detector=detector)
    assert crops.left_out == {"no face found": 1}
    again = faces_that_count(crops.images[0], detector, "central")
    assert (again.landmarks[0] - Framing().landmarks).norm(dim=1).max() < 8  # where the face fills the picture


def test_photos_nobody_is_named_in_are_refused(people):
    with pytest.raises(FairveilError, match="has no identities"):
        cut_crops(people.take([2]), which="aligned")
    with pytest.raises(FairveilError, match=r"None of the 1 photos .* \(not readable: 1\)"):
        cut_crops(people.take([4]), which="aligned")
    with pytest.raises(FairveilError, match="choose which counts"):
        cut_crops(people, which="all")
