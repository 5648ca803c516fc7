"""The page in a real browser whose network is closed: everything a person does, and every request that is made."""

import io
import os
import shutil
import socket
import threading
import zipfile
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from fairveil.faces.detection import Detector
from fairveil.images import read_photo
from fairveil.protection.lowkey import LowKey

playwright = pytest.importorskip("playwright.sync_api", reason="the page is tested with playwright")

_CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_CLOSED = [
    "--host-resolver-rules=MAP evil.example 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
    "--disable-gpu",
    "--no-first-run",
]
pytestmark = [pytest.mark.slow, pytest.mark.skipif(_CHROMIUM is None, reason="there is no Chromium on this machine")]


@pytest.fixture(scope="module")
def chromium():
    sandbox = [] if os.name == "nt" or os.geteuid() else ["--no-sandbox"]  # which root cannot have
    with playwright.sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=_CHROMIUM, args=[*_CLOSED, *sandbox])
        yield browser
        browser.close()


@pytest.fixture
def person(chromium):
    """To be called with an address: a page of a browser of its own there, and all requests and errors of it."""
    contexts = []

    def come(url, **options):
        context = chromium.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        contexts.append(context)
        page = context.new_page()
        page.requests, page.errors = [], []
        context.on("request", lambda request: page.requests.append(request.url))
        context.on("weberror", lambda error: page.errors.append(str(error.error)))
        page.on("console", lambda message: message.type == "error" and page.errors.append(message.text))
        page.goto(url)
        page.wait_for_selector("#bounds:not(:empty)")
        return page

    yield come
    for context in contexts:
        context.close()


@pytest.fixture
def photos(tmp_path, portrait, portrait_jpeg):
    """A portrait with one face, a picture of two, one without any, and what is no photo."""
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "me.jpg").write_bytes(portrait_jpeg)
    half = portrait[:256, 96:352]
    Image.fromarray(np.concatenate([half, half[:, ::-1]], axis=1)).save(folder / "twins.png")
    Image.new("RGB", (80, 60), "teal").save(folder / "wall.webp")
    (folder / "notes.jpg").write_text("no photo")
    return folder


def _add(page, *files):
    page.set_input_files("#files", list(files))
    page.wait_for_selector(f".card >> nth={len(files) - 1}")
    page.wait_for_selector("#veil[aria-disabled=false]")


def _veil(page, strength=None):
    if strength:
        page.check(f"[name=strength][value={strength}]")
    page.click("#veil")


def _saved(page, click):
    with page.expect_download() as download:
        click()
    return download.value.suggested_filename, download.value.path().read_bytes()


def _card(page, name):
    return page.locator(".card", has=page.get_by_role("heading", name=name, exact=True))


def test_a_person_protects_photos_and_no_request_leaves_the_machine(serving, person, photos, monkeypatch, small_tools):
    spoken_to = []
    connect = socket.socket.connect
    monkeypatch.setattr(socket.socket, "connect", lambda self, to: (spoken_to.append(to), connect(self, to))[1])
    running = serving()
    page = person(running.url)
    _add(page, *(photos / name for name in ("me.jpg", "twins.png", "wall.webp", "notes.jpg")))
    assert "1 face found" in _card(page, "me.jpg").inner_text()
    assert "notes.jpg is not a photo" in _card(page, "notes.jpg").inner_text()
    assert "No face was found" in _card(page, "wall.webp").inner_text()
    assert _card(page, "twins.png").locator(".frame").count() == 2
    _card(page, "twins.png").get_by_label("Face 2").uncheck()
    assert page.inner_text("#veil") == "Veil 2 faces in 2 photos"

    _veil(page)
    page.wait_for_selector("#progress progress")
    page.wait_for_selector("#zip", timeout=60_000)
    assert "2 programs" in _card(page, "me.jpg").locator(".verdict p").inner_text()
    assert _card(page, "me.jpg").locator(".bars .line").count() == 2
    assert "face 1" in _card(page, "twins.png").inner_text()

    name, data = _saved(page, _card(page, "me.jpg").get_by_text("Download photo").click)
    assert name == "me-protected.jpg"
    _assert_protected(photos / "me.jpg", data, small_tools)
    name, data = _saved(page, page.locator("#zip").click)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.namelist() == ["me-protected.jpg", "twins-protected.png", "wall-protected.webp"]
        twins, before = read_photo(archive.read("twins-protected.png")), read_photo(photos / "twins.png")
    changed = (twins.pixels.int() - before.pixels.int()).abs().amax(0)
    right = 256 + int(small_tools.detector.detect([before.pixels])[0].boxes[0, 0] > 256) * -256
    assert changed.any() and not changed[:, right + 60 : right + 196].any()  # the other twin was left as she is

    hosts = {urlsplit(url).netloc for url in page.requests if not url.startswith(("data:", "blob:"))}
    assert len(page.requests) > 15 and hosts == {f"127.0.0.1:{running.endpoint.port}"}
    assert all(to[0] == "127.0.0.1" for to in spoken_to if isinstance(to, tuple))
    assert page.errors == []


def _assert_protected(original, data, tools):
    before, after = read_photo(original), read_photo(data)
    assert (after.format, after.pixels.shape) == (before.format, before.pixels.shape)
    embeddings = []
    for photo in (before, after):
        face = tools.detector.detect([photo.pixels])[0][:1]
        embeddings.append(tools.ensemble[0].embed(photo.pixels[None] / 255, face.landmarks))
    assert float((embeddings[0] * embeddings[1]).sum()) < tools.ensemble[0].threshold.similarity


def test_before_and_after_are_compared_with_mouse_and_keyboard(serving, person, photos):
    page = person(serving().url)
    _add(page, photos / "me.jpg")
    _veil(page)
    slider = page.get_by_label("Compare me.jpg: before on the left, after on the right")
    slider.wait_for(timeout=60_000)
    cut = "element => getComputedStyle(element.parentElement).getPropertyValue('--cut').trim()"
    assert slider.evaluate(cut) == "50%"
    slider.focus()
    for _ in range(10):
        slider.press("ArrowRight")
    assert slider.evaluate(cut) == "60%"
    box = slider.bounding_box()
    page.mouse.click(box["x"] + 2, box["y"] + box["height"] / 2)
    assert float(slider.evaluate(cut).rstrip("%")) < 5
    page.get_by_role("button", name="Face 1").click()
    images = page.locator(".compare img")
    for number in range(2):
        assert "-0.jpg" in images.nth(number).get_attribute("src")
        assert images.nth(number).evaluate("image => image.decode().then(() => image.naturalWidth)") > 20


def test_the_keyboard_alone_is_enough_on_a_phone_s_width(serving, person, photos):
    page = person(serving().url, viewport={"width": 360, "height": 740})
    with page.expect_file_chooser() as chooser:
        page.get_by_text("They stay on this computer").wait_for()  # by then the browser hands choosers over to the test
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
    chooser.value.set_files(photos / "twins.png")
    page.wait_for_selector("#veil[aria-disabled=false]")
    reached = []
    for _ in range(12):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.textContent"))
        if reached[-1].endswith("-1"):  # the second face
            page.keyboard.press("Space")
        if reached[-1] == "veil":
            page.keyboard.press("Enter")
            break
    assert reached[-1] == "veil", reached
    page.wait_for_selector("#stop", timeout=10_000)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    page.get_by_text("Download photo").wait_for(timeout=60_000)
    assert "1 face veiled" in page.inner_text(".card")
    assert page.evaluate("document.documentElement.scrollWidth") == 360


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_can_be_read_in_dark_and_in_light(serving, person, photos, scheme):
    page = person(serving().url, color_scheme=scheme)
    _add(page, photos / "me.jpg")
    for selector in ("header p", "#home", ".card .quiet", "#strengths span", "#veil"):
        assert _contrast(page.locator(selector).first) >= 4.5, selector


def _contrast(element):
    """Of the text to what is behind it, as WCAG reckons it."""
    colors = element.evaluate(
        """element => {
            let behind = element;
            while (getComputedStyle(behind).backgroundColor === "rgba(0, 0, 0, 0)") behind = behind.parentElement;
            return [getComputedStyle(element).color, getComputedStyle(behind).backgroundColor];
        }"""
    )
    lights = []
    for color in colors:
        channels = np.array([float(part) for part in color.partition("(")[2].rstrip(")").split(",")[:3]]) / 255
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        lights.append(float(linear @ [0.2126, 0.7152, 0.0722]))
    return (max(lights) + 0.05) / (min(lights) + 0.05)


def test_in_a_photo_of_many_all_faces_or_none_are_chosen_at_once(serving, person, photos):
    one = np.asarray(Image.open(photos / "me.jpg"))
    Image.fromarray(np.concatenate([one] * 3, axis=1)).save(photos / "three.png")
    page = person(serving().url)
    _add(page, photos / "three.png")
    assert page.inner_text("#veil") == "Veil 3 faces in 1 photo"
    page.get_by_role("button", name="None").click()
    assert page.inner_text("#veil") == "Take location and the like out of 1 photo"
    assert page.locator(".frame.off").count() == 3
    page.get_by_role("button", name="All").click()
    page.get_by_label("Face 2").uncheck()
    assert page.inner_text("#veil") == "Veil 2 faces in 1 photo"


def test_photos_that_are_dropped_on_the_page_are_taken(serving, person, photos):
    page = person(serving().url)
    transfer = page.evaluate_handle(
        """bytes => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(bytes)], "dropped.webp", { type: "image/webp" }));
            return transfer;
        }""",
        list((photos / "wall.webp").read_bytes()),
    )
    page.dispatch_event("body", "drop", {"dataTransfer": transfer})
    page.get_by_role("heading", name="dropped.webp").wait_for()


def test_a_name_made_to_be_markup_is_shown_as_words(serving, person, photos):
    name = "&lt;b&gt;me&lt;b&gt;.webp"
    page = person(serving().url)
    page.set_input_files(
        "#files", {"name": name, "mimeType": "image/webp", "buffer": (photos / "wall.webp").read_bytes()}
    )
    page.get_by_role("heading", name=name).wait_for()
    assert page.errors == []


def test_photos_that_are_too_large_or_too_many_are_told_and_the_others_are_taken(serving, person, photos, tmp_path):
    (tmp_path / "huge.jpg").write_bytes(bytes(200_001))
    page = person(serving(photo_bytes=200_000, photos=1).url)
    page.set_input_files("#files", [tmp_path / "huge.jpg", photos / "wall.webp", photos / "me.jpg"])
    page.wait_for_selector("#problems li >> nth=1")
    assert "huge.jpg is larger than 0.2 MB" in page.inner_text("#problems")
    assert "Left out: me.jpg. 1 fit on a page" in page.inner_text("#problems")
    page.wait_for_selector(".card")
    assert page.locator(".card").count() == 1


def test_two_people_work_at_once_and_see_their_own_photos_only(serving, person, photos):
    url = serving().url
    one, other = person(url), person(url)
    _add(one, photos / "me.jpg")
    _add(other, photos / "twins.png")
    _veil(one)
    _veil(other)
    for page, name in ((one, "me"), (other, "twins")):
        page.get_by_text("Download photo").wait_for(timeout=60_000)
        assert page.locator(".card > header h3").all_inner_texts() == [f"{name}.{'jpg' if name == 'me' else 'png'}"]
    stolen = other.locator(".card img").first.evaluate("image => image.src")
    assert one.request.get(stolen).status == 404 and other.request.get(stolen).status == 200


@pytest.mark.parametrize("leave", ["close", "stop", "reload"])
def test_work_stops_when_the_person_leaves_or_says_so(serving, person, photos, eventually, leave):
    running = serving()
    page = person(running.url)
    _add(page, photos / "me.jpg")
    _veil(page, "high")
    page.wait_for_selector(".card progress[value]:not([value='0'])")
    if leave == "stop":
        page.click("#stop")
        page.wait_for_selector("#veil[aria-disabled=false]")
        assert page.evaluate("document.activeElement.id") == "veil"
        assert "1 face found" in page.inner_text(".card")
        return
    if leave == "close":
        page.close()
    else:
        page.on("dialog", lambda dialog: dialog.accept())  # whether to leave, with photos on the page
        page.reload()
        page.wait_for_selector("#bounds:not(:empty)")
        assert page.locator(".card").count() == 0
    eventually(lambda: not running.files())


def test_the_page_says_so_in_view_when_the_server_is_gone(serving, person, photos):
    running = serving()
    page = person(running.url, viewport={"width": 1280, "height": 500})
    _add(page, photos / "me.jpg", photos / "twins.png")
    _veil(page, "high")
    page.wait_for_selector("#progress")
    for place in (0, 10_000):
        page.evaluate("place => scrollTo(0, place)", place)
        assert _in_view(page.locator("#stop"))
    running.end()
    page.wait_for_selector("#trouble:visible")
    assert "fairveil does not answer" in page.inner_text("#trouble") and _in_view(page.locator("#trouble"))
    assert page.locator("#progress").is_hidden() and page.locator("#stop").is_hidden()
    assert page.get_attribute("#veil", "aria-disabled") == "true"
    page.get_by_role("button", name="Remove me.jpg").click()
    page.wait_for_selector("#problems li")
    assert _in_view(page.locator("#problems"))
    page.click("#dismiss")
    assert page.locator("#problems li").count() == 0


def _in_view(element):
    return element.evaluate(
        """element => {
            const { top, bottom } = element.getBoundingClientRect();
            return top >= 0 && bottom <= innerHeight && top < bottom;
        }"""
    )


def test_frames_lie_on_their_faces_beside_a_long_list_of_them(serving, person, photos):
    one = np.asarray(Image.open(photos / "me.jpg").resize((160, 160)))
    Image.fromarray(np.tile(one, (2, 6, 1))).save(photos / "team.png")
    page = person(serving().url)
    page.route("**/before.jpg", lambda route: route.abort())  # its place is known before it is there
    _add(page, photos / "team.png")
    assert page.locator(".frame").count() == 12
    picture = page.locator(".picture").bounding_box()
    assert picture["width"] / picture["height"] == pytest.approx(3, abs=0.02)
    assert page.locator(".picture img").bounding_box()["height"] == pytest.approx(picture["height"], abs=1)
    assert page.locator(".faces").bounding_box()["height"] > 1.5 * picture["height"]


def test_a_second_click_on_veil_is_no_second_request(serving, person, photos):
    page = person(serving().url)
    _add(page, photos / "me.jpg")
    veils = []
    page.on("request", lambda request: veils.append(request.url) if request.url.endswith("/veil") else None)
    page.dblclick("#veil")
    page.get_by_text("Download photo").wait_for(timeout=60_000)
    assert len(veils) == 1 and page.locator("#problems li").count() == 0


def test_what_happens_is_said_to_who_cannot_see_it(serving, person, photos, eventually):
    page = person(serving().url)
    title = page.title()
    page.evaluate(
        """() => {
            window.heard = [];
            const said = document.getElementById("said");
            new MutationObserver(() => heard.push(said.textContent)).observe(said, { childList: true });
        }"""
    )
    _add(page, photos / "me.jpg", photos / "notes.jpg")
    assert page.evaluate("heard") == ["1 photo added, 1 face found. 1 file refused."]
    _veil(page, "high")
    page.wait_for_selector(".card progress[value]:not([value='0'])")
    assert page.title() != title
    page.click("#stop")
    eventually(lambda: page.evaluate("heard.at(-1)") == "Stopped: 1 photo left as before.")
    assert page.title() == title
    _veil(page, "low")
    page.get_by_text("Download photo").wait_for(timeout=60_000)
    eventually(lambda: page.evaluate("heard.at(-1)") == "1 photo done.")
    assert page.title() == title


def test_controls_are_named_by_what_they_show_and_by_their_photo(serving, person, photos):
    page = person(serving().url)
    _add(page, photos / "me.jpg", photos / "twins.png")
    _veil(page)
    page.wait_for_selector("#zip", timeout=60_000)
    named = page.locator(".card :is(a, button, input)").evaluate_all(
        """elements => elements.map((element) => [
            element.getAttribute("aria-label"), element.closest("label")?.innerText ?? element.innerText,
        ])"""
    )
    assert len({name for name, _ in named}) == len(named) >= 16
    assert all(shown in name for name, shown in named)


def test_the_keyboard_s_place_is_never_lost_nor_under_the_dock(serving, person, photos, eventually):
    page = person(serving().url, viewport={"width": 1280, "height": 420})
    _add(page, photos / "me.jpg", photos / "twins.png", photos / "wall.webp")
    page.focus("#files")
    page.keyboard.press("Tab")
    while page.evaluate("!document.activeElement.closest('#dock')"):
        covered = page.evaluate(
            """() => {
                const [active, dock] = [document.activeElement, document.getElementById("dock")];
                return active.getBoundingClientRect().bottom > dock.getBoundingClientRect().top;
            }"""
        )
        assert not covered, page.evaluate("document.activeElement.outerHTML")
        page.keyboard.press("Tab")
    for name, rest in [("me.jpg", 2), ("wall.webp", 1)]:
        page.get_by_role("button", name=f"Remove {name}").press("Enter")
        eventually(lambda rest=rest: page.locator(".card").count() == rest)
        place = page.evaluate("document.activeElement.getAttribute('aria-label') ?? document.activeElement.id")
        assert place == ("Remove twins.png from this page" if rest == 2 else "files")


def test_a_folder_that_is_dropped_is_told_of_and_what_cannot_be_read_too(serving, person, photos, tmp_path):
    page = person(serving().url)
    (tmp_path / "holiday").mkdir()
    drag = {"items": [], "files": [str(tmp_path / "holiday"), str(photos / "wall.webp")], "dragOperationsMask": 1}
    session = page.context.new_cdp_session(page)
    for kind in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {"type": kind, "x": 600, "y": 400, "data": drag})
    page.get_by_role("heading", name="wall.webp").wait_for()
    assert page.locator("#problems li").all_inner_texts() == [
        "holiday is a folder: open it, and drop the photos that lie in it."
    ]
    page.evaluate("() => { Blob.prototype.arrayBuffer = () => Promise.reject(new Error()); }")
    page.route("**/photos?*", lambda route: route.abort())
    page.set_input_files("#files", photos / "me.jpg")
    page.get_by_text("me.jpg cannot be read").wait_for()


def test_a_link_on_another_site_leads_to_the_page_with_its_token(serving, person):
    running = serving(token="the-secret")
    page = person(f"{running.url}?token=the-secret")
    other = page.context.browser.new_context()
    mail = other.new_page()
    with _another_site(f"<a href='{running.url}?token=the-secret'>look</a>") as address:
        mail.goto(address)
        mail.click("a")
        mail.wait_for_selector("#bounds:not(:empty)")
    other.close()


@contextmanager
def _another_site(body):
    """A site on a name of its own, on this machine, where browsers do not stop by themselves what it sends to us."""

    class Evil(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Evil) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://evil.example:{server.server_port}/"
        server.shutdown()


def test_another_site_in_the_same_browser_gets_nothing_and_changes_nothing(serving, person, photos):
    running = serving(pages=3)
    page = person(running.url)
    _add(page, photos / "me.jpg")
    picture = page.locator(".card img").first.evaluate("image => image.src")
    evil = page.context.new_page()
    with _another_site(f"<a href='{running.url}'>look</a>") as address:
        evil.goto(address)
    tried = evil.evaluate(
        """([home, picture]) => Promise.all([
            fetch(picture, { credentials: "include" }).then(() => "read", () => "refused"),
            fetch(home + "tabs", { method: "POST", credentials: "include" }).then(() => "read", () => "refused"),
            fetch(home + "tabs", { method: "POST", mode: "no-cors" }).then((answer) => answer.type, () => "refused"),
            new Promise((done) => {
                const image = new Image();
                image.onload = () => done("shown");
                image.onerror = () => done("refused");
                image.src = picture;
            }),
        ])""",
        [running.url, picture],
    )
    assert tried[:2] == ["refused"] * 2 and tried[3] == "refused"
    person(running.url)  # there is room for it, since nothing was opened from there
    evil.click("a")
    evil.wait_for_selector("#bounds:not(:empty)")
    _veil(page)  # the link has not cut off the page that was there
    page.get_by_text("Download photo").wait_for(timeout=60_000)
    assert page.locator(".compare img").first.evaluate("image => image.decode().then(() => image.naturalWidth)") > 20


# --- faces framed by hand


@pytest.fixture
def choosy(small_tools):
    """Tools that miss the face of the portrait, which is not as large as they want."""
    finder = small_tools.detector
    return replace(small_tools, detector=Detector(finder.pnet, finder.rnet, finder.onet, minimum_face=200))


def _on_photo(page, x, y):
    """Where a pixel of the portrait, of 256 × 256, is on the screen."""
    page.locator(".picture").scroll_into_view_if_needed()
    box = page.locator(".picture").bounding_box()
    return box["x"] + box["width"] * x / 256, box["y"] + box["height"] * y / 256


def _frame(page, number=0):
    """Left, top, width and height of a frame that was drawn, in pixels of the portrait."""
    box, picture = page.locator(".frame.drawn").nth(number).bounding_box(), page.locator(".picture").bounding_box()
    corner = {"x": picture["x"], "y": picture["y"], "width": 0, "height": 0}
    return [256 / picture["width"] * (box[side] - from_) for side, from_ in corner.items()]


def _drag(page, start, end):
    page.mouse.move(*_on_photo(page, *start))
    page.mouse.down()
    page.mouse.move(*_on_photo(page, *end), steps=4)
    page.mouse.up()


def test_a_face_that_was_missed_is_framed_with_the_mouse_and_veiled(serving, person, photos, choosy, small_tools):
    page = person(serving(tools=choosy).url)
    _add(page, photos / "me.jpg")
    assert "No face was found. If there is one, frame it by hand" in page.inner_text(".card")
    x0, y0, x1, y1 = small_tools.detector.detect([read_photo(photos / "me.jpg").pixels])[0].boxes[0].tolist()
    wide, high = x1 - x0, y1 - y0
    _drag(page, (10, 20), (10 + wide / 2, 20 + high / 2))  # too small, and at the wrong place
    assert _frame(page) == pytest.approx([10, 20, wide / 2, high / 2], abs=2)
    _drag(page, (20, 30), (x0 + 10, y0 + 10))
    assert _frame(page) == pytest.approx([x0, y0, wide / 2, high / 2], abs=2)
    left, top, width, height = _frame(page)
    _drag(page, (left + width, top + height), (x1, y1))
    assert _frame(page) == pytest.approx([x0, y0, wide, high], abs=3)
    assert page.locator(".faces .drawn canvas").evaluate(
        "canvas => canvas.getContext('2d').getImageData(48, 48, 1, 1).data[3]"
    )
    assert page.inner_text("#veil") == "Veil 1 face in 1 photo"
    _veil(page)
    page.get_by_text("Download photo").wait_for(timeout=60_000)
    assert "Done: 1 face veiled." in page.inner_text(".card")
    assert "2 programs" in page.inner_text(".verdict p") and "not even found" not in page.inner_text(".verdict")
    page.get_by_role("button", name="Face 1 of me.jpg, before and after").click()
    for number in range(2):
        image = page.locator(".compare img").nth(number)
        assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") > 20
    _, data = _saved(page, page.get_by_text("Download photo").click)
    _assert_protected(photos / "me.jpg", data, small_tools)
    assert page.inner_text("#veil") == "Nothing left to veil"  # until another frame is made
    page.get_by_role("button", name="Frame a missed face in me.jpg").click()
    assert page.locator(".picture .drawn").count() == 2 and page.locator(".compare").count() == 0
    assert page.inner_text("#veil") == "Veil 2 faces in 1 photo"
    assert page.errors == []


def test_a_frame_is_made_moved_resized_and_removed_with_the_keyboard(serving, person, photos):
    page = person(serving().url, viewport={"width": 390, "height": 700})
    _add(page, photos / "me.jpg")
    page.get_by_role("button", name="Frame a missed face in me.jpg").press("Enter")
    focused = "document.activeElement.className"
    assert "drawn" in page.evaluate(focused) and _in_view(page.locator(".picture .drawn"))
    left, top, width, height = _frame(page)
    assert (left + width / 2, top + height / 2) == pytest.approx((128, 128), abs=1.5)
    assert page.inner_text("#veil") == "Veil 2 faces in 1 photo"
    scrolled = page.evaluate("scrollY")
    for key in ("ArrowRight", "ArrowRight", "ArrowDown", "Shift+ArrowRight", "Shift+ArrowDown", "Shift+ArrowDown"):
        page.keyboard.press(key)
    assert page.evaluate("scrollY") == scrolled
    assert _frame(page) == pytest.approx([left + 5.1, top + 2.6, width + 2.6, height + 5.1], abs=2)
    for key, most in (("ArrowLeft", 60), ("ArrowUp", 60), ("Shift+ArrowLeft", 60), ("Shift+ArrowUp", 60)):
        for _ in range(most):
            page.keyboard.press(key)
    assert _frame(page) == pytest.approx([0, 0, 32, 32], abs=0.6)  # within the photo, and no smaller than faces may be
    for _ in range(110):
        page.keyboard.press("Shift+ArrowRight")
    assert _frame(page)[:3] == pytest.approx([0, 0, 256], abs=0.6)
    assert "Frame of face 2 of me.jpg: 50 % from the left" in page.locator(".picture .drawn").get_attribute(
        "aria-label"
    )
    page.keyboard.press("Delete")
    assert page.locator(".picture .drawn").count() == 0
    assert page.evaluate("document.activeElement.innerText") == "Frame a missed face"
    assert page.inner_text("#veil") == "Veil 1 face in 1 photo"


def test_frames_are_numbered_after_the_faces_found_and_can_be_left_out(serving, person, photos):
    page = person(serving().url)
    _add(page, photos / "twins.png")
    for _ in range(2):
        page.get_by_role("button", name="Frame a missed face").click()
    assert page.locator(".picture .frame b").all_inner_texts() == ["1", "2", "3", "4"]
    page.get_by_role("button", name="Remove frame of face 3").click()
    assert page.locator(".picture .frame b").all_inner_texts() == ["1", "2", "3"]
    page.get_by_role("button", name="None").click()
    assert page.inner_text("#veil") == "Take location and the like out of 1 photo"
    assert page.locator(".frame.off").count() == 3
    page.get_by_label("Face 3 of twins.png, framed by hand").check()
    assert page.inner_text("#veil") == "Veil 1 face in 1 photo"


def test_a_finger_moves_a_frame_and_scrolls_elsewhere(serving, person, photos):
    page = person(serving().url, viewport={"width": 390, "height": 700}, has_touch=True)
    _add(page, photos / "me.jpg")
    page.get_by_role("button", name="Frame a missed face").tap()
    before = _frame(page)
    session = page.context.new_cdp_session(page)

    def swipe(start, end):
        (x0, y0), (x1, y1) = _on_photo(page, *start), _on_photo(page, *end)
        session.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": x0, "y": y0}]})
        for share in (0.25, 0.5, 0.75, 1):
            point = {"x": x0 + share * (x1 - x0), "y": y0 + share * (y1 - y0)}
            session.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [point]})
        session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})

    _on_photo(page, 0, 0)  # which brings it into view
    scrolled = page.evaluate("scrollY")
    swipe((128, 128), (158, 98))
    assert _frame(page) == pytest.approx([before[0] + 30, before[1] - 30, *before[2:]], abs=2)
    assert page.evaluate("scrollY") == scrolled
    swipe((40, 200), (60, 100))
    assert page.locator(".picture .drawn").count() == 1


def test_frames_stay_as_they_are_while_the_photo_is_veiled(serving, person, photos):
    page = person(serving().url)
    _add(page, photos / "me.jpg")
    page.get_by_role("button", name="Frame a missed face").click()
    for _ in range(12):
        page.keyboard.press("ArrowDown")
    before = _frame(page)
    _veil(page, "high")
    page.wait_for_selector(".card progress[value]:not([value='0'])")
    page.locator(".picture .drawn").press("ArrowLeft")
    page.locator(".picture .drawn").press("Delete")
    _drag(page, (128, 160), (40, 200))
    _drag(page, (5, 5), (60, 60))
    assert page.locator(".picture .drawn").count() == 1 and _frame(page) == pytest.approx(before, abs=0.1)
    page.click("#stop")
    page.wait_for_selector("#veil[aria-disabled=false]")
    page.locator(".picture .drawn").press("Delete")
    assert page.locator(".picture .drawn").count() == 0


def test_what_has_to_be_known_of_the_figures_first_is_shown_before_them(serving, person, photos, small_tools):
    weak = LowKey(steps=1, step_size=1e-6, noise=0, smoothing="none", mirror=False)
    tools = replace(small_tools, strengths=dict.fromkeys(small_tools.strengths, weak))
    page = person(serving(tools=tools).url)
    _add(page, photos / "me.jpg")
    _veil(page)
    page.wait_for_selector(".remark", timeout=60_000)
    told = _card(page, "me.jpg").inner_text()
    assert 0 < told.index("nothing in it seems to be protected") < told.index("2 programs")
