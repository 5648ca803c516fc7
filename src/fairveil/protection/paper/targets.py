"""Toward whom Fawkes moves a user's photos: of a few candidates the one farthest from them to recognizers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl
import torch
from torch import Tensor

from fairveil.base.errors import FairveilError
from fairveil.data import FaceTable
from fairveil.experiment.workbench import Workbench
from fairveil.faces.embedding import Embeddings
from fairveil.faces.recognizers import Recognizer
from fairveil.protection.paper.people import People, candidates, embedded


@dataclass(frozen=True, eq=False)
class Target:
    """A photo of somebody else.

    Attributes:
        image: its path in its table.
        features: its unit vector (D,) under each of the recognizers that are attacked.
    """

    image: str
    features: tuple[Tensor, ...]


def targets_of(
    table: FaceTable, recognizers: Sequence[Recognizer], people: People, count: int, bench: Workbench
) -> list[Target | None]:
    """For each photo of a table the photo toward which Fawkes moves it.

    All photos of a person are moved toward one and the same other, since a user whose photos look like one wrong
    person is what Fawkes is after. The person's photos take the other's in turn.

    Args:
        table: photos of the users, as they were.
        recognizers: those that are attacked: they decide who is least like whom.
        people: whose strangers are the candidates, see `candidates`.
        count: how many candidates there are.
        bench: where embeddings are kept.

    Returns:
        A target a row; None for people in none of whose photos a face is found.

    Raises:
        FairveilError: no candidate has a face that is found.
    """
    pool = embedded(candidates(people, count, bench.cache), recognizers, people, bench.cache)
    if not len(pool):
        raise FairveilError(f"There is no face in {people.data} that Fawkes could move photos toward.")
    own = embedded(table, recognizers, people, bench.cache)
    others = _by_person(pool, recognizers)
    centers = torch.stack([features.mean(0) for features in others.values()])
    names = list(others)
    farthest = {
        person: names[least_like(features, centers)] for person, features in _by_person(own, recognizers).items()
    }
    photos = {name: pool.frame.filter(pl.col("identity") == name) for name in set(farthest.values())}
    places = table.frame.select(place=pl.int_range(pl.len()).over("identity"))["place"]
    return [
        _target(photos[farthest[person]], place, recognizers) if person in farthest else None
        for person, place in zip(table.identities, places, strict=True)
    ]


def least_like(own: Tensor, centers: Tensor) -> int:
    """The candidate farthest from a user: argmax_k min_x ‖Φ(x) - C_k‖.

    Args:
        own: features of the user's photos, (N, D); those of several recognizers one behind the other.
        centers: the mean features C_k of each candidate, (K, D).

    >>> least_like(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[0.0, 1.0], [-1.0, 0.0], [1.0, 0.2]]))
    1
    """
    return int(torch.cdist(own, centers).min(0).values.argmax())


def _by_person(embeddings: Embeddings, recognizers: Sequence[Recognizer]) -> Mapping[str, Tensor]:
    """Each person's features, those of all recognizers one behind the other: (photos, D)."""
    features = torch.cat([embeddings.vectors(recognizer.name) for recognizer in recognizers], 1)
    rows: dict[str, list[int]] = {}
    for row, person in enumerate(embeddings.frame["identity"]):
        rows.setdefault(person, []).append(row)
    return {person: features[rows[person]] for person in sorted(rows)}


def _target(photos: pl.DataFrame, place: int, recognizers: Sequence[Recognizer]) -> Target:
    row = photos.row(place % len(photos), named=True)
    return Target(row["image"], tuple(torch.tensor(row[recognizer.name]) for recognizer in recognizers))
