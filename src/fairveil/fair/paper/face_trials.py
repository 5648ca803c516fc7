"""Recognizers trained under interventions: what the studies of faces share (section 6.3.1)."""

from collections.abc import Iterator, Sequence

from pydantic import Field

from fairveil.data.face_crops import FaceCrops
from fairveil.data.synthetic import Difficulty
from fairveil.experiment.study import SYNTHETIC, Measurement, Results
from fairveil.experiment.subjects import (
    Subjects,
    SubjectSettings,
    SubjectsStudy,
    at_hand,
    crops_of,
    generated,
    table_at_hand,
)
from fairveil.experiment.workbench import Workbench
from fairveil.faces.recognizer_training import PAPER
from fairveil.fair.comparing import Comparison
from fairveil.fair.experiments import measure_once
from fairveil.fair.face_experiment import MEASURES, SMALL, FaceExperiment, FaceSettings
from fairveil.fair.face_splits import split_faces
from fairveil.fair.groups import groups_of
from fairveil.fair.interventions import (
    Baseline,
    EqualLoss,
    FairFeatures,
    GroupMargins,
    LabelFlipping,
    MinMax,
)
from fairveil.fair.paper.schemes import (
    BASELINE,
    Schemes,
    SchemeSettings,
    SchemeTrial,
    comparisons_of,
    measurements_of,
    trials_of,
)
from fairveil.training import Training

TESTED = 0.25
"""The share of people to test with, where it is not the published one."""

GENERATED = generated(Subjects(size=64, people=160, photos=14, difficulty=Difficulty(disturbance=1.25)))
"""People of whom two processor cores learn in a minute or two, and err oftener about round heads."""


class FairFaces(SchemeSettings, SubjectSettings):
    """Settings.

    Attributes:
        subjects: who is trained on and tested with; `focus` stands for men and `other` for women.
        bystanders: people of another data set, whose `column` nobody asked about; None to look at other columns of the
            test people.
        untargeted: the column of groups that nobody asked about.
        models: by name.
        test: share of people to test with.
    """

    bystanders: Subjects | None = None
    untargeted: str = "tone"
    models: dict[str, FaceSettings]
    test: float = Field(TESTED, gt=0, lt=1)


class FairFace(SchemeTrial):
    """One recognizer under one scheme; see `FairFaces`."""

    model: FaceSettings
    subjects: Subjects
    bystanders: Subjects | None
    test: float


class FairFaceStudy(SubjectsStudy[FairFaces, FairFace]):
    """A study of recognizers trained under interventions."""

    def trials(self, settings: FairFaces) -> list[FairFace]:
        """Every model under every scheme, as often as there are runs."""
        common = {name: getattr(settings, name) for name in ("subjects", "bystanders", "test")}
        return trials_of(FairFace, settings, settings.models, **common)

    def run(self, trial: FairFace, bench: Workbench) -> list[Measurement]:
        """Train and score, unless another study has done the same already."""
        subjects = trial.subjects
        others = None if trial.bystanders is None else crops_of(trial.bystanders, bench, size=subjects.size)
        splits = split_faces(crops_of(subjects, bench), subjects.column, test=trial.test, bystanders=others)
        folder = bench.cache / "fair"
        experiment = FaceExperiment(splits, subjects.column, trial.model, folder=folder, device=bench.device)
        return measurements_of(measure_once(experiment, trial.intervention, seed=trial.run, folder=folder))

    def resolve(self, settings: FairFaces) -> FairFaces:
        """Settings with hashes of their data, or with generated people where a pack is not here."""
        found = super().resolve(settings)
        others = found.bystanders
        return found if others is None else found.model_copy(update={"bystanders": at_hand(others)})

    def check(self, settings: FairFaces) -> Iterator[str]:
        """See `SubjectsStudy`; the bystanders' labels come first."""
        others = None if settings.bystanders is None else table_at_hand(settings.bystanders)
        if settings.bystanders is not None and others is not None:
            yield from others.notes
            groups_of(FaceCrops.without_pictures(others).groups, settings.bystanders.column)
        yield from super().check(settings)

    def check_labels(self, settings: FairFaces, crops: FaceCrops) -> None:
        """Whether crops can be split into train, validation and test."""
        split_faces(crops, settings.subjects.column, test=settings.test)

    def differences(self, settings: FairFaces) -> list[str]:
        """What differs from sections 6.3.1 and 6.9.2."""
        subjects, said = settings.subjects, []
        if subjects.data == SYNTHETIC:
            said.append(
                f"Faces: {subjects.people} generated people with {subjects.photos} photos each instead of CelebA; the "
                f"groups are shapes of heads, {subjects.focus} in the place of men and {subjects.other} in that of "
                "women. Those in the place of women are made harder to tell apart, so that there is a gap to close."
            )
        first = next(iter(settings.models.values()))
        if first.training.epochs != PAPER.epochs:
            names = ", ".join(f"{name} ({model.backbone})" for name, model in settings.models.items())
            said.append(
                f"Networks: {names} at {subjects.size} pixels, {first.training.epochs} epochs of batches of "
                f"{first.training.batch_size}, instead of 112 pixels, 120 epochs and 512. In batches that small the "
                "mean losses of groups differ much by chance. Whether a penalty of the same α does more harm for that "
                "was not tested."
            )
        margins = any(isinstance(one, GroupMargins) for one in settings.schemes.values())
        if margins and first.training.epochs == SMALL.training.epochs:
            said.append(
                f"Larger margins were seen to change next to nothing in {first.training.epochs} epochs. Why was not "
                "tested; fair-margins-angles trains longer."
            )
        said.append(
            f"Runs: {settings.runs}, where the text has one; changes are run by run, and their intervals over runs say "
            "nothing of other people."
        )
        said.append(
            "Accuracy on the train set is of all images of the people trained on but those of validation, so with a "
            "penalty on a holdout also of the tenth that it is taken of."
        )
        if first.stratified and subjects.data == SYNTHETIC:
            said.append(
                "Generated groups are equally large, so in every batch Min-Max is Eq. Loss Train with α = 0.5: "
                "max{a, b} = (a + b) / 2 + |a − b| / 2. The two rows are the same figures."
            )
        if first.stratified:
            said.append("Batches hold every group in proportion to its share; how the text draws them is not told.")
        notes = () if settings.bystanders is None else settings.bystanders.notes
        return [*said, *subjects.notes, *notes]

    def rehearsal(self, settings: FairFaces) -> FairFaces:
        """The same schemes on a few generated people, one epoch each."""
        subjects = generated(settings.subjects).model_copy(update={"people": 48, "photos": 8, "size": 64})
        first = next(iter(settings.models.values()))
        training = Training(epochs=1, batch_size=64, learning_rate=0.02, nesterov=False)
        removal = first.removal.model_copy(update={"epochs": 1})
        names = {settings.subjects.focus: subjects.focus, settings.subjects.other: subjects.other}
        tiny = first.model_copy(
            update={
                "backbone": "resnet-8",
                "dimension": 16,
                "training": training,
                "stratified": True,
                "removal": removal,
            }
        )
        return settings.model_copy(
            update={
                "subjects": subjects, "bystanders": None, "untargeted": "tone", "models": {"ResNet-8": tiny}, "runs": 1,
                "schemes": {name: one.regrouped(names) for name, one in settings.schemes.items()}, "test": 0.25,
            }
        )  # fmt: skip


def comparisons(settings: FairFaces, results: Results[FairFace]) -> dict[str, Comparison]:
    """What each model came to."""
    measures = MEASURES | {"bystanders": "rank-1"}
    return comparisons_of(
        results, settings.schemes, task="recognition", column=settings.subjects.column, measures=measures
    )


def sexes(subjects: Subjects) -> dict[str, str]:
    """The groups by what the published tables call them."""
    return {"M": subjects.focus, "F": subjects.other}


def face_schemes(subjects: Subjects, *, penalties: Sequence[float], removals: Sequence[float] = (1, 2, 3)) -> Schemes:
    """All of tables 6.6 and 6.7.

    Args:
        subjects: whose groups.
        penalties: α of equal loss on the train set.
        removals: α of fair features.
    """
    men, women = subjects.focus, subjects.other
    return {
        BASELINE: Baseline(),
        **{f"Eq. Loss Train α = {weight:g}": EqualLoss(weight=weight) for weight in penalties},
        "Eq. Loss Holdout baseline": EqualLoss(weight=0, on="holdout"),
        **{f"Eq. Loss Holdout α = {weight:g}": EqualLoss(weight=weight, on="holdout") for weight in penalties[:-1]},
        **{f"Label Flipping p = {share:g}": LabelFlipping(group=men, share=share) for share in (0.1, 0.3, 0.5)},
        "Adjusted Margins": GroupMargins(group=women),
        "Min-Max": MinMax(),
        "Fair Features baseline": FairFeatures(toward=women, weight=0),
        # the tables name the group that is penalized, which is to look like the other (section 6.5)
        **{f"Fair Features (Females) α = {weight:g}": FairFeatures(toward=men, weight=weight) for weight in removals},
        **{f"Fair Features (Males) α = {weight:g}": FairFeatures(toward=women, weight=weight) for weight in removals},
    }
