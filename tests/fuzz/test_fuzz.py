"""What strangers' files may do to readers: be read, or be refused in a sentence. More of it: fuzz/readers.py."""

import random

import pytest

from fairveil.base.errors import FairveilError
from mutations import mutated
from targets import TARGETS

INPUTS = 120


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.timeout(120)
def test_an_odd_file_is_read_or_refused_in_a_sentence(name, tmp_path):
    chance = random.Random(f"{name} of the tests")
    refused = 0
    for _ in range(INPUTS):
        data = TARGETS[name].make(chance)
        try:
            TARGETS[name].read(data, tmp_path)
        except FairveilError as error:
            refused += 1
            assert len(str(error)) < 4000, "nobody reads such a sentence"
    assert refused > INPUTS / 10, "the files are hardly odd"


def test_the_same_chance_makes_the_same_file():
    first, second = (mutated(bytes(range(200)), random.Random(5), words=(b"abc",)) for _ in range(2))
    assert first == second != bytes(range(200))
