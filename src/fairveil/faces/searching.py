"""Embedded probes looked up in an embedded gallery: how many are found, whom others are taken for, what is near."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape

import polars as pl
import torch
from torch import Tensor

from fairveil.base.differences import ratio
from fairveil.base.errors import FairveilError, clipped, did_you_mean
from fairveil.base.estimate import Estimate
from fairveil.base.rates import MissRate, comparable_rates, match_curve, miss_rate, miss_rates
from fairveil.data.labels import padding_told, tidy_labels
from fairveil.faces.identification import TIE, Neighbors, SearchOutcome, identify, nearest, nearest_labels
from fairveil.faces.vectors import Embeddings

_RANKS = (1, 5, 20)  # of which a search tells when it is printed

_COPY = 0.9999  # the similarity above which two pictures are one


@dataclass(frozen=True)
class Search:
    """Probes and a gallery as one recognizer sees them.

    Attributes:
        recognizer: its name.
        probes: the faces that are looked for.
        gallery: the faces among which they are looked for.
        threshold: the similarity from which the recognizer takes two faces for one person, if known.
        leave_one_out: whether probes and gallery are the same rows; a probe is then left out of its own search.
    """

    recognizer: str
    probes: Embeddings
    gallery: Embeddings
    threshold: float | None = None
    leave_one_out: bool = False

    @property
    def candidates(self) -> int:
        """With how many faces a probe is compared."""
        return len(self.gallery) - self.leave_one_out

    def __str__(self) -> str:
        """How many probes there are, among how many faces, and how many find their person."""
        told = f"{self.recognizer}: {len(self.probes):,} probes, each looked for among {self.candidates:,} faces."
        if not self.labeled or not (found := self.accuracy(_RANKS).get(None)):
            return f"{told} Who is on them is not known on both sides, so nothing is said of right and wrong."
        rates = (f"{rate.value:.1%} [{rate.low:.1%}–{rate.high:.1%}] at rank {k}" for k, rate in found.items())
        return f"{told} The right person is found for {', '.join(rates)}."

    def _repr_html_(self) -> str:
        """The same as notebooks show it, above `to_frame`."""
        return f"<div><p>{escape(str(self))}</p>{self.to_frame()._repr_html_()}</div>"

    def to_frame(self) -> pl.DataFrame:
        """A row for each probe, with the face of the gallery that is nearest to it; see `neighbors`."""
        return self.neighbors(1)

    def neighbors(self, k: int) -> pl.DataFrame:
        """The k faces of the gallery nearest to each probe; all of them if there are fewer.

        Returns:
            A row each, nearest first, equals by the names of their photos: `recognizer`; `probe`, the photo, and
            `probe_face`, which of its faces, from 1; `place`, from 1; `image` and `face` of the gallery; `similarity`;
            `match`, whether that reaches the threshold, null where none is known; and `probe_identity` and `identity`
            where there are any.
        """
        k = min(k, self.candidates)
        found = self._nearest(k)
        probes = _named(self.probes)[torch.arange(len(self.probes)).repeat_interleave(k).numpy()]
        gallery = _named(self.gallery)[found.index.flatten().numpy()]
        similarity = pl.Series("similarity", found.similarity.flatten().numpy())
        place = pl.Series("place", torch.arange(1, k + 1).repeat(len(self.probes)).numpy())
        match = pl.lit(None, pl.Boolean) if self.threshold is None else pl.col("similarity") >= self.threshold
        return (
            probes.rename({"image": "probe"} | {name: f"probe_{name}" for name in probes.columns[1:]})
            .hstack([place, *gallery, similarity])
            .select(pl.lit(self.recognizer).alias("recognizer"), pl.all(), match.alias("match"))
        )

    def _nearest(self, k: int) -> Neighbors:
        """As `identification.nearest`, but of equals the photo whose name comes first, wherever its row is."""
        probes, gallery = self._vectors
        by_name = _named(self.gallery).select(pl.arg_sort_by("image", "face").cast(pl.Int64)).to_series()
        order = by_name.to_torch()
        itself = None if self._itself is None else order.argsort()[self._itself]
        found = nearest(probes, gallery[order], k, exclude=itself)
        similarity = (found.similarity.double() / TIE).round() * TIE
        rows = found.index.argsort(1)
        falling = torch.sort(similarity.gather(1, rows), stable=True, dim=1, descending=True).indices
        place = rows.gather(1, falling)
        return Neighbors(found.similarity.gather(1, place), order[found.index.gather(1, place)])

    @property
    def labeled(self) -> bool:
        """Whether identities are known on both sides, so that right can be told from wrong."""
        return all(bool((people >= 0).any()) for people in self._people)

    @property
    def unlabeled(self) -> int:
        """Probes whose identity is not known; nothing can be said of them but what is near."""
        return len(self.probes) - int(self._labeled.sum())

    @property
    def strangers(self) -> int:
        """Probes whose identity is known and not in the gallery, but for the probe itself."""
        return int((self.outcome.rank == 0).sum())

    @property
    def strangers_told(self) -> str | None:
        """How many probes are of people who are not in the gallery, with names of both sides where they are many."""
        if not self.strangers:
            return None
        told = f"{self.strangers:,} probes are of people who are not in the gallery; they are left out."
        if self.leave_one_out or self.strangers <= len(self.outcome.rank) / 2:
            return told
        probes, gallery = (_identities(side).drop_nulls().unique().sort() for side in (self.probes, self.gallery))
        absent = probes.filter(~probes.is_in(gallery.implode()))
        told += (
            f" Probes are of {_two(absent if len(absent) else probes)}, the gallery has {_two(gallery)}: are people "
            "named alike on both sides?"
        )
        padding = padding_told(probes, gallery)
        return f"{told} {padding}" if padding else told

    @property
    def copied(self) -> Tensor:
        """Which labeled probes have the very same picture of their person in the gallery, by the recognizer: (P,)."""
        return self.outcome.mate > _COPY

    @property
    def copies(self) -> int:
        """How many these are."""
        return int(self.copied.sum())

    @property
    def renamed_copies(self) -> int:
        """Labeled probes of which the gallery has the very same picture as somebody else: a label may be wrong."""
        return int((self.outcome.other > _COPY).sum())

    @property
    def tied(self) -> int:
        """Labeled probes whose nearest own photo is as similar as one of somebody else, see `SearchOutcome.rank`."""
        return int(((self.outcome.tied > 0) & (self.outcome.rank > 0)).sum())

    @property
    def collapsed(self) -> bool:
        """Whether most faces have somebody else's face that the recognizer cannot tell from them at all.

        No test set has so many wrong labels: the network has collapsed, or was fed or read wrongly.
        """
        return self.renamed_copies > len(self.outcome.rank) / 2

    @property
    def probe_people(self) -> Tensor:
        """The identities of the labeled probes as numbers, in the order of `outcome`: (P,), int64."""
        return self._people[0][self._labeled]

    def probe_groups(self, group: str) -> pl.Series:
        """The values of a group column of the labeled probes, in the order of `outcome`.

        Raises:
            FairveilError: the probes have no such column.
        """
        return _group(self.probes, group, "probes").filter(_mask(self._labeled))

    @cached_property
    def outcome(self) -> SearchOutcome:
        """How each probe whose identity is known fared; see `identify`.

        Raises:
            FairveilError: no identities are known on one of the sides.
        """
        for side, people in zip(("probes", "gallery"), self._people, strict=True):
            if not bool((people >= 0).any()):
                raise FairveilError(f"No identities are known of the {side}, so nobody could tell right from wrong.")
        return identify(*self._asked, exclude=self._asked_rows)[0]

    def accuracy(self, ranks: Sequence[int], *, group: str | None = None) -> dict[str | None, dict[int, Estimate]]:
        """Rank-k accuracy for every k: of all probes (None), and of each value of a group column of theirs.

        Probes whose identity is not in the gallery are left out, and so are groups without any other, or all of it.

        Raises:
            FairveilError: as `outcome`, or the probes have no such column.
        """
        rank, people = self.outcome.rank, self.probe_people
        return {
            value: match_curve(rank[part], ranks, people[part])
            for value, part in self._parts(group).items()
            if bool((rank[part] > 0).any())
        }

    def comparable_errors(self, k: int, group: str) -> dict[str, Estimate]:
        """Of each value of a group column, how many probes lack their person among the k nearest; in rising order.

        The intervals hold for all comparisons of groups at once, see `comparable_rates`.

        Raises:
            FairveilError: as `accuracy`.
        """
        rank, people = self.outcome.rank, self.probe_people
        counts = {}
        for value, part in self._parts(group).items():
            enrolled = part & (rank > 0)
            if value is not None and bool(enrolled.any()):
                person = torch.unique(people[enrolled], return_inverse=True)[1]
                counts[value] = torch.bincount(person, (rank[enrolled] > k).double()), torch.bincount(person)
        rates = comparable_rates(counts)
        return dict(sorted(rates.items(), key=lambda one: one[1].value))

    def error_ratio(self, k: int, group: str) -> tuple[str, str, Estimate] | None:
        """How many times as often the group with most errors at rank k errs as the one with fewest.

        Returns:
            The two groups and the ratio of their errors, the shares of probes whose person is not among the k nearest;
            None if there are no two groups. The groups are picked by looking at the errors, for which the interval is
            made wider: see `comparable_errors`.

        Raises:
            FairveilError: as `accuracy`.
        """
        errors = self.comparable_errors(k, group)
        if len(errors) < 2:
            return None
        fewest, *_, most = errors
        return most, fewest, ratio(errors[most], errors[fewest])

    def miss_rates(
        self, fpirs: Sequence[float], *, group: str | None = None
    ) -> dict[str | None, dict[float, MissRate]]:
        """FNIR and FPIR of all probes (None) and of each value of a group column, all at the same thresholds.

        The thresholds are those at which all searches together have the FPIR that was asked for. Rates for which there
        are too few probes are left out, and so is everything where a probe's person is alone in the gallery, and a
        group of whom nobody is in it. See `rates.miss_rates`.

        Raises:
            FairveilError: as `accuracy`.
        """
        outcome, parts = self.outcome, self._parts(group)
        found: dict[str | None, dict[float, MissRate]] = {}
        if not self._open_set(parts[None]):
            return found
        for fpir in self._possible(fpirs, parts[None]):
            rates = miss_rates(outcome.mate, outcome.other, self.probe_people, fpir, parts)
            for value, one in rates.items():
                found.setdefault(value, {})[fpir] = one
        return found

    def own_miss_rates(self, fpirs: Sequence[float], *, group: str) -> dict[str, dict[float, MissRate]]:
        """FNIR of each value of a group column at thresholds of its own, at which it has the FPIR asked for.

        No system works like that: it would have to know the group before it knows the person. It shows by how much a
        common threshold is not the one that suits a group. Rates for which a group has too few probes are left out.

        Raises:
            FairveilError: as `accuracy`.
        """
        outcome, people = self.outcome, self.probe_people
        return {
            value: {
                fpir: miss_rate(outcome.mate[part], outcome.other[part], people[part], fpir)
                for fpir in self._possible(fpirs, part)
            }
            for value, part in self._parts(group).items()
            if value is not None and self._open_set(part)
        }

    def _open_set(self, part: Tensor) -> bool:
        """Whether some of these probes could be missed, and all of them could find somebody wrong."""
        return bool((self.outcome.mate[part] > -torch.inf).any()) and bool(
            (self.outcome.other[part] > -torch.inf).all()
        )

    @staticmethod
    def _possible(fpirs: Sequence[float], part: Tensor) -> list[float]:
        """The false positive rates for which these probes are enough."""
        searches = int(part.sum())
        return [fpir for fpir in fpirs if 1 <= fpir * searches < searches]

    def wrong_matches(self, group: str) -> pl.DataFrame:
        """From which group the nearest face is, for probes that are in the gallery and find someone else first.

        Returns:
            `probes`, `gallery` and `count`: values of the group column, null where unknown, and how often; where
            several faces are equally near, each counts for its share.

        Raises:
            FairveilError: as `outcome`, or one of the sides has no such column.
        """
        wrong = (self.outcome.rank > 1).nonzero().flatten()
        probes, gallery = self.probe_groups(group)[wrong.numpy()], _group(self.gallery, group, "gallery")
        values = gallery.unique().sort(nulls_last=True).to_list()
        numbers = {value: number for number, value in enumerate(values)}
        labels = torch.tensor([numbers[value] for value in gallery])
        shares = nearest_labels(
            self.outcome, wrong, labels, len(values), *self._asked, exclude=self._asked_rows
        ).numpy()
        rows = []
        for mine in probes.unique().sort(nulls_last=True):
            counts = shares[probes.eq_missing(mine).to_numpy()].sum(0).round(6)
            rows += [(mine, value, float(count)) for value, count in zip(values, counts, strict=True) if count]
        schema = {"probes": pl.String, "gallery": pl.String, "count": pl.Float64}
        return pl.DataFrame(rows, schema=schema, orient="row")

    def _parts(self, group: str | None) -> dict[str | None, Tensor]:
        """Which labeled probes are of each value of a group column, after all of them (None): (P,), bool."""
        everybody = torch.ones(int(self._labeled.sum()), dtype=torch.bool)
        parts: dict[str | None, Tensor] = {None: everybody}
        if group is not None:
            values = self.probe_groups(group)
            for value in values.drop_nulls().unique().sort():
                parts[str(value)] = torch.tensor(values.eq_missing(value).to_list())
        return parts

    @property
    def _vectors(self) -> tuple[Tensor, Tensor]:
        return self.probes.vectors(self.recognizer), self.gallery.vectors(self.recognizer)

    @property
    def _asked(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What `identify` is given: labeled probes and the gallery, and whose they are."""
        probes, gallery = self._vectors
        return probes[self._labeled], gallery, self._people[0][self._labeled], self._people[1]

    @property
    def _asked_rows(self) -> Tensor | None:
        return None if self._itself is None else self._itself[self._labeled]

    @property
    def _itself(self) -> Tensor | None:
        return torch.arange(len(self.probes)) if self.leave_one_out else None

    @cached_property
    def _people(self) -> tuple[Tensor, Tensor]:
        """The identities of probes and gallery as numbers, -1 where unknown: (P,) and (N,), int64."""
        names = [_identities(side) for side in (self.probes, self.gallery)]
        numbers = pl.concat(names).rank("dense").cast(pl.Int64).fill_null(-1).to_numpy(writable=True)
        return torch.from_numpy(numbers[: len(self.probes)]), torch.from_numpy(numbers[len(self.probes) :])

    @property
    def _labeled(self) -> Tensor:
        return self._people[0] >= 0


def searches(probes: Embeddings, gallery: Embeddings, *, leave_one_out: bool = False) -> list[Search]:
    """The searches of all recognizers that embedded both sides.

    Args:
        probes: the faces that are looked for.
        gallery: the faces among which they are looked for.
        leave_one_out: whether these are the same rows, and no face is to find itself.

    Raises:
        FairveilError: no recognizer embedded both, one of them is another network on one side than on the other or
            gives another number of dimensions, or there is nothing to compare a probe with.
    """
    common = [name for name in probes.recognizers if name in gallery.recognizers]
    if not common:
        raise FairveilError(
            f"The probes are embedded by {', '.join(probes.recognizers)} and the gallery by "
            f"{', '.join(gallery.recognizers)}: embed both with the same recognizer."
        )
    if leave_one_out and len(gallery) < 2:
        raise FairveilError("There is only one face, so there are no others to look for it among.")
    thresholds: dict[str, float] = {}
    networks: list[dict[str, str]] = []
    for side in (gallery, probes):
        if side.provenance:
            thresholds |= side.provenance.thresholds
            networks.append(side.provenance.recognizers)
    for name in common:
        if len({known[name] for known in networks if name in known}) > 1:
            raise FairveilError(
                f"The {name} that embedded the probes is not the {name} that embedded the gallery: embed one of them "
                "anew."
            )
    return [Search(name, probes, gallery, thresholds.get(name), leave_one_out) for name in common]


def _named(side: Embeddings) -> pl.DataFrame:
    """`image`, `face` (which of the photo's faces, from 1) and, if there are any, `identity`."""
    identity = ["identity"] if "identity" in side.frame.columns else []
    return side.frame.select("image", (pl.int_range(pl.len()).over("image") + 1).alias("face"), *identity)


def _identities(side: Embeddings) -> pl.Series:
    if "identity" not in side.frame.columns:
        return pl.Series("identity", [None] * len(side), dtype=pl.String)
    return tidy_labels(side.frame["identity"])


def _two(names: pl.Series) -> str:
    return " and ".join(repr(clipped(name, 60)) for name in names.head(2))


def _group(side: Embeddings, group: str, what: str) -> pl.Series:
    if group not in side.groups:
        hint = did_you_mean(group, side.groups)
        raise FairveilError(f"The {what} have no groups {group!r}.{hint} They have {', '.join(side.groups) or 'none'}.")
    return tidy_labels(side.frame[group])


def _mask(rows: Tensor) -> pl.Series:
    return pl.Series(rows.numpy())
