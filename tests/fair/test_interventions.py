"""The registry of interventions: what is listed, offered, read and written of each."""

import subprocess
import sys
from typing import ClassVar, Literal

import pytest
from pydantic import BaseModel, ValidationError

from fairveil.base.errors import FairveilError
from fairveil.fair.groups import groups_of
from fairveil.fair.interventions import (
    KINDS,
    AnyIntervention,
    EqualLoss,
    FairFeatures,
    Intervention,
    LabelFlipping,
    MinMax,
    everything,
    options,
)

EVERY = [one for task in ("recognition", "findings") for one in everything(task, better="M", worse="F")]


class Record(BaseModel):
    schemes: dict[str, AnyIntervention]


@pytest.fixture
def _restored():
    before = dict(KINDS)
    yield
    KINDS.clear()
    KINDS.update(before)


def test_they_are_listed_in_the_order_of_the_chapter():
    chapter = (
        "baseline", "equal-loss", "equalized-odds", "disparate-impact", "min-max", "margins", "fair-features",
        "label-flipping",
    )  # fmt: skip
    assert tuple(kind for kind in KINDS if kind in chapter) == chapter


@pytest.mark.parametrize("one", EVERY, ids=lambda one: one.name)
def test_records_hold_all_settings_and_are_read_as_what_was_written(one):
    text = Record(schemes={"a": one}).model_dump_json()
    assert one.model_dump_json() in text
    assert Record.model_validate_json(text).schemes == {"a": one}
    assert type(Record.model_validate_json(text).schemes["a"]) is type(one)


def test_names_of_kept_runs_rest_on_the_order_of_settings_in_a_record():
    assert EqualLoss(weight=0.5).model_dump_json() == '{"weight":0.5,"on":"train","kind":"equal-loss"}'
    assert LabelFlipping(group="M").model_dump_json() == '{"kind":"label-flipping","group":"M","share":0.3}'


@pytest.mark.parametrize(
    ("record", "sentence"),
    [
        ({"kind": "equal-los"}, "kind has to be one of baseline, equal-loss"),
        ({"weight": 1}, "kind has to be one of"),
        ({"kind": "min-max", "weight": 1}, "Extra inputs"),
    ],
)
def test_records_of_no_intervention_are_refused(record, sentence):
    with pytest.raises(ValidationError, match=sentence):
        Record(schemes={"a": record})


@pytest.mark.usefixtures("_restored")
def test_two_interventions_of_one_name_are_refused_and_the_same_may_be_defined_again():
    def define(title):
        space = {"__annotations__": {"kind": Literal["mine"], "source": ClassVar[str]}, "kind": "mine", "source": "me"}
        return type(title, (Intervention,), {**space, "__module__": __name__, "__qualname__": title})

    define("Mine")
    again = define("Mine")  # as a cell of a notebook that is run twice
    assert KINDS["mine"] is again
    with pytest.raises(FairveilError, match="Other and Mine are both the intervention 'mine'"):
        define("Other")


def test_every_setting_is_an_option_with_words_range_and_default():
    told = {f"--{option.name}": option for option in options()}
    assert {*told} >= {"--weight", "--on", "--whose", "--margin", "--share"}
    assert told["--weight"].help == (
        "Weight α of the penalty, 0 to 1,000,000; by default 1 (equal-loss, equalized-odds, disparate-impact). "
        "Weight α of the adversary, 0 to 1,000,000; by default 2 (fair-features)."
    )
    assert told["--whose"].settings == {"margins": "group", "fair-features": "toward", "label-flipping": "group"}
    assert all(
        KINDS[kind].model_fields[name].description for one in told.values() for kind, name in one.settings.items()
    )


def test_help_does_not_wait_for_torch():
    script = "import sys; from fairveil.fair.interventions import options; options(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_baselines_are_trained_on_the_same_data():
    assert FairFeatures(toward="F").baseline() == FairFeatures(toward="F", weight=0)
    assert MinMax().baseline().name == "baseline"
    assert {one.baseline().name for one in EVERY if one.on_holdout} == {"equal-loss 0 on holdout"}


def test_an_intervention_for_groups_can_be_one_for_other_peoples_groups():
    assert LabelFlipping(group="M", share=0.2).regrouped({"M": "long"}) == LabelFlipping(group="long", share=0.2)
    assert MinMax().regrouped({}) == MinMax()


def test_groups_that_are_not_there_and_other_tasks_are_refused():
    groups = groups_of({"sex": ["F", "M"]}, "sex")
    with pytest.raises(FairveilError, match="sex has no group 'men', but F, M"):
        FairFeatures(toward="men").check("recognition", groups)
    with pytest.raises(FairveilError, match="is for recognition, not for findings: leave it out"):
        FairFeatures(toward="M").check("findings", groups)
