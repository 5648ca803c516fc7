"""Settings from the command line and from TOML."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from sleepy import Settings

from fairveil.errors import FairveilError
from fairveil.studies.overrides import keys_of, override, override_from_file


def test_values_are_taken_as_their_type():
    changed = override(Settings(), ["count=7", "seconds=1", "log=there", "inner.depth=3", "inner.words=x, y"])
    assert changed == Settings(count=7, seconds=1.0, log="there", inner={"depth": 3, "words": ("x", "y")})
    assert override(changed, ["log=none"]).log is None
    assert override(changed, ['inner.words=["z"]']).inner.words == ("z",)
    assert override(Settings(), ["log=5"]).log == "5"


@pytest.mark.parametrize(
    ("assignment", "complaint"),
    [
        ("cuont=3", "There is no setting 'cuont'. Did you mean count?"),
        ("inner.dpeth=3", "Did you mean inner.depth?"),
        ("inner=3", "There is no setting 'inner'"),
        ("count", "write it as key=value"),
        ("count=many", "count cannot be many: input should be a valid integer"),
        ("count=1.5", "count cannot be 1.5"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_sentence(assignment, complaint):
    with pytest.raises(FairveilError, match=complaint.replace("?", r"\?").replace(".", r"\.")):
        override(Settings(), [assignment])


def test_a_toml_file_sets_nested_keys_and_refuses_unknown_ones(tmp_path):
    file = tmp_path / "settings.toml"
    file.write_text('count = 2\n[inner]\nwords = ["p", "q"]\n')
    changed = override_from_file(Settings(), file)
    assert (changed.count, changed.inner.words) == (2, ("p", "q"))
    file.write_text("[inner]\ndeep = 2\n")
    with pytest.raises(FairveilError, match=r"Did you mean inner\.depth\?"):
        override_from_file(Settings(), file)
    file.write_text("= 2")
    with pytest.raises(FairveilError, match="cannot be read"):
        override_from_file(Settings(), file)
    with pytest.raises(FairveilError, match="cannot be read"):
        override_from_file(Settings(), tmp_path / "none.toml")


def test_all_keys_are_listed():
    assert set(keys_of(Settings())) == {"count", "seconds", "failing", "dying", "log", "inner.depth", "inner.words"}
