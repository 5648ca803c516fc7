"""What a study is made of."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from sleepy import SLEEPY, Settings, Sleepy

from fairveil.experiment.study import Study


def test_a_class_that_lacks_a_method_makes_no_study():
    class Idle(Study[Settings, object]):
        def trials(self, settings):
            return []

    with pytest.raises(TypeError, match=r"abstract method.*differences.*rehearsal.*run.*tables"):
        Idle(**vars(SLEEPY))


def test_smoke_is_the_rehearsal_of_small_with_what_the_study_says():
    assert SLEEPY.presets["smoke"] == Settings(count=4)
    plain = Sleepy(**vars(SLEEPY) | {"smoke": {}, "small": Settings(count=7, seconds=9)})
    assert plain.presets == {"smoke": Settings(count=7), "small": Settings(count=7, seconds=9), "paper": SLEEPY.paper}


def test_the_key_of_a_trial_depends_on_the_study_its_revision_and_the_trial():
    one, other = SLEEPY.trials(Settings(count=2))
    later, renamed = (Sleepy(**vars(SLEEPY) | change) for change in ({"revision": 2}, {"name": "dozy"}))
    keys = {SLEEPY.key(one), SLEEPY.key(other), later.key(one), renamed.key(one)}
    assert len(keys) == 4
    assert Sleepy(**vars(SLEEPY) | {"title": "Other words"}).key(one) == SLEEPY.key(one)
    assert SLEEPY.key(one) == "7e67ac7752519096c78a"  # as records of older versions are called
