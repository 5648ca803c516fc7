"""Studies that vary one thing about the protection or the defender, a row each, and keep the rest."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from fairveil.base.estimate import Estimate
from fairveil.experiment.study import Measurement, Results
from fairveil.faces.zoo import DEFAULT_ENSEMBLE, ZOO, relatives
from fairveil.protection.lowkey import LowKey
from fairveil.protection.paper.aligners import Aligner
from fairveil.protection.paper.fawkes import Fawkes
from fairveil.protection.paper.people import People
from fairveil.protection.paper.protected import Attack
from fairveil.protection.paper.rows import Row
from fairveil.protection.paper.transfer import (
    FAST,
    DefenderName,
    RecognizerName,
    by_row,
    differences_of,
    matrix_tables,
    tiny,
)
from fairveil.report.plots import Series, frontier
from fairveil.report.study import Figure
from fairveil.report.tables import Table, pivot


class Variation(BaseModel):
    """What is different in one row; what is not said is as in the study's settings.

    Attributes:
        protected: whether photos are protected at all.
        recognizers: the ensemble that is attacked.
        attack: settings of LowKey, or of Fawkes.
        defenders: recognisers that look for the users.
        gallery_photos: how many of each user's photos stay in the gallery.
        saved: see `Row`, as are the others.
        preprocessing: what the defender does to every photo.
        probes: what happens to the probes.
        gallery_protected: whether gallery photos are protected.
        old_photos: how many of each user's gallery photos stay there as they were.
        probes_protected: whether probes are protected as well.
        adapted_on: photos on which the defender trains a layer to undo the attack.
        retrained_on: photos on which the defender trains its whole network.
        purified_on: photos on which the defender trains a network that purifies all others.
        aligner: how the defender aligns faces.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    protected: bool = True
    recognizers: tuple[RecognizerName, ...] | None = None
    attack: LowKey | Fawkes | None = None
    defenders: tuple[DefenderName, ...] | None = None
    gallery_photos: int | None = None
    saved: str = "none"
    preprocessing: str = "none"
    probes: str = "none"
    gallery_protected: bool = True
    old_photos: int = 0
    probes_protected: bool = False
    adapted_on: int = 0
    retrained_on: int = 0
    purified_on: int = 0
    aligner: Aligner = "landmarks"


class Variations(BaseModel):
    """Settings of a study of variations.

    Attributes:
        people: who is protected, among whom.
        recognizers: the ensemble that is attacked.
        defenders: recognisers that look for the users.
        attack: settings of LowKey.
        gallery_photos: how many of each user's photos stay in the gallery; None for all that `people` chooses. Unlike
            fewer there, this changes neither the users nor their probes.
        rows: the variations by the names of their rows.
        seed: of the starting noise.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    people: People = People()
    recognizers: tuple[RecognizerName, ...] = DEFAULT_ENSEMBLE
    defenders: tuple[DefenderName, ...] = tuple(ZOO)
    attack: LowKey = FAST
    gallery_photos: int | None = None
    rows: dict[str, Variation]
    seed: int = 0


def trials(settings: Variations) -> list[Row]:
    """One row a trial."""
    return [_row(settings, name, variation) for name, variation in settings.rows.items()]


def _row(settings: Variations, name: str, variation: Variation) -> Row:
    attack = Attack.of(
        variation.attack or settings.attack,
        variation.recognizers or settings.recognizers,
        settings.people,
        settings.seed,
    )
    return Row(
        name=name,
        people=settings.people,
        attack=attack if variation.protected else None,
        saved=variation.saved,
        preprocessing=variation.preprocessing,
        probes=variation.probes,
        gallery_protected=variation.gallery_protected,
        old_photos=variation.old_photos,
        probes_protected=variation.probes_protected,
        adapted_on=variation.adapted_on,
        retrained_on=variation.retrained_on,
        purified_on=variation.purified_on,
        aligner=variation.aligner,
        gallery_photos=variation.gallery_photos or settings.gallery_photos,
        defenders=variation.defenders or settings.defenders,
    )


def tables(
    settings: Variations, results: Results[Row], published: Mapping[str, str], also: Sequence[str] = ()
) -> list[Table]:
    """For each rank our rows against every defender, the dissertation's below; then rates by group.

    Args:
        settings: of the study.
        results: of its trials.
        published: the dissertation's tables by our metric.
        also: its tables that no metric of ours corresponds to, shown at the end.
    """
    measured = by_row(results)
    of_groups = [
        one for one in measured if one.labels.get("group", "all") != "all" and one.labels["metric"] == "rank-50"
    ]
    groups = [
        pivot(
            [one for one in of_groups if one.labels["group"] == group],
            row="attacker",
            column="defender",
            title=f"rank-50 accuracy, ours, {group}",
            shade="low is good",
            caption="Groups as the data set labels them; few people a group, so mind the intervals.",
        )
        for group in dict.fromkeys(one.labels["group"] for one in of_groups)
    ]
    return [*matrix_tables(results, published, also), *groups]


def frontier_figures(settings: Variations, results: Results[Row], *, left_out: bool = False) -> list[Figure]:
    """For every defender rank-50 against what the protection costs, a point a row.

    Rows that differ in the attack's strength only are joined by a line.

    Args:
        settings: of the study.
        results: of its trials.
        left_out: show only rows that attacked no relative of the defender.
    """
    pictures = []
    for defender in settings.defenders:
        lines: dict[str, list[_Point]] = {}
        for row, measurements in results.items():
            attacked = row.attack.recognizers if row.attack else ()
            if left_out and set(relatives(defender)) & set(attacked):
                continue
            if (point := _point(row, measurements, defender)) is not None:
                lines.setdefault(_but_for_strength(row), []).append(point)
        if lines:
            svg = frontier(
                [_series(points) for points in lines.values()],
                x_name="LPIPS (VGG), which no attack optimised",
                y_name="rank-50 accuracy",
            )
            pictures.append(Figure(f"{defender}: the share of probes it finds against the change of the photos.", svg))
    return pictures


class _Point(NamedTuple):
    price: float
    found: Estimate
    label: str


def _point(row: Row, measurements: Sequence[Measurement], defender: str) -> _Point | None:
    """What one row cost and what one defender still found; None if either was not measured."""
    wanted = {"defender": defender, "metric": "rank-50", "group": "all"}
    found = next((one for one in measurements if wanted.items() <= one.labels.items()), None)
    price = next((one.value for one in measurements if one.labels.get("cost") == "LPIPS (VGG)"), None)
    if found is None or price is None:
        return None
    return _Point(price, found.estimate, row.name)


def _but_for_strength(row: Row) -> str:
    """All that a row is, but for its name and for how strong its attack is."""
    strength = {"steps", "step_size", "alpha", "chroma", "gradient_sigma", "learning_rate", "budget"}
    content = row.model_dump(exclude={"name": True, "attack": {"settings": strength}})
    return repr(sorted(content.items()))


def _series(points: Sequence[_Point]) -> Series:
    price, found, label = zip(*sorted(points, key=lambda one: (one.price, one.found.value)), strict=True)
    return Series(label[0].split(",")[0] if len(points) > 1 else "", price, found, label)


def differences(settings: Variations) -> list[str]:
    """What differs from the dissertation's setting."""
    return differences_of(settings.people, settings.attack, settings.gallery_photos)


def rehearsal(settings: Variations) -> Variations:
    """The same rows on a few generated faces, one step each."""
    one_step = {"steps": 1}
    rows = {
        name: variation.model_copy(
            update={
                "attack": variation.attack and variation.attack.model_copy(update=one_step),
                "gallery_photos": variation.gallery_photos and 1,
                "old_photos": 0,
                "defenders": None,
                "adapted_on": min(1, variation.adapted_on),
                "retrained_on": min(1, variation.retrained_on),
                "purified_on": min(1, variation.purified_on),
            }
        )
        for name, variation in settings.rows.items()
    }
    return settings.model_copy(
        update={
            "people": tiny(),
            "attack": settings.attack.model_copy(update=one_step),
            "gallery_photos": None,
            "rows": rows,
        }
    )
