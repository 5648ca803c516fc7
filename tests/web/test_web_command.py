import http.client
import os
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from fairveil import assets

pytestmark = pytest.mark.slow


@pytest.fixture
def started(needs_models, tmp_path):
    """To be called with options: the command as a process of its own, with a cache of its own, and what it printed."""
    needs_models("all")
    cache = tmp_path / "cache"
    environment = os.environ | {"XDG_CACHE_HOME": str(cache), "FAIRVEIL_ASSETS": str(_models(tmp_path))}
    processes = []

    def start(*options):
        command = [
            sys.executable,
            "-c",
            "from fairveil.cli import main; main()",
            "serve",
            "--no-browser",
            "--port",
            "0",
        ]
        process = subprocess.Popen(
            [*command, *options], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        processes.append(process)
        return process, process.stdout.readline().strip(), cache / "fairveil" / "web"

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def _models(tmp_path):
    folder = tmp_path / "models"
    assets.copy_to(assets.CATALOGUE.values(), folder)
    return folder


def _folders(base):
    return [path for path in base.iterdir() if path.is_dir()]


def _ask(address, host=None):
    place = urlsplit(address)
    connection = http.client.HTTPConnection("127.0.0.1", place.port, timeout=20)
    connection.request("GET", f"{place.path}?{place.query}", headers={"Host": host or place.netloc})
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
def test_the_command_serves_on_this_machine_only_and_leaves_nothing_however_it_ends(started):
    process, address, base = started()
    assert urlsplit(address).hostname == "127.0.0.1" and "token" not in address
    assert _ask(address).status == 200
    assert _ask(address, "evil.example").status == 421
    (mine,) = _folders(base)
    (mine / "photo").write_text("a face")

    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (mine / "photo").exists()
    process, address, _ = started()
    assert not mine.exists() and len(_folders(base)) == 1

    for end in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        process.send_signal(end)
        assert process.wait(20) in (0, -end)
        assert "Traceback" not in process.stderr.read()
        assert _folders(base) == []
        if end is not signal.SIGHUP:
            process, address, _ = started()


def test_on_another_address_it_asks_for_a_token_and_says_why_and_writes_down_no_visit(started):
    process, address, _ = started("--host", "0.0.0.0")
    token = address.partition("?token=")[2]
    assert len(token) >= 32
    plain = f"http://127.0.0.1:{urlsplit(address).port}/"
    assert _ask(plain).status == 401
    assert _ask(f"{plain}?token={token}").status == 303
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert "not encrypted" in err and token not in out + err


def test_a_port_that_is_taken_is_told_of(run_fairveil):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, _, err = run_fairveil("serve", "--no-browser", "--port", port)
    assert code == 1 and f"cannot listen on 127.0.0.1, port {port}" in err and "--port" in err


def test_without_its_libraries_the_command_says_what_to_install(run_fairveil, monkeypatch):
    for module in [name for name in sys.modules if name.startswith(("fairveil.web", "starlette", "uvicorn"))]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "starlette", None)
    code, _, err = run_fairveil("serve", "--no-browser")
    assert code == 1 and 'pip install "fairveil[web]"' in err


def test_no_chapter_depends_on_the_page():
    source = Path(__file__).parents[2] / "src" / "fairveil"
    users = [file for file in source.rglob("*.py") if "fairveil.web" in file.read_text(encoding="utf-8")]
    assert {file.relative_to(source).parts[0] for file in users} <= {"web", "cli"}
