"""Studies that vary one thing about the protection or the defender, a row each, and keep the rest."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from fairveil.base.estimate import Estimate
from fairveil.experiment.study import Measurement, Results
from fairveil.faces.zoo import ZOO, relatives
from fairveil.protection.lowkey import LowKey
from fairveil.protection.paper.fawkes import Fawkes
from fairveil.protection.paper.protected import GalleryAttack
from fairveil.protection.paper.rows import Row, Treatment
from fairveil.protection.paper.setting import (
    FAST,
    AttackSettings,
    AttackStudy,
    DefenderName,
    RecognizerName,
    differences_of,
    with_steps,
)
from fairveil.protection.paper.transfer import RowStudy, by_row, matrix_tables
from fairveil.report.plots import Series, frontier
from fairveil.report.study import Figure
from fairveil.report.tables import Table, pivot


class Variation(Treatment):
    """What is different in one row; what is not said is as in the study's settings. See `Treatment`.

    Attributes:
        protected: whether photos are protected at all.
        recognizers: the ensemble that is attacked.
        attack: settings of LowKey, or of Fawkes.
        defenders: recognizers that look for the users.
    """

    protected: bool = True
    recognizers: tuple[RecognizerName, ...] | None = None
    attack: LowKey | Fawkes | None = None
    defenders: tuple[DefenderName, ...] | None = None


class Variations(AttackSettings):
    """Settings of a study of variations.

    Attributes:
        defenders: recognizers that look for the users.
        attack: settings of LowKey.
        gallery_photos: how many of each user's photos stay in the gallery; None for all that `people` chooses. Unlike
            fewer there, this changes neither the users nor their probes.
        rows: the variations by the names of their rows.
    """

    defenders: tuple[DefenderName, ...] = tuple(ZOO)
    attack: LowKey = FAST
    gallery_photos: int | None = None
    rows: dict[str, Variation]


@dataclass(frozen=True, kw_only=True)
class VariationStudy(RowStudy[Variations], AttackStudy[Variations, Row]):
    """A study of rows that differ in one thing.

    Attributes:
        also: the dissertation's tables that no metric of ours corresponds to, shown at the end.
        frontier: whose rank-50 accuracy is plotted against what the protection costs: every row's, or of rows that
            attacked no relative of the defender; None for no plots.
    """

    also: Sequence[str] = ()
    frontier: Literal["every row", "left out"] | None = None

    def trials(self, settings: Variations) -> list[Row]:
        """One row a trial."""
        return [_row(settings, name, variation) for name, variation in settings.rows.items()]

    def tables(self, settings: Variations, results: Results[Row]) -> list[Table]:
        """For each rank our rows against every defender, the dissertation's below; then rates by group."""
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
        return [*matrix_tables(results, self.published, self.also), *groups]

    def figures(self, settings: Variations, results: Results[Row]) -> list[Figure]:
        """What defenders still find against what the protection costs, where the study asks that."""
        if self.frontier is None:
            return []
        return frontier_figures(settings, results, left_out=self.frontier == "left out")

    def differences(self, settings: Variations) -> list[str]:
        """What differs from the dissertation's setting."""
        return differences_of(settings.people, settings.attack, settings.gallery_photos)

    def rehearsal(self, settings: Variations) -> Variations:
        """The same rows on a few generated faces, one step each."""
        rows = {
            name: variation.model_copy(
                update={
                    "attack": variation.attack and with_steps(variation.attack, 1),
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
        return super().rehearsal(settings).model_copy(update={"gallery_photos": None, "rows": rows})


def _row(settings: Variations, name: str, variation: Variation) -> Row:
    attack = GalleryAttack.of(
        variation.attack or settings.attack,
        variation.recognizers or settings.recognizers,
        settings.people,
        settings.seed,
    )
    treatment = {field: getattr(variation, field) for field in Treatment.model_fields}
    return Row(
        name=name,
        people=settings.people,
        attack=attack if variation.protected else None,
        defenders=variation.defenders or settings.defenders,
        **treatment | {"gallery_photos": variation.gallery_photos or settings.gallery_photos},
    )


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
