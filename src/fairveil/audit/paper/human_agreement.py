"""Do recognizers find hard what people find hard? Figures 5.6, 5.7 and 5.11."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import torch
from pydantic import Field

from fairveil.audit.human import Agreement, Questions, agreement, l2_ratio, read_questions
from fairveil.audit.paper.curves import ratio_name, together
from fairveil.audit.paper.train_sets import (
    TRAIN_IDENTITIES,
    TrainedOn,
    TrainingStudy,
    TrainSets,
    split,
    trained,
    trials_of,
)
from fairveil.base.errors import FairveilError
from fairveil.base.estimate import Estimate
from fairveil.base.files import sha256_of
from fairveil.data.face_crops import FaceCrops
from fairveil.data.population import Population
from fairveil.experiment.study import Measurement, Results
from fairveil.experiment.subjects import crops_of
from fairveil.experiment.workbench import Workbench
from fairveil.faces.recognizer_training import embed_all
from fairveil.faces.recognizers import Recognizer
from fairveil.faces.trained import random_recognizer
from fairveil.faces.vectors import Embeddings, vector_column
from fairveil.report.plots import Series, lines
from fairveil.report.study import Figure
from fairveil.report.tables import Table, pivot

_GALLERY = 9  # photos that a question lets one choose from, as in InterRace
_STAND_IN = "random:resnet-18:99"  # who answers where nobody has
_STEEPNESS = 40.0  # of the stand-in's answers: an L2 ratio of 0.55 is found in 88 % of cases


class HumanAgreement(TrainSets):
    """Settings of `TrainSets`, and who answered which questions.

    Attributes:
        questions: a CSV of questions and what people answered (see `fairveil.audit.human.read_questions`), about
            photos of the subjects that are not trained on; without it, questions are made up, and a stand-in answers.
        questions_sha256: of that file, put in when the study is run.
        questions_made: how many are made up at the most.
    """

    questions: str | None = None
    questions_sha256: str | None = None
    questions_made: int = Field(200, ge=8)


class AgreementTrial(TrainedOn):
    """One recognizer, and the questions it is asked."""

    questions: str | None
    questions_sha256: str | None
    questions_made: int


class HumanAgreementStudy(TrainingStudy[HumanAgreement, AgreementTrial]):
    """A study of whether recognizers find hard what people find hard."""

    def trials(self, settings: HumanAgreement) -> list[AgreementTrial]:
        """Every recognizer of the train sets is asked all questions."""
        more = {name: getattr(settings, name) for name in ("questions", "questions_sha256", "questions_made")}
        return [AgreementTrial(**trial.model_dump(), **more) for trial in trials_of(settings)]

    def run(self, trial: AgreementTrial, bench: Workbench) -> list[Measurement]:
        """Train, ask, and correlate the L2 ratios with the shares of people who were right."""
        crops = crops_of(trial.subjects, bench)
        train, asked = split(crops, trial.subjects.column, trial.test_people)
        if trial.questions is None:
            questions = _made_up(asked, trial.subjects.column, trial.questions_made)
        else:
            questions = read_questions(Path(trial.questions), groups=[trial.subjects.column])
            train, asked = _without(train, questions), crops
        with bench.timed("train"):
            recognizer = trained(trial, train, bench)
        with bench.timed("ask"):
            found = agreement(_embeddings(recognizer, asked), questions, recognizer=recognizer.name)
        return list(_measured(found, trial.subjects.column))

    def tables(self, settings: HumanAgreement, results: Results[AgreementTrial]) -> list[Table]:
        """The correlations, by how the train set is made up."""
        runs: dict[tuple[str, str], list[Measurement]] = {}
        for trial, found in results.items():
            for one in found:
                runs.setdefault((f"{trial.name} {ratio_name(trial.part)}", one.labels["questions"]), []).append(one)
        return [
            pivot(
                [
                    Measurement.of({"row": row, "questions": column}, together(some))
                    for (row, column), some in runs.items()
                ],
                row="row",
                column="questions",
                title="Correlation of L2 ratio and human accuracy, ours",
                unit="cosine",
                caption=f"Pearson's r; means of {settings.runs} runs, in brackets the lowest and highest, or the 95 % "
                "interval over people of a single run. Within groups: what is left of it when only questions about one "
                "group are compared with each other.",
            )
        ]

    def figures(self, settings: HumanAgreement, results: Results[AgreementTrial]) -> Sequence[Figure]:
        """Figure 5.6: the correlations against the share of a group in the train set."""
        plots = []
        for name in settings.models:
            runs: dict[str, dict[int, list[Measurement]]] = {}
            for trial, found in results.items():
                for one in found if trial.name == name else ():
                    runs.setdefault(one.labels["questions"], {}).setdefault(trial.part, []).append(one)
            series = [
                Series(
                    label,
                    [part / 10 for part in sorted(by_part)],
                    [Estimate(together(by_part[part]).value) for part in sorted(by_part)],
                )
                for label, by_part in runs.items()
            ]
            x_name = f"share of {settings.kind} in the train set that are {settings.subjects.focus}"
            plots.append(Figure(name, lines(series, x_name=x_name, y_name="Pearson's r", shares=False)))
        return plots

    def differences(self, settings: HumanAgreement) -> list[str]:
        """What differs from section 5.7.2."""
        said = super().differences(settings)
        if settings.questions is None:
            said.append(
                "Nobody answered: InterRace and its survey are not published where we could find them. Questions are "
                "made up, and a network with random weights stands in for people. That shows that everything runs; it "
                "says nothing of people. Give a survey of your own with --set questions=FILE.csv."
            )
        return said

    def rehearsal(self, settings: HumanAgreement) -> HumanAgreement:
        """The same on a few generated people, one epoch each."""
        return super().rehearsal(settings).model_copy(update={"questions": None, "questions_made": 40})

    def resolve(self, settings: HumanAgreement) -> HumanAgreement:
        """Settings with the data that are here; workers may be somewhere else."""
        found = super().resolve(settings)
        if found.questions is None:
            return found
        path = Path(found.questions).absolute()
        return found.model_copy(update={"questions": str(path), "questions_sha256": sha256_of(path)})


def _without(train: FaceCrops, questions: Questions) -> FaceCrops:
    """Crops of people that no question shows, as in the InterRace-train split (section 5.3)."""
    shown = {*questions.frame["probe"], *questions.frame["true"], *questions.frame["false"].explode()}
    frame = train.frame.with_columns(shown=pl.Series([image in shown for image in train.image_names]))
    return train.take((~frame.select(pl.col("shown").any().over("identity")).to_series()).arg_true().to_list())


def _made_up(test: FaceCrops, column: str, most: int) -> Questions:
    """Questions about test people: one of their photos, among another and those of eight others of their group."""
    population, random = Population.of(test.frame, column), np.random.default_rng(0)
    images = test.image_names
    rows = []
    for number, group in enumerate(population.groups):
        people = torch.unique(population.identity[population.group == number]).tolist()
        photos = {person: (population.identity == person).nonzero().flatten().tolist() for person in people}
        if len(people) <= _GALLERY:
            raise FairveilError(
                f"{group} has {len(people)} test people; questions need {_GALLERY + 1}: put aside more."
            )
        for nth in range(most // len(population.groups)):
            person = people[nth % len(people)]
            probe, true = random.permutation(photos[person])[:2].tolist()
            others = random.permutation([one for one in people if one != person])[: _GALLERY - 1].tolist()
            false = [images[random.choice(photos[other])] for other in others]
            rows.append({"question": f"{group} {nth + 1}", "probe": images[probe], "true": images[true], "false": false,
                         column: group})  # fmt: skip
    frame = pl.DataFrame(rows)
    return Questions(frame.with_columns(human_accuracy=_answers(frame, test)), "made up", (column,))


def _answers(frame: pl.DataFrame, test: FaceCrops) -> pl.Series:
    """How many of those who stand in for people were right, by a logistic function of the stand-in's L2 ratio."""
    vectors = embed_all(random_recognizer(_STAND_IN, size=test.size), test)
    row = {image: place for place, image in enumerate(test.image_names)}
    probe, true = (vectors[[row[image] for image in frame[column]]] for column in ("probe", "true"))
    false = vectors[torch.tensor([[row[image] for image in images] for images in frame["false"]])]  # (Q, 8, D)
    nearest = false[torch.arange(len(false)), (false @ probe[:, :, None])[..., 0].argmax(1)]
    sure = torch.sigmoid(_STEEPNESS * (l2_ratio(probe, true, nearest) - 0.5))
    return pl.Series("human_accuracy", np.random.default_rng(0).binomial(50, sure.double().numpy()) / 50)


def _embeddings(recognizer: Recognizer, crops: FaceCrops) -> Embeddings:
    frame = crops.frame.with_columns(vector_column(recognizer.name, embed_all(recognizer, crops).numpy()))
    return Embeddings(frame)


def _measured(found: Agreement, column: str) -> Iterator[Measurement]:
    named = {"all": found.overall}
    named |= {f"{column} {value}": one for value, one in found.by_group.get(column, {}).items()}
    if column in found.within:
        named["within groups"] = found.within[column]
    for label, one in named.items():
        yield Measurement.of({"questions": label}, one)


def _asking(settings: TrainSets) -> HumanAgreement:
    return HumanAgreement(**settings.model_dump())


HUMAN_AGREEMENT = HumanAgreementStudy(
    name="human-agreement",
    title="Recognizers and people on the same questions",
    question="Do recognizers find hard what people find hard, and does that depend on whom they were trained on?",
    source="figures 5.6, 5.7 and 5.11",
    small=_asking(TRAIN_IDENTITIES.small),
    paper=_asking(TRAIN_IDENTITIES.paper),
)
