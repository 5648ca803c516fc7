"""Recognizers trained on sets of other make-ups: tables 5.2, 5.3, 5.6 and 5.7, figures 5.2, 5.4 and 5.8 to 5.10."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator

from fairveil.audit.bias import Interplay, Response, respond
from fairveil.audit.imbalance import PARTS, Composition, Kind, Shares, draw, largest, sweep
from fairveil.audit.paper.curves import (
    RATIO,
    curves_of,
    measured,
    plots_of,
    ratio_name,
    tables_beside,
)
from fairveil.base.errors import FairveilError
from fairveil.base.estimate import Estimate
from fairveil.base.keys import content_key
from fairveil.base.sharing import make_files
from fairveil.data.face_crops import FaceCrops
from fairveil.data.population import Population
from fairveil.experiment.study import SYNTHETIC, Measurement, Results, Trial, TrialType
from fairveil.experiment.subjects import (
    CELEBA,
    Subjects,
    SubjectSettings,
    SubjectsStudy,
    crops_of,
    generated,
)
from fairveil.experiment.workbench import Workbench
from fairveil.faces.heads import HeadKind
from fairveil.faces.recognizer_training import PAPER, embed_all, train_recognizer
from fairveil.faces.recognizers import Recognizer
from fairveil.faces.trained import ModelCard, load_trained, save_trained
from fairveil.report.study import Figure
from fairveil.report.tables import Cell, Table
from fairveil.training import Training

_FORMAT = 1  # raised when the same settings would give another recognizer
_DECIDING = {"model", "subjects", "kind", "part", "run", "test_people", "identities", "images", "questions_sha256"}
"""What of a trial the trained recognizer depends on."""
_BALANCED = "balanced"  # the gallery that has all test people


class Model(BaseModel):
    """What is trained, and how.

    Attributes:
        backbone: one of `fairveil.faces.backbones.BACKBONES`.
        head: which margin.
        dimension: of the embeddings.
        balanced: whether identities are drawn equally often, as in section 5.3; not so in section 5.9.1.
        training: settings; the seed of each run is its own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    backbone: str
    head: HeadKind = "cosface"
    dimension: int = 512
    balanced: bool = True
    training: Training


class TrainSets(SubjectSettings):
    """Settings.

    Attributes:
        subjects: who is trained on and tested with.
        kind: what the groups have unequal shares of.
        models: by name.
        parts: of ten, the shares of the first group that are tried.
        runs: how often, each with a train set and initial weights of its own.
        test_people: of each group, put aside for testing.
        draws: galleries of each make-up.
        identities: in every train set; with `images`, or as many as can be.
        images: in every train set.
        matched: whether recognizers are tested on galleries made up like their train sets.
    """

    kind: Kind = "identities"
    models: dict[str, Model]
    parts: tuple[int, ...] = (0, 2, 5, 8, 10)
    runs: int = Field(2, ge=1)
    test_people: int = Field(60, ge=4)
    draws: int = Field(5, ge=1)
    identities: int | None = None
    images: int | None = None
    matched: bool = False

    @model_validator(mode="after")
    def _known_parts(self) -> "TrainSets":
        if unknown := [part for part in self.parts if part not in PARTS[self.kind]]:
            raise ValueError(f"of {self.kind}, a group has one of {PARTS[self.kind]} parts of ten, not {unknown[0]}")
        return self


TrainSetsType = TypeVar("TrainSetsType", bound=TrainSets)


class TrainedOn(Trial):
    """One recognizer, trained on one set; see `TrainSets`."""

    name: str
    model: Model
    subjects: Subjects
    kind: Kind
    part: int
    run: int
    test_people: int
    draws: int
    identities: int | None
    images: int | None

    @property
    def label(self) -> str:
        """The recognizer, the make-up and the run."""
        return f"{self.name}, {self.kind} {ratio_name(self.part)}, run {self.run + 1}"


class TrainingStudy(SubjectsStudy[TrainSetsType, TrialType]):
    """A study of recognizers that are trained on sets of other make-ups."""

    def check_labels(self, settings: TrainSetsType, crops: FaceCrops) -> None:
        """Whether the train sets and galleries can be drawn."""
        train, test = split(crops, settings.subjects.column, settings.test_people)
        population = Population.of(train.frame, settings.subjects.column)
        make_ups = _make_ups(population, settings)
        for part in settings.parts:
            draw(population, make_ups[PARTS[settings.kind].index(part)], seed=0)
        sweep(Population.of(test.frame, settings.subjects.column), settings.kind, settings.subjects.focus)

    def differences(self, settings: TrainSetsType) -> list[str]:
        """What differs from sections 5.3 to 5.6."""
        said, first = [], next(iter(settings.models.values()))
        if settings.subjects.data == SYNTHETIC:
            said.append(
                f"Faces: {settings.subjects.people} generated people with {settings.subjects.photos} photos each "
                f"instead of CelebA; the groups are shapes of heads, {settings.subjects.focus} in the place of men and "
                f"{settings.subjects.other} in that of women. Nothing makes one harder than the other."
            )
        if first.training.epochs != PAPER.epochs:
            names = ", ".join(sorted({f"{model.backbone} ({model.head})" for model in settings.models.values()}))
            said.append(
                f"Networks: {names} at {settings.subjects.size} pixels, {first.training.epochs} epochs of batches of "
                f"{first.training.batch_size}, instead of 112 pixels, 120 epochs and 512."
            )
        said.append(
            "Test galleries of other make-ups are as large as the test people allow, the same for all recognizers."
        )
        return [*said, *settings.subjects.notes]

    def rehearsal(self, settings: TrainSetsType) -> TrainSetsType:
        """The same on a few generated people, one epoch each."""
        subjects = generated(settings.subjects).model_copy(update={"people": 48, "photos": 10, "size": 64})
        tiny = tiny_model(next(iter(settings.models.values())))
        return settings.model_copy(
            update={
                "subjects": subjects, "models": {"ResNet-18": tiny}, "parts": (2, 5), "runs": 1, "test_people": 12,
                "draws": 1, "identities": None, "images": None,
            }
        )  # fmt: skip


class TrainSetStudy(TrainingStudy[TrainSets, TrainedOn]):
    """A study of what the make-up of a train set does."""

    def trials(self, settings: TrainSets) -> list[TrainedOn]:
        """Every model on sets of every make-up, as often as there are runs."""
        return trials_of(settings)

    def run(self, trial: TrainedOn, bench: Workbench) -> list[Measurement]:
        """Train on the set, and look for test people in the balanced gallery and in galleries of every make-up."""
        crops = crops_of(trial.subjects, bench)
        train, test = split(crops, trial.subjects.column, trial.test_people)
        with bench.timed("train"):
            recognizer = trained(trial, train, bench)
        with bench.timed("test"):
            vectors = embed_all(recognizer, test)
            population = Population.of(test.frame, trial.subjects.column)
            balanced = respond(vectors, population, [_all_of(population)], seeds=1)
            parts = PARTS[trial.kind]
            others = respond(vectors, population, sweep(population, trial.kind, trial.subjects.focus, parts=parts),
                             seeds=trial.draws)  # fmt: skip
        return [*_measured(balanced, [_BALANCED], trial), *_measured(others, map(ratio_name, parts), trial)]

    def tables(self, settings: TrainSets, results: Results[TrainedOn]) -> list[Table]:
        """Ours beside tables 5.2, 5.3, 5.6 or 5.7; for matched sets how train set and gallery play together."""
        number = {(False, "identities"): "5.2", (False, "images"): "5.3", (True, "identities"): "5.6",
                  (True, "images"): "5.7"}[settings.matched, settings.kind]  # fmt: skip
        where = "train set and gallery" if settings.matched else "the train set"
        caption = (
            ("Ours: one run, in brackets its 95 % interval over people. " if settings.runs == 1 else
             f"Ours: means of {settings.runs} runs, in brackets the lowest and the highest. ")
            + (f"Tested on {settings.draws} galleries made up like the train set."
               if settings.matched else f"Tested on {settings.test_people} people of each group.")
        )  # fmt: skip
        beside = tables_beside(
            _curves(settings, results), number, settings.subjects, settings.parts, caption=caption,
            title=f"Unequal {settings.kind} in {where}",
        )  # fmt: skip
        return [*beside, *(_interplay(settings, results) if settings.matched else [])]

    def figures(self, settings: TrainSets, results: Results[TrainedOn]) -> Sequence[Figure]:
        """Figure 5.2 or 5.4."""
        where = "train set and gallery" if settings.matched else "the train set"
        subjects = settings.subjects
        x_name = f"share of {settings.kind} in {where} that are {subjects.column} {subjects.focus}"
        return plots_of(_curves(settings, results), subjects, settings.parts, x_name=x_name)


def trials_of(settings: TrainSets) -> list[TrainedOn]:
    """Every model on sets of every make-up, as often as there are runs."""
    common = {
        name: getattr(settings, name) for name in ("subjects", "kind", "test_people", "draws", "identities", "images")
    }
    return [
        TrainedOn(name=name, model=model, part=part, run=number, **common)
        for number in range(settings.runs)
        for name, model in settings.models.items()
        for part in settings.parts
    ]


def split(crops: FaceCrops, column: str, test_people: int) -> tuple[FaceCrops, FaceCrops]:
    """Crops of people to train on, and as many people of each group to test with, perfectly balanced (section 5.3).

    Raises:
        FairveilError: a group has too few people.
    """
    population = Population.of(crops.frame, column)
    aside = torch.zeros(len(crops), dtype=torch.bool)
    for number, group in enumerate(population.groups):
        there, images = torch.unique(population.identity[population.known & (population.group == number)],
                                     return_counts=True)  # fmt: skip
        people = there[images > 1]  # of others nobody could be found
        if len(people) < test_people + 2:
            raise FairveilError(
                f"{group} has {len(people)} people with two images, of whom {test_people} cannot be put aside: "
                "ask for fewer."
            )
        order = torch.randperm(len(people), generator=torch.Generator().manual_seed(0))
        aside |= torch.isin(population.identity, people[order[:test_people]])
    test = crops.take(aside.nonzero().flatten())
    tested = Population.of(test.frame, column)
    return crops.take((~aside & population.known).nonzero().flatten()), test.take(draw(tested, _all_of(tested), seed=0))


def tiny_model(model: Model) -> Model:
    """What takes seconds to train, for one epoch."""
    training = Training(epochs=1, batch_size=64, learning_rate=0.02, nesterov=False)
    return model.model_copy(update={"training": training, "dimension": 16, "backbone": "resnet-18"})


def _all_of(population: Population) -> Composition:
    return largest(population, [Shares.balanced(population.groups)])[0]


def trained(trial: TrainedOn, train: FaceCrops, bench: Workbench) -> Recognizer:
    """The trained recognizer, which studies share: it depends on nothing of how it is tested.

    People that questions are about are not trained on, so questions are part of what it depends on.
    """
    settings = trial.model_dump(mode="json", include=_DECIDING, exclude_none=True)
    return trained_once(trial.model, settings, partial(_chosen, trial, train), seed=trial.run, bench=bench)


def trained_once(
    model: Model, about: Mapping[str, Any], choose: Callable[[], FaceCrops], *, seed: int, bench: Workbench
) -> Recognizer:
    """A recognizer from the bench's cache, or trained if nobody has trained it yet.

    Args:
        model: what is trained, and how.
        about: all that the train set and the weights depend on, as JSON has it.
        choose: gives the train set.
        seed: of the training.
        bench: where it is kept.
    """
    name = f"{content_key([_FORMAT, about])}.safetensors"
    maker = partial(_train, model=model, choose=choose, seed=seed, device=bench.device)
    return load_trained(make_files(bench.cache / "recognizers", {name: maker})[0])


def _make_ups(population: Population, settings: TrainSets | TrainedOn) -> list[Composition]:
    """Of the train sets of all parts, each with the same totals."""
    return sweep(
        population, settings.kind, settings.subjects.focus, parts=PARTS[settings.kind],
        identities=settings.identities, images=settings.images,
    )  # fmt: skip


def _chosen(trial: TrainedOn, train: FaceCrops) -> FaceCrops:
    """The train set of a trial."""
    population = Population.of(train.frame, trial.subjects.column)
    make_up = _make_ups(population, trial)[PARTS[trial.kind].index(trial.part)]
    return train.take(draw(population, make_up, seed=trial.run))


def _train(target: Path, *, model: Model, choose: Callable[[], FaceCrops], seed: int, device: str) -> None:
    chosen = choose()
    training = model.training.model_copy(update={"seed": seed})
    about: dict[str, Any] = {
        "backbone": model.backbone,
        "head": model.head,
        "dimension": model.dimension,
        "balanced": model.balanced,
    }
    recognizer, history = train_recognizer(chosen, training, **about, device=device)
    target.unlink()  # a name that was kept for it
    save_trained(target, recognizer, ModelCard.of(chosen, training, history, **about))


def _measured(response: Response, galleries: Iterable[str], trial: TrainedOn) -> list[Measurement]:
    return [
        one
        for place, gallery in enumerate(galleries)
        for one in measured(response, place, trial.subjects, {"gallery": gallery})
    ]


def _curves(settings: TrainSets, results: Results[TrainedOn]) -> dict[tuple[str, str, str], Estimate]:
    """By recognizer, what and the make-up of the train set: on the balanced gallery, or on one like the train set."""

    def found() -> Iterable[tuple[str, Measurement]]:
        for trial, measurements in results.items():
            wanted = ratio_name(trial.part) if settings.matched else _BALANCED
            for one in measurements:
                if one.labels["gallery"] == wanted:
                    labels = {"what": one.labels["what"], "ratio": ratio_name(trial.part)}
                    yield trial.name, one.model_copy(update={"labels": labels})

    return curves_of(found())


def _interplay(settings: TrainSets, results: Results[TrainedOn]) -> list[Table]:
    """What imbalance of the train set, of the gallery and of both does to the error ratio (section 5.6)."""
    ratios: dict[tuple[str, str, str], dict[int, Estimate]] = {}
    for trial, measurements in results.items():
        for one in measurements:
            if one.labels["what"] == RATIO:
                key = trial.name, ratio_name(trial.part), one.labels["gallery"]
                ratios.setdefault(key, {})[trial.run] = one.estimate
    even, rows = ratio_name(5), []
    for name in settings.models:
        for part in settings.parts:
            odd = ratio_name(part)
            four = [ratios.get((name, *key), {}) for key in ((even, even), (odd, even), (even, odd), (odd, odd))]
            runs = sorted(set.intersection(*(set(some) for some in four)))
            together = Interplay.of([(four[0][n], four[1][n], four[2][n], four[3][n]) for n in runs])
            if odd == even or together is None:
                continue
            cells = (*map(Cell, (together.train, together.gallery)), Cell.of(together.expected), Cell(together.both))
            rows.append((f"{name} {odd}", (*cells, Cell(text=together.verdict or "not told"))))
    if not rows:
        return []
    return [
        Table(
            title="How train set and gallery play together: by what the error ratio is multiplied, ours",
            columns=("train set alone", "gallery alone", "if independent", "both", "they"),
            rows=tuple(rows),
            unit="ratio",
            caption="Against balanced sets; geometric means over runs, 95 % intervals over people and runs, which two "
            "runs at least have. Train set and gallery amplify each other where both pull the same way, and cancel "
            "each other where they pull apart. Where the interval of one of them holds 1, nothing is said.",
            row_name=f"recognizer, {settings.subjects.focus} : {settings.subjects.other}",
        )
    ]


PUBLISHED_MODELS = {
    f"{short} {head}": Model(backbone=backbone, head="cosface" if head == "CosFace" else "arcface", training=PAPER)
    for short, backbone in (("MFN", "mobilefacenet"), ("ResNet-152", "resnet-152"))
    for head in ("CosFace", "ArcFace")
}
"""What the dissertation trains in chapter 5, and how."""

TEST_PEOPLE = 406
"""Of each gender in the default test set (table 5.1)."""

_QUICK = Training(epochs=12, batch_size=32, learning_rate=0.02, nesterov=False, warmup=1.0)
_SMALL = TrainSets(
    subjects=generated(Subjects(size=64, people=320)),
    test_people=40,
    runs=3,
    models={"ResNet-8 CosFace": Model(backbone="resnet-8", dimension=128, training=_QUICK)},
)
_QUESTIONS: dict[tuple[bool, Kind], str] = {
    (False, "identities"): "Does a group with more people in the train set come to be found more often?",
    (False, "images"): "Does a group with more photos of each person in the train set come to be found more often?",
    (True, "identities"): "What does an audit see where the test set has few people of the group that training had few "
    "of?",
    (True, "images"): "What does an audit see where the test set has few photos of each person of the group that "
    "training had few of?",
}


def _study(name: str, kind: Kind, source: str, *, matched: bool = False) -> TrainSetStudy:
    parts = PARTS[kind]
    where = "in train set and gallery" if matched else "in the train set"
    return TrainSetStudy(
        name=name,
        title=f"Unequal {kind} {where}",
        question=_QUESTIONS[matched, kind],
        source=source,
        small=_SMALL.model_copy(
            update={"kind": kind, "matched": matched, "parts": (0, 2, 5, 8, 10) if kind == "identities" else (2, 5, 8)}
        ),
        paper=TrainSets(
            subjects=CELEBA, kind=kind, models=PUBLISHED_MODELS, parts=parts, runs=1, test_people=TEST_PEOPLE,
            matched=matched, identities=3967 if kind == "identities" else 7934, images=70_000,
        ),
    )  # fmt: skip


def _as_they_are(settings: TrainSets) -> TrainSets:
    models = {name: model.model_copy(update={"balanced": False}) for name, model in settings.models.items()}
    return settings.model_copy(update={"models": models})


TRAIN_IDENTITIES = _study("train-identities", "identities", "table 5.2, figure 5.2")
TRAIN_IMAGES = _study("train-images", "images", "table 5.3, figure 5.2")
MATCHED_IDENTITIES = _study("matched-identities", "identities", "table 5.6, figure 5.4", matched=True)
MATCHED_IMAGES = _study("matched-images", "images", "table 5.7, figure 5.4", matched=True)
WITHOUT_BALANCED_SAMPLING = TrainSetStudy(
    name="without-balanced-sampling",
    title="Training without class-balanced sampling",
    question="Does it harm a group with many photos of each person that all people are drawn equally often?",
    source="figures 5.8 to 5.10",
    small=_as_they_are(TRAIN_IMAGES.small),
    paper=_as_they_are(TRAIN_IMAGES.paper),
)
