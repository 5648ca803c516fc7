"""A page's server in this process, small and quick, and those who speak to it."""

import http.client
import io
import json
import os
import threading
import time
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fairveil.faces.zoo import load_recognizer
from fairveil.protection.lowkey import LowKey
from fairveil.web.guard import Endpoint
from fairveil.web.limits import Limits
from fairveil.web.serving import listen, run
from fairveil.web.studio import Tools

QUICK = LowKey(steps=6, step_size=0.012, alpha=0, smoothing="none", mirror=False)
ENDLESS = LowKey(steps=100_000, smoothing="none", mirror=False)


@dataclass
class Running:
    """A server that runs."""

    endpoint: Endpoint
    base: Path

    @property
    def url(self):
        return f"http://127.0.0.1:{self.endpoint.port}/"

    def files(self):
        """What lies in the folders of all processes, some of which may go meanwhile."""
        everything = [Path(folder, name) for folder, _, names in os.walk(self.base) for name in names]
        return [file for file in everything if "lock" not in file.name]

    def visitor(self):
        return Visitor(self.endpoint.port)


class Visitor:
    """A browser as the server sees it: keeps its cookies, and sends what browsers send."""

    def __init__(self, port):
        self.port, self.cookies, self.tab = port, {}, None

    def ask(self, method, path, body=None, **headers):
        """Status, headers and body of an answer; a header given as None is left out."""
        usual = {"Host": f"127.0.0.1:{self.port}", "Origin": f"http://127.0.0.1:{self.port}"}
        if self.cookies:
            usual["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        sent = usual | {name.replace("_", "-"): value for name, value in headers.items()}
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in sent.items():
                if value is not None:
                    connection.putheader(name, value)
            if isinstance(body, bytes) and "Content-Length" not in sent:
                connection.putheader("Content-Length", str(len(body)))
            elif body is not None and not isinstance(body, bytes):
                connection.putheader("Transfer-Encoding", "chunked")
            chunked = body is not None and not isinstance(body, bytes)
            with suppress(BrokenPipeError, ConnectionResetError):  # refused before all of it was sent
                connection.endheaders(body, encode_chunked=chunked)
            answer = connection.getresponse()
            data = answer.read()
            for cookie in answer.headers.get_all("Set-Cookie", []):
                name, _, value = cookie.partition(";")[0].partition("=")
                self.cookies[name] = value
            return answer.status, answer.headers, data

    def open(self):
        """Load the page, and be its tab."""
        self.ask("GET", "/", Origin=None)
        status, _, data = self.ask("POST", "/tabs")
        assert status == 200, data
        self.tab = "/tabs/" + json.loads(data)["tab"]
        return self

    def upload(self, data, name="me.jpg"):
        status, _, answer = self.ask("PUT", f"{self.tab}/photos?name={name}", data)
        return status, json.loads(answer)

    def veil(self, faces, strength="low", frames=None):
        asked = {"strength": strength, "faces": faces, "frames": frames or {}}
        return self.ask("POST", f"{self.tab}/veil", json.dumps(asked).encode())

    @contextmanager
    def listening(self):
        """The stream of news, as a function that gives the next state for which something holds, photos as a list."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        cookies = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        connection.request("GET", f"{self.tab}/news", headers={"Cookie": cookies})
        answer = connection.getresponse()

        photos = {}

        def until(holds):
            while line := answer.readline():
                if not line.startswith(b"data: "):
                    continue
                state = json.loads(line[6:])
                photos.update(state["photos"])
                state["changed"] = list(state["photos"])
                state["photos"] = [photo for photo in photos.values() if photo]
                if holds(state):
                    return state
            raise AssertionError("The stream of news ended.")

        try:
            yield until
        finally:
            answer.close()
            connection.close()


@pytest.fixture(scope="session")
def small_tools(needs_models, detector):
    """One recognizer to attack and two to judge, and strengths that take seconds, or for ever."""
    needs_models("mobilefacenet-512", "mobilefacenet-192", "lpips-alexnet", "lpips-vgg16")
    attacked, judge = load_recognizer("mobilefacenet-512"), load_recognizer("mobilefacenet-192")
    return Tools(detector, [attacked], [attacked, judge], {"low": QUICK, "high": ENDLESS})


@pytest.fixture
def serving(small_tools, tmp_path):
    """To be called with limits: starts a server in a thread, which ends with the test."""
    ends = []

    def start(tools=small_tools, token=None, workers=1, **limits):
        sock = listen("127.0.0.1", 0, 0)
        endpoint = Endpoint("127.0.0.1", sock.getsockname()[1], token)
        ready, servers = threading.Event(), []
        keywords = {"limits": Limits(**limits), "workers": workers, "base": tmp_path / "web"}
        keywords["on_ready"] = lambda folder: ready.set()
        thread = threading.Thread(
            target=run, args=(sock, endpoint, tools), kwargs=keywords | {"on_server": servers.append}
        )
        thread.start()
        assert ready.wait(30)

        def end():
            servers[0].should_exit = True
            thread.join(30)
            assert not thread.is_alive()

        ends.append(end)
        running = Running(endpoint, tmp_path / "web")
        running.end = end
        return running

    yield start
    for end in ends:
        end()


@pytest.fixture(scope="session")
def portrait_jpeg(portrait):
    """The portrait, small, as a file with a location in its metadata."""
    image = Image.fromarray(portrait[:256, 96:352])
    exif = Image.Exif()
    exif.get_ifd(0x8825)[1] = "N"
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=95, exif=exif)
    return stream.getvalue()


@pytest.fixture(scope="session")
def faceless_png():
    stream = io.BytesIO()
    Image.fromarray(np.full((64, 64, 3), 90, np.uint8)).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture(scope="session")
def eventually():
    """To be called with a function, until what it gives is true."""

    def wait(holds, seconds=20.0):
        end = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < end, "It did not come about in time."
            time.sleep(0.05)

    return wait
