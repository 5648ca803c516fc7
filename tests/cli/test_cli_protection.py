import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from fairveil.faces import zoo
from fairveil.faces.recognizers import Recognizer
from fairveil.version import __version__


@pytest.fixture
def fairveil(monkeypatch, run_fairveil, stand_in_zoo, detector, needs_models, tiny_recognizers):
    """The command, with two tiny recognizers for a zoo: gives exit code, stdout and stderr."""
    needs_models("lpips-alexnet", "lpips-vgg16")
    thresholdless = Recognizer("thresholdless", tiny_recognizers[0].network, tiny_recognizers[0].framing)
    blind = Recognizer("blind", lambda crops: crops.flatten(1)[:, :4] * 0)
    stand_in_zoo(tiny_recognizers, [thresholdless, blind])
    monkeypatch.setattr(zoo, "DEFAULT_ENSEMBLE", ("tiny-1",))
    return run_fairveil


@pytest.fixture
def photo(portrait, tmp_path):
    path = tmp_path / "in" / "portrait.jpg"
    path.parent.mkdir()
    Image.fromarray(portrait).save(path, quality=95)
    return path


def _content(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def _photos(folder: Path) -> list[str]:
    return [name for name in _content(folder) if ".fairveil" not in name]


def test_a_photo_is_protected_and_the_original_is_left_alone(fairveil, photo, tmp_path):
    before, modified = photo.read_bytes(), photo.stat().st_mtime_ns
    code, out, err = fairveil("protect", photo, "-o", tmp_path / "out", "--steps", 1)
    assert code == 0, err
    assert "portrait.jpg: 1 face, ΔE" in out
    assert (photo.read_bytes(), photo.stat().st_mtime_ns) == (before, modified)
    protected = Image.open(tmp_path / "out" / "portrait.jpg")
    assert (protected.format, protected.size) == ("JPEG", (512, 512))
    assert protected.tobytes() != Image.open(photo).tobytes()


def test_a_face_given_by_hand_is_protected_and_measured(fairveil, photo, tmp_path):
    frame = "300,300,90,120"
    target = tmp_path / "out" / "portrait.jpg"
    code, out, err = fairveil("protect", photo, "-o", tmp_path / "out", "--steps", 1, "--face", frame)
    assert code == 0, err
    assert "portrait.jpg: 2 faces" in out and f"In the frame {frame} the detector sees no face." in out
    changed = np.asarray(Image.open(target)) != np.asarray(Image.open(photo))
    assert changed[300:420, 300:390].mean() > 0.3
    code, out, err = fairveil("check", photo, target)  # which knows the frame from what was noted
    assert code == 0, err
    assert "Face 2 of 2" in out and "This face was framed by hand" in out
    code, out, _ = fairveil("check", photo, target, "--face", "40,380,64,80", "--json")
    assert [face.get("by_hand", False) for face in json.loads(out)["faces"]] == [False, True]


def test_faces_can_be_those_given_by_hand_alone(fairveil, photo, tmp_path):
    code, out, err = fairveil(
        *("protect", photo, "-o", tmp_path / "out", "--steps", 1, "--faces", "none"),
        *("--face", "300,300,90,120", "--face", "40,380,64,80"),
    )
    assert code == 0, err
    assert "portrait.jpg: 2 faces" in out


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--face", "1,2,3"], 2, "'1,2,3' is no frame: write left, top, width and height"),
        (["--face", "a,2,3,4"], 2, "is no frame"),
        (["--faces", "none"], 2, "goes with --face only"),
        (["--face", "500,500,90,90"], 1, "lies outside of the photo, of 512×512 pixels"),
        (["--face", "100,100,10,10"], 1, "is too small"),
    ],
)
def test_frames_that_make_no_sense_are_refused(fairveil, photo, tmp_path, options, code, words):
    ended, _, err = fairveil("protect", photo, "-o", tmp_path / "out", "--steps", 1, *options)
    assert ended == code and words in " ".join(err.replace("│", " ").split())
    assert not _photos(tmp_path / "out")


def test_a_frame_belongs_to_one_photo(fairveil, photo, tmp_path):
    (photo.parent / "other.jpg").write_bytes(photo.read_bytes())
    code, _, err = fairveil("protect", photo.parent, "-o", tmp_path / "out", "--face", "300,300,90,120")
    assert code == 1 and "in one photo, but 2 are to be protected" in err


def test_folders_keep_their_structure_and_a_bad_file_does_not_stop_the_rest(fairveil, photo, tmp_path):
    (photo.parent / "a").mkdir()
    (photo.parent / "a" / "broken.jpg").write_bytes(photo.read_bytes()[:2000])
    Image.new("RGB", (80, 60), "navy").save(photo.parent / "a" / "wall.png")
    code, out, err = fairveil("protect", photo.parent, "-o", tmp_path / "out", "--steps", 1)
    assert code == 1
    assert _photos(tmp_path / "out") == ["a/wall.png", "portrait.jpg"]
    assert "broken.jpg" in err and "1 of 3 photos" in err and "Traceback" not in err
    assert "wall.png: no face found, so nothing was protected; location, serial numbers" in out
    assert Image.open(tmp_path / "out/a/wall.png").tobytes() == Image.open(photo.parent / "a/wall.png").tobytes()


def test_what_was_done_is_not_done_again_unless_photo_or_settings_changed(fairveil, photo, tmp_path):
    out_folder = tmp_path / "out"
    fairveil("protect", photo, "-o", out_folder, "--steps", 1)
    made = _content(out_folder)
    code, out, _ = fairveil("protect", photo, "-o", out_folder, "--steps", 1)
    assert code == 0 and "done before" in out
    assert _content(out_folder) == made
    code, _, err = fairveil("protect", photo, "-o", out_folder, "--steps", 2)
    assert code == 1 and "--overwrite" in err
    assert _content(out_folder) == made
    code, out, _ = fairveil("protect", photo, "-o", out_folder, "--steps", 2, "--overwrite")
    assert code == 0 and "done before" not in out
    assert _content(out_folder)["portrait.jpg"] != made["portrait.jpg"]


def test_a_stranger_at_the_targets_place_is_not_replaced(fairveil, photo, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "portrait.jpg").write_text("mine")
    code, _, err = fairveil("protect", photo, "-o", tmp_path / "out", "--steps", 1)
    assert code == 1 and "portrait.jpg" in err
    assert (tmp_path / "out" / "portrait.jpg").read_text() == "mine"


@pytest.mark.parametrize("target", ["in/portrait.jpg", "in"])
def test_an_original_is_never_the_target(fairveil, photo, tmp_path, target):
    before = _content(tmp_path)
    code, _, err = fairveil("protect", photo, "-o", tmp_path / target, "--overwrite", "--steps", 1)
    assert code == 1 and "original" in err
    assert _content(tmp_path) == before


def test_two_photos_of_one_name_are_refused_before_any_work(fairveil, photo, tmp_path):
    other = tmp_path / "other" / "portrait.jpg"
    other.parent.mkdir()
    other.write_bytes(photo.read_bytes())
    code, _, err = fairveil("protect", photo, other, "-o", tmp_path / "out", "--steps", 1)
    assert code == 1 and "would both become" in err
    assert not (tmp_path / "out").exists()


def test_the_output_may_lie_inside_the_input_folder(fairveil, photo):
    for _ in range(2):
        code, _, err = fairveil("protect", photo.parent, "-o", photo.parent / "protected", "--steps", 1)
        assert code == 0, err
    assert _photos(photo.parent) == ["portrait.jpg", "protected/portrait.jpg"]


def test_a_single_photo_may_go_to_a_file_of_another_format(fairveil, photo, tmp_path):
    code, _, err = fairveil("protect", photo, "-o", tmp_path / "veiled.png", "--steps", 1)
    assert code == 0, err
    with Image.open(tmp_path / "veiled.png") as veiled:
        assert veiled.format == "PNG"


def test_the_report_is_written_beside_the_photo(fairveil, photo, tmp_path):
    code, _, err = fairveil("protect", photo, "-o", tmp_path / "out", "--steps", 1, "--receipts")
    assert code == 0, err
    html = (tmp_path / "out" / "portrait.jpg.report.html").read_text()
    assert "tiny-1" in html and "tiny-2" in html and "held out" in html


def test_check_prints_json_and_nothing_else_on_stdout(fairveil, photo, tmp_path):
    fairveil("protect", photo, "-o", tmp_path / "out", "--steps", 2)
    protected = tmp_path / "out" / "portrait.jpg"
    code, out, err = fairveil("check", photo, protected, "--probe", photo, "--json")
    assert code == 0, err
    receipt = json.loads(out)
    roles = {c["recognizer"]: c["attacked"] for c in receipt["faces"][0]["against_itself"]}
    assert roles == {"tiny-1": True, "tiny-2": False}
    assert list(receipt["faces"][0]["against_probes"]) == ["portrait.jpg"]


def test_check_says_when_it_does_not_know_how_a_photo_was_made(fairveil, photo, tmp_path):
    code, out, err = fairveil("check", photo, photo)
    assert code == 0
    assert "There is no record of how" in err and "tiny-1" in out and "may still match" in " ".join(out.split())


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["protect"], 2, "Missing argument"),
        (["protect", "PHOTO"], 2, "--out"),
        (["protect", "PHOTO", "-o", "OUT", "--steps", "0"], 2, "steps"),
        (["protect", "PHOTO", "-o", "OUT", "--faces", "some"], 2, "some"),
        (["protect", "PHOTO", "-o", "OUT", "--max-size", "huge"], 2, "500kB"),
        (["protect", "PHOTO", "-o", "OUT", "--max-size", "0"], 2, "500kB"),
        (["protect", "PHOTO", "-o", "OUT", "--max-size=-5kB"], 2, "500kB"),
        (["protect", "PHOTO", "-o", "OUT", "--max-size", "inf"], 2, "500kB"),
        (["protect", "PHOTO", "-o", "OUT", "--max-size", "[red]"], 2, "[red]"),
        (["protect", "PHOTO", "-o", "OUT", "--max-size", "2kB", "--steps", "1"], 1, "portrait.jpg takes"),
        (["protect", "PHOTO", "-o", "OUT", "--max-lpips", "nan"], 2, "max-lpips"),
        (["protect", "PHOTO", "-o", "OUT", "--stop-below", "nan"], 2, "stop-below"),
        (["protect", "PHOTO", "-o", "OUT", "--seed", "1" + "0" * 30], 2, "seed"),
        (["protect", "PHOTO", "-o", "OUT", "--quality", "3"], 2, "quality"),
        (["protect", "PHOTO", "-o", "OUT", "--strength", "[red]"], 2, "[red]"),
        (["protect", "PHOTO", "-o", "OUT", "--stop-below", "0.1", "--recognizer", "thresholdless"], 1, "thresholdless"),
        (["protect", "PHOTO", "-o", "OUT.png", "--format", "JPEG"], 1, "OUT.jpg"),
        (["protect", "x" * 300, "-o", "OUT"], 1, "too long"),
        (["protect", "PHOTO", "-o", "PHOTO/out"], 1, "could not be written"),
        (["check", "EMPTY", "PHOTO"], 1, "is a folder"),
        (["check", "PHOTO", "PHOTO", "--report", "PHOTO", "--overwrite"], 1, "one of the photos"),
        (["check", "PHOTO", "PHOTO", "--report", "EMPTY/no/page.html"], 1, "page.html"),
        (["protect", "PHOTO", "-o", "OUT", "--strength", "extreme"], 2, "medium"),
        (["protect", "nowhere.jpg", "-o", "OUT"], 1, "nowhere.jpg"),
        (["protect", "EMPTY", "-o", "OUT"], 1, "no photo"),
        (["protect", "PHOTO", "-o", "OUT", "--recognizer", "nowhere.onnx"], 1, "nowhere.onnx"),
        (["check", "PHOTO", "nowhere.jpg"], 1, "nowhere.jpg"),
        (["protect", "PHOTO", "-o", "OUT", "--format", "BMPX"], 2, "BMPX"),
        (["protect", "PHOTO", "-o", "OUT", "--format", ""], 2, "choose JPEG"),
        (["protect", "PHOTO", "-o", "OUT", "--max-size", ""], 2, "500kB"),
        (["protect", "PHOTO", "-o", "OUT", "--max-lpips", "inf"], 2, "--max-lpips"),
        (["protect", "PHOTO", "-o", "OUT", "--recognizer", "farceres"], 2, "farceres"),
        (["protect", "PHOTO", "-o", "OUT", "--recognizer", "models/tiny-2.onnx"], 2, "rename the file"),
        (["protect", "PHOTO", "-o", "OUT", "--size", "160"], 2, "--size"),
        (["check", "PHOTO", "PHOTO", "--output", "norm"], 2, "--output"),
        (
            ["check", "PHOTO", "PHOTO", "--recognizer", "a.onnx", "--scale", "1", "--scale", "2"],
            2,
            "2 times for 1 ONNX",
        ),
        (["check", "PHOTO", "PHOTO", "--recognizer", "a.onnx", "--mean", "1,2"], 2, "nor three"),
        (["check", "PHOTO", "PHOTO", "--recognizer", "a.onnx", "--channels", "GBR"], 2, "'RGB' or 'BGR'"),
        (["protect", "PHOTO", "-o", ""], 2, "the name is empty"),
        (["protect", "", "-o", "OUT"], 2, "the name is empty"),
        (["check", "PHOTO", "PHOTO", "--report", ""], 2, "the name is empty"),
        (["check", "PHOTO", "PHOTO", "--probe", ""], 2, "the name is empty"),
        (["check", "PHOTO", "PHOTO", "--report", "/dev/null", "--overwrite"], 1, "not an ordinary file"),
    ],
)
def test_wrong_use_ends_in_a_sentence_and_an_exit_code(fairveil, photo, tmp_path, arguments, code, words):
    (tmp_path / "empty").mkdir()
    before = photo.read_bytes()
    places = {"PHOTO": photo, "OUT": tmp_path / "out", "EMPTY": tmp_path / "empty"}
    for word, place in places.items():
        arguments = [argument.replace(word, str(place)) for argument in arguments]
        words = words.replace(word, place.name)
    found, out, err = fairveil(*arguments)
    assert (found, out) == (code, ""), err
    assert words.lower() in err.lower() and "Traceback" not in err
    assert not _photos(tmp_path / "out")
    assert photo.read_bytes() == before


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_finished_photos_whole_and_nothing_else(fairveil, photo, tmp_path, monkeypatch, end):
    def ended(*_):
        raise AssertionError("the process was ended")

    for name in ("b.jpg", "c.jpg"):
        (photo.parent / name).write_bytes(photo.read_bytes())
    photo.unlink()
    from fairveil.protection import folders

    real, calls = folders.protect_pixels, []

    def interrupted(*arguments, **keywords):
        calls.append(1)
        if len(calls) == 2:
            signal.raise_signal(end)
        return real(*arguments, **keywords)

    monkeypatch.setattr(folders, "protect_pixels", interrupted)
    usual = signal.signal(signal.SIGTERM, ended)
    interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs in the background ignores it
    try:
        code, out, err = fairveil("protect", photo.parent, "-o", tmp_path / "out", "--steps", 1)
        assert signal.getsignal(signal.SIGTERM) is ended
    finally:
        signal.signal(signal.SIGTERM, usual)
        signal.signal(signal.SIGINT, interrupt)
    assert code == 130 and "Stopped" in err
    assert _photos(tmp_path / "out") == ["b.jpg"]
    assert Image.open(tmp_path / "out" / "b.jpg").load() is not None
    code, out, _ = fairveil("protect", photo.parent, "-o", tmp_path / "out", "--steps", 1)
    assert code == 0 and out.count("done before") == 1
    assert _photos(tmp_path / "out") == ["b.jpg", "c.jpg"]


def test_an_interrupt_during_a_report_ends_the_workers_before_it_is_told(fairveil, photo, tmp_path, monkeypatch):
    from fairveil.base import executors
    from fairveil.cli import protection, terminal

    states = []

    @contextmanager
    def noting(**keywords):
        states.append("working")
        try:
            yield executors.Executor(executors._here, 1, here=True)
        finally:
            states.append("ended")

    def interrupted(*arguments, **keywords):
        raise KeyboardInterrupt

    monkeypatch.setattr(executors, "executor", noting)
    monkeypatch.setattr(protection, "_receipt", interrupted)
    monkeypatch.setattr(terminal.talk, "print", lambda *words, **keywords: states.append(" ".join(map(str, words))))
    code, _, err = fairveil("protect", photo, "-o", tmp_path / "out", "--steps", 1, "--receipts")
    assert code == 130, err
    told = [state for state in states if state]
    assert told[:2] == ["working", "ended"] and told[2].startswith("Stopped.")


def test_a_file_keeps_the_name_it_was_given(fairveil, photo, tmp_path):
    code, out, err = fairveil("protect", photo, "-o", tmp_path / "veiled.jpeg", "--steps", 1)
    assert code == 0, err
    assert "veiled.jpeg: 1 face" in out and (tmp_path / "veiled.jpeg").is_file()


def test_a_folder_may_be_protected_into_the_folder_above_it(fairveil, photo, tmp_path):
    code, _, err = fairveil("protect", photo.parent, "-o", tmp_path, "--steps", 1)
    assert code == 0, err
    assert _photos(tmp_path) == ["in/portrait.jpg", "portrait.jpg"]


def test_nothing_is_claimed_of_a_recognizer_without_a_threshold(fairveil, photo, tmp_path):
    code, out, err = fairveil("protect", photo, "-o", tmp_path / "out", "--steps", 1, "--recognizer", "thresholdless")
    assert code == 0, err
    assert "whether thresholdless still matches is not known" in out
    assert "no recognizer" not in out


def test_a_recognizer_named_twice_is_attacked_once(fairveil, photo, tmp_path):
    twice = ["--recognizer", "tiny-1"] * 2
    code, out, err = fairveil("protect", photo, "-o", tmp_path / "out", "--steps", 1, *twice)
    assert code == 0, err
    assert out.count("tiny-1") <= 1


def test_two_probes_of_one_name_are_both_asked(fairveil, photo, tmp_path):
    other = tmp_path / "other" / photo.name
    other.parent.mkdir()
    other.write_bytes(photo.read_bytes())
    code, out, err = fairveil("check", photo, photo, "--probe", photo, "--probe", other, "--json")
    assert code == 0, err
    assert list(json.loads(out)["faces"][0]["against_probes"]) == [str(photo), str(other)]


def test_a_recognizer_that_is_blind_is_refused_by_name(fairveil, photo, tmp_path):
    for command in (["protect", photo, "-o", tmp_path / "out"], ["check", photo, photo]):
        code, out, err = fairveil(*command, "--recognizer", "blind")
        assert (code, out) == (1, "") and "The recognizer blind gives zeros only" in err and "Traceback" not in err


def test_what_a_folder_run_passes_over_is_counted_and_up_to_five_are_named(fairveil, photo, tmp_path):
    for number in range(7):
        (photo.parent / f"notes-{number}.txt").touch()
    code, _, err = fairveil("protect", photo.parent, "-o", tmp_path / "out", "--steps", 1)
    assert code == 0
    assert "Passed over 7" in err and "notes-4.txt (not a photo by its name), and 2 more." in err
    assert "notes-5" not in err


def test_a_report_that_fails_is_no_photo_that_failed(fairveil, photo, tmp_path):
    (tmp_path / "out" / "portrait.jpg.report.html").mkdir(parents=True)
    code, out, err = fairveil("protect", photo, "-o", tmp_path / "out", "--steps", 1, "--receipts")
    assert code == 1 and "portrait.jpg: 1 face" in out
    assert "Protected, but without a receipt:" in err and "could not be protected" not in err


def test_the_report_asks_the_users_own_recognizer_too(fairveil, photo, tmp_path):
    asked = ["--receipts", "--recognizer", "thresholdless"]
    code, _, err = fairveil("protect", photo, "-o", tmp_path / "out", "--steps", 1, *asked)
    assert code == 0, err
    html = (tmp_path / "out" / "portrait.jpg.report.html").read_text()
    assert all(name in html for name in ("tiny-1", "tiny-2", "thresholdless"))


def test_check_tells_of_faceless_probes_and_of_the_files_it_measured(fairveil, photo, tmp_path):
    Image.new("RGB", (80, 60), "navy").save(tmp_path / "wall.png")
    code, out, err = fairveil("check", photo, photo, "--probe", tmp_path / "wall.png")
    assert code == 0, err
    assert "No face was found in wall.png" in out
    code, out, _ = fairveil("check", photo, photo, "--probe", tmp_path / "wall.png", "--json")
    receipt = json.loads(out)
    assert receipt["probes_without_face"] == ["wall.png"]
    digest = hashlib.sha256(photo.read_bytes()).hexdigest()
    assert receipt["files"][0] == {"role": "original", "name": "portrait.jpg", "sha256": digest}
    assert [file["role"] for file in receipt["files"]] == ["original", "protected", "probe"]
    assert receipt["faces"][0]["against_itself"][0]["matches"] is True


@pytest.mark.parametrize(("place", "words"), [("closed pipe", ""), ("/dev/full", "could not be written")])
def test_results_that_nobody_takes_end_without_a_traceback(place, words):
    command = [Path(sys.executable).with_name("fairveil"), "models", "list", "--json"]
    if place == "closed pipe":
        reading, writing = os.pipe()
        os.close(reading)
    elif Path(place).exists():
        writing = os.open(place, os.O_WRONLY)
    else:
        pytest.skip(f"there is no {place} here")
    ended = subprocess.run(command, check=False, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert ended.returncode == 1
    assert words in ended.stderr and "Traceback" not in ended.stderr and "Exception ignored" not in ended.stderr
    assert len(ended.stderr.splitlines()) <= 1


def test_a_report_is_not_replaced_unasked(fairveil, photo, tmp_path):
    page = tmp_path / "receipt.html"
    page.write_text("mine")
    assert fairveil("check", photo, photo, "--report", page)[0] == 1
    assert page.read_text() == "mine"
    assert fairveil("check", photo, photo, "--report", page, "--overwrite")[0] == 0
    assert page.read_text().startswith("<!doctype html>")
    code, out, _ = fairveil("check", photo, photo, "--json")
    written, printed = json.loads(page.with_suffix(".json").read_text()), json.loads(out)
    assert code == 0 and written | {"date": ""} == printed | {"date": ""}


def test_neither_file_of_a_report_replaces_a_photo(fairveil, photo, tmp_path):
    odd = photo.rename(tmp_path / "portrait.json")
    code, _, err = fairveil("check", odd, odd, "--report", tmp_path / "portrait.html", "--overwrite")
    assert code == 1 and "portrait.json is one of the photos" in err and not (tmp_path / "portrait.html").exists()


@pytest.mark.parametrize("name", ["[red]x[bold].jpg", "[link=x].jpg", "two\nlines.jpg", "\x1b[31m.jpg", "\udcff.jpg"])
def test_odd_names_are_told_as_they_are_and_never_reach_the_terminal_raw(fairveil, photo, tmp_path, name):
    try:
        odd = photo.rename(photo.with_name(name))
    except (OSError, UnicodeEncodeError):
        pytest.skip("this file system does not take such names")
    code, out, err = fairveil("protect", odd, "-o", tmp_path / "out", "--steps", 1)
    assert code == 0, err
    assert (tmp_path / "out" / name).is_file()
    told = name if name.isprintable() else repr(name)[1:-1]
    assert told in out and "\x1b" not in out and len(out.strip().splitlines()) == 1
    code, out, err = fairveil("check", odd, tmp_path / "out" / name, "--probe", odd, "--report", tmp_path / "page.html")
    assert code == 0, err
    assert told.split("[")[0] in out and "\x1b" not in out
    odd.write_bytes(b"no photo")
    code, out, err = fairveil("protect", odd, "-o", tmp_path / "other", "--steps", 1)
    assert code == 1 and told in err and "Traceback" not in err


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stem=st.text(st.characters(exclude_categories=["C"], exclude_characters="/\0"), min_size=1, max_size=40))
def test_any_file_name_goes_through(fairveil, tmp_path, stem):
    folder = tmp_path / "names"
    folder.mkdir(exist_ok=True)
    path = folder / f"x{stem} [red].png"
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(path)
    code, out, err = fairveil("protect", folder, "-o", tmp_path / "out", "--steps", 1)
    assert code == 0, err
    assert "[red].png" in out
    path.unlink()


def test_help_shows_an_example_for_every_command_without_loading_torch():
    script = (
        "import sys; from typer.testing import CliRunner; from fairveil.cli import app;"
        "out = ''.join(CliRunner().invoke(app, [c, '--help']).output for c in ('protect', 'check'));"
        "assert out.count('Example:') == 2, out; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_the_version_is_printed():
    command = [Path(sys.executable).with_name("fairveil"), "--version"]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == f"fairveil {__version__}\n"


_WITH_A_TINY_ZOO = """
import sys, torch
from fairveil import cli
from fairveil.faces import zoo
from fairveil.faces.recognizers import Framing, Recognizer
network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 4))
tiny = Recognizer.from_module(network, name="tiny", framing=Framing(size=8), threshold=0.9)
zoo.ZOO, zoo.DEFAULT_ENSEMBLE, zoo.load_recognizer = {"tiny": tiny}, ("tiny",), {"tiny": tiny}.__getitem__
cli.main()
"""


@pytest.mark.slow
def test_the_bar_goes_to_the_terminal_and_the_results_to_the_file(photo, tmp_path, needs_models):
    pty = pytest.importorskip("pty", reason="needs a terminal as Unix has them")
    needs_models("lpips-alexnet", "mtcnn-pnet", "mtcnn-rnet", "mtcnn-onet")
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", _WITH_A_TINY_ZOO, "protect", photo, "-o", tmp_path / "out", "--steps", "2"]
    with (tmp_path / "results").open("wb") as results:
        environment = os.environ | {"TERM": "xterm"}
        process = subprocess.Popen(command, stdin=theirs, stdout=results, stderr=theirs, env=environment)
    os.close(theirs)
    terminal = b""
    try:
        while piece := os.read(ours, 4096):
            terminal += piece
    except OSError:  # what Linux says at the end
        pass
    os.close(ours)
    assert process.wait() == 0, terminal
    lines = (tmp_path / "results").read_text().splitlines()
    assert len(lines) == 1 and "portrait.jpg: 1 face" in lines[0] and "\x1b" not in lines[0]
    assert b"0/1" in terminal and b"\x1b" in terminal and b"LPIPS" not in terminal


@pytest.mark.slow
def test_a_terminal_that_knows_no_greek_is_no_reason_to_stop(photo, needs_models):
    needs_models("lpips-alexnet", "lpips-vgg16", "mtcnn-pnet", "mtcnn-rnet", "mtcnn-onet")
    command = [sys.executable, "-c", _WITH_A_TINY_ZOO, "check", photo, photo]
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    told = subprocess.run(command, check=True, capture_output=True, env=environment).stdout
    assert b"blur" in told and told.isascii()
    told = subprocess.run([*command, "--json"], check=True, capture_output=True, env=environment).stdout
    assert "blur σ 2" in {c["condition"] for c in json.loads(told)["faces"][0]["against_itself"]}


@pytest.mark.slow
def test_a_killed_run_leaves_whole_photos_only_and_the_next_run_finishes(photo, tmp_path, needs_models):
    needs_models("all")
    for number in range(3):
        (photo.parent / f"{number}.jpg").write_bytes(photo.read_bytes())
    out = tmp_path / "out"
    command = [Path(sys.executable).with_name("fairveil"), "protect", photo.parent, "-o", out]
    command += ["--steps", "1", "--recognizer", "mobileface"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (out / "0.jpg").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert set(_photos(out)) <= {"0.jpg", "1.jpg", "2.jpg", "portrait.jpg"}
    for file in out.glob("*.jpg"):
        Image.open(file).load()
    assert not list(out.glob("*.part")) + list(out.glob(".*.part"))
    subprocess.run(command, check=True, capture_output=True)
    assert _photos(out) == ["0.jpg", "1.jpg", "2.jpg", "portrait.jpg"]
    for file in out.glob("*.jpg"):
        Image.open(file).load()


def test_photos_above_the_limit_are_read_when_it_is_raised(fairveil, tmp_path):
    Image.new("L", (1500, 1000)).save(tmp_path / "wide.png")
    code, _, err = fairveil("protect", tmp_path / "wide.png", "-o", tmp_path / "out", "--max-megapixels", 1)
    assert code == 1 and "--max-megapixels 2" in " ".join(err.split())
    code, out, err = fairveil("protect", tmp_path / "wide.png", "-o", tmp_path / "out", "--max-megapixels", 2)
    assert code == 0 and "no face found" in out, err
