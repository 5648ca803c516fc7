"""What a page does for its own person, and that it does nothing for another."""

import io
import json
import shutil
import time
import zipfile

import pytest
from PIL import Image

from fairveil.images import read_photo
from fairveil.protection.protecting import protect_pixels
from fairveil.web.app import zipped
from fairveil.web.uploaded import Result

pytestmark = pytest.mark.slow


def _ready(state):
    return state["photos"] and all(photo["stage"] in ("ready", "refused") for photo in state["photos"])


def _done(state):
    return state["photos"] and all(photo["stage"] == "done" for photo in state["photos"])


def _similarity(recognizer, detector, one, other):
    embeddings = []
    for photo in (one, other):
        face = detector.detect([photo.pixels])[0][:1]
        embeddings.append(recognizer.embed(photo.pixels[None] / 255, face.landmarks))
    return float((embeddings[0] * embeddings[1]).sum())


@pytest.fixture
def veiled(serving, portrait_jpeg):
    """A server, a visitor of it, and her photo, protected."""
    running = serving()
    visitor = running.visitor().open()
    with visitor.listening() as until:
        visitor.upload(portrait_jpeg)
        photo = until(_ready)["photos"][0]
        assert visitor.veil({photo["id"]: [0]})[0] == 200
        photo = until(_done)["photos"][0]
        yield running, visitor, photo


def _address(visitor, photo, what="file"):
    return f"{visitor.tab}/photos/{photo['id']}/{photo['result']['run']}/{what}"


def test_the_download_is_what_protect_gives_in_the_format_and_size_of_the_original(veiled, portrait_jpeg, small_tools):
    _, visitor, photo = veiled
    status, headers, data = visitor.ask("GET", _address(visitor, photo), Origin=None)
    assert status == 200 and headers["content-disposition"] == 'attachment; filename="me-protected.jpg"'
    original, saved = read_photo(portrait_jpeg), read_photo(data)
    assert saved.format == "JPEG" and saved.pixels.shape == original.pixels.shape
    assert 0x8825 not in Image.open(io.BytesIO(data)).getexif()  # no location
    faces = small_tools.detector.detect([original.pixels])[0]
    expected = protect_pixels(
        original.pixels, small_tools.strengths["low"], recognizers=small_tools.ensemble, faces=faces
    ).pixels
    assert (saved.pixels.int() - expected.int()).abs().float().mean() < 2  # but for JPEG
    assert (original.pixels.int() - expected.int()).abs().max() > 4
    attacked = small_tools.ensemble[0]
    assert _similarity(attacked, small_tools.detector, original, saved) < attacked.threshold.similarity


def test_the_page_is_told_who_still_recognizes_the_face_in_the_saved_photo(veiled, portrait_jpeg, small_tools):
    _, visitor, photo = veiled
    _, _, data = visitor.ask("GET", _address(visitor, photo), Origin=None)
    answers = {answer["recognizer"]: answer for answer in photo["result"]["faces"][0]["answers"]}
    assert {name: answer["attacked"] for name, answer in answers.items()} == {
        "mobilefacenet-512": True,
        "mobilefacenet-192": False,
    }
    for recognizer in small_tools.judges:
        told = answers[recognizer.name]
        assert told["highest"] >= told["similarity"]
        measured = _similarity(recognizer, small_tools.detector, read_photo(portrait_jpeg), read_photo(data))
        assert told["similarity"] == pytest.approx(measured, abs=0.02)
        assert told["matches"] == (told["similarity"] >= recognizer.threshold.similarity)
    status, headers, page = visitor.ask("GET", _address(visitor, photo, "receipt"), Origin=None)
    assert status == 200 and b"Who still recognizes me.jpg?" in page
    assert headers["content-disposition"].startswith("attachment")


def test_before_and_after_can_be_compared_and_differ(veiled):
    _, visitor, photo = veiled
    pictures = []
    for run, name in [("original", "before"), (photo["result"]["run"], "after")]:
        for ending in ("", "-0"):
            path = f"{visitor.tab}/photos/{photo['id']}/{run}/{name}{ending}.jpg"
            status, headers, data = visitor.ask("GET", path, Origin=None)
            assert status == 200 and headers["content-type"] == "image/jpeg"
            pictures.append(Image.open(io.BytesIO(data)))
    assert pictures[0].size == pictures[2].size and pictures[1].size == pictures[3].size
    assert pictures[0].tobytes() != pictures[2].tobytes()


def test_what_a_page_holds_is_given_to_no_other_browser_and_no_other_page(veiled):
    running, visitor, photo = veiled
    stranger, other_page = running.visitor().open(), running.visitor()
    other_page.cookies = dict(visitor.cookies)
    other_page.open()
    paths = [_address(visitor, photo, what) for what in ("file", "receipt", "after.jpg")]
    paths += [
        f"{visitor.tab}/photos/{photo['id']}/original/before.jpg",
        f"{visitor.tab}/all.zip",
        f"{visitor.tab}/news",
    ]
    for path in paths:
        assert stranger.ask("GET", path, Origin=None)[0] == 404
        assert running.visitor().ask("GET", path, Origin=None)[0] == 404  # a browser that never was here
        if "/photos/" in path:
            assert other_page.ask("GET", path.replace(visitor.tab, other_page.tab), Origin=None)[0] == 404
    for method, path in [
        ("DELETE", f"/photos/{photo['id']}"),
        ("POST", "/close"),
        ("POST", "/stop"),
        ("PUT", "/photos"),
    ]:
        assert stranger.ask(method, visitor.tab + path, b"")[0] == 404
    status, _, _ = stranger.ask(
        "POST", f"{stranger.tab}/veil", json.dumps({"strength": "low", "faces": {photo["id"]: []}}).encode()
    )
    assert status == 409
    assert visitor.ask("GET", _address(visitor, photo), Origin=None)[0] == 200


def test_no_path_leads_to_another_file(veiled):
    _, visitor, photo = veiled
    paths = ("original/original", "original/..%2foriginal", "original/..", "original//etc/passwd", "%2e%2e/original")
    paths += ("../../../etc/passwd", "run1/protected", "run2/file", "run1/%2e%2e%2f%2e%2e%2foriginal", "run1/*.jpg")
    for start in (f"{visitor.tab}/photos/{photo['id']}/", "/page/", "/page/../", f"{visitor.tab}/photos/../"):
        for path in paths:
            assert visitor.ask("GET", start + path, Origin=None)[0] == 404


def test_all_photos_come_in_one_zip_with_names_of_their_own(serving, faceless_png, portrait_jpeg):
    running = serving()
    visitor = running.visitor().open()
    with visitor.listening() as until:
        assert visitor.ask("GET", f"{visitor.tab}/all.zip", Origin=None)[0] == 404  # nothing is done yet
        for data, name in [(portrait_jpeg, "me.jpg"), (faceless_png, "me.png"), (faceless_png, "Me.png")]:
            visitor.upload(data, name)
        photos = until(lambda state: len(state["photos"]) == 3 and _ready(state))["photos"]
        visitor.veil({photo["id"]: list(range(len(photo["faces"]))) for photo in photos})
        until(_done)
        status, headers, data = visitor.ask("GET", f"{visitor.tab}/all.zip", Origin=None)
    assert status == 200 and "protected-photos.zip" in headers["content-disposition"]
    assert not any(file.suffix == ".zip" for file in running.files())
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["me-protected.jpg", "me-protected.png", "Me-protected-2.png"]
        assert (read_photo(archive.read("me-protected.png")).pixels == read_photo(faceless_png).pixels).all()


def test_a_photo_that_is_removed_while_a_zip_is_made_is_left_out_of_it(tmp_path):
    results = []
    for number in range(3):
        file = tmp_path / f"{number}.jpg"
        file.write_bytes(bytes([number]) * 1000)
        results.append(Result(tmp_path, file, file.name, "low", (), (), (), ()))
    pieces = zipped(results)
    begun = next(pieces)
    results[1].file.unlink()
    with zipfile.ZipFile(io.BytesIO(begun + b"".join(pieces))) as archive:
        assert archive.testzip() is None and archive.namelist() == ["0.jpg", "2.jpg"]


def test_news_hold_those_photos_only_that_changed(serving, portrait_jpeg, faceless_png):
    visitor = serving().visitor().open()
    with visitor.listening() as until:
        visitor.upload(portrait_jpeg)
        visitor.upload(faceless_png)
        me = until(lambda state: len(state["photos"]) == 2 and _ready(state))["photos"][0]["id"]
        visitor.veil({me: [0]}, "high")
        assert until(lambda state: state["progress"] > 0)["changed"] == [me]


def test_work_that_is_stopped_ends_and_can_be_begun_anew(serving, portrait_jpeg):
    visitor = serving().visitor().open()
    with visitor.listening() as until:
        visitor.upload(portrait_jpeg)
        photo = until(_ready)["photos"][0]["id"]
        visitor.veil({photo: [0]}, "high")
        until(lambda state: state["photos"][0]["progress"] > 0)
        assert visitor.ask("POST", f"{visitor.tab}/stop", b"")[0] == 204
        assert until(lambda state: not state["working"])["photos"][0]["stage"] == "ready"
        visitor.veil({photo: [0]}, "low")
        first = until(_done)["photos"][0]["result"]
        visitor.veil({photo: [0]}, "high")  # a second attempt that is stopped leaves the first one's photo
        until(lambda state: state["photos"][0]["progress"] > 0 and state["working"])
        visitor.ask("POST", f"{visitor.tab}/stop", b"")
        assert until(lambda state: not state["working"])["photos"][0]["result"] == first


def test_of_a_photo_that_is_veiled_again_the_last_result_is_kept(veiled, eventually):
    running, visitor, photo = veiled
    with visitor.listening() as until:
        visitor.veil({photo["id"]: [0]})
        last = until(lambda state: _done(state) and state["photos"][0]["result"]["run"] != photo["result"]["run"])
    eventually(lambda: [run.name for run in running.base.rglob("run*")] == [last["photos"][0]["result"]["run"]])


def test_a_face_framed_by_hand_is_veiled_and_measured_with_the_others(serving, portrait_jpeg):
    visitor = serving().visitor().open()
    visitor.upload(portrait_jpeg)
    wall = [150, 150, 45, 60]
    with visitor.listening() as until:
        photo = until(_ready)["photos"][0]["id"]
        assert visitor.veil({photo: [0]}, frames={photo: [wall]})[0] == 200
        result = until(_done)["photos"][0]["result"]
    assert (result["chosen"], result["frames"]) == ([0, 1], [wall])
    assert [(face["found"], face["by_hand"]) for face in result["faces"]] == [(True, False), (False, True)]
    assert any("In the frame of face 2 the detector sees no face" in note for note in result["notes"])
    for name in ("before-1", "after-1"):
        status, _, data = visitor.ask("GET", f"{visitor.tab}/photos/{photo}/{result['run']}/{name}.jpg")
        assert status == 200 and data[:2] == b"\xff\xd8"


@pytest.mark.parametrize(
    ("frame", "status", "words"),
    [
        ([250, 0, 100, 100], 409, "outside of the photo, of 256×256 pixels"),
        ([0, 0, 20, 90], 409, "too small"),
        ([-1, 0, 50, 50], 422, "reload"),
        ([0, 0, 50], 422, "reload"),
        ([0, 0, 1e300, 50], 422, "reload"),
        ([0, 0, "x", 50], 422, "reload"),
    ],
)
def test_frames_that_make_no_sense_are_refused_and_nothing_is_begun(serving, portrait_jpeg, frame, status, words):
    visitor = serving().visitor().open()
    visitor.upload(portrait_jpeg)
    with visitor.listening() as until:
        photo = until(_ready)["photos"][0]["id"]
        answer, _, body = visitor.veil({photo: [0]}, frames={photo: [[10, 10, 40, 40], frame]})
        assert answer == status and words in json.loads(body)["problem"]
        answer, _, body = visitor.veil({photo: [0]}, frames={"another": [[10, 10, 40, 40]]})
        assert answer == 409 and "not to be veiled" in json.loads(body)["problem"]
        answer, _, _ = visitor.veil({photo: [0]}, frames={photo: [[10, 10, 40, 40]] * 101})
        assert answer == 422
        visitor.upload(portrait_jpeg)  # of which there is news
        assert until(lambda state: len(state["photos"]) == 2)["photos"][0]["stage"] == "ready"


def test_while_photos_are_veiled_no_other_veil_begins(serving, portrait_jpeg, faceless_png):
    visitor = serving().visitor().open()
    with visitor.listening() as until:
        visitor.upload(portrait_jpeg)
        visitor.upload(faceless_png)
        me, wall = (photo["id"] for photo in until(lambda state: len(state["photos"]) == 2 and _ready(state))["photos"])
        assert visitor.veil({me: [0]}, "high")[0] == 200
        status, _, body = visitor.veil({wall: []})
        assert status == 409 and b"already" in body
        visitor.ask("DELETE", f"{visitor.tab}/photos/{wall}", b"")
        assert until(lambda state: len(state["photos"]) == 1)["working"] == 1


def test_two_photos_are_veiled_at_once_and_both_are_stopped(serving, portrait_jpeg):
    visitor = serving(workers=2).visitor().open()
    with visitor.listening() as until:
        for _ in range(2):
            visitor.upload(portrait_jpeg)
        photos = until(lambda state: len(state["photos"]) == 2 and _ready(state))["photos"]
        visitor.veil({photo["id"]: [0] for photo in photos}, "high")
        until(lambda state: all(photo["progress"] > 0 for photo in state["photos"]))
        visitor.ask("POST", f"{visitor.tab}/stop", b"")
        assert {photo["stage"] for photo in until(lambda state: not state["working"])["photos"]} == {"ready"}


def test_the_time_left_is_told_while_photos_are_veiled(serving, portrait_jpeg):
    visitor = serving().visitor().open()
    with visitor.listening() as until:
        visitor.upload(portrait_jpeg)
        visitor.veil({until(_ready)["photos"][0]["id"]: [0]}, "high")
        early = until(lambda state: state["seconds_left"])
        assert 0 < early["progress"] < 0.1 and early["seconds_left"] > 100
        assert until(lambda state: state["progress"] > early["progress"])["photos"][0]["stage"] == "veiling"


def test_closing_a_page_stops_its_work_and_removes_its_photos_at_once(serving, portrait_jpeg, eventually):
    running = serving()
    visitor = running.visitor().open()
    with visitor.listening() as until:
        visitor.upload(portrait_jpeg)
        visitor.veil({until(_ready)["photos"][0]["id"]: [0]}, "high")
        until(lambda state: state["photos"][0]["progress"] > 0)
    assert running.files()
    assert visitor.ask("POST", f"{visitor.tab}/close", b"")[0] == 204
    eventually(lambda: not running.files())
    assert visitor.ask("POST", f"{visitor.tab}/stop", b"")[0] == 404


def test_a_page_that_is_gone_without_a_word_has_its_work_stopped_and_is_forgotten_later(
    serving, portrait_jpeg, eventually
):
    running = serving(stop_after=0.5, forget_after=3.0)
    visitor = running.visitor().open()
    with visitor.listening() as until:
        visitor.upload(portrait_jpeg)
        visitor.veil({until(_ready)["photos"][0]["id"]: [0]}, "high")
        until(lambda state: state["photos"][0]["progress"] > 0)
    with visitor.listening() as until:  # it comes back, as after a pause of the network
        assert until(lambda state: True)["working"] == 1
    time.sleep(2.0)
    with visitor.listening() as until:  # it comes back too late for its work, but not for its photo
        state = until(lambda state: True)
        assert state["working"] == 0 and "this page was away" in state["photos"][0]["problem"]
    assert running.files()
    eventually(lambda: not running.files())


def test_one_person_s_many_photos_do_not_hold_up_another(serving, portrait_jpeg, faceless_png):
    running = serving()
    many, one = running.visitor().open(), running.visitor().open()
    with many.listening() as until_many, one.listening() as until_one:
        for _ in range(2):
            many.upload(portrait_jpeg)
        photos = until_many(lambda state: len(state["photos"]) == 2 and _ready(state))["photos"]
        one.upload(faceless_png)
        single = until_one(_ready)["photos"][0]["id"]
        many.veil({photo["id"]: [0] for photo in photos})
        one.veil({single: []})
        until_one(_done)
        assert until_many(lambda state: state["photos"][0]["stage"] == "done")["photos"][1]["stage"] != "done"


def test_closing_a_page_removes_its_photos_while_those_of_another_are_worked_on(
    serving, portrait_jpeg, faceless_png, eventually
):
    running = serving()
    one, other = running.visitor().open(), running.visitor().open()
    with one.listening() as until_one, other.listening() as until_other:
        one.upload(portrait_jpeg)
        one.veil({until_one(_ready)["photos"][0]["id"]: [0]}, "high")
        until_one(lambda state: state["photos"][0]["progress"] > 0)
        hers = set(running.files())
        other.upload(faceless_png)
        until_other(_ready)
        assert set(running.files()) > hers
        other.ask("POST", f"{other.tab}/close", b"")
        eventually(lambda: set(running.files()) <= hers, seconds=3)
        assert until_one(lambda state: True)["working"] == 1


@pytest.mark.parametrize("way", ["remove", "close"])
def test_what_cannot_be_removed_while_it_is_written_is_removed_after_it(
    serving, portrait_jpeg, eventually, monkeypatch, way
):
    running = serving()
    visitor = running.visitor().open()
    with visitor.listening() as until:
        visitor.upload(portrait_jpeg)
        photo = until(_ready)["photos"][0]["id"]
        visitor.veil({photo: [0]}, "high")
        until(lambda state: state["photos"][0]["progress"] > 0)
        remove, refused = shutil.rmtree, []

        def refuse_once(path, **options):
            if refused:
                remove(path, **options)
            refused.append(path)

        monkeypatch.setattr(shutil, "rmtree", refuse_once)
        if way == "remove":
            visitor.ask("DELETE", f"{visitor.tab}/photos/{photo}", b"")
        else:
            visitor.ask("POST", f"{visitor.tab}/close", b"")
        eventually(lambda: refused and not running.files())


def test_a_page_that_went_away_makes_room_for_another(serving, faceless_png, eventually):
    running = serving(pages=2, pages_of_browser=1, stop_after=0.5)
    visitor, stranger = running.visitor().open(), running.visitor().open()
    with visitor.listening() as until, stranger.listening() as until_stranger:
        visitor.upload(faceless_png)
        until(_ready)
        until_stranger(lambda state: True)
        time.sleep(1.0)
        assert visitor.ask("POST", "/tabs")[0] == 409  # both are there
    eventually(lambda: visitor.ask("POST", "/tabs")[0] == 200)
    assert running.files() == []  # the first one's
    eventually(lambda: running.visitor().ask("POST", "/tabs")[0] == 200)


def test_a_photo_that_is_removed_is_gone(serving, faceless_png, eventually):
    running = serving()
    visitor = running.visitor().open()
    with visitor.listening() as until:
        visitor.upload(faceless_png)
        photo = until(_ready)["photos"][0]["id"]
        for _ in range(2):  # a second click finds nothing to do
            assert visitor.ask("DELETE", f"{visitor.tab}/photos/{photo}", b"")[0] == 204
        assert until(lambda state: not state["photos"]) and running.files() == []


def test_when_the_server_ends_nothing_is_left(serving, portrait_jpeg):
    running = serving()
    visitor = running.visitor().open()
    with visitor.listening() as until:
        visitor.upload(portrait_jpeg)
        visitor.veil({until(_ready)["photos"][0]["id"]: [0]}, "high")
        until(lambda state: state["photos"][0]["progress"] > 0)
        running.end()
    assert [path.name for path in running.base.iterdir()] == [".lock"]
