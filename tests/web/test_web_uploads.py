import io
import struct
import time
import zlib
from dataclasses import replace

import pytest
import torch

from fairveil.web.uploads import plain_name


def _arrived(state, number=1):
    return len(state["photos"]) == number and all(photo["stage"] != "looking" for photo in state["photos"])


def _png_bomb(width, height):
    """A PNG of a few hundred bytes whose header promises any number of pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(1 << 20), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"hello", "me.jpg is not a photo"),
        (b"", "me.jpg is empty"),
        (b"GIF89a" + bytes(64), "me.jpg is a GIF"),
        (b"\xff\xd8\xff\xe0" + bytes(64), "me.jpg begins like a JPEG but is damaged"),
        (_png_bomb(60_000, 60_000), "me.jpg has more than 50 million pixels"),
        (_png_bomb(1, 2**31 - 1), "me.jpg has more than 50 million pixels"),
    ],
    ids=["text", "nothing", "another kind", "cut short", "a bomb", "a long bomb"],
)
def test_what_is_no_photo_is_told_beside_its_name_and_the_rest_goes_on(serving, faceless_png, data, sentence):
    visitor = serving().visitor().open()
    with visitor.listening() as until:
        assert visitor.upload(data)[0] == 200
        refused = until(_arrived)["photos"][0]
        assert refused["stage"] == "refused" and refused["problem"].startswith(sentence)
        assert visitor.upload(faceless_png)[0] == 200
        assert until(lambda state: _arrived(state, 2))["photos"][1]["stage"] == "ready"


def test_a_photo_for_which_there_is_not_enough_memory_is_told_so(serving, small_tools, faceless_png):
    class Greedy:
        def detect(self, photos):
            return torch.empty(1 << 60, dtype=torch.uint8)

    visitor = serving(replace(small_tools, detector=Greedy())).visitor().open()
    with visitor.listening() as until:
        visitor.upload(faceless_png)
        assert "more memory than there is" in until(_arrived)["photos"][0]["problem"]


def test_no_sentence_tells_where_files_lie(serving, tmp_path):
    visitor = serving().visitor().open()
    with visitor.listening() as until:
        visitor.upload(b"\xff\xd8\xff\xe0" + bytes(64))
        assert str(tmp_path) not in until(_arrived)["photos"][0]["problem"]


@pytest.mark.parametrize("body", [bytes(5001), [bytes(1000)] * 6], ids=["announced", "not announced"])
def test_a_file_that_is_too_large_is_not_kept(serving, body):
    running = serving(photo_bytes=5000)
    visitor = running.visitor().open()
    status, answer = visitor.upload(body)
    assert status == 409 and "me.jpg is larger than 0.005 MB" in answer["problem"]
    assert running.files() == []


def test_a_file_that_breaks_off_is_not_kept(serving, eventually):
    running = serving()
    visitor = running.visitor().open()

    def broken():
        yield bytes(1000)
        raise ConnectionAbortedError

    with pytest.raises(ConnectionAbortedError):
        visitor.upload(broken())
    eventually(lambda: running.files() == [])


def test_photos_beyond_the_number_are_left_out_and_said_so(serving, faceless_png):
    visitor = serving(photos=2).visitor().open()
    assert [visitor.upload(faceless_png)[0] for _ in range(2)] == [200, 200]
    status, answer = visitor.upload(faceless_png, "third.png")
    assert status == 409 and answer["problem"].startswith("Left out: third.png. 2 fit on a page")


def test_all_pages_together_take_no_more_than_the_machine_has_room_for(serving, faceless_png):
    running = serving(all_bytes=1500)
    first, second = running.visitor().open(), running.visitor().open()
    assert first.upload(bytes(1000))[0] == 200
    status, answer = second.upload(bytes(1000), "b.jpg")
    assert status == 409 and answer["problem"].startswith("Left out: b.jpg. fairveil holds 1.5e-06 GB")


def test_what_is_made_of_photos_counts_into_the_room_too(serving, portrait_jpeg, faceless_png):
    visitor = serving(all_bytes=len(portrait_jpeg) + 3000).visitor().open()
    with visitor.listening() as until:
        assert visitor.upload(portrait_jpeg)[0] == 200
        photo = until(_arrived)["photos"][0]["id"]
    assert visitor.upload(faceless_png)[0] == 409
    status, _, body = visitor.veil({photo: [0]})
    assert status == 409 and b"download what is done" in body


def test_an_upload_that_stands_still_is_given_up(serving):
    running = serving(upload_pause=0.5)
    visitor = running.visitor().open()

    def hanging():
        yield bytes(1000)
        time.sleep(2.0)

    status, answer = visitor.upload(hanging())
    assert status == 409 and "me.jpg. It stopped arriving" in answer["problem"]
    assert running.files() == []


def test_an_upload_ends_when_its_page_is_closed(serving, eventually):
    running = serving()
    visitor = running.visitor().open()

    def slow():
        yield bytes(1000)
        eventually(running.files)
        visitor.ask("POST", f"{visitor.tab}/close", b"")
        yield bytes(1000)

    status, answer = visitor.upload(slow())
    assert status == 409 and "closed" in answer["problem"] and running.files() == []


def test_pages_beyond_the_number_are_told_so(serving):
    running = serving(pages=3, pages_of_browser=2)
    visitor = running.visitor().open()
    visitor.open()
    status, _, body = visitor.ask("POST", "/tabs")
    assert status == 409 and b"in 2 tabs of this browser" in body
    running.visitor().open()
    stranger = running.visitor()
    stranger.ask("GET", "/", Origin=None)
    status, _, body = stranger.ask("POST", "/tabs")
    assert status == 409 and b"3 pages are open" in body


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'{"strength": "low", "faces": {}}', b'{"strength": "low", "faces": {"x": [-1]}}'],
)
def test_requests_that_make_no_sense_are_refused(serving, body):
    visitor = serving().visitor().open()
    assert visitor.ask("POST", f"{visitor.tab}/veil", body)[0] == 422
    assert visitor.ask("POST", f"{visitor.tab}/veil", io.BytesIO(b"x" * 100_000))[0] == 413


def test_faces_photos_and_strengths_that_are_not_there_are_refused(serving, faceless_png):
    visitor = serving().visitor().open()
    with visitor.listening() as until:
        visitor.upload(faceless_png)
        photo = until(_arrived)["photos"][0]["id"]
    for faces, strength, sentence in [
        ({"unknown": []}, "low", b"is not ready"),
        ({photo: [0]}, "low", b"has no such face"),
        ({photo: []}, "utter", b"There is no strength"),
    ]:
        status, _, body = visitor.veil(faces, strength)
        assert status == 409 and sentence in body


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        ("me.jpg", "me.jpg"),
        ("../../../etc/passwd", "passwd"),
        ("..\\..\\boot.ini", "boot.ini"),
        ("a\0b\nc\u202egpj.exe", "abcgpj.exe"),
        ("", "photo"),
        ("...", "photo"),
        ("Ünïcode 写真.png", "Ünïcode 写真.png"),
        ("cafe\u0301.png", "caf\u00e9.png"),
        ('what?*|"<>.jpg', "what______.jpg"),
        ("no suffix at all", "no suffix at all"),
        (".jpg", "jpg"),
    ],
)
def test_names_are_shown_without_folders_and_tricks(given, plain):
    assert plain_name(given) == plain


def test_long_names_keep_their_suffix():
    for character in "n写🦊":
        name = plain_name(character * 5000 + ".jpeg")
        assert 180 < len(name.encode()) <= 200 and name.endswith(character + ".jpeg")
