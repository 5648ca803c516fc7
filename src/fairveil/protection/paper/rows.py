"""One row of a table: photos protected in one way, and how often each defender still finds their owners."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from statistics import fmean

import polars as pl
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from fairveil.base.rates import rank_accuracy
from fairveil.data import FaceTable
from fairveil.experiment.study import Measurement, Trial
from fairveil.experiment.workbench import Workbench
from fairveil.faces.embedding import Embeddings
from fairveil.faces.identification import identify
from fairveil.faces.recognizers import Recognizer
from fairveil.faces.zoo import load_recognizer
from fairveil.protection.paper.adapted import undo
from fairveil.protection.paper.aligners import Aligner
from fairveil.protection.paper.defenders import find_defender
from fairveil.protection.paper.people import People, altered, cast, embedded
from fairveil.protection.paper.protected import GalleryAttack, costs_of, protected_photos, qualities
from fairveil.protection.paper.purified import purified_photos, purifier
from fairveil.protection.paper.retrained import HELD, retrained

RANKS = (1, 50)
"""The ranks of the dissertation's tables."""

GALLERY_SHARES = (0.01, 0.05)
"""Ranks as shares of the gallery: rank 50 of a small gallery says little, since 50 photos may be a large part of it."""

_CLEAN = " as it was"  # what follows a recognizer's name in the column of embeddings before protection


class Treatment(BaseModel):
    """What happens to protected photos and others before somebody looks for their owners, and who looks how.

    Attributes:
        saved: what happens to the protected photos before they are in the gallery, one of `ALTERATIONS`.
        preprocessing: what the defender does to every photo, one of `ALTERATIONS`.
        probes: what happens to the probes, one of `ALTERATIONS`.
        probes_protected: whether the users protect their probes as well.
        gallery_protected: whether they protect their gallery photos.
        old_photos: how many of each user's gallery photos are older than the protection and stay as they were.
        adapted_on: on how many strangers' photos, which it protects itself, every defender learns to undo the attack
            by a layer behind its network. It knows the users' ensemble, settings and seed, the most it could know.
        retrained_on: on how many it learns to see through the attack by training its whole network.
        gallery_photos: how many of each user's gallery photos stay there; None for all.
        purified_on: on how many strangers' photos, which it protects itself, a defender trains a network that gives
            faces back as they were. Every photo then goes through it before it is looked at.
        aligner: how defenders align faces.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    saved: str = "none"
    preprocessing: str = "none"
    probes: str = "none"
    probes_protected: bool = False
    adapted_on: int = Field(0, ge=0)
    # Settings that came later are written only where they are not the default, so that older records stay valid.
    retrained_on: int = Field(0, ge=0, exclude_if=lambda count: count == 0)
    gallery_photos: int | None = Field(None, ge=1, exclude_if=lambda count: count is None)
    gallery_protected: bool = Field(True, exclude_if=lambda protected: protected)
    old_photos: int = Field(0, ge=0, exclude_if=lambda count: count == 0)
    purified_on: int = Field(0, ge=0, exclude_if=lambda count: count == 0)
    aligner: Aligner = Field("landmarks", exclude_if=lambda aligner: aligner == "landmarks")


class Row(Treatment, Trial):
    """One way to protect photos, and everything that decides who is still found; see `Treatment`.

    Attributes:
        name: of the row in its table.
        people: who is protected, among whom.
        attack: how; None for photos as they were.
        defenders: who looks for the users: names of recognizers, or of a `Defender` as `package.module:NAME`.
    """

    name: str
    people: People
    attack: GalleryAttack | None
    defenders: tuple[str, ...]

    @property
    def label(self) -> str:
        """The row's name."""
        return self.name


def run_row(row: Row, bench: Workbench) -> list[Measurement]:
    """Protect the users' gallery photos, and let every defender look for the probes' owners (section 3.4).

    Every user's gallery photos are protected, the strangers' are as they were. A probe whose face is not found counts
    as one whose owner is not found; a gallery photo whose face is not found is not in the gallery.

    Returns:
        For each defender the share of probes whose owner is among the k nearest photos of the gallery, for the ranks
        of the dissertation and for shares of the gallery, of all users and by group; and what the protection cost.
    """
    people, cache = row.people, bench.cache
    services = {name: find_defender(name) for name in row.defenders if ":" in name}
    recognizers = [load_recognizer(name).to(bench.device) for name in row.defenders if name not in services]
    chosen = cast(people, cache)
    kept, probes = _at_most(chosen.protected, row.gallery_photos), chosen.probes
    in_gallery = kept
    costs: list[Measurement] = []
    if row.attack is not None:
        with bench.timed("protect"):
            after = protected_photos(kept, row.attack, people.faces, bench)
            if row.gallery_protected:
                in_gallery = _without_first(after, row.old_photos)
            if row.probes_protected:
                probes = protected_photos(chosen.probes, row.attack, people.faces, bench)
        with bench.timed("compare"):
            costs = [
                Measurement(labels={"cost": name}, value=fmean(values), count=len(values))
                for name, values in costs_of(qualities(kept, after, people.faces)).items()
                if values
            ]
    others = chosen.strangers
    if row.old_photos:
        old = _at_most(kept, row.old_photos)
        others = replace(others, frame=pl.concat([others.frame, old.frame]))
    tables = [
        altered(in_gallery, (row.saved, row.preprocessing)),
        altered(others, (row.preprocessing,)),
        altered(probes, (row.probes, row.preprocessing)),
    ]
    if row.attack is not None and row.purified_on:
        tables = _purified(row, row.attack, tables, chosen.strangers, bench)
    measurements: list[Measurement] = []
    if recognizers:
        measurements += _recognized(row, tables, recognizers, chosen.strangers, bench)
    for name, service in services.items():
        with bench.timed("services"):
            rank = torch.tensor(service.ranks(tables[:2], tables[2]))
        gallery = len(tables[0]) + len(tables[1])
        numbers = {identity: number for number, identity in enumerate(dict.fromkeys(probes.identities))}
        identities = torch.tensor([numbers[identity] for identity in probes.identities])
        groups = _groups(probes.frame, probes.groups)
        measurements += _shares(name, rank.where(rank > 0, gallery + 1), identities, groups, gallery)
    return measurements + costs


def _recognized(
    row: Row, tables: Sequence[FaceTable], recognizers: Sequence[Recognizer], strangers: FaceTable, bench: Workbench
) -> list[Measurement]:
    """The rates of every recognizer on the tables of users, strangers and probes."""
    if row.attack is not None and row.retrained_on:
        own = strangers.take(range(min(row.retrained_on, len(strangers))))
        rest = strangers.take(range(len(own), min(len(own) + HELD, len(strangers))))
        with bench.timed("protect for retraining"):
            photos = protected_photos(own, row.attack, row.people.faces, bench)
        with bench.timed("retrain"):
            seen = altered(photos, (row.preprocessing,))
            recognizers = [retrained(one, own, seen, rest, row.people.faces, bench.cache) for one in recognizers]
    with bench.timed("embed"):
        users, others, probes = (embedded(table, recognizers, row.people, bench.cache, row.aligner) for table in tables)
    missing = _without_face(tables[2], probes)
    pairs = None
    if row.attack is not None and row.adapted_on:
        with bench.timed("protect for adapting"):
            pairs = _embeddings_to_adapt_on(row, row.attack, strangers, others, recognizers, bench)
    measurements: list[Measurement] = []
    for recognizer in recognizers:
        views = [faces.vectors(recognizer.name) for faces in (users, others, probes)]
        if pairs is not None:
            with bench.timed("adapt"):
                columns = (f"{recognizer.name}{_CLEAN}", recognizer.name)
                back = undo(*(torch.from_numpy(pairs[column].to_numpy(writable=True)) for column in columns))
                views = [back(vectors) for vectors in views]
        with bench.timed("identify"):
            measurements += _rates(recognizer.name, users, others, probes, views, missing)
    return measurements


def _purified(
    row: Row, attack: GalleryAttack, tables: Sequence[FaceTable], strangers: FaceTable, bench: Workbench
) -> list[FaceTable]:
    """The tables as a purifier leaves their photos; it is trained on strangers, by the recognizers of the attack."""
    own = strangers.take(range(min(row.purified_on, len(strangers))))
    with bench.timed("protect for purifying"):
        photos = protected_photos(own, attack, row.people.faces, bench)
    with bench.timed("train a purifier"):
        known = [load_recognizer(name) for name in attack.recognizers]
        seen = altered(photos, (row.preprocessing,))
        network = purifier(own, seen, known, row.people.faces, bench.cache)
    with bench.timed("purify"):
        return [purified_photos(table, network, row.people.faces, bench.cache) for table in tables]


def _at_most(table: FaceTable, count: int | None) -> FaceTable:
    """The first photos of each identity."""
    return table if count is None else table.filter(pl.int_range(pl.len()).over("identity") < count)


def _without_first(table: FaceTable, count: int) -> FaceTable:
    """All photos but the first of each identity."""
    return table.filter(pl.int_range(pl.len()).over("identity") >= count) if count else table


def _embeddings_to_adapt_on(
    row: Row,
    attack: GalleryAttack,
    table: FaceTable,
    clean: Embeddings,
    recognizers: Sequence[Recognizer],
    bench: Workbench,
) -> pl.DataFrame:
    """Embeddings of strangers as a defender who has LowKey too protected them, and beside them as they were."""
    own = table.take(range(min(row.adapted_on, len(table))))
    photos = protected_photos(own, attack, row.people.faces, bench)
    protected = embedded(altered(photos, (row.preprocessing,)), recognizers, row.people, bench.cache)
    names = dict(zip(photos.frame["image"], own.frame["image"], strict=True))
    before = clean.frame.select("image", *(recognizer.name for recognizer in recognizers))
    return protected.frame.with_columns(pl.col("image").replace_strict(names)).join(before, on="image", suffix=_CLEAN)


def _without_face(probes: FaceTable, embeddings: Embeddings) -> pl.DataFrame:
    """The probes in which no face was found."""
    return probes.frame.filter(~pl.col("image").is_in(embeddings.frame["image"].implode()))


def _rates(
    defender: str,
    users: Embeddings,
    strangers: Embeddings,
    probes: Embeddings,
    views: Sequence[Tensor],
    missing: pl.DataFrame,
) -> Iterator[Measurement]:
    """The rates of one defender, from what it sees of users, strangers and probes: three tensors (N, D)."""
    gallery = torch.cat([views[0], views[1]])
    names = [*users.frame["identity"], *strangers.frame["identity"]]
    columns = ("identity", *probes.groups)
    everybody = pl.concat([probes.frame.select(columns), missing.select(columns)])
    wanted = [*everybody["identity"]]
    numbers = {name: number for number, name in enumerate(dict.fromkeys([*names, *wanted]))}
    outcome = identify(
        views[2],
        gallery,
        torch.tensor([numbers[name] for name in probes.frame["identity"]]),
        torch.tensor([numbers[name] for name in names]),
    )[0]
    # Whoever has no photo left in the gallery, or no face in the probe, cannot be found: a rank beyond all others.
    beyond = len(gallery) + 1
    rank = torch.cat([outcome.rank.where(outcome.rank > 0, beyond), torch.full((len(missing),), beyond)])
    identities = torch.tensor([numbers[name] for name in wanted])
    groups = _groups(everybody, probes.groups)
    yield from _shares(defender, rank, identities, groups, len(gallery))


def _shares(
    defender: str, rank: Tensor, identities: Tensor, groups: Mapping[str, Tensor], gallery: int
) -> Iterator[Measurement]:
    """Rank-k accuracy by rank and group, from ranks (P,), identities (P,) and who is of which group, (P,) each."""
    for group, members in groups.items():
        for metric, k in ranks_of(gallery).items():
            yield Measurement.of(
                {"defender": defender, "metric": metric, "k": str(k), "gallery": str(gallery), "group": group},
                rank_accuracy(rank[members], k, identities[members]),
            )


def ranks_of(gallery: int) -> dict[str, int]:
    """The ranks that are reported of a gallery of so many photos, by their names.

    >>> ranks_of(4000)
    {'rank-1': 1, 'rank-50': 50, 'rank-1 %': 40, 'rank-5 %': 200}
    """
    return {f"rank-{k}": k for k in RANKS} | {
        f"rank-{share:.0%}".replace("%", " %"): max(1, round(share * gallery)) for share in GALLERY_SHARES
    }


def _groups(probes: pl.DataFrame, columns: Sequence[str]) -> dict[str, Tensor]:
    """Which probes count for all, and for every value of every group column."""
    groups = {"all": torch.ones(len(probes), dtype=torch.bool)}
    for column in columns:
        for value in probes[column].drop_nulls().unique().sort():
            members = (probes[column] == value).fill_null(False)
            groups[f"{column}: {value}"] = torch.tensor(members.to_list(), dtype=torch.bool)
    return groups
