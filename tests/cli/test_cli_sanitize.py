"""`fairveil sanitize` as somebody uses it, on a folder of pictures."""

import json

import pytest
from PIL import Image
from typer.testing import CliRunner

from fairveil.base.errors import FairveilError
from fairveil.cli.sanitize import sanitize_app
from fairveil.data.images import read_image_folder, synthetic_images
from fairveil.sanitize.attacks import ATTACKS, Drill, GradientMatching
from fairveil.sanitize.defenses import DEFENSES
from fairveil.sanitize.drills import rehearsals
from fairveil.training import evaluate, loop
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


def test_the_list_tells_of_every_attack_and_defense():
    told = json.loads(run("list", "--json").stdout)
    assert [one["name"] for one in told["attacks"]] == list(ATTACKS)
    assert [one["name"] for one in told["defenses"]] == list(DEFENSES)
    printed = run("list").stdout
    assert all(name in printed for name in (*ATTACKS, *DEFENSES))


@pytest.mark.slow
def test_a_rehearsal_tells_its_cost_its_figures_and_what_follows_and_goes_on(pictures, tmp_path):
    words = ("rehearse", "--data", pictures, "--preset", "smoke", "--defense", "cutmix", "-o", tmp_path / "kept")
    first = run(*words, "--report", tmp_path / "one.html")
    assert first.exit_code == 0, first.output
    told = " ".join(first.stderr.split())
    assert "4 victims, 3 clean networks, and 2 poisons, which take at most about" in told
    assert "Warning: 2 trials of 1 defense cannot recommend any, however well it does: rehearse 5 or more." in told
    assert "Warning: 32 test pictures cannot show" in told
    for heading in ("Backdoor (100%)", "Gradient matching", "Gradient matching, adaptive"):
        assert heading in first.stdout
    assert first.stdout.count("Without a defense") == 3
    page = (tmp_path / "one.html").read_text(encoding="utf-8")
    assert first.stdout.count("All together: ") == 1 and "All attacks together" in page
    assert page.count("<figure>") == 3 and "a white box" in page and "Without a defense" in page

    kept = {file: file.stat().st_mtime_ns for file in (tmp_path / "kept").glob("[!.]*")}
    second = run(*words, "--report", tmp_path / "two.html", "--json")
    whole = json.loads(second.stdout)
    assert json.loads((tmp_path / "two.json").read_text(encoding="utf-8")) == whole
    assert whole["best"] is None and whole["recommendation"].startswith("All together: ")
    verdicts = whole["attacks"]
    assert [one["attack"] for one in verdicts] == [
        "backdoor (100%)",
        "gradient matching",
        "gradient matching, adaptive",
    ]
    assert all(one["trials"] == 2 and one["standings"][0]["name"] == "CutMix" for one in verdicts)
    assert kept == {file: file.stat().st_mtime_ns for file in (tmp_path / "kept").glob("[!.]*")}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--attack", "gradient-matching", "--defense", "cutmixx"), "no defense 'cutmixx'"),
        (("--attack", "both", "--defense", "CutMix", "--defense", "blur"), "no defense 'blur'"),
        (("--attack", "both", "--defense", "DP-SGD (0.01)"), "cannot be tried where only a head is fitted"),
        (("--attack", "backdoors"), "There is no attack 'backdoors'. Did you mean backdoor"),
    ],
)
def test_a_bad_name_is_refused_before_anything_is_trained(pictures, tmp_path, monkeypatch, words, said):
    monkeypatch.setattr("fairveil.sanitize.learners.train", lambda *_, **__: pytest.fail("something was trained"))
    monkeypatch.setattr("fairveil.cli.sanitize._read", lambda *_: pytest.fail("pictures were read"))
    outcome = run("rehearse", "--data", pictures, *words, "-o", tmp_path / "kept", "--report", tmp_path / "page.html")
    assert isinstance(outcome.exception, FairveilError) and said in str(outcome.exception)
    assert not list(tmp_path.iterdir())


def test_data_that_an_attack_cannot_be_held_on_are_refused_before_features_are_trained(tmp_path, monkeypatch):
    monkeypatch.setattr("fairveil.sanitize.learners.train", lambda *_, **__: pytest.fail("something was trained"))
    data = synthetic_images(160, classes=2, size=16)
    victim = ATTACKS["gradient-matching"].drills["smoke"].victim
    with pytest.raises(FairveilError, match="choose a budget of at most"):
        rehearsals(Drill(victim, (GradientMatching(budget=0.9),)), data, folder=tmp_path)


@pytest.mark.parametrize(
    ("epochs", "said"),
    [(0, "Stopped before the first epoch was finished: nothing is kept."), (1, "1 epoch is kept"), (2, "2 epochs")],
)
def test_stopped_training_says_what_is_kept(pictures, tmp_path, monkeypatch, epochs, said):
    file = tmp_path / "model.safetensors"

    def stop(epoch, loss):
        if epoch > epochs:
            raise KeyboardInterrupt

    real = loop.train
    monkeypatch.setattr("fairveil.training.train", lambda *given, **named: real(*given, **named, on_step=stop))
    outcome = run("train", "--data", pictures, "--epochs", 3, "-o", file)
    told = " ".join(outcome.stderr.split())
    assert outcome.exit_code == 130 and said in told and not file.exists()
    assert (f"{file.name}.checkpoint" in told) == (tmp_path / f"{file.name}.checkpoint").exists() == (epochs > 0)


def test_a_report_that_is_there_is_kept_and_told_before_anything_is_trained(pictures, tmp_path):
    (tmp_path / "there.html").write_text("mine")
    outcome = run("rehearse", "--data", pictures, "-o", tmp_path / "kept", "--report", tmp_path / "there.html")
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
        (("--augment", "blur"), "no defense 'blur'"),
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
    with pytest.raises(FairveilError, match="cannot be tried where only a head is fitted"):
        rehearsals(ATTACKS["gradient-matching"].drills["smoke"], data, defenses=["DP-SGD (0.01)"], folder=tmp_path)
    assert not list(tmp_path.iterdir())
