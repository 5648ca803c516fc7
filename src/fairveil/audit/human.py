"""Does a recognizer find hard what people find hard? Its L2 ratio against human accuracy (section 5.7.2)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from fairveil.base.errors import FairveilError, did_you_mean, shown
from fairveil.base.estimate import Estimate
from fairveil.data.table import read_strings
from fairveil.faces.vectors import Embeddings

FEWEST = 4
"""Of so many questions, about so many people, a correlation can have an interval."""

_FLAT = 1e-6  # numbers between 0 and 1 that are no further apart are one
_RESERVED = ("question", "probe", "true", "human_accuracy", "correct", "answers")
_FALSE = re.compile(r"false[ _]?\d*")


@dataclass(frozen=True, eq=False)
class Questions:
    """Identification questions that people answered: which of these images shows the person of the probe?

    Attributes:
        frame: one row a question: `question`, `probe` and `true`, strings; `false`, a list of strings;
            `human_accuracy`, the share of answers that were right; and group columns, null where unknown.
        name: what reports call them.
        groups: names of the group columns.
    """

    frame: pl.DataFrame
    name: str
    groups: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.frame)


@dataclass(frozen=True, eq=False)
class Agreement:
    """Whether a recognizer and people find the same questions hard (figures 5.6 and 5.7).

    Correlations are Pearson's, in [-1, 1]; they count questions, and their sample are the people of the probes.

    Attributes:
        recognizer: its name.
        by_question: `question`, `probe`, `true`, `nearest_false`, `l2_ratio`, `human_accuracy` and the group columns.
        overall: the correlation over all questions.
        by_group: for each group column the correlation among the questions of each value.
        within: for each group column with two such values or more, the correlation of how far questions lie from the
            mean of their group, of all groups together. Where it is lower than the overall one, the latter is owed to
            groups that both find harder, not to the same questions in them.
        left_out: for each group column the values without a correlation, and why.
    """

    recognizer: str
    by_question: pl.DataFrame
    overall: Estimate
    by_group: dict[str, dict[str, Estimate]]
    within: dict[str, Estimate]
    left_out: dict[str, dict[str, str]]


def l2_ratio(probe: Tensor, true: Tensor, false: Tensor) -> Tensor:
    """How clearly a probe is nearer to the correct image than to the nearest incorrect one (section 5.7.2).

    L₂ ratio = ‖v_probe − v_false‖₂ / (‖v_probe − v_true‖₂ + ‖v_probe − v_false‖₂)

    It is 1 where probe and correct image coincide, 0 where probe and incorrect image do, and 0.5 where the probe is
    equally far from both. Where all three coincide, and the equation says 0/0, that makes it 0.5 too.

    Args:
        probe: embeddings, (Q, D).
        true: of the correct gallery images, (Q, D).
        false: of the incorrect gallery images that are nearest to the probes, (Q, D).

    Returns:
        Numbers in [0, 1], (Q,).

    >>> l2_ratio(torch.zeros(1, 2), torch.tensor([[0.0, 1.0]]), torch.tensor([[3.0, 0.0]]))
    tensor([0.7500])
    """
    to_true = torch.linalg.vector_norm(probe - true, dim=1)
    to_false = torch.linalg.vector_norm(probe - false, dim=1)
    total = to_true + to_false
    return torch.where(total == 0, 0.5, to_false / total)


def read_questions(path: Path, *, groups: Sequence[str] | None = None) -> Questions:
    """Read identification questions and how often people answered them correctly from a CSV.

    Its columns are `question`, a name or number; `probe`, an image; `true`, the gallery's image of the same person;
    `false`, its images of others, separated by ";" or in columns false1, false2 and so on; and `human_accuracy`, from 0
    to 1, or else how many answers were `correct` of how many `answers`. Any other column is a group. Spaces around
    entries are dropped, and what is then empty counts as unknown.

    The layout is ours. It holds what Dooley et al. (2021, arXiv:2110.08396) say of InterRace, where a probe is to be
    found in a gallery of nine images, all of one skin type and gender. We found no public copy of their survey's files.

    Args:
        path: the CSV.
        groups: which columns are groups; by default all others.

    Raises:
        FairveilError: the file or a column is missing, a question comes twice or lacks an image, its accuracy is no
            share, it shows its probe in the gallery or its correct image as an incorrect one, or there are none.
    """
    name = shown(path)
    frame = read_strings(path).with_columns(pl.all().str.strip_chars().replace("", None))
    false = [column for column in frame.columns if _FALSE.fullmatch(column)]
    _check_columns(frame.columns, false, name)
    others = [column for column in frame.columns if column not in (*_RESERVED, *false)]
    for group in groups or ():
        if group not in others:
            hint = did_you_mean(group, others)
            raise FairveilError(f"{name} has no groups {group!r}.{hint} It has {', '.join(others) or 'none'}.")
    chosen = tuple(others if groups is None else dict.fromkeys(groups))
    for group in chosen:
        if group in ("l2_ratio", "nearest_false"):
            raise FairveilError(f"{name} has a column {group!r}, which is measured here: rename it or leave it out.")
    slashed = pl.col("probe", "true", *false).str.replace_all("\\", "/", literal=True)
    frame = frame.with_columns(slashed).select(
        "question",
        "probe",
        "true",
        pl.concat_str(false, separator=";", ignore_nulls=True)
        .str.split(";")
        .list.eval(pl.element().str.strip_chars().replace("", None).drop_nulls())
        .alias("false"),
        _accuracy(frame, name),
        *chosen,
    )
    _check_rows(frame, name)
    return Questions(frame, path.stem, chosen)


def agreement(embeddings: Embeddings, questions: Questions, *, recognizer: str | None = None) -> Agreement:
    """Correlate a recognizer's L2 ratio with human accuracy by question, overall and in each group (section 5.7.2).

    Questions about one person are alike, so the intervals take people for what was sampled: identities of the probes
    where the embeddings have any, else their images. They are Fisher's, arctanh r being about normal, with Student's
    quantile and the spread that leaving out each person in turn shows (the jackknife), but never narrower than of
    independent questions. In simulations with 4 to 40 people, 1 to 7 questions each, correlations up to 0.85 and human
    accuracy up to the ceiling they cover 93 to 100 %, where Fisher's interval of independent questions covers down to
    82 % and a percentile bootstrap over people down to 79 %. That questions share gallery images is not counted.

    Args:
        embeddings: one face for every image of the questions.
        questions: with answers of people.
        recognizer: whose embeddings; may go unnamed where there is only one.

    Raises:
        FairveilError: there are no embeddings of the recognizer or of an image, or they are not finite, an image has
            several faces, there are fewer than 4 questions or people, or all questions fare the same. A group with so
            few, or whose questions all fare the same, is left out instead, and why is told.
    """
    vectors = embeddings.vectors(recognizer).double()
    row = _row_of_image(embeddings, questions)
    asked = questions.frame.with_columns(nearest_false=_nearest_false(vectors, questions, row))
    probe, true, false = (
        vectors[asked[images].replace_strict(row, return_dtype=pl.Int64).to_torch()]
        for images in ("probe", "true", "nearest_false")
    )
    asked = asked.with_columns(l2_ratio=l2_ratio(probe, true, false).numpy())
    if not asked["l2_ratio"].is_finite().all():
        raise FairveilError("The embeddings hold numbers that are not finite: embed the photos anew.")
    sample = asked.select(
        "l2_ratio", "human_accuracy", person=_people(embeddings, asked["probe"]), group=pl.lit("all questions")
    )
    if reason := _flaw(sample):
        raise FairveilError(
            f"No correlation can be had of {questions.name}, as {reason}: add questions about others that differ."
        )
    by_group: dict[str, dict[str, Estimate]] = {}
    within: dict[str, Estimate] = {}
    left_out: dict[str, dict[str, str]] = {}
    for column in questions.groups:
        grouped = sample.with_columns(group=asked[column]).drop_nulls("group").sort("group", maintain_order=True)
        parts = {str(part["group"][0]): part for part in grouped.partition_by("group", maintain_order=True)}
        left_out[column] = {value: reason for value, part in parts.items() if (reason := _flaw(part))}
        kept = {value: part for value, part in parts.items() if value not in left_out[column]}
        by_group[column] = {value: _correlation(part) for value, part in kept.items()}
        if len(kept) > 1:
            within[column] = _correlation(pl.concat(kept.values()))
    columns = ("question", "probe", "true", "nearest_false", "l2_ratio", "human_accuracy", *questions.groups)
    return Agreement(
        recognizer or embeddings.recognizers[0],
        asked.select(columns),
        _correlation(sample),
        by_group,
        within,
        left_out,
    )


def _correlation(sample: pl.DataFrame) -> Estimate:
    """Pearson's correlation of distances from the mean of the group, with its interval; of one group the plain one."""
    measures = pl.col("l2_ratio", "human_accuracy")
    centered = sample.with_columns(measures - measures.mean().over("group"))
    value = float(stats.pearsonr(centered["l2_ratio"], centered["human_accuracy"]).statistic)
    others = _without_each_person(centered)
    people = len(others)
    jackknife = np.sqrt((people - 1) / people * np.sum((_fisher(others) - _fisher(value)) ** 2))
    independent = 1 / np.sqrt(len(sample) - sample["group"].n_unique() - 2)
    reach = max(stats.t.ppf(0.975, people - 1) * jackknife, stats.norm.ppf(0.975) * independent)
    low, high = np.tanh(_fisher(value) - reach), np.tanh(_fisher(value) + reach)
    low, high = min(value, float(low)), max(value, float(high))
    return Estimate(value, low, high, people, "people", "Fisher", len(sample))


def _without_each_person(centered: pl.DataFrame) -> NDArray[np.float64]:
    """The correlation within groups without each person in turn, all from the same sums: (people,)."""
    x, y = centered["l2_ratio"].to_numpy(), centered["human_accuracy"].to_numpy()
    people, person = np.unique(centered["person"].to_numpy(), return_inverse=True)
    groups, group = np.unique(centered["group"].to_numpy(), return_inverse=True)
    sums = np.zeros((len(people) * len(groups), 6))
    np.add.at(sums, person * len(groups) + group, np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], 1))
    own = sums.reshape(len(people), len(groups), 6)
    count, x, y, xx, yy, xy = np.moveaxis(own.sum(0) - own, 2, 0)  # (people, groups) each
    count = np.maximum(count, 1)
    of_x, of_y = (xx - x * x / count).sum(1), (yy - y * y / count).sum(1)
    of_both = (xy - x * y / count).sum(1)
    varied = np.minimum(of_x, of_y) > _FLAT**2  # all variation may rest on one person: none is left, nor correlation
    return np.where(varied, of_both / np.sqrt(np.where(varied, of_x * of_y, 1.0)), 0.0)


def _fisher(correlation: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """Fisher's transformation, finite where the correlation is perfect."""
    return np.asarray(np.arctanh(np.clip(correlation, -1 + 1e-12, 1 - 1e-12)))


def _flaw(sample: pl.DataFrame) -> str:
    """Why there is no correlation of these questions; empty if there is."""
    people = sample["person"].n_unique()
    if len(sample) < FEWEST:
        return f"it has only {len(sample)} of the {FEWEST} questions it takes"
    if people < FEWEST:
        return f"its questions are about only {people} of the {FEWEST} people it takes"
    for column, what in (("l2_ratio", "L2 ratio"), ("human_accuracy", "human accuracy")):
        if np.ptp(sample[column].to_numpy()) <= _FLAT:
            return f"the {what} is the same in all its questions"
    return ""


def _row_of_image(embeddings: Embeddings, questions: Questions) -> dict[str, int]:
    """The row of the embeddings that each image of the questions is in."""
    asked = pl.concat([questions.frame["probe"], questions.frame["true"], questions.frame["false"].explode()])
    asked = asked.unique(maintain_order=True)
    images = embeddings.frame["image"].cast(pl.String)
    absent = asked.filter(~asked.is_in(images.implode()))
    if len(absent):
        raise FairveilError(
            f"Of {len(asked):,} images of {questions.name} {len(absent):,} are not among the embeddings, the first "
            f"{shown(absent[0])}: embed these too, or leave out the questions that show them."
        )
    several = asked.filter(asked.is_in(images.filter(images.is_duplicated()).implode()))
    if len(several):
        raise FairveilError(
            f"Of {len(asked):,} images of {questions.name} {len(several):,} have several faces among the embeddings, "
            f"the first {shown(several[0])}: embed one face of a photo."
        )
    return {image: row for row, image in enumerate(images)}


def _nearest_false(vectors: Tensor, questions: Questions, row: dict[str, int]) -> pl.Series:
    """The incorrect gallery image that is nearest to each probe, the first of equals: (Q,)."""
    pairs = questions.frame.select("probe", "false", question=pl.int_range(pl.len())).explode("false")
    probe, false = (
        vectors[pairs[images].replace_strict(row, return_dtype=pl.Int64).to_torch()] for images in ("probe", "false")
    )
    distance = torch.linalg.vector_norm(probe - false, dim=1).numpy()
    nearest_first = pairs.with_columns(distance=distance).sort("question", "distance", maintain_order=True)
    return nearest_first.unique("question", keep="first", maintain_order=True)["false"]


def _people(embeddings: Embeddings, probes: pl.Series) -> pl.Series:
    """Who each question is about, as a number: the identity of its probe, or where that is unknown its image."""
    known = embeddings.frame.select("image", pl.col("^identity$").cast(pl.String)).cast({"image": pl.String})
    of_probes = pl.DataFrame({"image": probes}).join(known, on="image", how="left", maintain_order="left")
    names = [pl.format("{} {}", pl.lit(column), column) for column in reversed(of_probes.columns)]
    return of_probes.select(pl.coalesce(names).rank("dense")).to_series()


def _accuracy(frame: pl.DataFrame, name: str) -> pl.Series:
    """The share of answers that were right, given as such or as two counts."""
    given = ["human_accuracy"] if "human_accuracy" in frame.columns else ["correct", "answers"]
    numbers = [frame[column].cast(pl.Float64, strict=False) for column in given]
    share = numbers[0] if len(numbers) == 1 else numbers[0] / numbers[1]
    counted = numbers[-1].is_between(0, np.inf, closed="none") if len(numbers) > 1 else True
    wrong = ~(share.is_between(0, 1) & counted).fill_null(False)
    if wrong.any():
        row = wrong.arg_max() or 0
        entries = " of ".join(repr(frame[column][row] or "") for column in given)
        advice = "a share from 0 to 1, such as 0.87" if len(given) == 1 else "some or none of one answer or more"
        raise FairveilError(f"Row {row + 1} of {name} has {entries} in {' of '.join(map(repr, given))}: give {advice}.")
    return share.alias("human_accuracy")


def _check_columns(columns: Sequence[str], false: Sequence[str], name: str) -> None:
    needed = [column for column in ("question", "probe", "true") if column not in columns]
    needed += [] if false else ["false"]
    if "human_accuracy" not in columns and not {"correct", "answers"} <= set(columns):
        needed += ["human_accuracy"]
    if needed:
        hint = did_you_mean(needed[0], [column for column in columns if column not in (*_RESERVED, *false)])
        instead = " Columns correct and answers would do as well." if needed[0] == "human_accuracy" else ""
        raise FairveilError(f"{name} has no column {needed[0]!r}.{hint}{instead} It has {', '.join(columns)}.")


def _check_rows(frame: pl.DataFrame, name: str) -> None:
    if not len(frame):
        raise FairveilError(f"{name} has no rows.")
    for column in ("question", "probe", "true", "false"):
        empty = frame[column].is_null() | (frame[column].list.len() == 0 if column == "false" else False)
        if empty.any():
            raise FairveilError(f"Row {(empty.arg_max() or 0) + 1} of {name} has nothing in {column!r}: fill it in.")
    twice = frame["question"].filter(frame["question"].is_duplicated())
    if len(twice):
        raise FairveilError(f"{name} has the question {twice[0]!r} more than once: give each a name of its own.")
    probe, true, false = pl.col("probe"), pl.col("true"), pl.col("false")
    for wrong, what in (
        ((probe == true) | false.list.contains(probe), "its probe in the gallery too, where nobody could miss it"),
        (false.list.contains(true), "its correct image among the incorrect ones"),
    ):
        named = frame.filter(wrong)["question"]
        if len(named):
            raise FairveilError(f"Question {named[0]!r} of {name} has {what}: take another image.")
