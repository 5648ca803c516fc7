"""Galleries of other make-ups for recognizers that are there: tables 5.4 and 5.5, figures 5.3 and 5.5."""

from collections.abc import Sequence
from functools import partial

from pydantic import Field, model_validator
from torch import Tensor

from fairveil.audit.bias import respond
from fairveil.audit.imbalance import PARTS, Composition, Kind, Shares, draw, largest, sweep
from fairveil.audit.paper.curves import (
    cell_of,
    curves_of,
    measured,
    plots_of,
    ratio_name,
    tables_beside,
)
from fairveil.audit.paper.train_sets import (
    PUBLISHED_MODELS,
    TEST_PEOPLE,
    Model,
    split,
    tiny_model,
    trained_once,
)
from fairveil.base.estimate import Estimate
from fairveil.data.face_crops import FaceCrops
from fairveil.data.population import Population
from fairveil.experiment.study import SYNTHETIC, Measurement, Results, Trial
from fairveil.experiment.subjects import (
    CELEBA,
    Subjects,
    SubjectSettings,
    SubjectsStudy,
    crops_of,
    embedded,
    generated,
)
from fairveil.experiment.workbench import Workbench
from fairveil.faces.recognizer_training import PAPER, embed_all
from fairveil.faces.trained import RANDOM, random_recognizer
from fairveil.report.study import Figure
from fairveil.report.tables import Table

_DECIDING = {"model", "subjects", "test_people", "train_identities", "train_images"}
"""What of a trial the trained recognizer depends on."""


def _none(value: object) -> bool:
    return value is None


class Galleries(SubjectSettings):
    """Settings.

    Attributes:
        subjects: who is looked for among whom.
        kind: what the groups have unequal shares of.
        recognizers: their names; in a Parquet file of embeddings, the columns.
        trained: what is trained first, by name, on a balanced set of `train_identities` and `train_images`, so that
            test people are looked for with it.
        train_identities: in the train set; with `train_images`, or as many as can be.
        train_images: in the train set.
        test_people: of each group, put aside, of whom alone galleries are drawn; None to draw them of everybody.
        draws: galleries of each make-up (section 5.5.1: 5).
        identities: in every gallery; with `images`, or as many as can be.
        images: in every gallery.
        random: whether the recognizers are one random network each, to be shown as one (figure 5.5).
    """

    kind: Kind = "identities"
    recognizers: tuple[str, ...] = ("mobilefacenet-512", "faceres-deep", "mobileface", "dlib-resnet")
    trained: dict[str, Model] = Field({}, exclude_if=lambda models: not models)
    train_identities: int | None = Field(None, exclude_if=_none)
    train_images: int | None = Field(None, exclude_if=_none)
    test_people: int | None = Field(None, ge=4, exclude_if=_none)
    draws: int = Field(5, ge=1)
    identities: int | None = None
    images: int | None = None
    random: bool = False

    @model_validator(mode="after")
    def _tested_with_others(self) -> "Galleries":
        if self.trained and self.test_people is None:
            raise ValueError("networks that are trained need test_people, whom they have not seen: set it")
        if self.test_people is not None and not all(name.startswith(RANDOM) for name in self.recognizers):
            raise ValueError("test_people is for networks that are trained, or random: leave out the other recognizers")
        return self


class GallerySweep(Trial):
    """One recognizer on galleries of all make-ups; see `Galleries`."""

    subjects: Subjects
    kind: Kind
    recognizer: str
    model: Model | None = Field(None, exclude_if=_none)
    train_identities: int | None = Field(None, exclude_if=_none)
    train_images: int | None = Field(None, exclude_if=_none)
    test_people: int | None = Field(None, exclude_if=_none)
    draws: int
    identities: int | None
    images: int | None

    @property
    def label(self) -> str:
        """The recognizer."""
        return self.recognizer


class GalleryStudy(SubjectsStudy[Galleries, GallerySweep]):
    """A study of what the make-up of a gallery does."""

    def trials(self, settings: Galleries) -> list[GallerySweep]:
        """One for each recognizer."""
        common = {
            name: getattr(settings, name)
            for name in ("subjects", "kind", "draws", "identities", "images", "test_people")
        }
        totals = {"train_identities": settings.train_identities, "train_images": settings.train_images}
        return [
            *(GallerySweep(recognizer=name, **common) for name in settings.recognizers),
            *(
                GallerySweep(recognizer=name, model=model, **totals, **common)
                for name, model in settings.trained.items()
            ),
        ]

    def run(self, trial: GallerySweep, bench: Workbench) -> list[Measurement]:
        """Embed everybody, draw the galleries, and look for each photo among the others of its gallery."""
        vectors, population = _embedded(trial, bench)
        parts = PARTS[trial.kind]
        make_ups = sweep(
            population, trial.kind, trial.subjects.focus, parts=parts, identities=trial.identities, images=trial.images
        )
        with bench.timed("search"):
            response = respond(vectors, population, make_ups, seeds=trial.draws)
        found = []
        for place, part in enumerate(parts):
            labels = {"ratio": ratio_name(part)}
            found += measured(response, place, trial.subjects, labels)
            for group in (trial.subjects.focus, trial.subjects.other):
                own = response.supplied_by_own(place, group)
                if own is not None:
                    what = {"what": f"wrong matches of the own group, {group}"}
                    found.append(Measurement(labels=labels | what, value=own.value, low=own.low, high=own.high))
        sizes = make_ups[0]
        found += [
            Measurement(labels={"ratio": "all", "what": what}, value=sum(counts.values()))
            for what, counts in (("identities", sizes.identities), ("images", sizes.images))
        ]
        return found

    def check_labels(self, settings: Galleries, crops: FaceCrops) -> None:
        """Whether train set and galleries can be drawn."""
        column = settings.subjects.column
        if settings.test_people is not None:
            train, crops = split(crops, column, settings.test_people)
            if settings.trained:
                population = Population.of(train.frame, column)
                draw(population, _balanced(population, settings.train_identities, settings.train_images), seed=0)
        population = Population.of(crops.frame, column)
        for make_up in sweep(
            population, settings.kind, settings.subjects.focus, identities=settings.identities, images=settings.images
        ):
            draw(population, make_up, seed=0)

    def tables(self, settings: Galleries, results: Results[GallerySweep]) -> list[Table]:
        """Ours beside table 5.4 or 5.5, and who supplied the wrong matches."""
        curves = _curves(settings, results)
        number = "5.4" if settings.kind == "identities" else "5.5"
        what = "Random networks, galleries" if settings.random else "Galleries"
        title = f"{what} with unequal {settings.kind}"
        beside = tables_beside(
            curves, number, settings.subjects, PARTS[settings.kind], caption=_caption(settings, results), title=title
        )
        return [*beside, _suppliers(settings, curves)]

    def figures(self, settings: Galleries, results: Results[GallerySweep]) -> Sequence[Figure]:
        """Figure 5.3; for random networks figure 5.5."""
        x_name = f"share of {settings.kind} that are {settings.subjects.column} {settings.subjects.focus}"
        return plots_of(_curves(settings, results), settings.subjects, PARTS[settings.kind], x_name=x_name)

    def differences(self, settings: Galleries) -> list[str]:
        """What differs from section 5.5."""
        said = []
        if settings.subjects.data == SYNTHETIC:
            said.append(
                "Faces: generated ones, whose groups are shapes of heads: they say that everything runs, no more."
            )
        elif "Male" not in settings.subjects.column:
            said.append(
                f"Faces: {settings.subjects.data} instead of CelebA's 812 identities with 17 photos each, and smaller "
                "galleries. Recognizers may have been trained on people of Labeled Faces in the Wild."
            )
        if settings.random:
            size = settings.subjects.size
            said.append(f"Networks: the text names none of the two; ours are named, and take crops of {size} pixels.")
        elif not settings.trained:
            said.append("Recognizers: small pretrained ones instead of networks trained on balanced parts of CelebA.")
        else:
            said += _differences_of_training(settings)
        said.append(
            "Intervals are ours: 95 %, people taken for the sample, each with all draws. Random networks: from the "
            "lowest to the highest of the initializations."
        )
        return [*said, *settings.subjects.notes]

    def rehearsal(self, settings: Galleries) -> Galleries:
        """The same on a few generated faces and two recognizers, one draw each; what is trained, for one epoch."""
        people = 16 if settings.test_people is None else 36
        subjects = generated(settings.subjects).model_copy(update={"people": people, "photos": 10, "size": 64})
        few = settings.recognizers if settings.random else ("random:resnet-18:0", "random:mobilefacenet:0")
        changed = {"subjects": subjects, "draws": 1, "identities": None, "images": None}
        if settings.test_people is not None:
            changed |= {"test_people": 8}
        if settings.trained:
            tiny = {name: tiny_model(model) for name, model in settings.trained.items()}
            changed |= {"trained": tiny, "train_identities": None, "train_images": None}
            few = ()
        return settings.model_copy(update=changed | {"recognizers": few[-2:]})


def _embedded(trial: GallerySweep, bench: Workbench) -> tuple[Tensor, Population]:
    """What the recognizer makes of those of whom galleries are drawn: unit vectors (N, D), and who they are of."""
    subjects = trial.subjects
    if trial.test_people is None:
        with bench.timed("embed"):
            return embedded(subjects, trial.recognizer, bench)
    train, test = split(crops_of(subjects, bench), subjects.column, trial.test_people)
    if trial.model is None:
        recognizer = random_recognizer(trial.recognizer, size=subjects.size)
    else:
        about = trial.model_dump(mode="json", include=_DECIDING)
        with bench.timed("train"):
            recognizer = trained_once(trial.model, about, partial(_train_set, trial, train), seed=0, bench=bench)
    with bench.timed("embed"):
        return embed_all(recognizer, test), Population.of(test.frame, subjects.column)


def _train_set(trial: GallerySweep, train: FaceCrops) -> FaceCrops:
    """The default train set: as many people and images of each group (table 5.1)."""
    population = Population.of(train.frame, trial.subjects.column)
    return train.take(draw(population, _balanced(population, trial.train_identities, trial.train_images), seed=0))


def _balanced(population: Population, identities: int | None, images: int | None) -> Composition:
    shares = Shares.balanced(population.groups)
    if identities is None or images is None:
        return largest(population, [shares])[0]
    return Composition.of(shares, identities=identities, images=images)


def _differences_of_training(settings: Galleries) -> list[str]:
    """What differs from how the default networks were trained (section 5.3)."""
    said = ["Networks: one training of each; how many the text has is not told. It also has ResNet-50 and prints none."]
    first = next(iter(settings.trained.values()))
    if first.training.epochs != PAPER.epochs:
        names = ", ".join(sorted({f"{model.backbone} ({model.head})" for model in settings.trained.values()}))
        said.append(f"Training: {names}, {first.training.epochs} epochs of batches of {first.training.batch_size}.")
    return said


def _name(settings: Galleries, recognizer: str) -> str:
    """Random networks of one kind are one recognizer, of which each is a run."""
    return recognizer.rpartition(":")[0] if settings.random else recognizer


def _curves(settings: Galleries, results: Results[GallerySweep]) -> dict[tuple[str, str, str], Estimate]:
    return curves_of((_name(settings, trial.recognizer), one) for trial, found in results.items() for one in found)


def _caption(settings: Galleries, results: Results[GallerySweep]) -> str:
    sizes = {one.labels["what"]: one.value for one in next(iter(results.values())) if one.labels["ratio"] == "all"}
    brackets = "lowest and highest initialisation" if settings.random else "95 % intervals over people"
    return (
        f"Ours: galleries of {sizes['identities']:.0f} people and {sizes['images']:.0f} photos, {settings.draws} draws "
        f"of each make-up; in brackets {brackets}."
    )


def _suppliers(settings: Galleries, curves: dict[tuple[str, str, str], Estimate]) -> Table:
    recognizers = list(dict.fromkeys(name for name, *_ in curves))
    groups = (settings.subjects.focus, settings.subjects.other)
    rows = []
    for part in PARTS[settings.kind]:
        cells = [
            cell_of(curves, name, f"wrong matches of the own group, {group}", ratio_name(part))
            for name in recognizers
            for group in groups
        ]
        rows.append((ratio_name(part), tuple(cells)))
    return Table(
        title="Who the wrong matches are: share of the probe's own group, ours",
        columns=groups * len(recognizers),
        groups=tuple((name, 2) for name in recognizers),
        rows=tuple(rows),
        caption="Of probes whose nearest photo is of somebody else, how many find somebody of their own group.",
        row_name=f"{settings.subjects.focus} : {settings.subjects.other}",
    )


_QUESTIONS: dict[Kind, str] = {
    "identities": "What do more people of a group in the gallery do to its errors, and to their ratio?",
    "images": "What do more photos of each person of a group in the gallery do to its errors, and to their ratio?",
}


def _of_kind(kind: Kind, source: str) -> GalleryStudy:
    return GalleryStudy(
        name=f"gallery-{kind}",
        title=f"Galleries with unequal {kind}",
        question=_QUESTIONS[kind],
        source=source,
        small=Galleries(kind=kind),
        paper=Galleries(
            subjects=CELEBA, kind=kind, identities=406 if kind == "identities" else 812, images=7000, recognizers=(),
            trained=PUBLISHED_MODELS, train_identities=7934, train_images=140_000, test_people=TEST_PEOPLE,
        ),
    )  # fmt: skip


def _random(backbones: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"random:{backbone}:{seed}" for backbone in backbones for seed in range(10))


GALLERY_IDENTITIES = _of_kind("identities", "table 5.4, figure 5.3")
GALLERY_IMAGES = _of_kind("images", "table 5.5, figure 5.3")
RANDOM_EXTRACTORS = GalleryStudy(
    name="random-extractors",
    title="Recognizers that were never trained",
    question="Do networks with random weights err equally on groups, in galleries of any make-up?",
    source="figure 5.5",
    small=Galleries(
        subjects=Subjects(size=64), kind="images", recognizers=_random(("mobilefacenet", "resnet-18")), random=True
    ),
    paper=Galleries(
        subjects=CELEBA,
        kind="images",
        recognizers=_random(("mobilefacenet", "resnet-152")),
        identities=812,
        images=7000,
        random=True,
        test_people=TEST_PEOPLE,
    ),
)
