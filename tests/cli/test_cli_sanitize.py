"""`fairveil sanitize` as somebody uses it, on a folder of pictures."""

import json

import pytest
from PIL import Image
from typer.testing import CliRunner

from fairveil.cli.sanitize import sanitize_app
from fairveil.data.images import read_image_folder, synthetic_images
from fairveil.errors import FairveilError
from fairveil.sanitize.set_ups import SET_UPS, rehearsals
from fairveil.training import evaluate
from fairveil.training.saved_networks import load_network


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    data = synthetic_images(160, classes=2, size=32)
    for number, (image, label) in enumerate(zip(data.images, data.labels.tolist(), strict=True)):
        (folder / f"kind {label}").mkdir(exist_ok=True)
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / f"kind {label}" / f"{number}.png")
    return folder


def run(*words):
    return CliRunner().invoke(sanitize_app, [str(word) for word in words])


@pytest.mark.slow
def test_a_rehearsal_tells_its_cost_its_figures_and_what_follows_and_goes_on(pictures, tmp_path):
    words = ("rehearse", "--data", pictures, "--preset", "smoke", "--defense", "cutmix", "-o", tmp_path / "kept")
    first = run(*words, "--page", tmp_path / "one.html")
    assert first.exit_code == 0, first.output
    assert "4 victims, 2 clean networks, 2 poisons: at most about" in " ".join(first.stderr.split())
    for heading in ("Backdoor (100%)", "Gradient matching", "Gradient matching, adaptive"):
        assert heading in first.stdout
    assert first.stdout.count("Without a defence") == 3
    page = (tmp_path / "one.html").read_text(encoding="utf-8")
    assert page.count("<figure>") == 3 and "a white box" in page and "Without a defence" in page

    kept = {file: file.stat().st_mtime_ns for file in (tmp_path / "kept").glob("[!.]*")}
    second = run(*words, "--page", tmp_path / "two.html", "--json")
    verdicts = json.loads(second.stdout)
    assert [one["attack"] for one in verdicts] == [
        "backdoor (100%)",
        "gradient matching",
        "gradient matching, adaptive",
    ]
    assert all(one["trials"] == 2 and one["standings"][0]["name"] == "CutMix" for one in verdicts)
    assert kept == {file: file.stat().st_mtime_ns for file in (tmp_path / "kept").glob("[!.]*")}


def test_a_report_that_is_there_is_kept_and_told_before_anything_is_trained(pictures, tmp_path):
    (tmp_path / "there.html").write_text("mine")
    outcome = run("rehearse", "--data", pictures, "-o", tmp_path / "kept", "--page", tmp_path / "there.html")
    assert isinstance(outcome.exception, FairveilError) and "--overwrite" in str(outcome.exception)
    assert (tmp_path / "there.html").read_text() == "mine" and not (tmp_path / "kept").exists()


@pytest.mark.slow
def test_a_trained_network_is_saved_whole_and_can_be_loaded(pictures, tmp_path):
    file = tmp_path / "model.safetensors"
    outcome = run("train", "--data", pictures, "--augment", "cutmix", "--epochs", 2, "-o", file, "--json")
    assert outcome.exit_code == 0, outcome.output
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
    assert file.stat().st_mode & 0o044 == 0o044  # others may read it
    network, classes, about = load_network(file)
    assert classes == ("kind 0", "kind 1") and about["defense"] == "CutMix" and about["tested on"] == 32
    _, test = read_image_folder(pictures, size=32).split(0.2, seed=0)
    assert about["accuracy"] == evaluate(network, test)
    assert json.loads(outcome.stdout)["accuracy"] == about["accuracy"]

    again = run("train", "--data", pictures, "-o", file)
    assert "choose another name" in str(again.exception)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--augment", "blur"), "no defence 'blur'"),
        (("--network", "resnet-9"), "no network 'resnet-9'"),
        (("--device", "abacus"), "Networks cannot run on 'abacus' here"),
    ],
)
def test_wrong_words_are_a_sentence_and_nothing_is_written(pictures, tmp_path, words, said):
    outcome = run("train", "--data", pictures, "-o", tmp_path / "model.safetensors", *words)
    assert isinstance(outcome.exception, FairveilError) and said in str(outcome.exception)
    assert not list(tmp_path.iterdir())


def test_files_that_hold_no_network_are_a_sentence(tmp_path):
    file = tmp_path / "model.safetensors"
    with pytest.raises(FairveilError, match="not there or is damaged"):
        load_network(file)
    file.write_bytes(b"no weights at all")
    with pytest.raises(FairveilError, match="not there or is damaged"):
        load_network(file)


def test_noised_steps_cannot_be_rehearsed_on_fitted_heads(tmp_path):
    data = synthetic_images(160, classes=2, size=16)
    drills = rehearsals("gradient-matching", data, SET_UPS["smoke"], defenses=["DP-SGD (0.01)"], folder=tmp_path)
    with pytest.raises(FairveilError, match="cannot be tried where only a head is fitted"):
        drills[0].cost()
