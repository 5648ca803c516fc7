"""Can protected photos be told from others? A small network, judged on people it never saw."""

from operator import attrgetter

import polars as pl
import torch
from pydantic import BaseModel, ConfigDict, Field

from fairveil.base.errors import FairveilError
from fairveil.base.rates import rate
from fairveil.data import FaceTable
from fairveil.experiment.study import Measurement, Results, Study, Trial
from fairveil.experiment.workbench import Workbench
from fairveil.faces.zoo import DEFAULT_ENSEMBLE
from fairveil.protection.lowkey import PRESETS, LowKey
from fairveil.protection.paper.detected import area_under_curve, scores_of, train_detector
from fairveil.protection.paper.pairs import face_pairs
from fairveil.protection.paper.people import People, altered, cast, resolve
from fairveil.protection.paper.protected import Attack, protected_photos
from fairveil.protection.paper.transfer import RecognizerName, differences_of, tiny
from fairveil.report.tables import Table, pivot

_COLUMNS = {
    "AUC": "AUC",
    "accuracy": "%",
    "false positives at 95 % true positives": "%",
}
_TRUE_POSITIVES = 0.95


class Detection(BaseModel):
    """Settings.

    Attributes:
        people: of whom the users are among those the detector is judged on.
        recognizers: the ensemble that is attacked.
        attack: settings of LowKey.
        trained_on: how many strangers' photos the detector's owner protects to train it.
        judged_on: how many other strangers it is judged on, by one photo each, beside the users.
        saved: what happens to photos, protected or not, before they are looked at: names out of `ALTERATIONS`.
        seed: of the starting noise.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    people: People = People(strangers=200)
    recognizers: tuple[RecognizerName, ...] = DEFAULT_ENSEMBLE
    attack: LowKey = PRESETS["medium"]
    trained_on: int = Field(48, ge=1)
    judged_on: int = Field(24, ge=0)
    saved: tuple[str, ...] = ("none", "JPEG 90", "JPEG 75", "half size and back")
    seed: int = 0


class Detectors(Trial):
    """One way in which photos are saved.

    Attributes:
        people: see `Detection`, as are the others.
        attack: how photos are protected.
        trained_on: photos to train on.
        judged_on: strangers to be judged on.
        saved: one of `ALTERATIONS`.
    """

    people: People
    attack: Attack
    trained_on: int
    judged_on: int
    saved: str

    @property
    def label(self) -> str:
        """How photos are saved."""
        return "as they are" if self.saved == "none" else self.saved


def trials(settings: Detection) -> list[Detectors]:
    """One way to save photos a trial."""
    attack = Attack(recognizers=settings.recognizers, settings=settings.attack, seed=settings.seed)
    common = {name: getattr(settings, name) for name in ("people", "trained_on", "judged_on")}
    return [Detectors(attack=attack, saved=saved, **common) for saved in settings.saved]


def run(trial: Detectors, bench: Workbench) -> list[Measurement]:
    """Train a detector on strangers' faces and judge it on those of the users and of other strangers.

    Raises:
        FairveilError: no face was found to train on, or to judge by.
    """
    chosen = cast(trial.people, bench.cache)
    train, others = divided(chosen.strangers, trial.trained_on, trial.judged_on)
    parts = (train, others, chosen.protected)
    versions = []
    for table in parts:
        with bench.timed("protect"):
            photos = protected_photos(table, trial.attack, trial.people.faces, bench) if len(table) else table
        versions.append(tuple(altered(one, (trial.saved,)) for one in (table, photos)))
    with bench.timed("find faces"):
        found = [face_pairs(both, trial.people.faces) for both in versions]
    views = torch.cat([pairs.views for pairs in found[1:]])
    names = [parts[1 + place].identities[row] for place, pairs in enumerate(found[1:]) for row in pairs.rows]
    if not found[0].rows or not names:
        raise FairveilError(f"{chosen.strangers.name}: too few photos show a face to train a detector and to judge it.")
    with bench.timed("train"):
        network = train_detector(*found[0].views.unbind(1))
    clean, protected = (scores_of(network, views[:, version]) for version in (0, 1))
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    people = torch.tensor([numbers[name] for name in names])
    area = area_under_curve(protected, clean, people)
    threshold = protected.sort(descending=True).values[max(0, round(_TRUE_POSITIVES * len(protected)) - 1)]
    right = rate(torch.cat([protected > 0, clean <= 0]), people.repeat(2))
    alarms = rate(clean >= threshold, people)
    return [
        Measurement.of({"photos": trial.label, "what": what}, one)
        for what, one in zip(_COLUMNS, (area, right, alarms), strict=True)
    ]


def divided(strangers: FaceTable, trained_on: int, judged_on: int) -> tuple[FaceTable, FaceTable]:
    """The first strangers' photos, to train on, and one photo each of others, who are not among them."""
    train = strangers.take(range(min(trained_on, len(strangers))))
    seen = {*train.identities}
    first = strangers.frame.with_row_index("row").group_by("identity", maintain_order=True).agg(pl.col("row").first())
    rows = [row for name, row in first.iter_rows() if name not in seen]
    return train, strangers.take(rows[:judged_on])


def tables(settings: Detection, results: Results[Detectors]) -> list[Table]:
    """How well protected photos are told from others, by how they were saved."""
    return [
        pivot(
            [one for some in results.values() for one in some],
            row="photos",
            column="what",
            columns=list(_COLUMNS),
            unit=("AUC", "%", "%"),
            title="Protected photos told from others, ours",
            caption=f"A network trained on {settings.trained_on} photos in both versions, by somebody who knows the "
            "attack and how photos are saved; judged on people it never saw, each photo in both versions. AUC 0.5 and "
            "accuracy 50 % are those of a coin. Intervals: 95 %, with people, not photos, for the sample.",
        )
    ]


def differences(settings: Detection) -> list[str]:
    """What differs from section 3.4, which asks nothing of the kind."""
    return differences_of(settings.people, settings.attack)


def rehearsal(settings: Detection) -> Detection:
    """The same on a few generated faces, one step each."""
    one_step = settings.attack.model_copy(update={"steps": 1})
    return settings.model_copy(update={"people": tiny(), "attack": one_step, "trained_on": 2, "judged_on": 2})


_SMALL = Detection()

DETECTION = Study(
    name="lowkey-detection",
    title="Are protected photos noticed?",
    question="Can a network trained on protected photos tell those of other people from photos as they were?",
    source="beyond the dissertation",
    presets={
        "smoke": rehearsal(_SMALL).model_copy(
            update={"recognizers": ("mobilefacenet-192", "mobileface"), "saved": ("none", "JPEG 75")}
        ),
        "small": _SMALL,
        "paper": _SMALL.model_copy(
            update={
                "people": People(data="facescrub", protected=100, drop_duplicates=True),
                "attack": LowKey(canvas="photo"),
                "trained_on": 4800,
                "judged_on": 400,
            }
        ),
    },
    trials=trials,
    run=run,
    tables=tables,
    differences=differences,
    rehearsal=rehearsal,
    resolve=resolve,
    data=attrgetter("people.data"),
)
