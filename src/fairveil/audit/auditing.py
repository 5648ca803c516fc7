"""The audit of a face identification system: what it errs on, for whom, and how far that is the test set's doing."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from functools import cached_property, partial
from typing import Any

import numpy as np
import polars as pl
import torch
from fairlearn.metrics import MetricFrame
from numpy.typing import NDArray
from torch import Tensor

from fairveil.audit.bias import SEEDS, FairPoint, Response, respond, worst_and_best
from fairveil.audit.imbalance import PARTS, Kind, Shares, check_names, largest, sweep
from fairveil.audit.power import correlation_within, ratio_visible
from fairveil.audit.searches import certain_told, possible_ranks
from fairveil.base.comparisons import pairs_confidence
from fairveil.base.differences import ratio
from fairveil.base.errors import FairveilError
from fairveil.base.estimate import Estimate
from fairveil.base.rates import rank_accuracy
from fairveil.data.labels import padding_told, tidy_columns
from fairveil.data.population import Population, is_groups, one_group_each
from fairveil.faces.searching import Search, searches
from fairveil.faces.vectors import Embeddings
from fairveil.report.display import DisplayMixin

RANKS = (1, 5, 20)
"""The k of rank-k that are reported unless others are asked for."""

_NEARLY = 0.005  # shares nearer to equal ones than a percent can be rounded are equal

_PERCENT = 100  # shares of a train set are taken to whole per cents, so that sets of whole people can have them


@dataclass(frozen=True)
class GroupComposition:
    """What there is of one group.

    Attributes:
        identities: people.
        images: of them, with a face that was embedded.
        mates: how many other images of its person a probe has, on average: what makes it easy to find.
        lone: people of one image, of whom nobody can be looked for.
        copies: images with a copy of themselves among the others of the same person.
        without_face: images in which no face was found, or that could not be read; None where nobody knows.
    """

    identities: int
    images: int
    mates: float
    lone: int
    copies: int
    without_face: int | None


@dataclass(frozen=True)
class Curve:
    """How errors respond to the make-up of the gallery, in identities or in images.

    Attributes:
        kind: of which groups have unequal shares.
        focus: the group whose share rises.
        shares: of it, in [0, 1], one for each make-up.
        response: what was found.
        fair_point: where the two groups that are compared are missed equally often.
    """

    kind: Kind
    focus: str
    shares: tuple[float, ...]
    response: Response
    fair_point: FairPoint


@dataclass(frozen=True)
class MaskedBias:
    """The error ratio on a test set made up like the train set, beside the one on a balanced gallery (section 5.6).

    Attributes:
        train: shares of the train set.
        stated: whether these were given; else they are those of the audited data, as after a random split.
        response: to two make-ups, the balanced one first; both have the same totals.
        versus: the groups whose errors are set in relation.
    """

    train: Shares
    stated: bool
    response: Response
    versus: tuple[str, str]

    @property
    def balanced(self) -> Estimate | None:
        """The error ratio on a balanced gallery."""
        return self.response.error_ratio(0, self.versus)

    @property
    def matched(self) -> Estimate | None:
        """The error ratio on a gallery made up like the train set."""
        return self.response.error_ratio(1, self.versus)

    @cached_property
    def change(self) -> Estimate | None:
        """How many times the balanced ratio the matched one is, on the same people."""
        return self.response.ratio_change(1, 0, self.versus)

    @property
    def whose(self) -> str:
        """Whose make-up the matched gallery has: that of a train set only if somebody named one."""
        return "the train set" if self.stated else "these data"

    @property
    def warning(self) -> str | None:
        """What an audit on a test set like the train set would get wrong; None if it could not be told to do so."""
        balanced, matched, change = self.balanced, self.matched, self.change
        if balanced is None or matched is None or change is None:
            return None
        if not (balanced.value > 0 and matched.value > 0 and change.excludes(1)):
            return None
        crosses = (balanced.value - 1) * (matched.value - 1) < 0
        less = abs(np.log(matched.value)) < abs(np.log(balanced.value))
        if balanced.excludes(1) and less:
            what = "hides bias"
        elif balanced.excludes(1) and not crosses:
            what = "exaggerates bias"
        elif balanced.excludes(1) and matched.excludes(1):
            what = "turns the ratio of errors round"
        else:  # which of the two groups is worse off cannot be told of one of the two
            what = "shows another ratio of errors"
        return (
            f"A test set made up like {self.whose} {what}: on it {self.versus[0]} is missed {matched.value:.2f} times "
            f"as often as {self.versus[1]}, on a balanced gallery {balanced.value:.2f} times "
            f"(the one is {change.value:.2f} [{change.low:.2f}–{change.high:.2f}] times the other, people redrawn "
            "together)."
        )


@dataclass(frozen=True)
class Audit(DisplayMixin):
    """What was found of one recognizer.

    Attributes:
        search: every labeled face looked for among all the others.
        column: what the groups are of.
        ranks: the k that are reported.
        groups: what there is of each group that is compared.
        left_out: what is not compared, and why, in sentences.
        metrics: rank-k accuracy, the ends of its interval, probes and identities by group, for one's own notebook.
        versus: the group missed most often and the one missed least, on a balanced gallery where one can be drawn.
        curves: by kind of imbalance, as far as the data can give it.
        without_curve: why there is no curve, by kind.
        masked: the check against a test set made up like the train set, or like these data; None where there is none.
        without_masked: why, in a sentence.
        correlation: within identities, of rank-1 errors (see `power`); None where it cannot be told.
        draws: galleries of each make-up.
    """

    search: Search
    column: str
    ranks: tuple[int, ...]
    groups: Mapping[str, GroupComposition]
    left_out: tuple[str, ...]
    metrics: MetricFrame
    versus: tuple[str, str]
    curves: Mapping[Kind, Curve]
    without_curve: Mapping[Kind, str]
    masked: MaskedBias | None
    without_masked: str | None
    correlation: float | None
    draws: int

    @property
    def recognizer(self) -> str:
        """Its name."""
        return self.search.recognizer

    def accuracy(self, group: str, k: int) -> Estimate:
        """Rank-k accuracy of a group among all labeled faces, as in `metrics`."""
        return rate_of(self.metrics.by_group.loc[group], k)

    @property
    def error_ratio(self) -> Estimate:
        """How many times as often the first group of `versus` is missed as the second, among all labeled faces.

        The interval holds for all pairs of groups at once, see `comparable_rates`.
        """
        errors = self.search.comparable_errors(1, self.column)
        return ratio(*(errors[group] for group in self.versus))

    @property
    def visible_ratio(self) -> float | None:
        """The smallest ratio that four of five audits like this one would tell from 1; see `ratio_visible`."""
        return ratio_visible(self.error_ratio, confidence=pairs_confidence(len(self.groups)))

    def _rows(self) -> Iterator[dict[str, Any]]:
        for group in self.metrics.by_group.index:
            for k in self.ranks:
                yield {"group": group, "rank": k, **asdict(self.accuracy(group, k))}


def rate_of(row: Mapping[str, float], k: int) -> Estimate:
    """Rank-k accuracy out of a row of `metric_frame`, of its `by_group`, say."""
    value, low, high = (float(row[f"rank-{k}{end}"]) for end in ("", " low", " high"))
    return Estimate(value, low, high, int(row["identities"]), "people", "Wilson", int(row["probes"]))


def metric_frame(search: Search, column: str, ranks: Sequence[int] = RANKS) -> MetricFrame:
    """Rank-k accuracy by group as fairlearn's `MetricFrame`, with which auditors can go on.

    Its metrics are "rank-1", "rank-1 low" and "rank-1 high" (the 95 % interval that takes identities for the sample),
    likewise for the other ranks, "probes" and "identities". Probes without a mate or a group are left out.

    Raises:
        FairveilError: nobody could be found, as no identity has two faces.
    """
    outcome, people = search.outcome, search.probe_people
    values = search.probe_groups(column)
    rows = (outcome.rank > 0) & torch.tensor(values.is_not_null().to_list())
    if not bool(rows.any()):
        raise FairveilError("No identity with a group has two faces, so nobody could be found among the others.")
    rank, who = outcome.rank[rows].numpy(), people[rows].numpy()
    metrics: dict[str, Callable[..., float]] = {}
    for k in ranks:
        for end in ("value", "low", "high"):
            metrics[f"rank-{k}" + ("" if end == "value" else f" {end}")] = partial(_rank_accuracy, k=k, end=end)
    metrics |= {"probes": _probes, "identities": _identities}
    return MetricFrame(
        metrics=metrics,
        y_true=who,
        y_pred=rank,
        sensitive_features={column: values.filter(pl.Series(rows.numpy())).to_list()},
    )


def audit(
    vectors: Tensor | NDArray[np.floating[Any]],
    identities: Iterable[object],
    groups: Iterable[object],
    *,
    column: str = "group",
    recognizer: str = "vectors",
    ranks: Sequence[int] = RANKS,
    seeds: int = SEEDS,
    train: Shares | None = None,
) -> Audit:
    """Audit a recognizer by the vectors that it gave: what the command `fairveil audit` does, without files.

    Args:
        vectors: one for each face, floating-point numbers, (N, D); they are brought to unit length.
        identities: whose face each is, N names or numbers; None where that is not known.
        groups: of which group the person is, N names or numbers; None where that is not known.
        column: what the groups are of, such as "gender".
        recognizer: what the recognizer is to be called.
        ranks: the k of rank-k.
        seeds: how many galleries are drawn of each make-up.
        train: how the recognizer's train set is made up, where that is known.

    Raises:
        FairveilError: there are not as many labels as vectors, a vector is not finite or zero, or as
            `audit_embeddings`.

    >>> people = [f"person {number}" for number in range(8) for photo in range(3)]
    >>> groups = ["left" if number % 2 else "right" for number in range(8) for photo in range(3)]
    >>> vectors = torch.randn(24, 16, generator=torch.Generator().manual_seed(0))
    >>> found = audit(vectors, people, groups, column="side", ranks=(1, 5), seeds=2)
    >>> found.to_frame()["group"].to_list()  # a row for each rank
    ['left', 'left', 'right', 'right']
    """
    faces = Embeddings.of_vectors(vectors, {"identity": identities, column: groups}, recognizer=recognizer)
    return audit_embeddings(faces, column, ranks=ranks, seeds=seeds, train=train)


def audit_embeddings(
    embeddings: Embeddings,
    column: str,
    *,
    recognizer: str | None = None,
    ranks: Sequence[int] = RANKS,
    seeds: int = SEEDS,
    train: Shares | None = None,
    without_face: Mapping[str, int] | None = None,
) -> Audit:
    """Audit a recognizer on a table of labeled faces, such as `fairveil.faces.embed_faces` makes.

    Args:
        embeddings: of faces with `identity` and the column of groups.
        column: what the groups are of, such as "gender".
        recognizer: whose embeddings, where there are several.
        ranks: the k of rank-k.
        seeds: how many galleries are drawn of each make-up.
        train: how the recognizer's train set is made up, where that is known; by default like the audited data.
        without_face: images without an embedded face by group, where that is known (failure to enrol).

    Raises:
        FairveilError: there are no identities or groups, fewer than two groups have two people with two images,
            embeddings are missing (see `Population.of`, `Embeddings.vectors`), or every face has the vector of
            somebody else's too.
    """
    _check_numbers(ranks, seeds)
    name = recognizer or (embeddings.recognizers[0] if len(embeddings.recognizers) == 1 else None)
    embeddings.vectors(name)  # refuses a recognizer that is not there, or none named of several
    labeled, left_out = _labeled(embeddings, column)
    population = Population.of(labeled.frame, column)
    if train is not None:
        check_names(population.groups, train.identities, column)
    search = next(s for s in searches(labeled, labeled, leave_one_out=True) if s.recognizer == (name or s.recognizer))
    if search.renamed_copies == len(search.outcome.rank):
        raise FairveilError(
            f"{search.recognizer} cannot be audited: it gives every face the vector of somebody else's face too (a "
            "cosine similarity of 1). The model has collapsed, or its vectors were made or read wrongly: check input "
            "and output. The labels have nothing to do with it."
        )
    left_out = (*left_out, *certain_told(search, ranks))
    ranks = possible_ranks(search, ranks)
    metrics = metric_frame(search, column, sorted({1, *ranks}))
    vectors = labeled.vectors(search.recognizer)
    versus = _versus(vectors, population, metrics, seeds)
    curves: dict[Kind, Curve] = {}
    without_curve: dict[Kind, str] = {}
    for kind in PARTS:
        try:
            curves[kind] = _curve(vectors, population, kind, versus, seeds)
        except FairveilError as reason:
            without_curve[kind] = str(reason)
    masked, without_masked = _masked(vectors, population, versus, train, seeds)
    errors, probes = _by_identity(search)
    correlation = correlation_within(errors, probes)
    return Audit(
        search=search,
        column=column,
        ranks=tuple(ranks),
        groups=_groups(population, search, without_face or {}, known=without_face is not None),
        left_out=left_out,
        metrics=metrics,
        versus=versus,
        curves=curves,
        without_curve=without_curve,
        masked=masked,
        without_masked=without_masked,
        correlation=correlation,
        draws=seeds,
    )


def _check_numbers(ranks: Sequence[int], seeds: int) -> None:
    """Refuse ranks and draws that mean nothing."""
    whole = isinstance(ranks, Sequence) and all(
        isinstance(k, int) and not isinstance(k, bool) and k >= 1 for k in ranks
    )
    if not whole or not ranks:
        raise FairveilError(f"The ranks {ranks!r} are none: give whole numbers of 1 and more, such as (1, 5).")
    if not isinstance(seeds, int) or seeds < 1:
        raise FairveilError(f"{seeds!r} draws are too few to tell anything: give a whole number of 1 and more.")


def _labeled(embeddings: Embeddings, column: str) -> tuple[Embeddings, tuple[str, ...]]:
    """The faces that can be audited, labels without stray spaces; and in sentences what was left out."""
    frame, said = embeddings.frame, []
    if "identity" in frame.columns and is_groups(frame, column):
        frame = tidy_columns(frame, ("identity", column))
        if padding := padding_told(frame["identity"], frame["identity"]):
            said.append(padding)
        one_group_each(frame, column)
        without = frame["identity"].null_count()
        if without and without < len(frame):
            said.append(f"{without:,} faces without an identity are left out: they may be of anybody.")
            frame = frame.filter(pl.col("identity").is_not_null())
        if missing := frame[column].null_count():
            said.append(f"{missing:,} faces have no {column}: they are in the gallery of the first results only.")
        able = frame.group_by("identity", column).len().filter(pl.col("len") > 1).group_by(column).agg(people=pl.len())
        enough = able.filter(pl.col("people") > 1)[column].drop_nulls()
        few = [value for value in frame[column].drop_nulls().unique().sort() if value not in enough]
        if few and len(enough) < 2:
            have = "has" if len(few) == 1 else "have"
            raise FairveilError(
                f"Of {column}, {' and '.join(few)} {have} fewer than two people with two images each, and without two "
                "groups that have them nothing can be compared: add people, or join groups."
            )
        if few:
            said.append(
                f"{', '.join(few)}: fewer than two people with two images each, from whom nothing follows; they are in "
                "the gallery, and not compared."
            )
            frame = frame.with_columns(
                pl.when(pl.col(column).is_in(few)).then(None).otherwise(pl.col(column)).alias(column)
            )
    return replace(embeddings, frame=frame), tuple(said)


def _groups(
    population: Population, search: Search, without_face: Mapping[str, int], *, known: bool
) -> dict[str, GroupComposition]:
    found = {}
    for number, group in enumerate(population.groups):
        images = population.images_of(group)
        copies = int((search.copied & (population.group == number)).sum())
        mates = float((images * (images - 1)).sum() / max(1, images[images > 1].sum()))
        not_enrolled = without_face.get(group, 0) if known else None
        found[group] = GroupComposition(
            len(images), int(images.sum()), mates, int((images == 1).sum()), copies, not_enrolled
        )
    return found


def _versus(vectors: torch.Tensor, population: Population, metrics: MetricFrame, seeds: int) -> tuple[str, str]:
    """The groups missed most and least often: on a balanced gallery if one can be drawn, else among all faces."""
    try:
        response = respond(vectors, population, largest(population, [Shares.balanced(population.groups)]), seeds=seeds)
        rates = {group: response.error(0, group) for group in population.groups}
    except FairveilError:
        rows = metrics.by_group
        rates = {group: 1 - rate_of(rows.loc[group], 1) for group in rows.index}
    return worst_and_best({group: rate for group, rate in rates.items() if rate is not None})


def _curve(vectors: torch.Tensor, population: Population, kind: Kind, versus: tuple[str, str], seeds: int) -> Curve:
    make_ups = sweep(population, kind, versus[1])
    response = respond(vectors, population, make_ups, seeds=seeds)
    shares = tuple(make_up.images[versus[1]] / sum(make_up.images.values()) for make_up in make_ups)
    return Curve(kind, versus[1], shares, response, response.fair_point(shares, versus))


def _masked(
    vectors: torch.Tensor, population: Population, versus: tuple[str, str], train: Shares | None, seeds: int
) -> tuple[MaskedBias | None, str | None]:
    """The check, or why there is none."""
    shares = train or shares_of(population)
    if train is None and shares == Shares.balanced(population.groups):
        return None, (
            "whether a test set made up like the train set would hide bias cannot be told: no train set was named, "
            "and these data are balanced."
        )
    try:
        make_ups = largest(population, [Shares.balanced(population.groups), shares])
        response = respond(vectors, population, make_ups, seeds=seeds)
    except FairveilError:
        if train is not None:  # asked for, so its absence has to be explained
            raise
        return None, (
            "whether a test set made up like the train set would hide bias cannot be told: no train set was named, "
            "and there are too few people to draw galleries like these data."
        )
    return MaskedBias(shares, train is not None, response, versus), None


def shares_of(population: Population) -> Shares:
    """How a set is made up, in whole per cents."""
    images = {group: population.images_of(group) for group in population.groups}
    return Shares(
        in_percent({group: len(some) for group, some in images.items()}),
        in_percent({group: int(some.sum()) for group, some in images.items()}),
    )


def in_percent(counts: Mapping[str, float]) -> dict[str, Fraction]:
    """Shares in whole per cents that add up to 1; a group that is there has one percent at least.

    What differs from equal shares by no more than rounding are exactly equal ones.

    >>> in_percent({"F": 1, "M": 2})
    {'F': Fraction(33, 100), 'M': Fraction(67, 100)}
    """
    total = sum(counts.values())
    if all(abs(count / total - 1 / len(counts)) <= _NEARLY for count in counts.values()):
        return dict.fromkeys(counts, Fraction(1, len(counts)))  # of three equal groups none has more than the others
    exact = {group: Fraction(count) / Fraction(total) * _PERCENT for group, count in counts.items()}
    whole = {group: max(int(share), int(share > 0)) for group, share in exact.items()}
    while sum(whole.values()) < _PERCENT:  # what is furthest below its share comes nearer to it
        whole[min(whole, key=lambda group: whole[group] - exact[group])] += 1
    while sum(whole.values()) > _PERCENT:  # what groups have beyond their shares is the largest group's
        whole[max(whole, key=whole.__getitem__)] -= 1
    return {group: Fraction(share, _PERCENT) for group, share in whole.items()}


def _by_identity(search: Search) -> tuple[np.ndarray, np.ndarray]:
    """Rank-1 errors and probes of each identity."""
    rank, people = search.outcome.rank, search.probe_people
    enrolled = rank > 0
    who = torch.unique(people[enrolled], return_inverse=True)[1]
    return torch.bincount(who, (rank[enrolled] > 1).double()).long().numpy(), torch.bincount(who).numpy()


def _rank_accuracy(identities: np.ndarray, rank: np.ndarray, *, k: int, end: str) -> float:
    return float(getattr(rank_accuracy(torch.as_tensor(rank), k, torch.as_tensor(identities)), end))


def _probes(identities: np.ndarray, rank: np.ndarray) -> int:
    return len(rank)


def _identities(identities: np.ndarray, rank: np.ndarray) -> int:
    return len(np.unique(identities))
