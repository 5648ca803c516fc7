"""Kill `fairveil protect` and a study at random moments: python fuzz/kills.py [--kills 20].

After each kill (SIGKILL, which runs no clean-up) nothing half-written may bear a final name and the originals must be
as they were; what was finished must stay as it is; and in the end the result must be that of a run nobody disturbed.
"""

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

FAIRVEIL = (sys.executable, "-c", "from fairveil.cli import main; main()")


@dataclass
class Story:
    """What happened to one command.

    Attributes:
        kills: how often it was killed while it was at work.
        at_once: how many of these before it had finished anything new.
        finished: pieces (photos, trials) that were there when it was killed, added up over the kills.
        leftovers: temporary files that the last kills left and the last run did not need.
        seconds: of a run that nobody disturbed.
    """

    kills: int = 0
    at_once: int = 0
    finished: int = 0
    leftovers: int = 0
    seconds: float = 0.0


def main() -> None:
    """Kill both commands, and print what happened."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=("protect", "study"))
    arguments = parser.parse_args()
    for name, work in (("protect", kill_protect), ("study", kill_study)):
        if arguments.only in (None, name):
            with TemporaryDirectory() as folder:
                print(name, work(Path(folder), arguments.kills, random.Random(arguments.seed)), flush=True)


def kill_protect(folder: Path, kills: int, chance: random.Random) -> Story:
    """Kill `fairveil protect` on a folder of small photos; give what happened.

    Raises:
        AssertionError: something was lost, half-written or different.
    """
    originals = folder / "photos"
    write_photos(originals)
    before = digests(originals)

    def command(out: Path) -> list[str]:
        options = ["--strength", "low", "--steps", "2", "--recognizer", "mobileface"]
        return [*FAIRVEIL, "protect", str(originals), "-o", str(out), *options]

    def pieces(out: Path) -> list[Path]:
        return [path for path in sorted(out.rglob("*")) if path.is_file() and not _hidden(path, out)]

    def finished(out: Path) -> dict[str, str]:
        assert digests(originals) == before, "an original was touched"
        for photo in pieces(out):
            with Image.open(photo) as opened:
                opened.load()  # raises where a photo is cut short
        for entry in out.rglob(".fairveil/*.json"):
            if not entry.name.startswith("."):
                json.loads(entry.read_text())
        return {str(photo.relative_to(out)): digest(photo) for photo in pieces(out)}

    return kill(command, pieces, finished, folder, kills, chance, expected_pieces=len(before))


def kill_study(folder: Path, kills: int, chance: random.Random) -> Story:
    """Kill `fairveil study run`; give what happened.

    Raises:
        AssertionError: something was lost, half-written or different.
    """

    def command(out: Path) -> list[str]:
        study = [*FAIRVEIL, "study", "run", "backdoor-defenses", "--preset", "smoke"]
        eight_trials = ["--set", "defenses=Baseline,CutMix", "--set", "runs=2"]
        return [*study, *eight_trials, "--workers", "2", "--out", str(out)]

    def pieces(out: Path) -> list[Path]:
        return [path for path in sorted(out.glob("records/*/*.json")) if not path.name.startswith(".")]

    def finished(out: Path) -> dict[str, str]:
        from fairveil.experiment.records import Record

        results = {}
        for path in pieces(out):
            record = Record.model_validate_json(path.read_bytes())
            assert record.failure is None, record.failure
            results[path.name] = json.dumps(record.result(), sort_keys=True)
        return results

    return kill(command, pieces, finished, folder, kills, chance, expected_pieces=8)


def kill(
    command: Callable[[Path], list[str]],
    pieces: Callable[[Path], list[Path]],
    finished: Callable[[Path], dict[str, str]],
    folder: Path,
    kills: int,
    chance: random.Random,
    *,
    expected_pieces: int | None = None,
) -> Story:
    """Run a command undisturbed once, then kill it again and again, beginning anew whenever it comes to its end.

    Args:
        command: what to run for a folder of results.
        pieces: the files of the finished pieces in such a folder.
        finished: the finished pieces in such a folder by name, each with what must come out again; it checks them.
        folder: where to work.
        kills: how many.
        chance: when.
        expected_pieces: how many there must be in the end, if that is known.
    """
    story = Story()
    whole = folder / "whole"
    story.seconds = run(command(whole))
    expected = finished(whole)
    assert expected and len(expected) == (expected_pieces or len(expected)), f"{len(expected)} pieces"
    attempt, out = 0, folder / "killed-0"
    while story.kills < kills:
        kept = finished(out)
        # Half of the kills fall where pieces are being finished, which is a short part of the whole.
        moment = chance.uniform(0, 1.1 * story.seconds)
        watch = partial(pieces, out) if chance.random() < 0.5 else None
        killed = run_and_kill(command(out), moment, watch=watch)
        now = finished(out)
        assert kept.items() <= now.items(), "what was finished is lost or changed"
        assert now.items() <= expected.items(), "a finished piece is not what it should be"
        if killed:
            story.kills += 1
            story.finished += len(now)
            story.at_once += len(now) == len(kept)
        else:
            if watch is None:
                story.seconds = min(story.seconds, moment)  # the machine is less busy than it was
            assert now == expected, "the resumed run is not complete"
            attempt += 1
            out = folder / f"killed-{attempt}"
    run(command(out))
    assert finished(out) == expected, "the resumed run is not complete"
    story.leftovers = sum(path.name.startswith(".") and path.name.endswith(".part") for path in out.rglob("*"))
    return story


def run(command: Sequence[str]) -> float:
    """Run a command to its end; give the seconds it took."""
    began = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.monotonic() - began


def run_and_kill(command: Sequence[str], moment: float, *, watch: Callable[[], list[Path]] | None) -> bool:
    """Start a command and kill it, with all its children, after a time; whether it was still at work.

    With pieces to watch, it is killed within half a second after the first new one instead.
    """
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline, known = time.monotonic() + moment, len(watch()) if watch else 0
    while process.poll() is None and (watch or time.monotonic() < deadline):
        if watch and len(watch()) > known:
            time.sleep(moment % 0.5)
            break
        time.sleep(0.005)
    running = process.poll() is None
    if running:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return running


def write_photos(folder: Path) -> None:
    """Small photos made of the public-domain portrait of Eileen Collins: sizes, crops, formats, and one of nobody."""
    from skimage.data import astronaut

    portrait = Image.fromarray(astronaut())
    head = portrait.crop((110, 0, 340, 230))
    (folder / "album").mkdir(parents=True)
    portrait.resize((300, 300)).save(folder / "one.jpg", quality=95)
    head.save(folder / "two.png")
    head.resize((180, 180)).save(folder / "three.webp", quality=90)
    head.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(folder / "album" / "four.jpg", quality=95)
    portrait.crop((60, 0, 390, 330)).resize((240, 240)).save(folder / "album" / "five.tif")
    portrait.crop((300, 300, 500, 500)).save(folder / "nobody.jpg")


def digest(path: Path) -> str:
    """The SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def digests(folder: Path) -> dict[str, str]:
    """All files below a folder, by the hash of their content."""
    return {str(path.relative_to(folder)): digest(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def _hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


if __name__ == "__main__":
    main()
