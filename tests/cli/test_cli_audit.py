"""The commands `fairveil audit` and `fairveil audit power` as a person runs them."""

import json

import numpy as np
import polars as pl
import pytest
import torch
import torch.nn.functional as F

from fairveil.data.synthetic import SyntheticFaces, write_faces
from fairveil.faces.vectors import Embeddings, vector_column


@pytest.fixture
def faces(tmp_path):
    """A Parquet file of 40 people with ten faces each, women harder to tell apart."""
    generator = torch.Generator().manual_seed(0)
    who = torch.arange(40).repeat_interleave(10)
    centers = torch.randn(40, 16, generator=generator)
    spread = torch.tensor([1.6, 0.9])[who % 2, None]
    vectors = F.normalize(centers[who] + spread * torch.randn(400, 16, generator=generator), dim=1)
    frame = pl.DataFrame(
        {
            "image": [f"{row}.jpg" for row in range(400)],
            "identity": [f"person {person}" for person in who.tolist()],
            "gender": np.array(["F", "M"])[(who % 2).numpy()],
        }
    )
    path = tmp_path / "faces.parquet"
    Embeddings(frame.with_columns(vector_column("net", vectors.numpy()))).write(path)
    return path


def test_embeddings_are_audited_and_the_report_and_its_json_written(run_fairveil, faces, tmp_path):
    page = tmp_path / "audit.html"
    code, out, _ = run_fairveil("audit", faces, "--report", page, "--draws", 2)
    assert code == 0
    assert "net: rank-k accuracy by group" in out
    assert "F is missed" in out
    html, record = page.read_text(), json.loads(page.with_suffix(".json").read_text())
    assert html.count("<h2>") == 6
    assert "data:image/svg+xml" in html
    assert record["recognizers"][0]["versus"] == ["F", "M"]
    code, _, err = run_fairveil("audit", faces, "--report", page)
    assert code == 1
    assert "already exists" in err


def test_json_goes_to_stdout_alone(run_fairveil, faces):
    code, out, _ = run_fairveil("audit", faces, "--group", "gender", "--draws", 2, "--json")
    record = json.loads(out)["recognizers"][0]
    assert code == 0
    assert {rate["group"] for rate in record["accuracy"]} == {"F", "M"}
    assert record["curves"]["identities"]["draws"] == 2


def test_the_make_up_of_the_train_set_may_be_told_in_shares_or_by_its_labels(run_fairveil, faces, tmp_path):
    labels = tmp_path / "train.csv"
    Embeddings.read(faces).frame.select("image", "identity", "gender").write_csv(labels)
    for stated, people in (("F=20,M=80", 0.2), (labels, 0.5)):
        code, out, _ = run_fairveil("audit", faces, "--train-set", stated, "--draws", 2, "--json")
        masked = json.loads(out)["recognizers"][0]["masked_bias"]
        assert code == 0
        assert masked["stated"]
        assert masked["train"]["identities"]["F"] == people


def test_vectors_and_labels_may_be_apart(run_fairveil, faces, tmp_path):
    there = Embeddings.read(faces)
    labels, vectors = tmp_path / "labels.csv", tmp_path / "own.npy"
    there.frame.select("image", "identity", "gender").write_csv(labels)
    np.save(vectors, there.vectors("net").numpy())
    together = json.loads(run_fairveil("audit", faces, "--draws", 2, "--json")[1])["recognizers"][0]
    apart = json.loads(run_fairveil("audit", vectors, "--labels", labels, "--draws", 2, "--json")[1])["recognizers"][0]
    assert apart["recognizer"] == "own"
    assert apart["accuracy"] == together["accuracy"]
    np.save(vectors, there.vectors("net").numpy()[:-1])
    code, _, err = run_fairveil("audit", vectors, "--labels", labels)
    assert code == 1
    assert "399 rows and there are 400 labels" in err
    np.save(vectors, np.where(np.arange(400)[:, None] == 7, np.nan, there.vectors("net").numpy()))
    code, _, err = run_fairveil("audit", vectors, "--labels", labels)
    assert "row 7 of the column 'own' has numbers that are missing" in err


def test_other_labels_take_the_place_of_those_in_the_file(run_fairveil, faces, tmp_path):
    labels = tmp_path / "ages.csv"
    frame = Embeddings.read(faces).frame.select("image", "identity", "gender")
    frame.rename({"gender": "age"}).with_columns(pl.col("age").replace({"F": " old ", "M": "young"})).write_csv(labels)
    code, out, _ = run_fairveil("audit", faces, "--labels", labels, "--draws", 2, "--json")
    assert code == 0
    assert json.loads(out)["recognizers"][0]["versus"] == ["old", "young"]


def test_photos_are_embedded_by_a_random_network_and_audited(run_fairveil, tmp_path):
    folder = tmp_path / "people"
    write_faces(SyntheticFaces(identities=8, per_identity=3, size=112, framing="crop"), folder)
    code, out, _ = run_fairveil(
        "audit", "--images", folder, "--labels", folder / "faces.csv", "--recognizer", "random:resnet-18:1",
        "--group", "tone", "--face", "aligned", "--draws", 2, "--json",
    )  # fmt: skip
    record = json.loads(out)["recognizers"][0]
    assert code == 0
    assert record["recognizer"] == "random:resnet-18:1"
    assert record["data"]["warm"]["without_face"] == 0


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        ((), 2, "either a file of embeddings or --images"),
        (("faces.parquet", "--group", "gendre"), 1, "Did you mean gender"),
        (("faces.parquet", "--recognizer", "other"), 1, "no embeddings of a recognizer 'other'"),
        (("faces.parquet", "--train-set", "F:20"), 2, "no shares"),
        (("faces.parquet", "--train-set", "F=20,X=80"), 1, "Nobody is 'X' by gender"),
        (("faces.parquet", "--train-set", "F=20"), 1, "No share is given for 'M'"),
        (("faces.parquet", "--train-set", "F=inf,M=1"), 2, "no shares"),
        (("faces.parquet", "--train-set", "F=1e5,M=-99999"), 2, "no shares"),
        (("faces.parquet", "--k", "99999999999999999999"), 2, "no ranks"),
        (("faces.parquet", "--report", "here.json"), 2, "end its name with .html"),
        (("photos.zip",), 1, "is no file of embeddings"),
        (("nothing.parquet",), 1, "is not there"),
        (("vectors.npy",), 1, "give their labels with --labels"),
    ],
)
def test_what_cannot_be_audited_is_a_sentence(run_fairveil, faces, monkeypatch, arguments, code, complaint):
    monkeypatch.chdir(faces.parent)
    found, _, err = run_fairveil("audit", *arguments)
    assert found == code
    assert complaint in " ".join(err.replace("│", " ").split())


def test_the_power_calculator_says_how_many_people_it_takes(run_fairveil):
    code, out, _ = run_fairveil("audit", "power", "--ratio", "1.5", "--error", "0.04", "--json")
    assert code == 0
    assert json.loads(out)["identities"] == 1042
    code, out, _ = run_fairveil("audit", "power", "--ratio", "3", "--error", "0.04")
    assert out.startswith("113 people of each group")
    code, _, err = run_fairveil("audit", "power", "--ratio", "0.5")
    assert code == 1
    assert "above 1" in err


def test_questions_that_people_answered_are_set_beside_the_recognizer(run_fairveil, faces, tmp_path):
    random, rows = np.random.default_rng(0), []
    for person in range(40):
        others = [other for other in range(40) if other % 2 == person % 2 and other != person][:8]
        false = ";".join(f"{10 * other}.jpg" for other in others)
        rows.append(
            {
                "question": person, "probe": f"{10 * person}.jpg", "true": f"{10 * person + 1}.jpg", "false": false,
                "human_accuracy": round(float(random.uniform(0.3, 1)), 2), "gender": "FM"[person % 2],
            }
        )  # fmt: skip
    survey = tmp_path / "survey.csv"
    pl.DataFrame(rows).write_csv(survey)
    code, out, _ = run_fairveil("audit", "questions", survey, faces)
    assert code == 0
    assert all(name in out for name in ("all questions", "gender F", "gender M", "within gender"))
    code, out, _ = run_fairveil("audit", "questions", survey, faces, "--json")
    record = json.loads(out)[0]
    assert len(record["by_question"]) == 40
    assert -1 <= record["overall"]["low"] <= record["overall"]["value"] <= record["overall"]["high"] <= 1
    code, _, err = run_fairveil("audit", "questions", tmp_path / "none.csv", faces)
    assert code == 1
    assert "is not there" in err


def test_groups_named_twice_or_with_commas_are_crossed_and_counted(run_fairveil, faces):
    frame = Embeddings.read(faces).frame
    person = pl.col("identity").str.split(" ").list.last().cast(pl.Int64)
    aged = frame.with_columns(age=(15 + person + (pl.int_range(pl.len()) % 3)).cast(pl.String))
    Embeddings(aged).write(faces, overwrite=True)
    said = ("audit", faces, "--draws", 2, "--bins", "age=35", "--json")
    code, out, err = run_fairveil(*said, "--group", "gender", "--group", "age")
    assert code == 0
    record = json.loads(out)["recognizers"][0]
    assert record["column"] == "gender × age"
    assert set(record["data"]) == {"F × below 35", "M × below 35", "F × 35 and above", "M × 35 and above"}
    assert sum(group["images"] for group in record["data"].values()) == 400
    assert "F × below 35 (100 images of 10 people)" in " ".join(err.split())
    again, commas, _ = run_fairveil(*said, "--group", "gender,age")
    assert again == 0
    assert json.loads(commas) == json.loads(out)
    code, out, err = run_fairveil("identify", "--gallery", faces, "--probes", faces, "--group", "age", "--json")
    assert code == 0
    assert {"below 18", "18 to below 30"} < {one["group"] for one in json.loads(out)["recognizers"][0]["accuracy"]}
    assert "bins that begin at 18, 30, 45, 60" in " ".join(err.split())
