"""Does everyday handling bring a recognizer back that protection had silenced?"""

from collections.abc import Sequence
from statistics import fmean

import polars as pl
import torch
from torch import Tensor

from fairveil.base.errors import FairveilError
from fairveil.base.rates import rate
from fairveil.experiment.study import Measurement, Results, Trial
from fairveil.experiment.workbench import Workbench
from fairveil.faces.embedding import Embeddings
from fairveil.faces.zoo import ZOO, load_recognizer
from fairveil.protection.paper.alterations import HANDLING
from fairveil.protection.paper.people import People, altered, cast, embedded
from fairveil.protection.paper.protected import GalleryAttack, protected_photos
from fairveil.protection.paper.setting import (
    HUNDRED_USERS,
    LITERAL,
    TWO_RECOGNIZERS,
    AttackSettings,
    AttackStudy,
    RecognizerName,
)
from fairveil.report.tables import Table, pivot

_ALL = "all of them"


class Handling(AttackSettings):
    """Settings.

    Attributes:
        defenders: recognizers that look at the photos; their thresholds must be known.
        handled: what happens to protected photos: names out of `HANDLING`.
    """

    defenders: tuple[RecognizerName, ...] = tuple(ZOO)
    handled: tuple[str, ...] = tuple(HANDLING)


class Handled(Trial):
    """One thing that happens to photos, one of `HANDLING`; see `Handling`."""

    people: People
    attack: GalleryAttack
    defenders: tuple[str, ...]
    handled: str

    @property
    def label(self) -> str:
        """What happens to photos."""
        return self.handled


class HandlingStudy(AttackStudy[Handling, Handled]):
    """A study of what happens to photos every day."""

    def trials(self, settings: Handling) -> list[Handled]:
        """One thing that happens to photos a trial."""
        attack = GalleryAttack(recognizers=settings.recognizers, settings=settings.attack, seed=settings.seed)
        common = {"people": settings.people, "attack": attack, "defenders": settings.defenders}
        return [Handled(handled=handled, **common) for handled in settings.handled]

    def run(self, trial: Handled, bench: Workbench) -> list[Measurement]:
        """Count the faces that protection hid from a recognizer and that it knows again once they are handled.

        A recognizer knows a face if its similarity to the same face in the photo as it was reaches the threshold of the
        zoo. A face that is not found is not known.

        Returns:
            By recognizer, and for all of them, the share of faces below the threshold that come back, how many there
            are, and the mean similarity before and after.

        Raises:
            FairveilError: a recognizer's threshold is not known.
        """
        people, cache = trial.people, bench.cache
        recognizers = [load_recognizer(name).to(bench.device) for name in trial.defenders]
        for one in recognizers:
            if one.threshold is None:
                raise FairveilError(f"{one.name} has no match threshold, so nobody can say whether it comes back.")
        table = cast(people, cache).protected
        with bench.timed("protect"):
            photos = protected_photos(table, trial.attack, people.faces, bench)
        with bench.timed("embed"):
            clean, protected, handled = (
                embedded(one, recognizers, people, cache) for one in (table, photos, altered(photos, (trial.handled,)))
            )
        rows = pl.DataFrame({"photo": table.frame["image"], "protected": photos.frame["image"]}).with_row_index("row")
        places = dict(zip(rows["photo"], rows["row"], strict=True)) | dict(
            zip(rows["protected"], rows["row"], strict=True)
        )
        numbers = {name: number for number, name in enumerate(dict.fromkeys(table.identities))}
        whose = torch.tensor([numbers[name] for name in table.identities])
        silenced: list[Tensor] = []
        returned: list[Tensor] = []
        measurements = []
        for one in recognizers:
            assert one.threshold is not None
            before, after = similarities(one.name, clean, (protected, handled), places, len(table))
            known = one.threshold.similarity
            silenced.append(before < known)
            returned.append((before < known) & (after >= known))
            for what, values in (("protected", before), ("handled", after)):
                seen = values[values > -torch.inf].tolist()
                labels = {"handled": trial.handled, "defender": one.name, "what": f"similarity, {what}"}
                measurements += [Measurement(labels=labels, value=fmean(seen), count=len(seen))] if seen else []
        names = [*trial.defenders, _ALL]
        for name, low, back in zip(
            names, [*silenced, torch.cat(silenced)], [*returned, torch.cat(returned)], strict=True
        ):
            measurements += _comebacks(trial.handled, name, low, back, whose.repeat(len(low) // len(whose)))
        return measurements

    def tables(self, settings: Handling, results: Results[Handled]) -> list[Table]:
        """How many come back, of how many that were below their threshold, and by which similarities."""
        measured = [one for some in results.values() for one in some]
        columns = [*settings.defenders, _ALL]

        def table(what: str, title: str, caption: str, **more: str) -> Table:
            return pivot(
                measured,
                row="handled",
                column="defender",
                where={"what": what},
                rows=list(settings.handled),
                columns=columns if what in ("share", "back", "below") else list(settings.defenders),
                title=title,
                caption=caption,
                **more,  # type: ignore[arg-type]
            )

        return [
            table(
                "share",
                "Recognizers that come back, ours",
                "Of the protected faces that a recognizer no longer takes for the person of the original photo, the "
                "share that it does again after the photo was handled so. Each recognizer's threshold lets 0.1 % of "
                "strangers through. Intervals: 95 %, with people, not photos, for the sample.",
                shade="low is good",
            ),
            table("back", "How many come back, ours", "The same, counted.", unit="count"),
            table(
                "below", "Of how many, ours", "Faces below the threshold before the photo was handled.", unit="count"
            ),
            table(
                "similarity, handled",
                "Similarity to the original after handling, ours",
                "Means over photos whose face is found.",
                unit="cosine",
            ),
        ]


def similarities(
    name: str, clean: Embeddings, versions: Sequence[Embeddings], places: dict[str, int], count: int
) -> list[Tensor]:
    """For each version of the photos, cosines of their faces with the clean ones, (count,).

    It is -inf where the version shows no face, and NaN, which is below no threshold, where the photo as it was shows
    none, so that nothing was protected.

    Args:
        name: of the recognizer.
        clean: embeddings of the photos as they were.
        versions: of the photos in other versions.
        places: which photo an image is of.
        count: of photos.
    """
    vectors = torch.zeros(count, clean.vectors(name).shape[1])
    vectors[[places[image] for image in clean.frame["image"]]] = clean.vectors(name)
    known = set(clean.frame["image"])
    of_clean = torch.zeros(count, dtype=torch.bool)
    of_clean[[places[image] for image in known]] = True
    found = []
    for version in versions:
        rows = torch.tensor([places[image] for image in version.frame["image"]])
        cosines = torch.full((count,), -torch.inf)
        cosines[rows] = (version.vectors(name) * vectors[rows]).sum(1)
        found.append(cosines.where(of_clean, torch.nan))
    return found


def _comebacks(handled: str, defender: str, silenced: Tensor, returned: Tensor, people: Tensor) -> list[Measurement]:
    labels = {"handled": handled, "defender": defender}
    counts = [
        Measurement(labels=labels | {"what": "below"}, value=int(silenced.sum()), count=len(silenced)),
        Measurement(labels=labels | {"what": "back"}, value=int(returned.sum()), count=len(silenced)),
    ]
    if not bool(silenced.any()):
        return counts
    return [*counts, Measurement.of(labels | {"what": "share"}, rate(returned[silenced], people[silenced]))]


HANDLED = HandlingStudy(
    name="lowkey-handling",
    title="Everyday handling",
    question="Does a recognizer know a protected face again once its photo was compressed, resized, turned or cropped?",
    source="beyond the dissertation",
    small=Handling(),
    paper=Handling(people=HUNDRED_USERS, attack=LITERAL),
    smoke={
        "recognizers": TWO_RECOGNIZERS,
        "defenders": TWO_RECOGNIZERS,
        "handled": ("JPEG 70", "rotated by 3°", "screenshot, JPEG"),
    },
)
