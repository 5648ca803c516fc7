"""Attacker against defender: tables 3.2 and 3.5."""

from collections.abc import Collection, Mapping, Sequence
from statistics import mean
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from fairveil.base.errors import did_you_mean
from fairveil.experiment.published import published_table
from fairveil.experiment.study import Measurement, Results
from fairveil.faces.frbench import PREFIX
from fairveil.faces.zoo import DEFAULT_ENSEMBLE, OUTSIDE_JUDGE, ZOO
from fairveil.protection.lowkey import LowKey
from fairveil.protection.paper.fawkes import Fawkes
from fairveil.protection.paper.people import SYNTHETIC, People
from fairveil.protection.paper.protected import Attack
from fairveil.protection.paper.rows import RANKS, Row, ranks_of
from fairveil.report.plots import heat_map
from fairveil.report.study import Figure
from fairveil.report.tables import Cell, Table, Unit, pivot

FAST = LowKey(smoothing="alternate", mirror=False)
"""The dissertation's step, α and number of steps on the face alone, with smoothing in turns and without the mirrored
face: what two cores can afford."""


def _known(name: str) -> str:
    if name in ZOO or name.startswith(PREFIX):
        return name
    raise ValueError(f"the zoo has no recogniser {name!r}.{did_you_mean(name, ZOO)} It has {', '.join(ZOO)}")


RecognizerName = Annotated[str, AfterValidator(_known)]
"""A recogniser of the zoo or of frbench."""

DefenderName = Annotated[str, AfterValidator(lambda name: name if ":" in name else _known(name))]
"""The same, or a `Defender` as `package.module:NAME`."""


class Transfer(BaseModel):
    """Settings of an attacker-defender matrix.

    Attributes:
        people: who is protected, among whom.
        attackers: recognisers that are attacked alone.
        ensembles: recognisers that are attacked together, by the row's name.
        defenders: recognisers that look for the users.
        attack: settings of LowKey.
        beside: other settings, to which the first ensemble's photos are protected for comparison.
        fawkes: settings of Fawkes, the baseline, by the row's name.
        fawkes_on: recognisers that Fawkes attacks together.
        gallery_photos: how many of each user's photos stay in the gallery; None for all that `people` chooses. Unlike
            fewer there, this changes neither the users nor their probes.
        seed: of the starting noise.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    people: People
    attackers: tuple[RecognizerName, ...] = tuple(name for name in ZOO if name != OUTSIDE_JUDGE)
    ensembles: dict[str, tuple[RecognizerName, ...]] = {
        "Ensemble": DEFAULT_ENSEMBLE,
        "Ensemble without dlib": tuple(name for name in DEFAULT_ENSEMBLE if name != "dlib-resnet"),
        "Ensemble without FaceRes": tuple(name for name in DEFAULT_ENSEMBLE if name != "faceres"),
    }
    defenders: tuple[DefenderName, ...] = tuple(ZOO)
    attack: LowKey = FAST
    beside: LowKey | None = None
    fawkes: dict[str, Fawkes] = {}
    fawkes_on: tuple[RecognizerName, ...] = DEFAULT_ENSEMBLE
    gallery_photos: int | None = Field(None, ge=1)
    seed: int = 0


CLEAN = "Clean"
"""The row of photos as they were."""


def attackers_of(settings: Transfer) -> dict[str, tuple[str, ...]]:
    """Who is attacked in each row of LowKey, by the row's name."""
    return {name: (name,) for name in settings.attackers} | settings.ensembles


def trials(settings: Transfer) -> list[Row]:
    """One row a trial: photos as they were, Fawkes, each recogniser attacked alone, each ensemble."""
    people = settings.people
    baselines = {
        name: Attack.of(mode, settings.fawkes_on, people, settings.seed) for name, mode in settings.fawkes.items()
    }
    attacks: dict[str, Attack | None] = {CLEAN: None, **baselines} | {
        name: Attack(recognizers=attacked, settings=settings.attack, seed=settings.seed)
        for name, attacked in attackers_of(settings).items()
    }
    if settings.beside is not None and settings.ensembles:
        first, attacked = next(iter(settings.ensembles.items()))
        other = Attack(recognizers=attacked, settings=settings.beside, seed=settings.seed)
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


def by_row(results: Results[Row]) -> list[Measurement]:
    """All measurements, each labelled with its row as the attacker."""
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
    costs = pivot(
        measured, row="attacker", column="cost", title="What the protection costs, ours", unit=_cost_units(measured)
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


def _cost_units(measured: Sequence[Measurement]) -> tuple[Unit, ...]:
    units: Mapping[str, Unit] = {"PSNR": "dB", "SSIM": "ratio", "ΔE": "ΔE", "ΔE, color": "ΔE"}
    return tuple(
        units.get(name, "LPIPS")
        for name in dict.fromkeys(one.labels["cost"] for one in measured if "cost" in one.labels)
    )


def summary(settings: Transfer, results: Results[Row], published: Mapping[str, str]) -> Table:
    """Means over kinds of attacker and defender: what can be compared across different sets of recognisers."""
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
        caption="Means over the cells of the matrices below. Recognisers differ, so cells do not correspond.",
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


def tables(settings: Transfer, results: Results[Row], published: Mapping[str, str]) -> list[Table]:
    """The summary, then our matrices with the published below (`published`: table by our metric)."""
    return [summary(settings, results, published), *matrix_tables(results, published)]


def figures(settings: Transfer, results: Results[Row]) -> list[Figure]:
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
        pictures.append(Figure(f"{metric} accuracy, ours: every defender (columns) against every attack (rows).", svg))
    return pictures


def differences(settings: Transfer) -> list[str]:
    """What differs from section 3.4."""
    said = differences_of(settings.people, settings.attack, settings.gallery_photos)
    return [*said, *(differences_of_fawkes(settings.people) if settings.fawkes else ())]


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


def differences_of(people: People, attack: LowKey, gallery_photos: int | None = None) -> list[str]:
    """What differs from section 3.4 in these people, of whose photos so many stay in the gallery, and this attack."""
    gallery_photos = gallery_photos or people.gallery_photos
    said = [
        "Recognisers: pretrained ones of our zoo, small and made to run anywhere, instead of ResNet and IR networks of "
        "50 and 152 layers trained on MS-Celeb-1M, which we do not have. Some are of one family, so one "
        "that was left out of an ensemble may have a sibling in it.",
    ]
    if (people.protected, gallery_photos, people.probe_photos) != (100, None, None):
        said.append(
            f"People: {people.protected} users, {gallery_photos or 'all'} gallery photos and "
            f"{people.probe_photos or 'a tenth as'} probes each; in section 3.4, which most tables are of, 100 users "
            "and a tenth of their photos as probes."
        )
    if people.data == SYNTHETIC:
        said.append("Data: generated faces, so the figures say nothing of real people.")
    elif people.data not in ("facescrub", "umdfaces"):
        said.append(
            f"Data: {people.data} instead of FaceScrub or UMDFaces. Its gallery is far smaller than their 100,000 "
            "photos and more, so rank 50 is a much larger share of it and the harder test for a protection."
        )
    if attack.step_rule != "sign":
        said.append(
            f"Attack: as `fairveil protect` does it: {attack.steps} steps along the gradient instead of its sign, on "
            "the face alone, with little color."
        )
    elif attack.smoothing != "both" or not attack.mirror:
        said.append("Attack: smoothing in turns and no mirrored face (a quarter of the work), on the face alone.")
    said.append("The commercial services are not run; where published, their figures are shown.")
    return said


def tiny() -> People:
    """A few generated people, for runs that take seconds."""
    return People(
        data=SYNTHETIC,
        protected=2,
        gallery_photos=1,
        probe_photos=1,
        strangers=4,
        photos_of_stranger=1,
        synthetic_size=128,
    )


def rehearsal(settings: Transfer) -> Transfer:
    """The same rows on a few generated faces, one step each."""
    one_step = {"steps": 1}
    return settings.model_copy(
        update={
            "people": tiny(),
            "attack": settings.attack.model_copy(update=one_step),
            "beside": settings.beside and settings.beside.model_copy(update=one_step),
            "fawkes": {name: mode.model_copy(update=one_step) for name, mode in settings.fawkes.items()},
            "gallery_photos": None,
        }
    )


def smoke(attack: LowKey, fawkes: Mapping[str, Fawkes]) -> Transfer:
    """The smallest matrix: one recogniser and an ensemble of two, two steps."""
    two_steps = {"steps": 2}
    return Transfer(
        people=tiny(),
        attackers=("mobilefacenet-192",),
        ensembles={"Ensemble": ("mobilefacenet-192", "mobileface")},
        defenders=("mobilefacenet-192", "mobileface"),
        attack=attack.model_copy(update=two_steps),
        fawkes={name: mode.model_copy(update=two_steps) for name, mode in fawkes.items()},
        fawkes_on=("mobilefacenet-192", "mobileface"),
    )
