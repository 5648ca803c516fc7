import numpy as np
import pytest
import torch
from pydantic import ValidationError

from fairveil.data.xrays import FINDINGS, SyntheticXrays
from fairveil.data.xrays.synthetic import BLOBS, PREVALENCE


def _differences(one, other):
    return (one.int() - other.int()).abs()


def _shown(**more):
    """What the findings of 200 X-rays add to each, on a scale of 1, (200, size, size), and the X-rays."""
    settings = SyntheticXrays(patients=200, per_patient=1, seed=0, **{"size": 32, **more})
    healthy = settings.model_copy(update={"hardness": {"M": 0, "F": 0}}).draw()
    xrays = settings.draw()
    return (xrays.images.int() - healthy.images.int())[:, 0] / 255, xrays


def test_they_are_x_rays_with_everything_known():
    xrays = SyntheticXrays(patients=6, per_patient=3, size=32, seed=0).draw()
    assert xrays.images.shape == (18, 1, 32, 32)
    assert xrays.classes == FINDINGS
    assert not xrays.labels.isnan().any()
    assert len({*xrays.patients}) == 6 and len({*xrays.image_names}) == 18
    assert {*xrays.groups} == {"sex", "age"}


def test_an_x_ray_is_the_same_whatever_else_is_drawn():
    few = SyntheticXrays(patients=3, per_patient=2, size=32, seed=7).draw()
    many = SyntheticXrays(patients=40, per_patient=5, size=32, seed=7).draw()
    rows = [5 * patient + index for patient in range(3) for index in range(2)]
    assert few.image_names == many.take(rows).image_names
    assert few.frame.equals(many.take(rows).frame)
    assert torch.equal(few.labels, many.labels[rows])
    off = _differences(few.images, many.images[rows])  # to within rounding, which depends on the size of a batch
    assert off.max() <= 1 and (off > 0).float().mean() < 1e-3


def test_another_seed_patient_and_index_are_other_pictures():
    xrays = SyntheticXrays(patients=2, per_patient=2, size=32, seed=0).draw()
    other = SyntheticXrays(patients=2, per_patient=2, size=32, seed=1).draw()
    for picture in (xrays.images[1], xrays.images[2], other.images[0]):
        assert _differences(xrays.images[0], picture).float().mean() > 3


def test_pictures_of_one_patient_are_more_alike_than_those_of_two():
    xrays = SyntheticXrays(patients=100, per_patient=2, size=32, seed=0).draw()
    pictures = torch.nn.functional.avg_pool2d(xrays.images.float(), 4).flatten(1)
    first, second = pictures[::2], pictures[1::2]
    same = (first - second).norm(dim=1).median()
    assert same < 0.85 * (first - second.roll(1, 0)).norm(dim=1).median()


def test_shares_of_groups_are_kept_by_any_first_patients():
    sexes, ages = (
        np.array(SyntheticXrays(patients=50, per_patient=1, size=16, seed=0).draw().groups[group])
        for group in ("sex", "age")
    )
    for count in (10, 20, 50):
        assert (sexes[:count] == "M").sum() == round(0.6 * count)
    for sex in ("M", "F"):
        assert abs((ages[sexes == sex] == "old").mean() - 0.5) < 0.05
    only = SyntheticXrays(patients=4, size=16, seed=0, male_share=0, old_share=1).draw()
    assert {*only.groups["sex"]} == {"F"} and {*only.groups["age"]} == {"old"}


def test_findings_are_as_frequent_as_they_should_be_in_every_group_and_come_together():
    xrays = SyntheticXrays(patients=6000, per_patient=1, size=16, seed=0).draw()
    share = torch.tensor([PREVALENCE[finding] for finding in FINDINGS])
    for column in ("sex", "age"):
        groups = np.array(xrays.groups[column])
        for value in {*xrays.groups[column]}:
            found = xrays.labels[torch.from_numpy(groups == value)].mean(0)
            assert ((found - share).abs() < 4 * (share * (1 - share) / 2400).sqrt()).all()
    correlation = torch.corrcoef(xrays.labels.T)
    effusion, atelectasis, edema = (FINDINGS.index(name) for name in ("Pleural Effusion", "Atelectasis", "Edema"))
    assert correlation[effusion, atelectasis] > 0.15 and correlation[effusion, edema] > 0.15
    assert abs(correlation[FINDINGS.index("Cardiomegaly"), FINDINGS.index("Consolidation")]) < 0.05


def test_a_patient_tends_to_keep_findings():
    labels = SyntheticXrays(patients=2000, per_patient=2, size=16, seed=0).draw().labels
    first, second = labels[::2, 4], labels[1::2, 4]
    assert torch.corrcoef(torch.stack([first, second]))[0, 1] > 0.3
    assert (first != second).any()


def test_hardness_changes_how_findings_show_and_nothing_else():
    settings = SyntheticXrays(patients=60, per_patient=2, size=32, seed=0)
    plain = settings.draw()
    faint = settings.model_copy(update={"hardness": {"F": 0.5}}).draw()
    assert torch.equal(plain.labels, faint.labels) and plain.frame.equals(faint.frame)
    changed = _differences(plain.images, faint.images).flatten(1).float().mean(1) > 0.05
    female = torch.tensor([sex == "F" for sex in plain.groups["sex"]])
    ill = plain.labels.any(1)
    assert torch.equal(changed, female & ill)
    hidden = settings.model_copy(update={"hardness": {"old": 0, "young": 0}}).draw()
    assert (_differences(plain.images, hidden.images).flatten(1).float().mean(1)[~ill] == 0).all()


def test_factors_of_both_groups_multiply():
    def drawn(**hardness):
        return SyntheticXrays(patients=20, size=32, seed=0, male_share=1, old_share=1, hardness=hardness).draw().images

    assert torch.equal(drawn(M=0.5, old=0.5), drawn(M=0.25))
    assert torch.equal(drawn(F=0.1, young=0.1), drawn())


@pytest.mark.parametrize("finding", FINDINGS)
def test_a_finding_alone_is_a_bright_blob_about_its_place(finding):
    shown, xrays = _shown()
    alone = (xrays.labels.sum(1) == 1) & (xrays.labels[:, FINDINGS.index(finding)] == 1)
    usual, blob = shown[alone].mean(0), BLOBS[finding]
    assert alone.sum() >= 3 and usual.min() > -0.005
    pixel = (torch.arange(32) + 0.5) / 16 - 1
    for axis, place in ((0, blob.x), (1, blob.y)):
        profile = usual.clamp(min=0).sum(axis)
        assert abs(float((profile * pixel).sum() / profile.sum()) - place) < 0.15  # some of a wide one lies outside
    peaks = shown[alone].flatten(1).amax(1)
    assert 0.3 * blob.brightness < peaks.min() and peaks.max() < 1.35 * blob.brightness


def test_findings_show_less_where_they_are_less_severe():
    shown = [_shown(hardness={"M": factor, "F": factor})[0].clamp(min=0).sum() for factor in (0.25, 0.5, 1)]
    assert 0.2 < shown[0] / shown[2] < 0.3 and 0.45 < shown[1] / shown[2] < 0.55


def test_a_larger_picture_shows_the_same_findings():
    small, large = (_shown(size=size)[0] for size in (16, 64))
    assert (torch.nn.functional.avg_pool2d(large, 4) - small).abs().max() < 0.02


@pytest.mark.parametrize(("column", "value", "least"), [("sex", "F", 0.7), ("age", "old", 0.6)])
def test_groups_can_be_seen(column, value, least):
    """By the projection on the difference of the means of other X-rays; without a difference the area is 0.5."""
    first, other = (SyntheticXrays(patients=400, per_patient=1, size=16, seed=seed).draw() for seed in (0, 1))
    theirs, there = ([group == value for group in xrays.groups[column]] for xrays in (first, other))
    pictures = first.images.float().flatten(1)
    toward = pictures[theirs].mean(0) - pictures[[not one for one in theirs]].mean(0)
    scores = (other.images.float().flatten(1) @ toward).numpy()
    there = np.array(there)
    assert (scores[there][:, None] > scores[~there][None]).mean() > least


@pytest.mark.parametrize(
    "settings", [{"patients": 0}, {"male_share": 1.5}, {"hardness": {"X": 1}}, {"hardness": {"F": -1}}, {"extra": 1}]
)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ValidationError):
        SyntheticXrays(**{"patients": 2, "seed": 0, **settings})
