"""`fairveil embed` and `fairveil identify`, as a person uses them."""

import csv
import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image
from torch import nn

from fairveil.base.errors import FairveilError
from fairveil.cli import faces
from fairveil.faces import embedding
from fairveil.faces.recognizers import Framing, Recognizer
from fairveil.faces.vectors import Embeddings, Provenance, vector_column


@pytest.fixture
def fairveil(monkeypatch, run_fairveil, stand_in_zoo, tiny_recognizers):
    """The command, with three tiny recognizers for a zoo: gives exit code, stdout and stderr."""
    torch.manual_seed(5)
    flat = nn.Sequential(nn.Flatten(), nn.Linear(3 * 24 * 24, 32, bias=False))
    stand_in_zoo(
        [Recognizer.from_module(flat, name="default", framing=Framing(size=24), threshold=0.9), *tiny_recognizers]
    )
    monkeypatch.setattr(faces, "DEFAULT_RECOGNIZER", "default")
    return run_fairveil


@pytest.fixture
def people(tmp_path):
    """Folders of aligned "faces", a random texture with noise each: four photos each of five people."""
    root = tmp_path / "people"
    for person, name in enumerate("abcde"):
        rng = np.random.default_rng(person)
        texture = rng.uniform(40, 210, size=(48, 48, 3))
        (root / name).mkdir(parents=True)
        for photo in range(4):
            noisy = (texture + rng.normal(size=texture.shape) * 5).clip(0, 255).astype(np.uint8)
            Image.fromarray(noisy).resize((112, 112)).save(root / name / f"{photo}.png")
    return root


@pytest.fixture
def table(people):
    """The same as a CSV with a group column, without the person e."""
    images = sorted(path.relative_to(people).as_posix() for path in people.rglob("*.png") if path.parent.name != "e")
    frame = pl.DataFrame({"image": images, "identity": [image[0] for image in images]})
    path = people / "table.csv"
    frame.with_columns(hair=pl.col("identity").replace({"a": "red", "b": "red", "c": "fair", "d": "fair"})).write_csv(
        path
    )
    return path


def test_a_folder_is_embedded_and_said_so(fairveil, people, tmp_path):
    code, out, err = fairveil("embed", people, "-o", tmp_path / "faces.parquet", "--face", "aligned")
    assert (code, err.strip()) == (0, "")
    assert "faces.parquet: 20 faces in 20 photos, by default." in out
    read = embedding.Embeddings.read(tmp_path / "faces.parquet")
    assert read.frame["identity"].to_list() == sorted("abcde" * 4)
    assert [path.name for path in tmp_path.iterdir() if "parts" in path.name] == []


def test_faces_are_found_where_photos_are_no_crops(fairveil, detector, portrait, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(12):
        Image.new("RGB", (60, 60 + number)).save(folder / f"nobody-{number:02d}.png")
    Image.fromarray(portrait[:250, 100:350]).save(folder / "portrait.png")
    (folder / "broken.png").write_text("no picture")
    code, out, _ = fairveil("embed", folder, "-o", tmp_path / "faces.parquet")
    assert code == 0
    assert "1 faces in 14 photos" in out
    assert "No face was found in 12: nobody-00.png" in out and "nobody-09.png, and 2 more." in out
    assert "1 could not be used: " in out and "broken.png is" in out
    words = ("embed", folder, "-o", tmp_path / "more.parquet", "--recognizer", "tiny-1", "--recognizer", "tiny-2")
    code, out, _ = fairveil(*words, "--json")
    record = json.loads(out)
    assert (code, record["faces"], record["photos"], len(record["without_face"])) == (0, 1, 14, 12)
    assert record["recognizers"] == ["tiny-1", "tiny-2"] and list(record["unreadable"]) == ["broken.png"]
    code, _, err = fairveil("embed", folder, "-o", tmp_path / "none.parquet", "--minimum-face", 200)
    assert code == 1 and "In none of the 14 photos of in a face was found" in err


def test_nothing_is_overwritten_without_being_told_to(fairveil, people, tmp_path):
    out = tmp_path / "faces.parquet"
    out.write_text("mine")
    code, _, err = fairveil("embed", people, "-o", out, "--face", "aligned")
    assert code == 1 and "--overwrite" in err and out.read_text() == "mine"
    assert fairveil("embed", people, "-o", out, "--face", "aligned", "--overwrite")[0] == 0
    assert len(embedding.Embeddings.read(out)) == 20
    matches = tmp_path / "matches.csv"
    matches.write_text("mine")
    words = ("identify", "--gallery", out, "--probes", out, "--matches", matches)
    code, _, err = fairveil(*words)
    assert code == 1 and "--overwrite" in err and matches.read_text() == "mine"
    assert fairveil(*words, "--overwrite")[0] == 0 and "similarity" in matches.read_text()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["embed", "nowhere", "-o", "x.parquet"], 1, "There is no data set nowhere"),
        (["embed", "people", "-o", "nowhere/x.parquet"], 1, "no folder nowhere"),
        (["embed", "people", "-o", "people"], 1, "not an ordinary file"),
        (["embed", "", "-o", "x.parquet"], 2, "the name is empty"),
        (["embed", "people", "-o", "x.parquet", "--recognizer", "tiny-9"], 2, "no recognizer 'tiny-9'"),
        (["embed", "people", "-o", "x.parquet", "--face", "biggest"], 2, "biggest"),
        (["identify", "--gallery", "people", "--probes", "people", "--k", "1,x"], 2, "are no ranks"),
        (["identify", "--gallery", "people", "--probes", "people", "--k", "0"], 2, "are no ranks"),
        (["identify", "--gallery", "people", "--probes", "gone.parquet"], 1, "gone.parquet is not there"),
    ],
)
def test_mistakes_are_told_in_a_sentence(fairveil, people, monkeypatch, words, code, said):
    monkeypatch.chdir(people.parent)
    found, out, err = fairveil(*words)
    assert (found, out) == (code, "")
    assert said in " ".join(re.sub(r"[│\n]", " ", err).split())


def test_the_same_photos_on_both_sides_leave_each_one_out(fairveil, people, tmp_path):
    code, out, _ = fairveil("identify", "--gallery", people, "--probes", people, "--face", "aligned", "--k", "1,3,30")
    assert code == 0
    assert "every face among all the others" in out and "20 faces of 5" in out
    assert re.search(r"all +100.0 % \[54.3–100.0\] +100.0 % \[54.3–100.0\] +20 +5", out)
    assert "rank-30 would find everybody among 19 faces" in out


def test_parquet_and_photos_say_the_same(fairveil, people, table, tmp_path):
    for name, source in (("gallery", table), ("probes", people)):
        assert fairveil("embed", source, "-o", tmp_path / f"{name}.parquet", "--face", "aligned")[0] == 0
    parquet = [tmp_path / "gallery.parquet", tmp_path / "probes.parquet"]
    records = []
    for gallery, probes in ((table, people), (parquet[0], people), parquet):
        words = ("identify", "--gallery", gallery, "--probes", probes, "--face", "aligned", "--json")
        code, out, _ = fairveil(*words)
        assert code == 0
        records.append(json.loads(out)["recognizers"])
    assert records[0] == records[1] == records[2]
    (record,) = records[0]
    assert (record["probes"], record["gallery"], record["strangers"], record["copies"]) == (20, 16, 4, 16)
    assert record["accuracy"][0]["value"] == 1 and record["accuracy"][0]["probes"] == 16


def test_groups_are_told_apart(fairveil, table, tmp_path):
    words = ("identify", "--gallery", table, "--probes", table, "--face", "aligned", "--group", "hair")
    code, out, _ = fairveil(*words, "--recognizer", "tiny-1", "--recognizer", "default")
    assert code == 0
    assert "hair red" in out and "hair fair" in out
    record = json.loads(fairveil(*words, "--recognizer", "tiny-1", "--json")[1])
    assert record["leave_one_out"]
    assert {row["group"] for row in record["recognizers"][0]["accuracy"]} == {None, "red", "fair"}
    code, _, err = fairveil(*words[:-1], "hairs")
    assert code == 1 and "Did you mean hair?" in err


def test_a_person_learns_which_photos_she_is_in(fairveil, people, tmp_path):
    album = tmp_path / "album"
    album.mkdir()
    for number, name in enumerate(("a/1", "b/0", "a/2", "c/0", "d/0", "e/0")):
        (album / f"photo-{number}.png").write_bytes((people / f"{name}.png").read_bytes())
    me = tmp_path / "me.png"
    me.write_bytes((people / "a/0.png").read_bytes())
    words = ("identify", "--gallery", album, "--probes", me, "--face", "aligned")
    code, out, _ = fairveil(*words)
    assert code == 0
    lines = out.splitlines()
    assert lines[:2] == ["default: the nearest of 6 faces", "me.png"]
    assert {line.split()[-1] for line in lines[2:4]} == {"photo-0.png", "photo-2.png"}
    assert [" match " in line for line in lines[2:5]] == [True, True, False]
    assert len(lines) == 2 + 3 + 1 and "0.90 or more" in lines[-1]
    found = json.loads(fairveil(*words, "--k", 1, "--json")[1])["recognizers"][0]
    assert found["threshold"] == 0.9 and len(found["nearest"]) == 1 and found["nearest"][0]["match"]
    code, _, err = fairveil(*words, "--group", "hair")
    assert code == 1 and "has no groups" in err


def test_matches_are_written_for_every_probe(fairveil, people, tmp_path):
    matches = tmp_path / "matches.csv"
    words = ("identify", "--gallery", people, "--probes", people, "--face", "aligned", "--k", 2, "--matches", matches)
    assert fairveil(*words)[0] == 0
    rows = list(csv.DictReader(matches.read_text().splitlines()))
    assert len(rows) == 40
    assert all(row["probe"] != row["image"] and row["probe_identity"] == row["identity"] for row in rows)
    assert [row["place"] for row in rows] == ["1", "2"] * 20


def test_embeddings_of_an_unknown_recognizer_need_its_file(fairveil, people, tmp_path):
    foreign = pl.DataFrame({"identity": ["a", "b", "a"], "mine": [[1.0, 0.0], [0.0, 1.0], [0.9, 0.1]]})
    foreign.write_parquet(tmp_path / "mine.parquet")
    code, _, err = fairveil("identify", "--gallery", tmp_path / "mine.parquet", "--probes", people)
    assert code == 1 and "embedded by mine" in err and "ONNX" in err
    words = ("identify", "--gallery", tmp_path / "mine.parquet", "--probes", tmp_path / "mine.parquet")
    assert fairveil(*words)[0] == 0
    code, _, err = fairveil(*words, "--recognizer", "default")
    assert code == 1 and "no embeddings of default on both sides, but of mine" in err


_SLOWLY = """
import sys, time
from fairveil import cli
from fairveil.data.table import FaceTable
from fairveil.faces import embedding, zoo
from fairveil.faces.recognizers import Recognizer
embedding.PART = 2
zoo.load_recognizer = lambda name: Recognizer(name, lambda crops: crops.mean((2, 3)) + 1)
photo = FaceTable.photo
def slow(self, row):
    time.sleep(0.15)
    return photo(self, row)
FaceTable.photo = slow
sys.argv[0] = "fairveil"
cli.main()
"""


def unlike(path, **columns):
    """A Parquet file of another program: six vectors, of three people unless told."""
    vectors = np.random.default_rng(0).normal(size=(6, 4)).tolist()
    pl.DataFrame({"identity": list("ppqqrr"), "net": vectors, **columns}).write_parquet(path)
    return path


@pytest.mark.parametrize("odd", [[["p"]] * 6, [b"\xff"] * 6])
def test_identities_that_are_no_text_are_told(fairveil, tmp_path, odd):
    file = unlike(tmp_path / "other.parquet", identity=odd)
    code, _, err = fairveil("identify", "--gallery", file, "--probes", file)
    assert code == 1 and "the column 'identity' holds" in err


def test_other_columns_that_are_no_labels_are_no_groups(fairveil, tmp_path):
    file = unlike(tmp_path / "other.parquet", tags=[["x"]] * 6)
    assert fairveil("identify", "--gallery", file, "--probes", file)[0] == 0
    code, _, err = fairveil("identify", "--gallery", file, "--probes", file, "--group", "tags")
    assert code == 1 and "has no groups 'tags'" in err


def test_faces_of_unknown_photos_or_people_are_named_and_counted_as_such(fairveil, tmp_path):
    file = unlike(tmp_path / "other.parquet", image=["a", None, "c", None, "e", "f"], identity=[*"ppqqr", None])
    code, out, _ = fairveil("identify", "--gallery", file, "--probes", file)
    assert code == 0 and "a gallery of 6 faces of 3 people" in " ".join(out.split())
    assert embedding.Embeddings.read(file).frame["image"].to_list() == ["a", "row 1", "c", "row 3", "e", "f"]


def test_labels_cannot_break_the_tables(fairveil, tmp_path):
    file = unlike(tmp_path / "other.parquet", hair=["\x1b[31mred", "a\nb", *"xxyy"])
    code, out, _ = fairveil("identify", "--gallery", file, "--probes", file, "--group", "hair")
    assert code == 0 and "\x1b" not in out and r"'\x1b[31mred'" in out and r"'a\nb'" in out


def test_copies_are_not_advised_what_was_done_already(fairveil, tmp_path):
    file = unlike(tmp_path / "other.parquet", net=[[1.0, 0.0]] * 6)
    _, out, _ = fairveil("identify", "--gallery", file, "--probes", file)
    assert "6 probes have a copy among the other faces" in out and "same photos on both sides" not in out


def test_embeddings_get_a_name_by_which_they_are_known_again(fairveil, people, tmp_path):
    code, _, err = fairveil("embed", people, "-o", tmp_path / "faces.csv", "--face", "aligned")
    assert code == 2 and ".parquet" in err and not (tmp_path / "faces.csv").exists()


@pytest.mark.parametrize("broken", ["mkdir", "write_bytes"])
def test_a_disk_that_takes_nothing_is_told_in_a_sentence(fairveil, people, tmp_path, monkeypatch, broken):
    whole = getattr(Path, broken)

    def refuse(path, *args, **kwargs):
        if ".parts" in str(path):
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return whole(path, *args, **kwargs)

    monkeypatch.setattr(Path, broken, refuse)
    code, _, err = fairveil("embed", people, "-o", tmp_path / "faces.parquet", "--face", "aligned")
    assert code == 1 and "No space left on device." in err and "Traceback" not in err


@pytest.mark.slow
def test_what_was_killed_goes_on_and_two_processes_share_it(people, tmp_path):
    out, parts = tmp_path / "faces.parquet", tmp_path / ".faces.parquet.parts"
    words = [sys.executable, "-c", _SLOWLY, "embed", str(people), "-o", str(out), "--face", "aligned"]
    first = subprocess.Popen(words)
    while not list(parts.glob("0*.parquet")):
        time.sleep(0.02)
        assert first.poll() is None
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    assert not out.exists()
    kept = {path.name: path.stat().st_mtime_ns for path in parts.glob("0*.parquet")}
    workers = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    while workers[0].poll() is None and workers[1].poll() is None and parts.exists():
        now = {path.name: path.stat().st_mtime_ns for path in parts.glob("0*.parquet") if path.name in kept}
        assert not now or now == kept
        time.sleep(0.05)
    said = [worker.communicate()[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0]
    assert all("20 faces in 20 photos" in text for text in said)
    assert len(embedding.Embeddings.read(out)) == 20
    assert not parts.exists()


def _vectors_of(path, names):
    who = [str(name) for name in names]
    numbers = [sorted(set(who)).index(name) for name in who]
    frame = pl.DataFrame({"identity": names, "image": [f"{row}.jpg" for row in range(len(names))]})
    vectors = np.eye(8, dtype=np.float32)[numbers] + np.random.default_rng(0).normal(size=(len(who), 8)) * 0.1
    frame.with_columns(pl.Series("net", vectors.astype(np.float32), dtype=pl.Array(pl.Float32, 8))).write_parquet(path)
    return path


def test_one_person_has_one_name_whether_it_is_a_number_or_a_text(fairveil, tmp_path):
    whole = _vectors_of(tmp_path / "whole.parquet", [1, 2, 3])
    fractions = _vectors_of(tmp_path / "fractions.parquet", [1.0, 2.0, float("nan")])
    code, out, _ = fairveil("identify", "--gallery", whole, "--probes", fractions, "--json")
    record = json.loads(out)["recognizers"][0]
    assert (code, record["strangers"], record["unlabelled"], record["accuracy"][0]["value"]) == (0, 0, 1, 1)


def test_where_no_probe_is_in_the_gallery_names_are_shown_and_nothing_is_measured(fairveil, tmp_path):
    plain = _vectors_of(tmp_path / "plain.parquet", ["1", "2", "3"])
    padded = _vectors_of(tmp_path / "padded.parquet", ["01", "02", "03"])
    code, _, err = fairveil("identify", "--gallery", plain, "--probes", padded)
    told = " ".join(err.split())
    assert code == 1
    assert "Nothing is left to measure" in told
    assert "Probes are of '01' and '02', the gallery has '1' and '2'" in told
    assert "3 names differ only in zeros before them, such as '01' and '1'" in told


def test_folders_in_folders_are_asked_about_before_anything_is_embedded(fairveil, tmp_path):
    for place in ("anna/frontal", "anna/profile", "ben/frontal"):
        (tmp_path / "photos" / place).mkdir(parents=True)
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "photos" / place / "1.png")
    code, _, err = fairveil("identify", "--gallery", tmp_path / "photos", "--probes", tmp_path / "photos")
    assert code == 1
    assert "--person-folder 1 (2 people, such as anna, ben)" in " ".join(err.split())
    out = tmp_path / "faces.parquet"
    said = ("embed", tmp_path / "photos", "-o", out, "--face", "aligned")
    assert fairveil(*said, "--person-folder", 1)[0] == 0
    assert pl.read_parquet(out)["identity"].to_list() == ["anna", "anna", "ben"]


def test_paths_that_were_embedded_as_people_are_asked_about_when_people_are_compared(fairveil, tmp_path):
    images = [f"{place}/{n}.png" for place in ("anna/frontal", "anna/profile", "ben/frontal") for n in (1, 2)]
    frame = pl.DataFrame({"image": images, "identity": [image.rpartition("/")[0] for image in images]})
    vectors = np.eye(6, 16, dtype=np.float32) + 0.1
    provenance = Provenance(fairveil="1", data="photos", detector=None, which="aligned", recognizers={}, thresholds={})
    embedded = Embeddings(frame.with_columns(vector_column("net", vectors)), provenance=provenance)
    embedded.write(tmp_path / "faces.parquet")
    said = ("identify", "--gallery", tmp_path / "faces.parquet", "--probes", tmp_path / "faces.parquet", "--json")
    code, _, err = fairveil(*said)
    assert code == 1
    assert "photos: Folders lie in folders" in err and "--person-folder 1 (2 people" in " ".join(err.split())
    assert fairveil(*said, "--person-folder", 1)[0] == 0
    assert embedded.of_people(1).frame["identity"].to_list() == ["anna"] * 4 + ["ben"] * 2
    assert embedded.of_people(-1).frame["identity"].to_list() == (["frontal"] * 2 + ["profile"] * 2 + ["frontal"] * 2)
    with pytest.raises(FairveilError, match="Folders lie in folders"):
        embedded.of_people(None)
