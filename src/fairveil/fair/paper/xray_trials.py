"""Networks that find what X-rays show under interventions: what the studies of X-rays share (section 6.3.2)."""

import hashlib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from fairveil.base.errors import FairveilError
from fairveil.data.xrays import Preparation, SyntheticXrays, read_xrays
from fairveil.experiment.study import SYNTHETIC, Measurement, Results, Study
from fairveil.experiment.workbench import Workbench
from fairveil.fair.comparing import Comparison
from fairveil.fair.experiments import measure_once
from fairveil.fair.interventions import LabelFlipping
from fairveil.fair.paper.schemes import SchemeSettings, SchemeTrial, comparisons_of, measurements_of, trials_of
from fairveil.fair.xray_classifier import PAPER, PAPER_DROPOUT, XraySettings
from fairveil.fair.xray_experiment import MEASURES, XrayExperiment, XraySplits, split_xrays
from fairveil.training import Training


class Patients(BaseModel):
    """Whose X-rays.

    Attributes:
        data: the path of a list in a published layout, such as CheXpert's train.csv; or "synthetic".
        test: the path of a list to test with; None to put patients of the former aside.
        column: what the groups are of.
        focus: the group that stands for M.
        other: the group that stands for F.
        size: side of the X-rays in pixels.
        people: generated patients, with two X-rays each, where they are generated.
        hardness: how much findings show in the generated `other` group, against 1 in the `focus` group.
        tested: share of the patients to test with, where no list is given for it.
        weights: a file of ImageNet weights to start a DenseNet-121 from; None for random ones.
        content: a hash of the files, put in when a study is run.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: str = SYNTHETIC
    test: str | None = None
    column: str = "sex"
    focus: Literal["M"] = "M"
    other: Literal["F"] = "F"
    size: int = Field(32, ge=16, le=1024)
    people: int = Field(1000, ge=20)
    hardness: float = Field(0.6, ge=0, le=2)
    tested: float = Field(0.4, gt=0, lt=1)
    weights: str | None = None
    content: str | None = None


class FairXrays(SchemeSettings):
    """Settings.

    Attributes:
        patients: who is trained on and tested with.
        models: by name.
    """

    patients: Patients = Patients()
    models: dict[str, XraySettings]


class FairXray(SchemeTrial):
    """One network under one scheme; see `FairXrays`."""

    model: XraySettings
    patients: Patients


class FairXrayStudy(Study[FairXrays, FairXray]):
    """A study of networks that find what X-rays show, trained under interventions."""

    def resolve(self, settings: FairXrays) -> FairXrays:
        """Settings with a hash of the lists and weights they name.

        Raises:
            FairveilError: a file that is named is not there.
        """
        patients = settings.patients
        if patients.data == SYNTHETIC:
            return settings
        named = {"data": patients.data, "test": patients.test, "weights": patients.weights}
        files = {name: Path(path).absolute() for name, path in named.items() if path is not None}
        content = hashlib.sha256()
        for name, file in files.items():
            if not file.is_file():
                raise FairveilError(
                    f"There is no file {file} for patients.{name}: set it to a list of X-rays or weights."
                )
            content.update(file.read_bytes())
        update = {name: str(file) for name, file in files.items()} | {"content": content.hexdigest()}
        return settings.model_copy(update={"patients": patients.model_copy(update=update)})

    def data(self, settings: FairXrays) -> str:
        """Whose X-rays they are."""
        return settings.patients.data

    def trials(self, settings: FairXrays) -> list[FairXray]:
        """Every model under every scheme, as often as there are runs."""
        return trials_of(FairXray, settings, settings.models, patients=settings.patients)

    def run(self, trial: FairXray, bench: Workbench) -> list[Measurement]:
        """Train and score, unless another study has done the same already."""
        patients = trial.patients
        experiment = XrayExperiment(
            splits_of(patients, bench.cache / "xrays"),
            patients.column,
            trial.model,
            pretrained=None if patients.weights is None else Path(patients.weights),
            device=bench.device,
        )
        return measurements_of(
            measure_once(experiment, trial.intervention, seed=trial.run, folder=bench.cache / "fair")
        )

    def differences(self, settings: FairXrays) -> list[str]:
        """What differs from sections 6.3.2 and 6.9.1."""
        patients, said = settings.patients, []
        if patients.data == SYNTHETIC:
            said.append(
                f"X-rays: two of each of {patients.people:,} generated patients instead of CheXpert's. Findings show "
                f"{patients.hardness:g} times as much in women, so that there is a gap to close: it is put in, not "
                "found."
            )
        first = next(iter(settings.models.values()))
        if first.training != PAPER:
            names = ", ".join(settings.models)
            said.append(
                f"Networks: {names}, from random weights, at {patients.size} pixels, {first.training.epochs} epochs, "
                f"learning rate {first.training.learning_rate:g}, instead of a DenseNet-121 that knows ImageNet, 256 "
                "pixels, 20 epochs of which the first few learn."
            )
        else:
            said += _of_paper(patients)
        said.append(
            f"Dropout and weight decay: the text has both and gives no figures. Here they are {first.dropout:g} and "
            f"{first.training.weight_decay:g}; the DenseNet's authors have {PAPER_DROPOUT:g} and "
            f"{PAPER.weight_decay:g}, and the code that the text refers to has none of either."
        )
        if first.augment:
            said.append("Augmentation: each X-ray is varied in place; the text adds a varied copy.")
        if first.stratified:
            said.append("Batches hold every group in proportion to its share; how the text draws them is not told.")
        said.append(
            f"Runs: {settings.runs}. The text does not tell how many it has; the gaps of table 6.1 read like means of "
            "several. Validation, of which penalties on a holdout are taken, is no fresh data for these."
        )
        said.append(
            "Labels are flipped by chance for each X-ray whenever it is seen, where the text took larger batches for "
            "some shares to find any to flip."
        )
        flips = [one for one in settings.schemes.values() if isinstance(one, LabelFlipping)]
        if flips:
            said.append(
                f"Flipped labels: those of {patients.column} {flips[0].group}. Table 6.10 does not say whose it has; "
                "by its train columns, where women lose more the more labels are wrong, they are the women's."
            )
        return said

    def rehearsal(self, settings: FairXrays) -> FairXrays:
        """The same schemes on a few generated X-rays, one epoch each."""
        training = Training(epochs=1, batch_size=56, learning_rate=0.01)
        tiny = XraySettings(
            network="resnet-8-fast", width=8, preparation=Preparation(), training=training, stratified=True
        )
        patients = Patients(size=16, people=120)
        models = {name: tiny.model_copy(update={"width": 8 * place}) for place, name in enumerate(settings.models, 1)}
        return settings.model_copy(update={"patients": patients, "models": models, "runs": 1})


def splits_of(patients: Patients, folder: Path) -> XraySplits:
    """Patients to train on, to validate with and to test with.

    Args:
        patients: whose X-rays.
        folder: keeps X-rays that were read.
    """
    if patients.data == SYNTHETIC:
        hardness = {patients.other: patients.hardness}
        drawn = SyntheticXrays.model_validate(
            {"patients": patients.people, "size": patients.size, "seed": 0, "hardness": hardness}
        ).draw()
        return split_xrays(drawn, test=patients.tested)
    xrays = read_xrays(patients.data, size=patients.size, folder=folder)
    if patients.test is None:
        return split_xrays(xrays, test=patients.tested)
    trained, validated = xrays.split(0.2, seed=0)  # the text's 80:20
    return XraySplits(trained, validated, read_xrays(patients.test, size=patients.size, folder=folder))


def comparisons(settings: FairXrays, results: Results[FairXray]) -> dict[str, Comparison]:
    """What each model came to."""
    measures = MEASURES
    return comparisons_of(
        results, settings.schemes, task="findings", column=settings.patients.column, measures=measures
    )


def _of_paper(patients: Patients) -> list[str]:
    """What differs from the text where networks are trained as published."""
    said = [
        "Train and validation set: 80 to 20 by patient; the text splits images at random, so that it has X-rays of one "
        "patient in both.",
        "X-rays without sex or age are kept, as of an unknown group; the text leaves them out.",
        "Uncertain findings count as present for edema and atelectasis and as absent for the others; what the text "
        "does is not told.",
    ]
    if patients.weights is None:
        said.append(
            "Weights: random at first, since none are given; torchvision's of ImageNet go in by patients.weights."
        )
    return said
