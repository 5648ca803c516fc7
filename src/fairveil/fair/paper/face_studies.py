"""The studies of recognizers: tables 6.2 to 6.7."""

from fairveil.experiment.published import published_table
from fairveil.experiment.study import Results
from fairveil.experiment.subjects import CELEBA, Subjects
from fairveil.faces.recognizer_training import PAPER
from fairveil.fair.comparing import SPLITS, Comparison
from fairveil.fair.face_experiment import SMALL, FaceSettings
from fairveil.fair.paper.face_trials import (
    GENERATED,
    FairFace,
    FairFaces,
    FairFaceStudy,
    comparisons,
    face_schemes,
    sexes,
)
from fairveil.fair.paper.schemes import BASELINE, named
from fairveil.fair.report import change_table, gap_table, gerrymandering_table, runs_caption
from fairveil.report.tables import Cell, Table, Unit, beside

_ROWS = {  # schemes by what table 6.5 calls them
    "Baseline": BASELINE,
    "Eq Loss": "Eq. Loss Train α = 0.5",
    "Margins": "Adjusted Margins",
    "Flip": "Label Flipping p = 0.3",
}


class SchemeStudy(FairFaceStudy):
    """A study of every scheme."""

    def tables(self, settings: FairFaces, results: Results[FairFace]) -> list[Table]:
        """Ours beside tables 6.6 (with all of 6.2) and 6.7, the gaps, and what each scheme cost."""
        tables: list[Table] = []
        for name, comparison in comparisons(settings, results).items():
            number = "6.7" if "152" in name else "6.6"
            groups = sexes(settings.subjects)
            columns = [(split, column) for split in SPLITS for column in ("M", "F", "gap")]
            rows = []
            for scheme in comparison.baselines:
                cells = []
                for split, column in columns:
                    found = (
                        comparison.difference(scheme, split, groups["M"], groups["F"])
                        if column == "gap"
                        else comparison.value(scheme, split, groups[column])
                    )
                    cells.append(Cell(found))
                rows.append((scheme, tuple(cells)))
            ours = Table(
                title=f"Training schemes, {name}",
                columns=tuple(f"{split} {column}" for split, column in columns),
                rows=tuple(rows),
                caption=_caption(settings, comparison),
                row_name="scheme",
            )
            also = " (tables 6.2 and 6.6)" if number == "6.6" else ""
            tables += beside(ours, published_table(number).table(), published_name=f"published{also}")
            tables += named([gap_table(comparison), change_table(comparison)], name)
        return tables


class AngleStudy(FairFaceStudy):
    """A study of angles between embeddings."""

    def tables(self, settings: FairFaces, results: Results[FairFace]) -> list[Table]:
        """Ours beside table 6.3."""
        published = published_table("6.3").table()
        units: tuple[Unit, ...] = ("%", "%", "%", "°", "°", "°", "°")
        tables: list[Table] = []
        for name, comparison in comparisons(settings, results).items():
            groups = sexes(settings.subjects)
            rows = []
            for split in ("validation", "test"):
                for row, scheme in (("baseline", BASELINE), ("fair", "Adjusted Margins")):
                    if scheme not in comparison.baselines:
                        continue
                    accuracies = [Cell(comparison.value(scheme, split, group)) for group in groups.values()]
                    gap = Cell(comparison.difference(scheme, split, *groups.values()))
                    angles = [
                        Cell(comparison.value(scheme, split, group, measure=measure))
                        for measure in ("intra-class angle", "inter-class angle")
                        for group in groups.values()
                    ]
                    rows.append((f"{split} {row}", (*accuracies, gap, *angles)))
            ours = Table(
                title=f"Adjusted angular margins, {name}",
                columns=published.columns,
                rows=tuple(rows),
                unit=units,
                caption=_caption(settings, comparison),
                row_name="set and model",
            )
            tables += beside(ours, published, published_name="published (ResNet-152)")
        return tables


class FeatureStudy(FairFaceStudy):
    """A study of features that do not tell the group."""

    def tables(self, settings: FairFaces, results: Results[FairFace]) -> list[Table]:
        """Ours beside table 6.4."""
        tables: list[Table] = []
        for name, comparison in comparisons(settings, results).items():
            groups = sexes(settings.subjects)
            rows = []
            for title, toward in (("Penalize Females", "Females"), ("Penalize Males", "Males")):
                for weight in (0, 1, 2, 3):
                    scheme = f"Fair Features ({toward}) α = {weight}" if weight else "Fair Features baseline"
                    if scheme not in comparison.baselines:
                        continue
                    accuracies = [Cell(comparison.value(scheme, "test", group)) for group in groups.values()]
                    gap = Cell(comparison.difference(scheme, "test", *groups.values()))
                    told = Cell(comparison.value(scheme, "test", measure="sensitive accuracy"))
                    rows.append((f"{title} α = {weight}", (*accuracies, gap, told)))
            ours = Table(
                title=f"Fair features, {name}",
                columns=("M", "F", "gap", "sensitive accuracy"),
                rows=tuple(rows),
                caption=_caption(settings, comparison)
                + " The sensitive accuracy is how often the head that was fooled tells the "
                "group of test people.",
                row_name="penalty",
            )
            tables += beside(ours, published_table("6.4").table(), published_name="published (ResNet-152)")
            tables += named([change_table(comparison)], name)
        return tables


class BystanderStudy(FairFaceStudy):
    """A study of groups that nobody asked about."""

    def tables(self, settings: FairFaces, results: Results[FairFace]) -> list[Table]:
        """Ours beside table 6.5, and the matrix of who gained and who paid."""
        tables: list[Table] = []
        split = "test" if settings.bystanders is None else "bystanders"
        column = settings.untargeted if settings.bystanders is None else settings.bystanders.column
        for name, comparison in comparisons(settings, results).items():
            groups = comparison.groups_of(column, split)
            rows = []
            for row, scheme in _ROWS.items():
                if scheme not in comparison.baselines:
                    continue
                rows.append((row, tuple(_of(comparison, scheme, split, column, group) for group in groups)))
                if row != BASELINE:
                    lost = [comparison.change(scheme, split, group, column=column) for group in groups]
                    rows.append((f"{row} diff", tuple(Cell(-one) for one in lost)))
            ours = Table(
                title=f"Models trained for fairness by {settings.subjects.column}, by {column}, {name}",
                columns=tuple(groups),
                rows=tuple(rows),
                caption=_caption(settings, comparison)
                + " As in the text, diff is the baseline less the model, run by run: above "
                "zero, the group lost.",
                row_name="model",
                column_name=column,
            )
            tables += beside(ours, published_table("6.5").table())
            matrix = gerrymandering_table(comparison, split=split)
            tables += named([matrix] if matrix else [], name)
        return tables


def _of(comparison: Comparison, scheme: str, split: str, column: str, group: str) -> Cell:
    return Cell(comparison.value(scheme, split, group, column=column))


def _caption(settings: FairFaces, comparison: Comparison) -> str:
    subjects = settings.subjects
    return (
        f"{runs_caption(comparison)} M is {subjects.column} {subjects.focus}, "
        f"F {subjects.other}; gaps are M less F. On the train set faces are classified, elsewhere looked for among "
        "others (rank-1)."
    )


_ALPHAS = (0.1, 0.5, 1.0, 2.0)
_SMALL = FairFaces(
    subjects=GENERATED,
    models={"ResNet-8": SMALL},
    schemes=face_schemes(GENERATED, penalties=_ALPHAS),
)
# until own cosines are ahead of others' by more than the usual margin, which takes longer, a larger one changes nothing
_LONGER = SMALL.model_copy(update={"training": SMALL.training.model_copy(update={"epochs": 40})})
_PAPER_MODELS = {
    "ResNet-18": FaceSettings(backbone="resnet-18", training=PAPER),
    "ResNet-152": FaceSettings(backbone="resnet-152", training=PAPER),
}
_PAPER = FairFaces(
    subjects=CELEBA,
    models=_PAPER_MODELS,
    schemes=face_schemes(CELEBA, penalties=_ALPHAS[1:]),
    test=1000 / 10_177,
    runs=1,
)
_BUPT = Subjects(data="bupt-balancedface", column="race", focus="Caucasian", other="African")


def _only(settings: FairFaces, *beginnings: str, **changed: object) -> FairFaces:
    """Settings with some of their schemes."""
    schemes = {name: one for name, one in settings.schemes.items() if name.startswith(beginnings)}
    return settings.model_copy(update={"schemes": schemes, **changed})


_DEEP = {"models": {"ResNet-152": _PAPER_MODELS["ResNet-152"]}}
_GERRYMANDERING = tuple(_ROWS.values())

FAIR_RECOGNITION = SchemeStudy(
    name="fair-recognition",
    title="Training schemes for fairer recognizers",
    question="Is the fairness that an intervention brings on the train set there for people the recognizer never saw?",
    source="tables 6.2, 6.6 and 6.7",
    small=_SMALL,
    paper=_PAPER,
)
FAIR_MARGINS_ANGLES = AngleStudy(
    name="fair-margins-angles",
    title="Larger margins for one group",
    question="Do larger margins for a group bring its people closer together, and is it found more often for it?",
    source="table 6.3",
    small=_only(_SMALL, BASELINE, "Adjusted Margins", models={"ResNet-8": _LONGER}),
    paper=_only(_PAPER, BASELINE, "Adjusted Margins", **_DEEP),
)
FAIR_FEATURES = FeatureStudy(
    name="fair-features",
    title="Features that do not tell the group",
    question="Are recognizers fairer whose features a classifier cannot tell the group from?",
    source="table 6.4",
    small=_only(_SMALL, "Fair Features"),
    paper=_only(_PAPER, "Fair Features", **_DEEP),
)
GERRYMANDERING_RECOGNITION = BystanderStudy(
    name="gerrymandering-recognition",
    title="Who else pays for fairer recognizers",
    question="What does fairness by one column of groups do to groups of another, which nobody asked about?",
    source="table 6.5",
    small=_only(_SMALL, *_GERRYMANDERING),
    paper=_only(_PAPER, *_GERRYMANDERING, **_DEEP, bystanders=_BUPT),
)
FACE_STUDIES = (FAIR_RECOGNITION, FAIR_MARGINS_ANGLES, FAIR_FEATURES, GERRYMANDERING_RECOGNITION)
