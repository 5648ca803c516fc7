"""`fairveil train`, as a person uses it."""

import json

import numpy as np
import polars as pl
import pytest
from PIL import Image
from torch import nn

from fairveil.faces import cropping, recognizer_training
from fairveil.faces.backbones import BACKBONES
from fairveil.faces.trained import load_trained, read_model_card


class _Flat(nn.Sequential):
    def __init__(self, *, dimension, size):
        super().__init__(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(3 * (size // 8) ** 2, dimension))


@pytest.fixture
def train(run_fairveil, monkeypatch, tmp_path):
    """The command with a small backbone; gives exit code, stdout and stderr."""
    monkeypatch.setitem(BACKBONES, "flat", _Flat)
    settings = ("--backbone", "flat", "--face", "aligned", "--size", 32, "--epochs", 2, "--batch-size", 8)

    def run(photos, *more):
        return run_fairveil("train", photos, "-o", tmp_path / "out.safetensors", *settings, *more)

    return run


@pytest.fixture
def people(tmp_path):
    """Six people, four aligned "faces" each, with a group in a table."""
    root = tmp_path / "people"
    rows = []
    for person in range(6):
        rng = np.random.default_rng(person)
        texture = rng.uniform(40, 210, size=(4, 4, 3))
        (root / f"p{person}").mkdir(parents=True)
        for photo in range(4):
            noisy = (texture + rng.normal(size=texture.shape) * 5).clip(0, 255).astype(np.uint8)
            Image.fromarray(noisy).resize((32, 32)).save(root / f"p{person}" / f"{photo}.png")
            rows.append((f"p{person}/{photo}.png", f"p{person}", "red" if person % 2 else "fair"))
    pl.DataFrame(rows, ["image", "identity", "hair"], orient="row").write_csv(root / "table.csv")
    return root


def test_a_recognizer_is_trained_and_said_so(train, people, tmp_path):
    code, out, err = train(people)
    assert code == 0, err
    assert (
        "out.safetensors: flat with cosface, trained on 16 images of 4 people. Of 8 images of 2 people held out, "
        in out
    )
    assert "Epoch 2: loss" in err
    assert "rank-1 of people held out" in err
    assert load_trained(tmp_path / "out.safetensors").name == "out"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.safetensors", "people"]


def test_all_that_was_asked_is_in_the_record_and_in_the_file(train, people, tmp_path):
    code, out, _ = train(
        people / "table.csv",
        *("--head", "arcface", "--margin", 0.25, "--as-they-are", "--loss", "focal", "--seed", 3),
        *("--learning-rate", 0.03, "--validation", 0, "--json"),
    )
    assert code == 0
    record, told = json.loads(out), read_model_card(tmp_path / "out.safetensors")
    assert (told.head, told.margin, told.balanced, told.loss, told.rank1) == ("arcface", 0.25, False, "focal", None)
    assert told.training["seed"] == 3
    assert told.training["learning_rate"] == 0.03
    assert told.make_up == {"hair": {name: {"identities": 3, "images": 12} for name in ("fair", "red")}}
    assert record["make_up"] == told.make_up
    assert (record["held_out"], record["left_out"], len(record["losses"])) == (None, {}, 2)


def test_the_make_up_can_be_that_of_some_columns(train, people, tmp_path):
    table = pl.read_csv(people / "table.csv").with_columns(eyes=pl.lit("grey"))
    table.write_csv(people / "table.csv")
    code, _, err = train(people / "table.csv", "--group", "hare")
    assert code == 1
    assert "has no groups 'hare'. Did you mean hair? It has hair, eyes." in " ".join(err.split())
    assert train(people / "table.csv", "--group", "hair")[0] == 0
    assert set(read_model_card(tmp_path / "out.safetensors").make_up) == {"hair"}


def test_the_published_settings_can_be_asked_for(train, people, tmp_path):
    assert train(people, "--preset", "paper")[0] == 0
    training = read_model_card(tmp_path / "out.safetensors").training
    assert (training["schedule"], training["nesterov"], training["epochs"]) == ("steps", False, 2)


def test_a_stopped_run_goes_on(train, people, tmp_path, monkeypatch):
    real = recognizer_training.train_recognizer

    def stopping(*given, on_epoch, **settings):
        def told(epoch):
            on_epoch(epoch)
            raise KeyboardInterrupt

        return real(*given, on_epoch=told, **settings)

    monkeypatch.setattr(recognizer_training, "train_recognizer", stopping)
    code, _, err = train(people)
    assert code == 130
    assert "the same command goes on" in err
    assert (tmp_path / "out.safetensors.checkpoint").exists()
    monkeypatch.setattr(recognizer_training, "train_recognizer", real)
    monkeypatch.setattr(cropping, "_crop_or_reason", None)  # no photo is cut again
    code, _, err = train(people)
    assert code == 0
    assert "Epoch 1:" not in err
    assert "Epoch 2:" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.safetensors", "people"]


def test_photos_that_give_no_crop_are_counted(train, people):
    (people / "p0" / "broken.png").write_text("nothing")
    Image.new("RGB", (32, 32)).save(people / "nobody.png")
    code, _, err = train(people)
    assert code == 0
    assert "2 of 26 photos are left out" in err
    assert "not readable: 1" in err
    assert "no identity: 1" in err


def _without_identities(root):
    return root / "p0"


def _one_identity(root):
    for person in range(1, 6):
        for photo in (root / f"p{person}").iterdir():
            photo.unlink()
    return root


def _three_identities(root):
    for person in range(3, 6):
        for photo in (root / f"p{person}").iterdir():
            photo.unlink()
    return root


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (_without_identities, "has no identities, which recognizers are trained to tell apart"),
        (_one_identity, "images of one identity only, p0, and nobody to tell it from"),
        (_three_identities, "has 3 identities, 3 of them with two images or more: too few to hold out 2"),
    ],
)
def test_too_few_people_are_one_sentence(train, people, tmp_path, change, sentence):
    code, out, err = train(change(people))
    assert (code, out) == (1, "")
    assert sentence in err
    assert not (tmp_path / "out.safetensors").exists()


def test_what_would_be_in_vain_is_refused_before_photos_are_looked_at(train, people, run_fairveil, tmp_path):
    nowhere = tmp_path / "nowhere"
    for more, sentence in (
        (("-o", nowhere / "out.safetensors"), "there is no folder"),
        (("--backbone", "flatt"), "Did you mean flat"),
        (("--size", 40), "a multiple of 16"),
        (("-o", tmp_path / "out.pt"), "does not end in .safetensors"),
    ):
        code, _, err = train(tmp_path / "not there", *more)
        assert code in (1, 2)
        assert sentence in " ".join(err.replace("│", " ").split())
    (tmp_path / "out.safetensors").write_text("mine")
    code, _, err = train(tmp_path / "not there")
    assert code == 1
    assert "already exists" in err
    assert (tmp_path / "out.safetensors").read_text() == "mine"


def test_folders_in_folders_are_asked_about_before_anybody_is_trained_on(train, people):
    for person in range(6):
        (people / f"p{person}" / "profile").mkdir()
        (people / f"p{person}" / "3.png").rename(people / f"p{person}" / "profile" / "3.png")
    code, _, err = train(people)
    assert code == 1
    assert "--person-folder 1 (6 people, such as p0, p1, p2)" in " ".join(err.split())
    code, out, err = train(people, "--person-folder", 1)
    assert code == 0, err
    assert "16 images of 4 people" in out
