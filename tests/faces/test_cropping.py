import polars as pl
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from fairveil.base.errors import FairveilError
from fairveil.data import FaceTable
from fairveil.data.synthetic import SyntheticFaces
from fairveil.faces.cropping import cut_crops
from fairveil.faces.embedding import faces_that_count
from fairveil.faces.recognizers import Framing


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


def test_faces_are_found_and_lie_where_a_recognizer_wants_them(detector, portrait, tmp_path):
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
