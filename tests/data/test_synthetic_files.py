import csv
import json
import os
from pathlib import Path

import pytest
import torch

from fairveil.base.errors import FairveilError
from fairveil.data.synthetic import SyntheticFaces, write_faces
from fairveil.data.table import FaceTable

FACES = SyntheticFaces(identities=3, per_identity=2, size=64)


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.relative_to(folder).parts[0].startswith(".")
    }


def test_the_files_are_the_photos_with_their_labels(tmp_path):
    table = write_faces(FACES, tmp_path / "faces")
    assert table.frame.equals(FACES.labels) and table.groups == ("tone", "shape")
    assert torch.equal(torch.stack([table.photo(row) for row in range(6)]), FACES.render(range(6)))
    assert FaceTable.from_folder(tmp_path / "faces").identities == table.identities


def test_jpegs_are_nearly_the_photos(tmp_path):
    faces = FACES.model_copy(update={"format": "jpg", "identities": 1})
    table = write_faces(faces, tmp_path / "faces")
    assert (tmp_path / "faces/synthetic-00000/001.jpg").read_bytes()[:2] == b"\xff\xd8"
    assert (table.photo(1).float() - faces.render([1])[0].float()).abs().mean() < 4


def test_the_true_landmarks_lie_beside(tmp_path):
    write_faces(FACES, tmp_path)
    with (tmp_path / "landmarks.csv").open() as file:
        rows = list(csv.reader(file))
    assert rows[0][:3] == ["image", "left_eye_x", "left_eye_y"]
    assert [row[0] for row in rows[1:]] == FACES.labels["image"].to_list()
    found = torch.tensor([[float(number) for number in row[1:]] for row in rows[1:]]).view(6, 5, 2)
    assert torch.allclose(found, FACES.landmarks(range(6)), atol=2e-3)


def test_what_is_there_is_not_made_again(tmp_path):
    write_faces(FACES, tmp_path)
    photo = tmp_path / "synthetic-00001/000.png"
    os.utime(photo, (1, 1))
    write_faces(FACES, tmp_path)
    assert photo.stat().st_mtime == 1


def test_work_that_was_broken_off_is_finished_with_the_same_result(tmp_path):
    def stop(count):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_faces(FACES, tmp_path / "broken", on_identity=stop)
    assert not (tmp_path / "broken/faces.csv").exists()
    counts = []
    write_faces(FACES, tmp_path / "broken", on_identity=counts.append)
    write_faces(FACES, tmp_path / "whole")
    assert counts[-1] == 3
    assert contents(tmp_path / "broken") == contents(tmp_path / "whole")


def test_faces_of_other_settings_are_kept_unless_told_otherwise(tmp_path):
    write_faces(FACES, tmp_path)
    before = contents(tmp_path)
    others = FACES.model_copy(update={"seed": 1, "identities": 2})
    with pytest.raises(FairveilError, match="of other settings"):
        write_faces(others, tmp_path)
    assert contents(tmp_path) == before
    write_faces(others, tmp_path, overwrite=True)
    assert not (tmp_path / "synthetic-00002/000.png").exists()
    write_faces(others, tmp_path / "new")
    written = contents(tmp_path / "new")
    assert {name: data for name, data in contents(tmp_path).items() if not name.startswith("new/")} == written


def test_a_folder_with_something_else_is_left_alone_unless_told_otherwise(tmp_path):
    diary = tmp_path / "diary.txt"
    diary.write_text("mine")
    with pytest.raises(FairveilError, match="is not empty"):
        write_faces(FACES, tmp_path)
    assert list(tmp_path.iterdir()) == [diary]
    write_faces(FACES, tmp_path, overwrite=True)
    assert diary.read_text() == "mine" and (tmp_path / "faces.csv").exists()


def test_overwriting_what_names_foreign_settings_removes_nothing(tmp_path):
    (tmp_path / "synthetic.json").write_text(json.dumps({"something": "else"}))
    (tmp_path / "synthetic-00009").mkdir()
    (tmp_path / "synthetic-00009/000.png").write_bytes(b"mine")
    write_faces(FACES, tmp_path, overwrite=True)
    assert (tmp_path / "synthetic-00009/000.png").read_bytes() == b"mine"


def test_a_file_where_the_folder_should_be_is_one_clear_sentence(tmp_path):
    (tmp_path / "faces").write_text("a file")
    with pytest.raises(FairveilError, match=r"faces cannot be written to: .*"):
        write_faces(FACES, Path(tmp_path / "faces"))
