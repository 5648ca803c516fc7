"""Faces of a table of photos: the same numbers as one by one, in parts that survive, kept as Parquet."""

import json
import multiprocessing
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image
from torch import nn

from fairveil.base.errors import FairveilError
from fairveil.data.table import FaceTable
from fairveil.faces import embedding
from fairveil.faces.canvas import view_of_face
from fairveil.faces.detection import Detector
from fairveil.faces.embedding import Embeddings, embed_faces, fingerprint
from fairveil.faces.recognizers import Framing, Recognizer
from fairveil.faces.zoo import load_recognizer
from fairveil.images import read_photo

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def sought(needs_models):
    """A detector as `embed_faces` uses it."""
    needs_models("mtcnn-pnet", "mtcnn-rnet", "mtcnn-onet")
    return Detector.pretrained(minimum_face=embedding.MINIMUM_FACE)


@pytest.fixture(scope="module")
def folder(portrait, tmp_path_factory):
    """Photos of one woman in several sizes, one of which shows her twice, and one of which shows nobody."""
    root = tmp_path_factory.mktemp("photos")
    head = Image.fromarray(portrait).crop((100, 0, 400, 300))
    small = head.resize((200, 200))
    twice = Image.new("RGB", (560, 320))  # her large face is far from the center, her small one near it
    twice.paste(head.resize((250, 250)), (0, 0))
    twice.paste(head.resize((150, 150)), (255, 85))
    pictures = {
        "ada/one.png": head,
        "ada/two.png": small,
        "ada/twice.png": twice,
        "ada/three.png": small.rotate(12),
        "bea/four.png": small.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        "bea/nobody.png": Image.new("RGB", (200, 200), "grey"),
        "bea/large.png": head.resize((700, 700)),
    }
    for name, picture in pictures.items():
        (root / name).parent.mkdir(exist_ok=True)
        picture.save(root / name)
    return root


@pytest.fixture
def table(folder):
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.png"))
    return _table(folder, names)


def _table(root: Path, names: list[str]) -> FaceTable:
    people = [name.split("/")[0] for name in names]
    frame = pl.DataFrame({"image": names, "identity": people, "hair": [person[-1:] for person in people]})
    return FaceTable(frame, root, "a test", ("hair",))


def _one_by_one(root: Path, embeddings: Embeddings, recognizer: Recognizer) -> torch.Tensor:
    """What the recognizer gives for the same landmarks without any batching."""
    rows = []
    for image, points in embeddings.frame.select("image", "landmarks").iter_rows():
        photo = read_photo(root / image).pixels
        rows.append(recognizer.embed(*view_of_face(photo, torch.tensor(points).view(5, 2))))
    return torch.cat(rows)


def _framed_otherwise() -> Recognizer:
    torch.manual_seed(3)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 20 * 20, 4))
    return Recognizer.from_module(network, name="small", framing=Framing(size=20, zoom=1.1, drop=-0.1))


@torch.no_grad()
def test_batches_change_nothing(table, sought, tiny_recognizers):
    recognizers = [*tiny_recognizers, _framed_otherwise()]
    found = embed_faces(table, recognizers, detector=sought, which="all")
    assert found.recognizers == ("tiny-1", "tiny-2", "small")
    assert len(found) == 7  # of seven photos one shows two faces and one shows none
    for recognizer in recognizers:
        expected = _one_by_one(table.root, found, recognizer)
        assert torch.allclose(found.vectors(recognizer.name), expected, atol=TOLERANCE)


@pytest.mark.slow
@torch.no_grad()
def test_batches_change_nothing_for_pretrained_networks(table, sought, needs_models):
    needs_models("mobilefacenet-512", "dlib-resnet.json", "dlib-resnet.bin")
    recognizers = [load_recognizer(name) for name in ("mobilefacenet-512", "dlib-resnet")]
    found = embed_faces(table, recognizers, detector=sought, which="all")
    for recognizer in recognizers:
        expected = _one_by_one(table.root, found, recognizer)
        assert torch.allclose(found.vectors(recognizer.name), expected, atol=TOLERANCE)


def test_faces_are_those_of_the_detector_with_their_labels(table, sought, tiny_recognizers):
    found = embed_faces(table, tiny_recognizers[:1], detector=sought)
    one = sought.detect([read_photo(table.root / "ada/one.png").pixels])[0]
    row = found.frame.row(by_predicate=pl.col("image") == "ada/one.png", named=True)
    assert np.allclose(row["box"], one.boxes[0], atol=1e-3)
    assert np.allclose(row["landmarks"], one.landmarks[0].flatten(), atol=1e-3)
    assert row["detection_score"] == pytest.approx(float(one.scores[0]), abs=1e-4)
    assert (row["identity"], row["hair"], found.groups) == ("ada", "a", ("hair",))
    assert found.without_face == ("bea/nobody.png",)
    assert found.frame["image"].to_list() == [i for i in table.frame["image"] if i not in found.without_face]


def test_the_central_and_the_largest_face_differ_where_they_should(table, sought, tiny_recognizers):
    width = {}
    for which in ("central", "largest", "all"):
        found = embed_faces(table, tiny_recognizers[:1], detector=sought, which=which)
        boxes = found.frame.filter(pl.col("image") == "ada/twice.png")["box"].to_list()
        width[which] = [box[2] - box[0] for box in boxes]
    assert len(width["all"]) == 2 and width["all"][0] > width["all"][1]
    assert width["largest"] == width["all"][:1]
    assert width["central"] == width["all"][1:]


@torch.no_grad()
def test_aligned_crops_are_taken_as_they_are(portrait, tmp_path, tiny_recognizers):
    for size in (112, 224):
        Image.fromarray(portrait[:250, 100:350]).resize((size, size)).save(tmp_path / f"{size}.png")
    Image.fromarray(portrait[:250, 100:300]).save(tmp_path / "oblong.png")
    names = ["112.png", "224.png", "oblong.png"]
    table = FaceTable(pl.DataFrame({"image": names}), tmp_path, "crops", ())
    found = embed_faces(table, tiny_recognizers, which="aligned")
    assert found.frame["image"].to_list() == names[:2]
    assert "no aligned square crop" in found.unreadable["oblong.png"]
    for row, size in enumerate((112, 224)):
        photo = read_photo(tmp_path / f"{size}.png").pixels
        points = Framing(size=size).landmarks
        assert torch.allclose(torch.tensor(found.frame["landmarks"].to_list()[row]).view(5, 2), points)
        for recognizer in tiny_recognizers:
            expected = recognizer.embed(*view_of_face(photo, points))[0]
            assert torch.allclose(found.vectors(recognizer.name)[row], expected, atol=TOLERANCE)
    small = Framing(size=112)
    whole = read_photo(tmp_path / "112.png").pixels[None].float() / 255
    assert torch.allclose(small.crop(whole, small.landmarks[None]), whole, atol=1e-4)  # so nothing is cut away


def test_what_cannot_be_read_is_told_and_the_rest_is_embedded(folder, sought, tiny_recognizers, tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff nothing")
    table = _table(folder, ["ada/one.png", str(broken), "ada/absent.png"])
    found = embed_faces(table, tiny_recognizers, detector=sought)
    assert len(found) == 1 and found.without_face == ()
    assert list(found.unreadable) == [str(broken), "ada/absent.png"]
    with pytest.raises(FairveilError, match=r"None of the 1 photos of a test can be read.*not there"):
        embed_faces(_table(folder, ["ada/absent.png"]), tiny_recognizers, detector=sought)


def test_no_face_anywhere_is_an_error(folder, sought, tiny_recognizers):
    with pytest.raises(FairveilError, match="In none of the 1 photos"):
        embed_faces(_table(folder, ["bea/nobody.png"]), tiny_recognizers, detector=sought)


def test_parts_do_not_change_the_result_and_progress_reaches_the_end(table, sought, tiny_recognizers, monkeypatch):
    whole = embed_faces(table, tiny_recognizers, detector=sought, which="all")
    for part in (1, 3):
        monkeypatch.setattr(embedding, "PART", part)
        counts: list[int] = []
        found = embed_faces(table, tiny_recognizers, detector=sought, which="all", on_photo=counts.append)
        assert found.without_face == whole.without_face
        assert found.frame["image", "identity", "hair"].equals(whole.frame["image", "identity", "hair"])
        assert np.allclose(found.frame["landmarks"].to_numpy(), whole.frame["landmarks"].to_numpy(), atol=1e-3)
        assert torch.allclose(found.vectors("tiny-2"), whole.vectors("tiny-2"), atol=TOLERANCE)
        assert counts == sorted(counts) and counts[-1] == len(table)


@pytest.fixture
def reads(monkeypatch):
    """The images that were read, as a list that grows."""
    images: list[str] = []
    photo = FaceTable.photo

    def noted(self, index):
        images.append(self.frame["image"][index])
        return photo(self, index)

    monkeypatch.setattr(FaceTable, "photo", noted)
    return images


def test_only_what_changed_is_done_again(folder, sought, tiny_recognizers, tmp_path, reads, monkeypatch):
    monkeypatch.setattr(embedding, "PART", 1)
    root = tmp_path / "copy"
    for name in ("ada/one.png", "bea/four.png"):
        (root / name).parent.mkdir(parents=True)
        (root / name).write_bytes((folder / name).read_bytes())
    table = _table(root, ["ada/one.png", "bea/four.png"])

    def again(table=table, recognizers=tiny_recognizers, **options):
        reads.clear()
        found = embed_faces(table, recognizers, detector=options.get("detector", sought), parts=tmp_path / "parts")
        return found, list(reads)

    both = ["ada/one.png", "bea/four.png"]
    first, read = again()
    assert read == both
    second, read = again()
    assert read == [] and second.frame.equals(first.frame)
    relabeled = replace(table, frame=table.frame.with_columns(identity=pl.lit("cleo")))
    found, read = again(relabeled)
    assert read == [] and found.frame["identity"].to_list() == ["cleo", "cleo"]
    (root / "ada/one.png").write_bytes((folder / "ada/two.png").read_bytes())
    assert again()[1] == both[:1]
    assert again(recognizers=tiny_recognizers[:1])[1] == both
    assert again(detector=Detector(sought.pnet, sought.rnet, sought.onet, minimum_face=60))[1] == both
    assert again(detector=Detector(sought.pnet, sought.rnet, sought.onet, minimum_face=40, at_border=False))[1] == both


def test_a_recognizer_of_the_same_name_is_known_by_its_weights_and_its_crop(tiny_recognizers):
    first, second = tiny_recognizers
    named_alike = Recognizer(first.name, second.network, first.framing)
    framed_otherwise = Recognizer(first.name, first.network, Framing(size=32, zoom=1.01))
    same = Recognizer(first.name, first.network, first.framing)
    assert fingerprint(first) == fingerprint(same)
    assert len({fingerprint(r) for r in (first, second, named_alike, framed_otherwise)}) == 4


class _Slow(nn.Module):
    def forward(self, crops):
        time.sleep(0.2)
        return crops.mean((2, 3)) + torch.arange(3)


def _embed_slowly(root: Path, names: list[str], parts: Path) -> None:
    torch.set_num_threads(1)
    embedding.PART = 1
    table = FaceTable(pl.DataFrame({"image": names}), root, "crops", ())
    embed_faces(table, [Recognizer.from_module(_Slow(), name="slow")], which="aligned", parts=parts)


@pytest.mark.slow
def test_a_killed_process_loses_one_part_and_another_goes_on(portrait, tmp_path, reads, monkeypatch):
    monkeypatch.setattr(embedding, "PART", 1)
    names = [f"{number}.png" for number in range(10)]
    for number, name in enumerate(names):
        Image.fromarray(portrait[number : number + 112, 150:262]).save(tmp_path / name)
    parts = tmp_path / "parts"
    worker = multiprocessing.get_context("spawn").Process(target=_embed_slowly, args=(tmp_path, names, parts))
    worker.start()
    while len(list(parts.glob("0*.parquet"))) < 3:
        time.sleep(0.01)
        assert worker.is_alive()
    os.kill(worker.pid, signal.SIGKILL)
    worker.join()
    finished = len(list(parts.glob("0*.parquet")))
    table = FaceTable(pl.DataFrame({"image": names}), tmp_path, "crops", ())
    found = embed_faces(table, [Recognizer.from_module(_Slow(), name="slow")], which="aligned", parts=parts)
    assert 3 <= finished < 10
    assert reads == names[finished:]
    assert found.frame["image"].to_list() == names


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"which": "biggest"}, "central, largest, all, aligned"),
        ({"recognizers": []}, "Without a recognizer"),
        ({"table": None}, "no photos in a test"),
        ({"name": "tiny-1"}, "Two recognizers have one name"),
        ({"name": "identity"}, "like a column of the table"),
        ({"name": "box"}, "like a column of the table"),
    ],
)
def test_what_makes_no_sense_is_refused(table, sought, tiny_recognizers, change, said):
    recognizers = change.get("recognizers", tiny_recognizers)
    if "name" in change:
        recognizers = [*recognizers, Recognizer(change["name"], tiny_recognizers[0].network)]
    wanted = table.take([]) if "table" in change else table
    with pytest.raises(FairveilError, match=said):
        embed_faces(wanted, recognizers, detector=sought, which=change.get("which", "central"))


def test_parquet_holds_everything(table, sought, tiny_recognizers, tmp_path):
    written = embed_faces(table, tiny_recognizers, detector=sought)
    written = replace(written, unreadable={"ada/absent.png": "It is not there."})
    written.write(tmp_path / "faces.parquet")
    read = Embeddings.read(tmp_path / "faces.parquet")
    assert read.frame.equals(written.frame) and read.frame.schema == written.frame.schema
    assert (read.without_face, read.unreadable, read.provenance) == (
        written.without_face,
        written.unreadable,
        written.provenance,
    )
    assert read.provenance.thresholds == {"tiny-1": 0.9, "tiny-2": 0.9}
    assert read.provenance.data == "a test" and "faces from 40 px" in read.provenance.detector
    with pytest.raises(FairveilError, match="overwrite=True"):
        written.write(tmp_path / "faces.parquet")
    with pytest.raises(FairveilError, match="cannot be written"):
        written.write(tmp_path / "nowhere" / "faces.parquet")


@pytest.mark.parametrize("kind", [pl.List(pl.Float64), pl.List(pl.Float32), pl.Array(pl.Float64, 3)])
def test_embeddings_of_other_programs_are_read_as_unit_vectors(tmp_path, kind):
    vectors = np.random.default_rng(0).normal(size=(5, 3))
    pl.DataFrame(
        {"identity": list("aabbc"), "age": [1, 2, 3, 4, 5], "mine": vectors.tolist()}, schema_overrides={"mine": kind}
    ).write_parquet(tmp_path / "mine.parquet")
    read = Embeddings.read(tmp_path / "mine.parquet")
    assert (read.recognizers, read.groups, read.provenance) == (("mine",), ("age",), None)
    expected = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    assert np.allclose(read.vectors().numpy(), expected, atol=1e-6)
    assert read.frame["image"].to_list() == [f"row {row}" for row in range(5)]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([[1.0, 2.0], [1.0, float("nan")]], "row 1 of the column 'mine' has numbers that are missing or not finite"),
        ([[float("inf"), 2.0], [1.0, 1.0]], "row 0 of the column 'mine' has numbers that are missing or not finite"),
        ([[1.0, 2.0], [1.0, None]], "row 1 of the column 'mine' has numbers that are missing or not finite"),
        ([[1.0, 2.0], [0.0, 0.0]], "row 1 of the column 'mine' is all zeros"),
        ([[1.0, 2.0], [1.0, 2.0], [1.0]], "row 2 of the column 'mine' has 1 numbers where others have 2"),
        ([[1.0, 2.0], None], "row 1 of the column 'mine' has no embedding"),
        ([[], []], "row 0 of the column 'mine' has no numbers"),
        ([], "has no rows"),
        (["text"], "has no column of embeddings.* identity, mine"),
        ([1.0], "has no column of embeddings.* identity, mine"),
    ],
)
def test_embeddings_that_say_nothing_are_refused(tmp_path, rows, said):
    kinds = {} if rows in (["text"], [1.0]) else {"mine": pl.List(pl.Float64)}
    frame = pl.DataFrame({"identity": ["a"] * len(rows), "mine": rows}, schema_overrides=kinds)
    frame.write_parquet(tmp_path / "mine.parquet")
    with pytest.raises(FairveilError, match=said):
        Embeddings.read(tmp_path / "mine.parquet")


def test_files_that_are_no_embeddings_are_refused(tmp_path):
    (tmp_path / "text.parquet").write_text("image,identity\n")
    with pytest.raises(FairveilError, match="cannot be read as a Parquet file"):
        Embeddings.read(tmp_path / "text.parquet")
    with pytest.raises(FairveilError, match="is not there"):
        Embeddings.read(tmp_path / "absent.parquet")
    frame = pl.DataFrame({"mine": [[1.0, 0.0]]})
    frame.write_parquet(tmp_path / "later.parquet", metadata={"fairveil": json.dumps({"provenance": {"new": 1}})})
    with pytest.raises(FairveilError, match="another version of fairveil"):
        Embeddings.read(tmp_path / "later.parquet")


def test_one_of_several_recognizers_has_to_be_named():
    frame = pl.DataFrame(
        {"image": ["a"], "one": [[1.0, 0.0]], "two": [[0.0, 1.0]]},
        schema_overrides={"one": pl.Array(pl.Float32, 2), "two": pl.Array(pl.Float32, 2)},
    )
    embeddings = Embeddings(frame)
    assert embeddings.vectors("two").tolist() == [[0.0, 1.0]]
    with pytest.raises(FairveilError, match="of one, two: say which"):
        embeddings.vectors()
    with pytest.raises(FairveilError, match="'three', but of one, two"):
        embeddings.vectors("three")


@pytest.mark.parametrize("damage", ["header", "zip", "size"])
def test_a_damaged_numpy_file_is_refused_in_a_sentence(damage, tmp_path):
    path = tmp_path / "vectors.npy"
    np.save(path, np.eye(3, 8, dtype=np.float32))
    data = path.read_bytes()
    if damage == "size":  # claims terabytes
        data = data.replace(b"(3, 8), }" + b" " * 10, b"(3, 99999999999), }")
    path.write_bytes({"header": data.replace(b"}", b"("), "zip": b"PK\3\4" + data, "size": data}[damage])
    with pytest.raises(FairveilError, match="cannot be read as an array of numbers"):
        Embeddings.from_array(path, pl.DataFrame({"identity": ["a", "b", "c"]}))


def test_a_parquet_file_at_which_its_reader_panics_is_refused_in_a_sentence(monkeypatch, tmp_path):
    def panic(*arguments, **more):
        raise pl.exceptions.PanicException("assertion failed")

    monkeypatch.setattr(pl, "read_parquet", panic)
    with pytest.raises(FairveilError, match="cannot be read as a Parquet file: assertion failed"):
        Embeddings.read(tmp_path / "faces.parquet")
