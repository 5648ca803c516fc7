"""Can protected photos be told from others? A small network, judged on people it never saw."""

import polars as pl
import torch
from pydantic import Field

from fairveil.base.errors import FairveilError
from fairveil.base.rates import rate
from fairveil.data import FaceTable
from fairveil.experiment.study import Measurement, Results, Trial
from fairveil.experiment.workbench import Workbench
from fairveil.protection.paper.pairs import face_pairs
from fairveil.protection.paper.people import People, altered, cast
from fairveil.protection.paper.protected import GalleryAttack, protected_photos
from fairveil.protection.paper.protection_detector import area_under_curve, scores_of, train_detector
from fairveil.protection.paper.setting import HUNDRED_USERS, LITERAL, TWO_RECOGNIZERS, AttackSettings, AttackStudy
from fairveil.report.tables import Table, pivot

_COLUMNS = {
    "AUC": "AUC",
    "accuracy": "%",
    "false positives at 95 % true positives": "%",
}
_TRUE_POSITIVES = 0.95


class Detection(AttackSettings):
    """Settings.

    Attributes:
        people: of whom the users are among those the detector is judged on.
        trained_on: how many strangers' photos the detector's owner protects to train it.
        judged_on: how many other strangers it is judged on, by one photo each, beside the users.
        saved: what happens to photos, protected or not, before they are looked at: names out of `ALTERATIONS`.
    """

    people: People = People(strangers=200)
    trained_on: int = Field(48, ge=1)
    judged_on: int = Field(24, ge=0)
    saved: tuple[str, ...] = ("none", "JPEG 90", "JPEG 75", "half size and back")


class Detectors(Trial):
    """One way in which photos are saved, one of `ALTERATIONS`; see `Detection`."""

    people: People
    attack: GalleryAttack
    trained_on: int
    judged_on: int
    saved: str

    @property
    def label(self) -> str:
        """How photos are saved."""
        return "as they are" if self.saved == "none" else self.saved


class DetectionStudy(AttackStudy[Detection, Detectors]):
    """A study of detectors of protection."""

    def trials(self, settings: Detection) -> list[Detectors]:
        """One way to save photos a trial."""
        attack = GalleryAttack(recognizers=settings.recognizers, settings=settings.attack, seed=settings.seed)
        common = {name: getattr(settings, name) for name in ("people", "trained_on", "judged_on")}
        return [Detectors(attack=attack, saved=saved, **common) for saved in settings.saved]

    def run(self, trial: Detectors, bench: Workbench) -> list[Measurement]:
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
            raise FairveilError(
                f"{chosen.strangers.name}: too few photos show a face to train a detector and to judge it."
            )
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

    def tables(self, settings: Detection, results: Results[Detectors]) -> list[Table]:
        """How well protected photos are told from others, by how they were saved."""
        return [
            pivot(
                [one for some in results.values() for one in some],
                row="photos",
                column="what",
                columns=list(_COLUMNS),
                unit=("AUC", "%", "%"),
                title="Protected photos told from others, ours",
                caption=f"A network trained on {settings.trained_on} photos in both versions, by somebody who knows "
                "the attack and how photos are saved; judged on people it never saw, each photo in both versions. AUC "
                "0.5 and accuracy 50 % are those of a coin. Intervals: 95 %, with people, not photos, for the sample.",
            )
        ]

    def rehearsal(self, settings: Detection) -> Detection:
        """The same on a few generated faces, one step each."""
        return super().rehearsal(settings).model_copy(update={"trained_on": 2, "judged_on": 2})


def divided(strangers: FaceTable, trained_on: int, judged_on: int) -> tuple[FaceTable, FaceTable]:
    """The first strangers' photos, to train on, and one photo each of others, who are not among them."""
    train = strangers.take(range(min(trained_on, len(strangers))))
    seen = {*train.identities}
    first = strangers.frame.with_row_index("row").group_by("identity", maintain_order=True).agg(pl.col("row").first())
    rows = [row for name, row in first.iter_rows() if name not in seen]
    return train, strangers.take(rows[:judged_on])


DETECTION = DetectionStudy(
    name="lowkey-detection",
    title="Are protected photos noticed?",
    question="Can a network trained on protected photos tell those of other people from photos as they were?",
    source="beyond the dissertation",
    small=Detection(),
    paper=Detection(people=HUNDRED_USERS, attack=LITERAL, trained_on=4800, judged_on=400),
    smoke={"recognizers": TWO_RECOGNIZERS, "saved": ("none", "JPEG 75")},
)
