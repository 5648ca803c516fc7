import os
from pathlib import Path
from threading import Thread

import pytest
from PIL import Image

from fairveil.base.errors import FairveilError
from fairveil.faces.by_hand import FacesByHand
from fairveil.faces.recognizers import Recognizer
from fairveil.images import Saving, read_photo
from fairveil.protection import folders
from fairveil.protection.folders import LEDGER, PhotoJob, entry_of, goes_to_file, plan, protect_file
from fairveil.protection.lowkey import LowKey
from fairveil.protection.verification import verify

ONCE = LowKey(steps=1, step_size=0.02, smoothing="none", mirror=False)


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """Empty files in a working folder of their own: planning looks at names only."""
    for name in ("in/a.jpg", "in/b/a.jpeg", "in/b/c.PNG", "in/notes.txt", "in/.hidden/d.jpg", "other/a.jpg"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _planned(inputs, out, **saving) -> dict[str, str]:
    jobs = plan([Path(given) for given in inputs], Path(out), Saving(**saving))
    places = {str(job.source): str(job.target) for job in jobs}
    assert len(places) == len(jobs)
    return places


@pytest.mark.parametrize(
    ("inputs", "out", "expected"),
    [
        (["in"], "out", {"in/a.jpg": "out/a.jpg", "in/b/a.jpeg": "out/b/a.jpeg", "in/b/c.PNG": "out/b/c.PNG"}),
        (["in/b"], ".", {"in/b/a.jpeg": "a.jpeg", "in/b/c.PNG": "c.PNG"}),
        (["in/b"], "in/b/out", {"in/b/a.jpeg": "in/b/out/a.jpeg", "in/b/c.PNG": "in/b/out/c.PNG"}),
        (["in"], "in/b", {"in/a.jpg": "in/b/a.jpg"}),
        (["in/a.jpg"], "out", {"in/a.jpg": "out/a.jpg"}),
        (["in/a.jpg"], "other/z.jpeg", {"in/a.jpg": "other/z.jpeg"}),
        (["in/a.jpg"], "empty", {"in/a.jpg": "empty/a.jpg"}),
        (["other", "in/b/c.PNG"], "out", {"other/a.jpg": "out/a.jpg", "in/b/c.PNG": "out/c.PNG"}),
        (["in/a.jpg", "in/a.jpg"], "out", {"in/a.jpg": "out/a.jpg"}),
        (["nowhere.jpg"], "out", {"nowhere.jpg": "out/nowhere.jpg"}),
        (["x" * 300 + ".jpg"], "out", {"x" * 300 + ".jpg": "out/" + "x" * 300 + ".jpg"}),
    ],
)
def test_every_photo_has_its_place(tree, inputs, out, expected):
    assert _planned(inputs, out) == expected


def test_in_a_folder_suffixes_follow_the_format_unless_they_fit_it_already(tree):
    assert list(_planned(["in"], "out", format="JPEG").values()) == ["out/a.jpg", "out/b/a.jpeg", "out/b/c.jpg"]


def test_a_file_that_is_named_keeps_the_name_the_user_gave(tree):
    assert _planned(["in/a.jpg"], "z.jpeg", format="JPEG") == {"in/a.jpg": "z.jpeg"}
    assert _planned(["in/a.jpg"], "z.png", format="JPEG") == {"in/a.jpg": "z.png"}


@pytest.mark.parametrize(
    ("inputs", "out", "words"),
    [
        (["empty"], "out", "no photo in empty"),
        (["in"], "in", "in/a.jpg is an original"),
        (["in/a.jpg"], "in/a.jpg", "in/a.jpg is an original"),
        (["in/a.jpg"], "in/b/../a.jpg", "is an original"),
        (["in/a.jpg", "other/a.jpg"], "in", "in/a.jpg is an original"),
        (["in/a.jpg", "other/a.jpg"], "out", "in/a.jpg and other/a.jpg would both become out/a.jpg"),
        (["in", "other"], "out", "would both become out/a.jpg"),
    ],
)
def test_a_plan_that_would_harm_or_do_nothing_is_refused(tree, inputs, out, words):
    with pytest.raises(FairveilError, match=words):
        plan([Path(i) for i in inputs], Path(out), Saving())


def test_an_original_reached_through_a_link_is_refused(tree):
    (tree / "link").symlink_to("in")
    with pytest.raises(FairveilError, match="original"):
        plan([Path("in")], Path("link"), Saving())


def test_two_photos_that_only_differ_in_format_are_refused_if_they_get_one(tree):
    (tree / "in" / "a.png").touch()
    with pytest.raises(FairveilError, match=r"would both become out/a\.png"):
        plan([Path("in")], Path("out"), Saving(format="png"))


def test_a_photo_goes_to_a_file_only_if_it_is_alone_and_the_name_has_a_suffix(tree):
    assert goes_to_file([Path("in/a.jpg")], Path("z.png"))
    assert not goes_to_file([Path("in/a.jpg")], Path("z"))
    assert not goes_to_file([Path("in")], Path("z.png"))
    assert not goes_to_file([Path("in/a.jpg"), Path("other/a.jpg")], Path("z.png"))
    (tree / "z.png").mkdir()
    assert not goes_to_file([Path("in/a.jpg")], Path("z.png"))


@pytest.fixture
def job(portrait, tmp_path):
    source = tmp_path / "in" / "portrait.jpg"
    source.parent.mkdir()
    Image.fromarray(portrait).resize((256, 256)).save(source, quality=95)
    return PhotoJob(source, tmp_path / "out" / "portrait.jpg")


@pytest.fixture
def protect_photo(job, needs_models, detector, tiny_recognizers):
    needs_models("lpips-alexnet")

    def run(job=job, settings=ONCE, recognizers=tiny_recognizers, saving=None, **keywords):
        return protect_file(job, settings, recognizers, detector, saving or Saving(), **keywords)

    return run


def _interrupt(*_, **__):
    raise KeyboardInterrupt


def _files(folder: Path) -> list[str]:
    """All files but ledgers and locks."""
    return sorted(
        str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and p.suffix not in (".json", ".lock")
    )


def test_the_ledger_knows_a_protected_photo_by_its_content(protect_photo, job, tmp_path):
    outcome = protect_photo()
    assert outcome.status == "protected"
    entry = entry_of(job.target)
    assert entry == outcome.entry
    assert (entry.source, entry.target, entry.record.recognizers) == (
        "portrait.jpg",
        "portrait.jpg",
        ("tiny-1", "tiny-2"),
    )
    renamed = job.target.rename(job.target.with_name("renamed.jpg"))
    assert entry_of(renamed) == entry
    assert entry_of(job.source) is None
    assert _files(tmp_path / "out") == ["renamed.jpg"]


def test_the_same_again_is_not_done_again(protect_photo, job):
    first = protect_photo()
    made = job.target.read_bytes(), job.target.stat().st_mtime_ns
    again = protect_photo(saving=Saving(overwrite=True))  # overwriting is no other recipe
    assert (again.status, again.entry) == ("done before", first.entry)
    assert (job.target.read_bytes(), job.target.stat().st_mtime_ns) == made


def test_other_frames_make_a_new_photo_and_a_guess_is_noted(protect_photo, job):
    protect_photo()
    by_hand = FacesByHand(((150, 150, 45, 60),), "all")
    with pytest.raises(FairveilError, match="protected with other settings"):
        protect_photo(faces=by_hand)
    framed = protect_photo(faces=by_hand, saving=Saving(overwrite=True))
    assert framed.status == "protected" and len(framed.entry.record.faces) == 2
    assert any("In the frame 150,150,45,60 the detector sees no face" in note for note in framed.entry.notes)
    assert protect_photo(faces=by_hand).status == "done before"
    assert entry_of(job.target) == framed.entry


@pytest.mark.parametrize(
    "change",
    ["settings", "seed", "faces", "recognizers", "quality", "photo", "target", "ledger"],
)
def test_whatever_changes_the_result_makes_it_new(protect_photo, job, portrait, tiny_recognizers, change):
    protect_photo(saving=Saving(overwrite=True))
    saving, keywords = Saving(overwrite=True), {}
    if change == "settings":
        keywords["settings"] = ONCE.model_copy(update={"step_size": 0.03})
    elif change == "seed":
        keywords["seed"] = 1
    elif change == "faces":
        keywords["faces"] = "largest"
    elif change == "recognizers":
        keywords["recognizers"] = tiny_recognizers[:1]
    elif change == "quality":
        saving = saving.model_copy(update={"quality": 80})
    elif change == "photo":
        Image.fromarray(portrait).resize((250, 250)).save(job.source)
    elif change == "target":
        job.target.write_bytes(job.target.read_bytes() + b" ")
    else:
        for file in (job.target.parent / LEDGER).glob("*.json"):
            file.write_text("{ this was cut off")
    assert protect_photo(saving=saving, **keywords).status == "protected"
    assert protect_photo(saving=saving, **keywords).status == "done before"


@pytest.fixture
def wall(tmp_path):
    """A photo of nobody, which says where it was taken and by what."""
    job = PhotoJob(tmp_path / "wall.jpg", tmp_path / "out" / "wall.jpg")
    exif = Image.Exif()
    exif[0x010E], exif[0x010F] = "At home", "Maker"
    exif.get_ifd(0x8825)[1] = "N"
    exif.get_ifd(0x8769)[0xA431] = "BODY-SERIAL"
    Image.linear_gradient("L").convert("RGB").save(job.source, exif=exif, quality=100)
    return job


def as_bytes(path):
    """The pixels of a picture as Pillow decodes them."""
    with Image.open(path) as picture:
        return picture.tobytes()


def test_a_photo_without_a_face_keeps_its_pixels_and_loses_its_place_and_serial_numbers(protect_photo, wall):
    assert protect_photo(wall).status == "no face"
    before, data = wall.source.read_bytes(), wall.target.read_bytes()
    for secret in (b"BODY-SERIAL", b"At home"):
        assert secret in before and secret not in data
    with Image.open(wall.source) as source, Image.open(wall.target) as target:
        assert source.getexif().get_ifd(0x8825) and not target.getexif().get_ifd(0x8825)
    assert b"Maker" in data
    assert as_bytes(wall.target) == as_bytes(wall.source)
    assert protect_photo(wall).status == "done before"
    assert _files(wall.target.parent) == ["wall.jpg"]


def test_a_photo_without_a_face_is_converted_and_made_smaller_if_asked(protect_photo, wall):
    converted = PhotoJob(wall.source, wall.target.with_suffix(".png"))
    protect_photo(converted, saving=Saving(format="PNG"))
    with Image.open(converted.target) as picture:
        assert picture.format == "PNG"
    assert as_bytes(converted.target) == as_bytes(wall.source)
    small = wall.source.stat().st_size * 3 // 4
    protect_photo(wall, saving=Saving(max_size=small))
    assert wall.target.stat().st_size <= small


def test_what_the_record_ends_with_is_measured_on_the_saved_file(protect_photo, job, detector, tiny_recognizers):
    rough = Saving(quality=60)  # compressed until the figures differ from those of the canvas
    entry = protect_photo(saving=rough).entry
    photos = read_photo(job.source).pixels, read_photo(job.target).pixels
    as_saved = verify(*photos, tiny_recognizers, detector=detector).faces[0].against_itself
    for comparison in as_saved:
        if comparison.condition == "as saved":
            found = entry.record.faces[0].similarity[comparison.recognizer][-1]
            assert found == pytest.approx(comparison.similarity, abs=1e-5)


def test_a_recognizer_whose_file_was_replaced_is_another(protect_photo, tiny_recognizers):
    first, second = (
        [Recognizer("mine", known.network, known.framing, sha256=content)]
        for known, content in zip(tiny_recognizers, ("a" * 64, "b" * 64), strict=True)
    )
    saving = Saving(overwrite=True)
    protect_photo(recognizers=first)
    assert protect_photo(recognizers=first, saving=saving).status == "done before"
    assert protect_photo(recognizers=second, saving=saving).status == "protected"


def test_what_was_protected_with_other_settings_is_said_to_be_so(protect_photo, job):
    protect_photo()
    with pytest.raises(
        FairveilError, match=r"portrait\.jpg was protected with other settings.*replace it with `overwrite=True`"
    ):
        protect_photo(seed=1)
    job.target.write_bytes(b"a stranger's")
    with pytest.raises(FairveilError, match="already exists"):
        protect_photo(seed=1)


def test_a_photo_named_after_another_format_gets_the_suffix_that_fits(protect_photo, tmp_path):
    source = tmp_path / "shots" / "screenshot.jpg"
    source.parent.mkdir()
    Image.new("RGB", (40, 30), "teal").save(source, "PNG")
    (job,) = plan([source.parent], tmp_path / "out", Saving())
    assert job.target == tmp_path / "out" / "screenshot.png"
    assert protect_photo(job).entry.notes == ("screenshot.jpg holds a PNG, whatever its name says.",)
    Image.new("RGB", (40, 30), "teal").save(source.with_name("screenshot.png"))
    with pytest.raises(FairveilError, match=r"would both become .*screenshot\.png"):
        plan([source.parent], tmp_path / "out", Saving())


def test_photos_that_fairveil_made_are_passed_over_and_told_of(tree):
    for name in (
        "in/protected/.fairveil/x.json",
        "in/protected/a.jpg",
        "in/protected/new/e.jpg",
        "in/.fairveil/y.json",
    ):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).touch()
    told = {}
    jobs = plan([Path("in")], Path("out"), Saving(), on_skip=lambda path, why: told.update({str(path): why}))
    assert [str(job.source) for job in jobs] == ["in/a.jpg", "in/b/a.jpeg", "in/b/c.PNG", "in/protected/new/e.jpg"]
    assert told["in/protected/a.jpg"] == "protected before"
    assert set(told) == {"in/protected/a.jpg", "in/notes.txt", "in/.hidden"}
    told.clear()
    plan([Path("in")], Path("in/protected"), Saving(), on_skip=lambda path, why: told.update({str(path): why}))
    assert set(told) == {"in/notes.txt", "in/.hidden"}


def test_of_two_processes_on_one_photo_the_second_waits_and_finds_it_done(protect_photo, job):
    threads, outcomes = [], []

    def begin_another(done, total):
        if not threads:
            threads.append(Thread(target=lambda: outcomes.append(protect_photo())))
            threads[0].start()
            threads[0].join(0.4)
            assert not outcomes  # it waits

    assert protect_photo(on_step=begin_another).status == "protected"
    threads[0].join(20)
    assert [outcome.status for outcome in outcomes] == ["done before"]


def test_what_is_said_of_a_photo_calls_it_by_its_own_name(protect_photo, job):
    outcome = protect_photo(saving=Saving(max_size=16_000))
    assert job.target.stat().st_size <= 16_000
    assert outcome.entry.notes[-1].startswith(f"{job.target} was saved at quality")
    with pytest.raises(FairveilError) as refusal:
        protect_photo(saving=Saving(max_size=500, overwrite=True))
    assert str(refusal.value).startswith(f"{job.target} takes")
    assert _files(job.target.parent) == ["portrait.jpg"]


def test_a_file_that_appears_during_the_work_is_not_replaced(protect_photo, job):
    def another_program_writes(done, total):
        job.target.write_text("mine")

    with pytest.raises(FairveilError, match="already exists"):
        protect_photo(on_step=another_program_writes)
    assert job.target.read_text() == "mine"
    assert _files(job.target.parent) == ["portrait.jpg"]


@pytest.mark.parametrize("step", ["write_photo", "_sha256_of_result", "move_into_place"])
def test_an_end_at_any_moment_leaves_no_photo_and_the_next_run_makes_it(protect_photo, job, monkeypatch, step):
    with monkeypatch.context() as patch:
        if step == "_sha256_of_result":
            real = folders.sha256_of
            patch.setattr(folders, "sha256_of", lambda file: real(file) if file == job.source else _interrupt())
        else:
            patch.setattr(folders, step, _interrupt)
        with pytest.raises(KeyboardInterrupt):
            protect_photo()
    assert _files(job.target.parent) == []
    assert protect_photo().status == "protected"
    assert _files(job.target.parent) == ["portrait.jpg"]


def test_what_a_kill_left_behind_does_not_stand_in_the_way(protect_photo, job, monkeypatch):
    # A kill runs no clean-up: as if the file system had swallowed it.
    with monkeypatch.context() as patch:
        patch.setattr(folders, "move_into_place", _interrupt)
        patch.setattr(Path, "unlink", lambda *_, **__: None)
        with pytest.raises(KeyboardInterrupt):
            protect_photo()
    assert len(_files(job.target.parent)) >= 1 and not job.target.exists()
    assert protect_photo().status == "protected"
    assert as_bytes(job.target)


@pytest.mark.parametrize("name", [b"not utf-8 \xff.jpg", b"two\nlines.jpg", b"-o.jpg", b"x" * 251 + b".jpg"])
def test_a_name_that_is_no_text_goes_through(protect_photo, job, name):
    try:
        source = job.source.rename(job.source.with_name(os.fsdecode(name)))
    except OSError:
        pytest.skip("this file system does not take such names")
    odd = PhotoJob(source, job.target.with_name(source.name))
    assert protect_photo(odd).status == "protected"
    assert protect_photo(odd).status == "done before"
    assert entry_of(odd.target) is not None


def test_a_place_that_cannot_be_written_is_named_before_the_work(protect_photo, job):
    job.target.parent.write_text("a file where a folder should be")
    with pytest.raises(FairveilError, match=r"out.* could not be written"):
        protect_photo(on_step=lambda done, total: pytest.fail("the work was begun"))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_one_may_not_write_to_is_named(protect_photo, job):
    job.target.parent.mkdir(mode=0o500)
    with pytest.raises(FairveilError, match="could not be written: Permission denied"):
        protect_photo()
