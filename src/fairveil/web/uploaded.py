"""A photo on a page: how far it is, and what became of it."""

import secrets
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import groupby
from pathlib import Path
from threading import Event
from typing import Any

from fairveil.faces.by_hand import Frame
from fairveil.faces.detection import Faces
from fairveil.protection.verification import FaceReceipt


class Stage(StrEnum):
    """How far a photo is."""

    arriving = "arriving"
    looking = "looking"
    ready = "ready"
    waiting = "waiting"
    veiling = "veiling"
    measuring = "measuring"
    done = "done"
    refused = "refused"


WORKING = (Stage.waiting, Stage.veiling, Stage.measuring)


@dataclass(frozen=True)
class Result:
    """What became of a photo.

    Attributes:
        folder: where its files lie.
        file: the protected photo.
        name: what it is called when it is downloaded.
        strength: how strongly it was veiled.
        chosen: which of its faces were; those framed by hand are numbered after those found, in the order of `frames`.
        frames: around faces that the person framed by hand.
        notes: what there is to say about reading and writing it, in sentences.
        receipts: what was measured, face by face in the order of `chosen`.
        remarks: what has to be known of these figures first, in sentences.
    """

    folder: Path
    file: Path
    name: str
    strength: str
    chosen: tuple[int, ...]
    frames: tuple[Frame, ...]
    notes: tuple[str, ...]
    receipts: tuple[FaceReceipt, ...]
    remarks: tuple[str, ...] = ()


@dataclass(eq=False)
class UploadedPhoto:
    """A photo on a page; its tab's lock guards what changes.

    Attributes:
        name: what the person calls it.
        folder: where its files lie.
        id: by which the page asks for it.
        bytes: of all its files.
        stage: how far it is.
        problem: why it was refused, or why the last attempt failed, in a sentence.
        size: width and height in pixels, once known.
        faces: those found in it, largest first.
        progress: of the attempt under way, 0 to 1.
        weight: how much work that is, in faces; 0 for a photo that is not part of the run.
        stop: set when that attempt shall end.
        result: of the last attempt that succeeded.
    """

    name: str
    folder: Path
    id: str = field(default_factory=lambda: secrets.token_urlsafe(12))
    bytes: int = 0
    stage: Stage = Stage.arriving
    problem: str | None = None
    size: tuple[int, int] | None = None
    faces: Faces | None = None
    progress: float = 0.0
    weight: float = 0.0
    stop: Event = field(default_factory=Event)
    result: Result | None = None

    @property
    def original(self) -> Path:
        """The file as it was uploaded."""
        return self.folder / "original"

    def weigh(self) -> None:
        """Count what its files take."""
        self.bytes = sum(file.stat().st_size for file in self.folder.rglob("*") if file.is_file())

    def state(self) -> dict[str, Any]:
        """What the page shows of it."""
        return {
            "id": self.id,
            "name": self.name,
            "stage": self.stage,
            "problem": self.problem,
            "size": self.size,
            "faces": [] if self.faces is None else self.faces.boxes.round().int().tolist(),
            "progress": self.progress,
            "result": self.result and _shown_result(self.result),
        }


def _shown_result(result: Result) -> dict[str, Any]:
    return {
        "run": result.folder.name,
        "name": result.name,
        "strength": result.strength,
        "chosen": result.chosen,
        "frames": result.frames,
        "notes": result.notes,
        "remarks": result.remarks,
        "faces": [
            {"found": receipt.found, "by_hand": receipt.by_hand, "answers": _answers(receipt)}
            for receipt in result.receipts
        ],
    }


def _answers(receipt: FaceReceipt) -> list[dict[str, Any]]:
    """What each recognizer says of a face as it was saved, and the most it says after what may happen on the way."""
    answers = []
    for _, looks in groupby(receipt.against_itself, key=lambda comparison: comparison.recognizer):
        saved, *altered = looks
        highest = max(altered, key=lambda comparison: comparison.similarity, default=saved)
        answers.append(
            {
                "recognizer": saved.recognizer,
                "attacked": saved.attacked,
                "threshold": saved.threshold,
                "similarity": saved.similarity,
                "matches": saved.matches,
                "highest": max(saved.similarity, highest.similarity),
                "again": bool(highest.matches and not saved.matches),
            }
        )
    return answers
