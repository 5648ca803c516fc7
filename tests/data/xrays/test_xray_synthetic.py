import numpy as np
import pytest
import torch
from pydantic import ValidationError

from fairveil.data.xrays import FINDINGS, SyntheticXrays
from fairveil.data.xrays.synthetic import PREVALENCE
from fairveil.data.xrays.synthetic_chest import WAVES, Anatomy, Exposure, Severities, draw_chest, from_deviates, numbers


def _differences(one, other):
    return (one.int() - other.int()).abs()


def _chest(size=64, **findings):
    """A picture of an average body, but for its lungs' unevenness, with some findings, (size, size)."""
    waves = torch.randn(1, 3 * WAVES, generator=torch.Generator().manual_seed(0))  # without them all are one wave
    body = from_deviates(Anatomy, torch.cat([torch.zeros(1, numbers(Anatomy) - 3 * WAVES), waves], dim=1))
    exposure = from_deviates(Exposure, torch.zeros(1, numbers(Exposure)))
    nothing = torch.zeros(1, 1, 1)
    names = ("cardiomegaly", "edema", "consolidation", "atelectasis", "effusion")
    severities = Severities(**{name: nothing + findings.get(name, 0) for name in names})
    return draw_chest(body, exposure, severities, nothing, nothing, size)[0]


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


def test_the_body_is_where_an_x_ray_has_it():
    picture = _chest()
    right_lung, left_lung = picture[16:36, 14:20].mean(), picture[16:28, 46:52].mean()
    spine, belly = picture[8:40, 31:33].mean(), picture[56:62, 12:52].mean()
    beside = picture[2:6, 1:6].mean()
    for bright in (spine, belly):
        assert bright > max(right_lung, left_lung) + 0.15
    assert beside < 0.2
    assert picture[36:44, 38:44].mean() > picture[36:44, 20:26].mean() + 0.1  # the heart's tip, to the patient's left


def test_findings_show_where_they_should():
    healthy = _chest()
    changed = {name: _chest(**{name: 1.0}) - healthy for name in ("cardiomegaly", "edema", "consolidation", "effusion")}
    rows = torch.arange(64.0)[:, None].expand(64, 64)
    columns = torch.arange(64.0)[None].expand(64, 64)

    def middle(name):
        weight = changed[name].clamp(min=0)
        return float((weight * rows).sum() / weight.sum()), float((weight * columns).sum() / weight.sum())

    assert all(float(change.clamp(min=0).sum()) > 5 for change in changed.values())
    assert all(float(changed[name].min()) > -1e-6 for name in ("edema", "consolidation", "effusion"))  # these only add
    assert middle("effusion")[0] > middle("edema")[0] + 4
    sides = (changed["edema"][:, :32].sum(), changed["edema"][:, 32:].sum())
    assert min(sides) > 0.4 * max(sides)
    assert middle("cardiomegaly")[1] > 33
    side = (changed["consolidation"][:, :32].sum(), changed["consolidation"][:, 32:].sum())
    assert max(side) > 20 * min(side)
    volume = _chest(atelectasis=1.0) - healthy
    assert volume.max() > 0.1 and volume.min() < -0.05  # a band, and what it draws towards it


def test_findings_of_more_severity_show_more():
    healthy = _chest()
    for name in ("cardiomegaly", "edema", "consolidation", "atelectasis", "effusion"):
        shown = [float((_chest(**{name: level}) - healthy).abs().sum()) for level in (0.25, 0.5, 1.0)]
        assert shown == sorted(shown) and shown[0] > 1, name


def test_a_larger_picture_shows_the_same_body():
    large = torch.nn.functional.avg_pool2d(_chest(256, effusion=0.5, edema=0.5)[None, None], 4)[0, 0]
    assert (large - _chest(64, effusion=0.5, edema=0.5)).abs().mean() < 0.01


@pytest.mark.parametrize(
    "settings", [{"patients": 0}, {"male_share": 1.5}, {"hardness": {"X": 1}}, {"hardness": {"F": -1}}, {"extra": 1}]
)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ValidationError):
        SyntheticXrays(**{"patients": 2, "seed": 0, **settings})
