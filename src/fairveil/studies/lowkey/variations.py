"""Studies that vary one thing about the protection or the defender, a row each, and keep the rest."""

from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict

from fairveil.faces.zoo import DEFAULT_ENSEMBLE, ZOO
from fairveil.protection.lowkey import LowKey
from fairveil.report.plots import Series, frontier
from fairveil.report.tables import Table, pivot
from fairveil.studies.lowkey.people import People
from fairveil.studies.lowkey.protected import Attack
from fairveil.studies.lowkey.rows import Row
from fairveil.studies.lowkey.transfer import FAST, at_hand, by_row, differences_of, matrix_tables, tiny
from fairveil.studies.study import Figure, Results


class Variation(BaseModel):
    """What is different in one row; what is not said is as in the study's settings.

    Attributes:
        protected: whether photos are protected at all.
        recognizers: the ensemble that is attacked.
        attack: settings of LowKey.
        gallery_photos: how many photos of each user are in the gallery.
        saved: see `Row`, as are the others.
        preprocessing: what the defender does to every photo.
        probes: what happens to the probes.
        probes_protected: whether probes are protected as well.
        adapted_on: photos on which the defender learns to undo the attack.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    protected: bool = True
    recognizers: tuple[str, ...] | None = None
    attack: LowKey | None = None
    gallery_photos: int | None = None
    saved: str = "none"
    preprocessing: str = "none"
    probes: str = "none"
    probes_protected: bool = False
    adapted_on: int = 0


class Variations(BaseModel):
    """Settings of a study of variations.

    Attributes:
        people: who is protected, among whom.
        recognizers: the ensemble that is attacked.
        defenders: recognisers that look for the users.
        attack: settings of LowKey.
        rows: the variations by the names of their rows.
        seed: of the starting noise.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    people: People = People()
    recognizers: tuple[str, ...] = DEFAULT_ENSEMBLE
    defenders: tuple[str, ...] = tuple(ZOO)
    attack: LowKey = FAST
    rows: dict[str, Variation]
    seed: int = 0


def trials(settings: Variations) -> list[Row]:
    """One row a trial."""
    return [_row(settings, name, variation) for name, variation in settings.rows.items()]


def _row(settings: Variations, name: str, variation: Variation) -> Row:
    people = at_hand(settings.people)
    if variation.gallery_photos is not None:
        people = people.model_copy(update={"gallery_photos": variation.gallery_photos})
    attack = Attack(
        recognizers=variation.recognizers or settings.recognizers,
        settings=variation.attack or settings.attack,
        seed=settings.seed,
    )
    return Row(
        name=name,
        people=people,
        attack=attack if variation.protected else None,
        saved=variation.saved,
        preprocessing=variation.preprocessing,
        probes=variation.probes,
        probes_protected=variation.probes_protected,
        adapted_on=variation.adapted_on,
        defenders=settings.defenders,
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


def frontier_figures(settings: Variations, results: Results[Row]) -> list[Figure]:
    """Rank-50 of every defender against what the protection costs, a point a row."""
    measured = by_row(results)
    prices = {one.labels["attacker"]: one.value for one in measured if one.labels.get("cost") == "LPIPS (VGG)"}
    series = []
    for defender in settings.defenders:
        points = [
            one
            for one in measured
            if one.labels.get("defender") == defender
            and (one.labels["metric"], one.labels["group"]) == ("rank-50", "all")
            and one.labels["attacker"] in prices
        ]
        points.sort(key=lambda one: prices[one.labels["attacker"]])
        if points:
            series.append(
                Series(
                    name=defender,
                    x=[prices[one.labels["attacker"]] for one in points],
                    y=[one.value for one in points],
                    low=[one.low if one.low is not None else one.value for one in points],
                    high=[one.high if one.high is not None else one.value for one in points],
                    labels=[one.labels["attacker"] for one in points],
                )
            )
    if not series:
        return []
    svg = frontier(series, x_name="LPIPS (VGG), which no attack optimised", y_name="rank-50 accuracy")
    return [Figure("What protection costs: the share of probes still found against the change of the photos.", svg)]


def differences(settings: Variations) -> list[str]:
    """What differs from the dissertation's setting."""
    return differences_of(settings.people, settings.attack)


def rehearsal(settings: Variations) -> Variations:
    """The same rows on a few generated faces, one step each."""
    one_step = {"steps": 1}
    rows = {
        name: variation.model_copy(
            update={
                "attack": variation.attack and variation.attack.model_copy(update=one_step),
                "gallery_photos": variation.gallery_photos and 1,
                "adapted_on": min(1, variation.adapted_on),
            }
        )
        for name, variation in settings.rows.items()
    }
    return settings.model_copy(
        update={"people": tiny(), "attack": settings.attack.model_copy(update=one_step), "rows": rows}
    )
