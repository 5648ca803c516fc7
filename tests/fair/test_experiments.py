"""Recognizers and finders trained under every intervention, on generated faces and X-rays."""

from dataclasses import replace
from functools import cache

import polars as pl
import pytest
import torch

from fairveil.base.errors import FairveilError
from fairveil.data.face_crops import FaceCrops
from fairveil.data.synthetic import SyntheticFaces
from fairveil.data.xrays import Preparation, SyntheticXrays, Xrays
from fairveil.fair.adversarial import Removal
from fairveil.fair.comparing import compare
from fairveil.fair.experiments import Callbacks, measure_once
from fairveil.fair.face_experiment import FaceExperiment, FaceSettings
from fairveil.fair.face_splits import FaceSplits, split_faces
from fairveil.fair.interventions import (
    Baseline,
    DisparateImpact,
    EqualizedOdds,
    EqualLoss,
    FairFeatures,
    GroupMargins,
    LabelFlipping,
    MinMax,
    Outputs,
    everything,
)
from fairveil.fair.scores import SCORES
from fairveil.fair.xray_classifier import XraySettings
from fairveil.fair.xray_experiment import XrayExperiment, XraySplits, split_xrays
from fairveil.training import Training

QUICK = Training(epochs=1, batch_size=16, learning_rate=0.01, nesterov=False)
FACES = FaceSettings(
    backbone="resnet-8", dimension=16, training=QUICK, stratified=True, removal=Removal(epochs=1, batch_size=32)
)
XRAYS = XraySettings(network="resnet-8-fast", preparation=Preparation(), training=QUICK, stratified=True)


@cache
def faces():
    made = SyntheticFaces(identities=24, per_identity=8, size=64, framing="crop")
    labels = made.labels
    return FaceCrops(
        made.render(range(len(made))),
        torch.arange(len(made)) // 8,
        tuple(labels["identity"].unique(maintain_order=True)),
        "generated",
        tuple(labels["image"]),
        {"tone": tuple(labels["tone"]), "shape": tuple(labels["shape"])},
    )


@cache
def xrays():
    return SyntheticXrays(patients=100, per_patient=2, size=32, seed=0).draw()


def face_experiment(**changed):
    return FaceExperiment(split_faces(faces(), "shape", test=0.45), "shape", FACES, device="cpu", **changed)


def xray_experiment():
    return XrayExperiment(split_xrays(xrays()), "sex", XRAYS, device="cpu")


def test_test_people_are_of_every_group_and_trained_on_by_nobody():
    splits = split_faces(faces(), "shape", test=0.45)
    assert len(splits.test.classes) == 10
    assert {*splits.test.groups["shape"]} == {"long", "round"}
    assert not {*splits.test.classes} & {*splits.train.classes}
    assert splits.validation.classes == splits.train.classes
    assert bool((torch.bincount(splits.validation.labels) == 3).all())
    parts = (splits.train, splits.holdout, splits.validation, splits.test)
    assert sorted(name for part in parts for name in part.image_names) == sorted(faces().image_names)
    assert len(splits.holdout) == pytest.approx(0.1 * 5 * 14, abs=5)


def test_leaks_are_refused():
    splits = split_faces(faces(), "shape", test=0.45)
    with pytest.raises(FairveilError, match="trained on and tested with"):
        FaceSplits(splits.train, splits.holdout, splits.validation, splits.train)
    with pytest.raises(FairveilError, match="trained on and put aside at once"):
        FaceSplits(splits.train, splits.train, splits.validation, splits.test)
    parts = split_xrays(xrays())
    with pytest.raises(FairveilError, match=r"patients, such as .* in train and in validation"):
        XraySplits(parts.train, parts.train.take([0, 1]), parts.test)


@pytest.mark.parametrize(
    ("column", "sentence"), [("sex", "no column of groups 'sex'"), ("one", "has the one value 'x'")]
)
def test_columns_without_two_groups_are_refused(column, sentence):
    crops = replace(faces(), groups={**faces().groups, "one": ("x",) * len(faces())})
    with pytest.raises(FairveilError, match=sentence):
        split_faces(crops, column)


def test_too_few_people_to_tell_anything_of_are_refused_before_training():
    with pytest.raises(FairveilError, match=r"Of the 12 people of shape long, 20% are 2: 5 with two images"):
        split_faces(faces(), "shape")
    few = SyntheticXrays(patients=12, per_patient=1, size=16, seed=0).draw()
    with pytest.raises(FairveilError, match="nothing could be told: two groups need 5 each"):
        XrayExperiment(split_xrays(few, validation=0.3, test=0.3), "sex", XRAYS)


def test_a_person_of_two_groups_is_refused():
    crops = replace(faces(), groups={"shape": ("long", *faces().groups["shape"][1:-1], "other")})
    with pytest.raises(FairveilError, match="has images of two values of shape"):
        split_faces(crops, "shape")


@pytest.mark.parametrize("one", everything("recognition", better="round", worse="long"), ids=lambda one: one.kind)
def test_a_recognizer_is_trained_and_scored_on_every_split_and_group(one):
    measured = face_experiment().measure(one, seed=0)
    assert measured.scores.schema == SCORES
    assert measured.skipped_fraction == 0
    for split, measure in face_experiment().measures.items():
        found = measured.scores.filter((pl.col("split") == split) & (pl.col("measure") == measure))
        assert {"", "long", "round"} <= {*found["group"]}
        assert found["value"].is_between(0, 1).all()
    assert ("sensitive accuracy" in measured.scores["measure"]) == (one.kind == "fair-features")
    angle = measured.scores.filter(pl.col("measure") == "intra-class angle")
    assert angle["value"].is_between(0, 90).all()


@pytest.mark.parametrize("one", everything("findings", better="M", worse="F"), ids=lambda one: one.name)
def test_a_finder_is_trained_and_scored_on_every_split_and_group(one):
    measured = xray_experiment().measure(one, seed=0)
    found = measured.scores.filter(pl.col("label") == "mean")
    assert {*found["split"]} == {"train", "validation", "test"}
    assert {"", "F", "M"} <= {*found["group"]}


def test_training_is_the_same_again_and_another_with_another_seed():
    first, again, other = (face_experiment().measure(MinMax(), seed=seed).scores for seed in (0, 0, 1))
    assert first.equals(again)
    assert not first.equals(other)


def test_a_penalty_of_no_weight_is_the_baseline():
    experiment = xray_experiment()
    network = experiment.fit(Baseline(), seed=0).network
    other = experiment.fit(EqualLoss(weight=0), seed=0).network
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in network.state_dict().items())


def test_margins_are_raised_for_the_group_alone_and_flipped_labels_stay_within_theirs():
    experiment = face_experiment()
    fitted = experiment.fit(GroupMargins(group="long", margin=0.6), seed=0)
    train = experiment.splits.train
    shapes = dict(zip(train.frame["identity"], train.groups["shape"], strict=True))
    expected = [0.6 if shapes[name] == "long" else 0.35 for name in train.classes]
    assert fitted.head.margin.tolist() == pytest.approx(expected)


def test_fair_features_start_from_a_kept_baseline(tmp_path):
    experiment = face_experiment(folder=tmp_path)
    first = experiment.measure(FairFeatures(toward="long"), seed=0).scores
    (kept,) = tmp_path.glob("baseline-*.safetensors")
    moment = kept.stat().st_mtime_ns
    assert experiment.measure(FairFeatures(toward="long"), seed=0).scores.equals(first)
    assert kept.stat().st_mtime_ns == moment
    anew = face_experiment().measure(FairFeatures(toward="long"), seed=0).scores
    angle = pl.col("measure") == "intra-class angle"  # in another memory layout sums are rounded otherwise
    assert anew.filter(angle)["value"].to_list() == pytest.approx(first.filter(angle)["value"].to_list(), abs=0.01)


def test_holdout_penalties_are_taken_of_other_images_than_are_trained_on():
    experiment = face_experiment()
    first = experiment.fit(EqualLoss(weight=0, on="holdout"), seed=0).recognizer.state_dict()
    second = experiment.fit(EqualLoss(weight=5, on="holdout"), seed=0).recognizer.state_dict()
    assert not all(torch.equal(value, second[name]) for name, value in first.items())
    assert EqualLoss(weight=5, on="holdout").baseline() == EqualLoss(weight=0, on="holdout")


@pytest.mark.parametrize("one", [EqualizedOdds(), DisparateImpact()])
def test_penalties_for_binary_labels_are_refused_for_many_classes(one):
    with pytest.raises(FairveilError, match="is for findings, not for recognition"):
        face_experiment().fit(one, seed=0)


@pytest.mark.parametrize("one", [GroupMargins(group="F"), FairFeatures(toward="F")])
def test_what_is_for_recognizers_is_refused_for_findings(one):
    with pytest.raises(FairveilError, match="is for recognition, not for findings"):
        xray_experiment().fit(one, seed=0)


def test_a_group_that_is_not_there_is_told_of_before_training():
    with pytest.raises(FairveilError, match="sex has no group 'men', but F, M"):
        xray_experiment().fit(LabelFlipping(group="men"), seed=0)
    with pytest.raises(FairveilError, match="shape has no group 'oval'"):
        face_experiment().fit(LabelFlipping(group="oval"), seed=0)


def test_batches_that_lack_a_group_are_counted():
    parts = split_xrays(xrays())
    women = {*sorted({*parts.train.patients})[:5]}
    sex = tuple("F" if patient in women else "M" for patient in parts.train.patients)
    lone = replace(parts, train=replace(parts.train, groups={**parts.train.groups, "sex": sex}))
    settings = XRAYS.model_copy(update={"stratified": False, "training": QUICK.model_copy(update={"batch_size": 4})})
    fitted = XrayExperiment(lone, "sex", settings, device="cpu").fit(EqualLoss(), seed=0)
    assert 0.4 < fitted.skipped_fraction < 1


def test_a_weight_that_drives_the_loss_to_no_number_is_told_of_and_the_last_good_epoch_kept(tmp_path):
    settings = XRAYS.model_copy(update={"training": QUICK.model_copy(update={"learning_rate": 1e30, "epochs": 3})})
    with pytest.raises(FairveilError, match="lower the learning rate"):
        XrayExperiment(split_xrays(xrays()), "sex", settings, device="cpu").fit(EqualLoss(weight=1e6), seed=0)


def test_unknown_findings_and_groups_teach_nothing_wrong():
    some = xrays()
    labels = some.labels.clone()
    labels[::3, 0] = torch.nan
    groups = {**some.groups, "sex": tuple(None if row % 5 == 0 else one for row, one in enumerate(some.groups["sex"]))}
    experiment = XrayExperiment(split_xrays(replace(some, labels=labels, groups=groups)), "sex", XRAYS, device="cpu")
    network = experiment.fit(EqualizedOdds(), seed=0).network
    assert all(bool(value.isfinite().all()) for value in network.state_dict().values() if value.is_floating_point())


def test_a_comparison_of_real_runs_has_every_figure_that_is_asked_of_it(tmp_path):
    found = compare(xray_experiment(), [EqualLoss(weight=1), MinMax()], seeds=3, folder=tmp_path)
    assert (found.best_group, found.worst_group) in {("F", "M"), ("M", "F")}
    for name in found.interventions:
        assert found.outcome(name) in {"carried over", "not seen on the test", "worse on the test",
                                       "no narrowing", "only on the test"}  # fmt: skip
        assert found.gap_change(name, "test").n == 3
        assert found.change(name, "test", "F", label="Edema").bounded
    assert isinstance(xrays(), Xrays)


def test_a_run_that_was_stopped_goes_on_from_its_last_epoch(tmp_path):
    longer = XRAYS.model_copy(update={"training": QUICK.model_copy(update={"epochs": 3})})
    experiment = XrayExperiment(split_xrays(xrays()), "sex", longer, device="cpu")
    whole = experiment.measure(MinMax(), seed=1)
    epochs = []

    def stop(epoch):
        epochs.append(epoch.number)
        if epoch.number == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure_once(experiment, MinMax(), seed=1, folder=tmp_path, callbacks=Callbacks(on_epoch=stop))
    measured = measure_once(
        experiment,
        MinMax(),
        seed=1,
        folder=tmp_path,
        callbacks=Callbacks(on_epoch=lambda epoch: epochs.append(epoch.number)),
    )
    assert epochs == [1, 2, 3]
    assert measured.scores.equals(whole.scores)
    assert not list(tmp_path.glob("*.checkpoint"))
    assert measure_once(experiment, MinMax(), seed=1, folder=tmp_path).scores.equals(whole.scores)


def test_batches_without_a_comparison_are_counted_by_a_run_that_was_stopped_too(tmp_path):
    few = XRAYS.model_copy(
        update={"stratified": False, "training": QUICK.model_copy(update={"epochs": 2, "batch_size": 2})}
    )
    experiment = XrayExperiment(split_xrays(xrays()), "sex", few, device="cpu")
    whole = experiment.measure(MinMax(), seed=0)
    assert whole.skipped_fraction > 0.2

    def stop(epoch):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure_once(experiment, MinMax(), seed=0, folder=tmp_path, callbacks=Callbacks(on_epoch=stop))
    assert measure_once(experiment, MinMax(), seed=0, folder=tmp_path).skipped_fraction == pytest.approx(
        whole.skipped_fraction
    )


def test_where_nobodys_group_is_known_the_worst_groups_loss_is_everybodys():
    outputs = Outputs(torch.tensor([1.0, 3.0]), torch.tensor([-1, -1]), 2)
    assert float(MinMax().loss(outputs)) == 2


def test_penalties_are_measured_over_whole_splits():
    experiment = xray_experiment()
    fitted = experiment.fit(Baseline(), seed=0)
    scores = experiment.score(fitted)
    part = experiment.splits.test
    logits = experiment._logits(fitted.network, part)
    men = torch.tensor([sex == "M" for sex in part.groups["sex"]])
    probabilities = logits[:, 1].sigmoid()
    ratio = float(probabilities[men].mean() / probabilities[~men].mean())
    found = scores.filter(split="test", measure="disparate-impact", label=part.classes[1])
    assert found["value"][0] == pytest.approx(-min(ratio, 1 / ratio), rel=1e-5)
    train = scores.filter(split="train", measure="AUC")
    assert train["low"].null_count() == len(train)  # no sample of anything else
