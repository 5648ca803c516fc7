"""Attacker against defender: tables 3.2 and 3.5."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean
from typing import TypeVar

from pydantic import Field

from fairveil.experiment.published import published_table
from fairveil.experiment.study import SYNTHETIC, Measurement, Results
from fairveil.experiment.workbench import Workbench
from fairveil.faces.zoo import DEFAULT_ENSEMBLE, FAMILIES, ZOO, without_family
from fairveil.protection.lowkey import LowKey
from fairveil.protection.paper.fawkes import Fawkes
from fairveil.protection.paper.people import People
from fairveil.protection.paper.protected import COSTS, GalleryAttack
from fairveil.protection.paper.rows import RANKS, Row, ranks_of, run_row
from fairveil.protection.paper.setting import (
    FAST,
    DefenderName,
    PeopleSettings,
    PeopleStudy,
    RecognizerName,
    differences_of,
    tiny,
    with_steps,
)
from fairveil.report.plots import heat_map
from fairveil.report.study import Figure
from fairveil.report.tables import Cell, Table, pivot


class Transfer(PeopleSettings):
    """Settings of an attacker-defender matrix.

    Attributes:
        attackers: recognizers that are attacked alone.
        ensembles: recognizers that are attacked together, by the row's name.
        defenders: recognizers that look for the users.
        attack: settings of LowKey.
        beside: other settings, to which the first ensemble's photos are protected for comparison.
        fawkes: settings of Fawkes, the baseline, by the row's name.
        fawkes_on: recognizers that Fawkes attacks together.
        gallery_photos: how many of each user's photos stay in the gallery; None for all that `people` chooses. Unlike
            fewer there, this changes neither the users nor their probes.
    """

    attackers: tuple[RecognizerName, ...] = tuple(name for name in ZOO if name not in FAMILIES["FaceNet"])
    ensembles: dict[str, tuple[RecognizerName, ...]] = Field(
        {"Ensemble": DEFAULT_ENSEMBLE}
        | {f"Ensemble without {family}": without_family(family) for family in ("dlib", "FaceRes")}
    )
    defenders: tuple[DefenderName, ...] = tuple(ZOO)
    attack: LowKey = FAST
    beside: LowKey | None = None
    fawkes: dict[str, Fawkes] = Field({})
    fawkes_on: tuple[RecognizerName, ...] = DEFAULT_ENSEMBLE
    gallery_photos: int | None = Field(None, ge=1)


CLEAN = "Clean"
"""The row of photos as they were."""


RowSettings = TypeVar("RowSettings", bound=PeopleSettings)


@dataclass(frozen=True, kw_only=True)
class RowStudy(PeopleStudy[RowSettings, Row]):
    """A study whose trials are rows of tables.

    Attributes:
        published: the dissertation's tables by our metric.
    """

    published: Mapping[str, str] = field(default_factory=dict)

    def run(self, trial: Row, bench: Workbench) -> list[Measurement]:
        """Protect the users' gallery photos, and let every defender look for the probes' owners."""
        return run_row(trial, bench)


class TransferStudy(RowStudy[Transfer]):
    """A study of attackers against defenders."""

    def trials(self, settings: Transfer) -> list[Row]:
        """One row a trial: photos as they were, Fawkes, each recognizer attacked alone, each ensemble."""
        people = settings.people
        baselines = {
            name: GalleryAttack.of(mode, settings.fawkes_on, people, settings.seed)
            for name, mode in settings.fawkes.items()
        }
        attacks: dict[str, GalleryAttack | None] = {CLEAN: None, **baselines} | {
            name: GalleryAttack(recognizers=attacked, settings=settings.attack, seed=settings.seed)
            for name, attacked in attackers_of(settings).items()
        }
        if settings.beside is not None and settings.ensembles:
            first, attacked = next(iter(settings.ensembles.items()))
            other = GalleryAttack(recognizers=attacked, settings=settings.beside, seed=settings.seed)
            attacks |= {f"{first}, α {settings.beside.alpha:g}": other}
        return [
            Row(
                name=name,
                people=people,
                attack=attack,
                gallery_photos=settings.gallery_photos,
                defenders=settings.defenders,
            )
            for name, attack in attacks.items()
        ]

    def tables(self, settings: Transfer, results: Results[Row]) -> list[Table]:
        """The summary, then our matrices with the published below."""
        return [summary(settings, results, self.published), *matrix_tables(results, self.published)]

    def figures(self, settings: Transfer, results: Results[Row]) -> list[Figure]:
        """The matrices of the dissertation's ranks as pictures."""
        measured = by_row(results)
        pictures = []
        for metric in (f"rank-{k}" for k in RANKS):
            table = _matrix(measured, metric)
            svg = heat_map(
                [[cell.value for cell in cells] for _, cells in table.rows],
                rows=[name for name, _ in table.rows],
                columns=table.columns,
                row_name=table.row_name,
                column_name=table.column_name,
            )
            pictures.append(
                Figure(f"{metric} accuracy, ours: every defender (columns) against every attack (rows).", svg)
            )
        return pictures

    def differences(self, settings: Transfer) -> list[str]:
        """What differs from section 3.4."""
        said = differences_of(settings.people, settings.attack, settings.gallery_photos)
        return [*said, *(differences_of_fawkes(settings.people) if settings.fawkes else ())]

    def rehearsal(self, settings: Transfer) -> Transfer:
        """The same rows on a few generated faces, one step each."""
        return settings.model_copy(
            update={
                "people": tiny(),
                "attack": with_steps(settings.attack, 1),
                "beside": settings.beside and with_steps(settings.beside, 1),
                "fawkes": {name: with_steps(mode, 1) for name, mode in settings.fawkes.items()},
                "gallery_photos": None,
            }
        )


def attackers_of(settings: Transfer) -> dict[str, tuple[str, ...]]:
    """Who is attacked in each row of LowKey, by the row's name."""
    return {name: (name,) for name in settings.attackers} | settings.ensembles


def by_row(results: Results[Row]) -> list[Measurement]:
    """All measurements, each labeled with its row as the attacker."""
    return [
        measurement.model_copy(update={"labels": measurement.labels | {"attacker": row.name}})
        for row, measurements in results.items()
        for measurement in measurements
    ]


def matrix_tables(results: Results[Row], published: Mapping[str, str], also: Sequence[str] = ()) -> list[Table]:
    """For each rank our matrix; below those of the dissertation's ranks, its own (by metric the table's number)."""
    measured = by_row(results)
    gallery = next((one.labels["gallery"] for one in measured if "gallery" in one.labels), "0")
    tables: list[Table] = []
    for metric, k in ranks_of(int(gallery)).items():
        number = published.get(metric)
        stands = f"Stands beside table {number}." if number else "The dissertation has no such column."
        tables.append(
            _matrix(
                measured,
                metric,
                caption=f"Share of probes whose owner is among the {k} nearest of about {gallery} gallery photos "
                f"({k / max(1, int(gallery)):.2%}). {stands} Intervals: 95 %, with people, not photos, for the sample.",
            )
        )
        if number:
            tables.append(published_table(number).table())
    measured_costs = {one.labels.get("cost") for one in measured}
    names = [name for name in COSTS if name in measured_costs]
    costs = pivot(
        measured,
        row="attacker",
        column="cost",
        columns=names,
        title="What the protection costs, ours",
        unit=tuple(COSTS[name].unit for name in names),
    )
    return [*tables, *([costs] if costs.rows else []), *(published_table(number).table() for number in also)]


def _matrix(measured: Sequence[Measurement], metric: str, *, caption: str = "") -> Table:
    """One metric of every defender (columns) against every attack (rows)."""
    return pivot(
        measured,
        row="attacker",
        column="defender",
        title=f"{metric} accuracy, ours",
        where={"metric": metric, "group": "all"},
        shade="low is good",
        caption=caption,
    )


def summary(settings: Transfer, results: Results[Row], published: Mapping[str, str]) -> Table:
    """Means over kinds of attacker and defender: what can be compared across different sets of recognizers."""
    attacked = attackers_of(settings) | dict.fromkeys(settings.fawkes, settings.fawkes_on)
    ours: dict[str, dict[str, list[float]]] = {}
    for one in by_row(results):
        compared = one.labels["attacker"] == CLEAN or one.labels["attacker"] in attacked
        if compared and one.labels.get("metric") in published and one.labels["group"] == "all":
            kind = _kind(one.labels["attacker"], one.labels["defender"], attacked, settings.fawkes)
            ours.setdefault(kind, {}).setdefault(one.labels["metric"], []).append(one.value)
    theirs: dict[str, dict[str, list[float]]] = {}
    ensemble = ("IR-152A", "IR-152C", "RN-152A", "RN-152C")
    for metric, number in published.items():
        table = published_table(number)
        members = {name: (name,) for name in table.columns} | {"Ensemble": ensemble, "Fawkes": ()}
        for (row, column), value in table.values.items():
            theirs.setdefault(_kind(row, column, members, ("Fawkes",)), {}).setdefault(metric, []).append(value)
    kinds = [kind for kind in _KINDS if kind in ours or kind in theirs]
    rows = tuple(
        (kind, tuple(_mean(side.get(kind, {}).get(metric)) for metric in published for side in (ours, theirs)))
        for kind in kinds
    )
    return Table(
        title="Ours beside the published, by kind of attacker and defender",
        columns=("ours", "published") * len(published),
        groups=tuple((metric, 2) for metric in published),
        rows=rows,
        caption="Means over the cells of the matrices below. Recognizers differ, so cells do not correspond.",
        shade="low is good",
        row_name="kind",
    )


_KINDS = (
    "clean",
    "Fawkes, attacked",
    "Fawkes, another",
    "one recogniser, attacked",
    "one recogniser, another",
    "ensemble, attacked",
    "ensemble, left out",
)


def _kind(attacker: str, defender: str, attacked: Mapping[str, Sequence[str]], fawkes: Collection[str]) -> str:
    if attacker == CLEAN:
        return "clean"
    members = attacked[attacker]
    if attacker in fawkes:
        return "Fawkes, attacked" if defender in members else "Fawkes, another"
    if len(members) == 1:
        return "one recogniser, attacked" if defender in members else "one recogniser, another"
    return "ensemble, attacked" if defender in members else "ensemble, left out"


def _mean(values: Sequence[float] | None) -> Cell:
    return Cell.of(mean(values) if values else None)


def differences_of_fawkes(people: People) -> list[str]:
    """What differs from the Fawkes of tables 3.2 and 3.5, for users among these people."""
    said = [
        "Fawkes: its objective, optimizer and modes (version 0.3) written anew, on recognizers of our zoo; the "
        "dissertation ran the authors' program with the program's own network, which was none of the defenders."
    ]
    if people.data != SYNTHETIC and people.strangers is None:
        said.append(
            "Fawkes' targets: people whose photos are in the gallery too, since it holds everybody of the data."
        )
    return said
