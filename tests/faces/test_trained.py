import json
import struct

import pytest
import torch
from tiny_backbone import add_tiny, drawn_crops

from fairveil.base.errors import FairveilError
from fairveil.base.files import sha256_of
from fairveil.cli.recognizers import load_recognizers
from fairveil.faces.probing import least_likeness
from fairveil.faces.recognizer_training import train_recognizer
from fairveil.faces.trained import ModelCard, load_trained, random_recognizer, read_model_card, save_trained
from fairveil.faces.zoo import load_recognizer
from fairveil.training import Epoch, History, Training


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
    add_tiny(monkeypatch)


SETTINGS = Training(epochs=1, batch_size=8, learning_rate=0.02, nesterov=False)


def card(**changed):
    crops = drawn_crops()
    given = {
        "backbone": "tiny",
        "dimension": 16,
        "size": crops.size,
        "training": SETTINGS.model_dump(mode="json"),
        "head": "cosface",
        "margin": 0.35,
        "loss": "cross-entropy",
        "balanced": True,
        "data": crops.name,
        "data_sha256": crops.fingerprint(),
        "identities": 6,
        "images": 24,
        "make_up": crops.make_up(),
        "rank1": 0.5,
    }
    return ModelCard(**{**given, **changed})


@pytest.fixture
def trained():
    return train_recognizer(drawn_crops(), SETTINGS, backbone="tiny", dimension=16, device="cpu")[0]


@pytest.fixture
def file(tmp_path, trained):
    save_trained(tmp_path / "mine.safetensors", trained, card())
    return tmp_path / "mine.safetensors"


def test_a_recognizer_read_again_sees_what_the_trained_one_saw(file, trained):
    read = load_trained(file)
    images = drawn_crops().images[:5].float() / 255
    assert torch.allclose(read.embed_crops(images), trained.embed_crops(images), atol=1e-5)
    assert (read.name, read.sha256, read.framing) == ("mine", sha256_of(file), trained.framing)
    assert not read.training
    assert not any(parameter.requires_grad for parameter in read.parameters())


def test_the_file_tells_how_it_came_about(file):
    told = read_model_card(file)
    assert told == card()
    assert told.make_up["tone"] == {
        "cool": {"identities": 3, "images": 12},
        "warm": {"identities": 3, "images": 12},
    }
    assert Training.model_validate(told.training) == SETTINGS


def test_a_model_card_is_that_of_the_run():
    crops = drawn_crops()
    margins = torch.tensor([0.1, 0.2, 0.3, 0.1, 0.2, 0.3])
    history = History((Epoch(1, 9.0, 0.25, 0.1, 1.0), Epoch(2, 8.0, 0.5, 0.1, 1.0)), stopped=False, kept=1)
    told = ModelCard.of(crops, SETTINGS, history, backbone="tiny", head="arcface", margin=margins, dimension=16)
    assert told == card(head="arcface", margin=tuple(margins.tolist()), rank1=0.25)
    assert ModelCard.of(crops, SETTINGS, history, backbone="tiny", dimension=16) == card(rank1=0.25)


def test_a_file_that_is_there_is_not_replaced(file, trained):
    before = file.read_bytes()
    with pytest.raises(FairveilError, match=r"mine.safetensors already exists"):
        save_trained(file, trained, card())
    assert file.read_bytes() == before


def test_the_file_may_be_taken_away_once_it_is_read(file):
    read = load_trained(file)
    file.write_bytes(b"")
    assert bool(read.embed_crops(torch.rand(1, 3, 64, 64)).isfinite().all())


def with_header(file, change):
    """The file with another JSON in front of the same numbers."""
    data = file.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    change(header["__metadata__"])
    changed = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(changed)) + changed + data[8 + length :])


def changed_card(**values):
    def change(metadata):
        metadata["pedigree"] = json.dumps(json.loads(metadata["pedigree"]) | values)

    return change


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (changed_card(dimension=8), "damaged"),
        (changed_card(dimension=8000), "damaged"),
        (changed_card(dimension=10**12), "damaged"),
        (changed_card(size=1 << 40), "damaged"),
        (changed_card(size=1024), "damaged"),
        (changed_card(backbone="mobilefacenet"), "damaged"),
        (changed_card(backbone="__import__"), "no backbone '__import__'"),
        (changed_card(make_up=3), "damaged"),
        (lambda metadata: metadata.pop("pedigree"), "damaged"),
        (lambda metadata: metadata.update(format="something else"), "holds no recognizer"),
        (lambda metadata: metadata.clear(), "holds no recognizer"),
    ],
)
def test_files_that_say_what_is_not_so_are_refused(file, change, sentence):
    with_header(file, change)
    with pytest.raises(FairveilError, match=sentence):
        load_trained(file)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\xff" * 64])
def test_files_of_other_kinds_are_refused(tmp_path, content):
    path = tmp_path / "mine.safetensors"
    path.write_bytes(content)
    for read in (load_trained, read_model_card):
        with pytest.raises(FairveilError, match="is not there or is damaged: give a file of fairveil train"):
            read(path)


def test_a_file_that_was_cut_off_is_refused(file):
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(FairveilError, match="damaged"):
        load_trained(file)


def test_recognizers_are_named_by_file_or_as_random(file):
    mine, chance = load_recognizers([str(file), "random:tiny:3"], everything=False)
    assert (mine.name, chance.name) == ("mine", "random:tiny:3")
    assert mine.sha256 == sha256_of(file)


def test_a_trained_recognizer_that_tells_nobody_apart_is_told_when_it_is_read(tmp_path, trained, file, capsys):
    assert least_likeness(trained) < 0.95
    load_recognizers([str(file)], everything=False)
    assert "Warning" not in capsys.readouterr().err
    with torch.no_grad():  # all that is left is one direction
        last = [value for value in trained.network.parameters() if value.ndim == 1][-1]
        last += 1000
    save_trained(tmp_path / "same.safetensors", trained, card())
    load_recognizers([str(tmp_path / "same.safetensors")], everything=False)
    told = " ".join(capsys.readouterr().err.split())
    assert "Warning: to same, faces of four people who look nothing alike are nearly the same" in told


def test_random_recognizers_differ_by_seed_and_say_so():
    crops = torch.rand(2, 3, 112, 112)
    default, zeroth, other = (load_recognizer(f"random:tiny{seed}") for seed in ("", ":0", ":1"))
    assert torch.equal(default.embed_crops(crops), zeroth.embed_crops(crops))
    assert not torch.allclose(default.embed_crops(crops), other.embed_crops(crops), atol=0.1)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("random:tiny:x", "names no seed: write it like random:tiny:3"),
        ("random:tiny:-1", "names no seed"),
        ("random:tiny:99999999999999999999", "names no seed"),
        ("random:tinny", "Did you mean tiny"),
        ("random:", "no backbone ''"),
    ],
)
def test_names_of_random_recognizers_that_are_none_are_refused(name, sentence):
    with pytest.raises(FairveilError, match=sentence):
        random_recognizer(name)
