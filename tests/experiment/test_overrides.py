"""Settings from the command line and from TOML."""

import re
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict

sys.path.insert(0, str(Path(__file__).parent))

from sleepy import Inner, Settings

from fairveil.base.errors import FairveilError
from fairveil.experiment.overrides import keys_of, override, override_from_file
from fairveil.protection.lowkey import LowKey


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
    assert set(keys_of(Settings())) == {
        "count",
        "seconds",
        "failing",
        "dying",
        "log",
        "inner.depth",
        "inner.words",
        "bed",
    }


class Shelf(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    groups: dict[str, tuple[str, ...]] = {"all": ("x", "y")}
    rows: dict[str, Inner] = {"plain": Inner(), "α 0.05": Inner(depth=2)}


def test_one_entry_of_a_dictionary_is_set_added_or_taken_out():
    changed = override(Shelf(), ['groups.mine=["p", "q"]', "groups.all=z", "rows.α 0.05.depth=7", "rows.plain=none"])
    assert changed.groups == {"all": ("z",), "mine": ("p", "q")}
    assert changed.rows == {"α 0.05": Inner(depth=7)}
    added = override(Shelf(), ["rows.α 0.1={depth = 4}", "rows.α 0.1.words=a, b"])
    assert added.rows == Shelf().rows | {"α 0.1": Inner(depth=4, words=("a", "b"))}
    assert override(Shelf(), ['groups={only = ["x"]}']).groups == {"only": ("x",)}


@pytest.mark.parametrize(
    ("assignment", "complaint"),
    [
        ("gropus.mine=x", "There is no setting 'gropus.mine'. There are groups, rows."),
        ("rows.plain.dpeth=2", "There is no setting 'rows.plain.dpeth'. Did you mean rows.plain.depth?"),
        ("rows.plain.depth=deep", "rows.plain.depth cannot be deep: input should be a valid integer"),
        ("rows.new=3", "rows.new cannot be 3"),
        ("rows.new={dpeth = 3}", "rows.new cannot be {dpeth = 3}: extra inputs"),
        ("groups.mine={a = 1}", "groups.mine cannot be {a = 1}"),
        ("groups.al=none", "There is no groups.al to take out. Did you mean all?"),
    ],
)
def test_an_entry_that_makes_no_sense_is_refused_in_a_sentence(assignment, complaint):
    with pytest.raises(FairveilError, match=re.escape(complaint)):
        override(Shelf(), [assignment])


def test_a_toml_file_sets_single_entries_and_leaves_the_others(tmp_path):
    file = tmp_path / "settings.toml"
    file.write_text('[groups]\nmine = ["p"]\n[rows.plain]\ndepth = 5\n[rows."α 0.3"]\nwords = ["w"]\n')
    changed = override_from_file(Shelf(), file)
    assert changed.groups == {"all": ("x", "y"), "mine": ("p",)}
    assert changed.rows == Shelf().rows | {"plain": Inner(depth=5), "α 0.3": Inner(words=("w",))}
    file.write_text("[rows.plain]\ndpeth = 5\n")
    with pytest.raises(FairveilError, match=r"Did you mean rows\.plain\.depth\?"):
        override_from_file(Shelf(), file)


@pytest.mark.parametrize("text", ["[" * 5000, "{a=" * 3000, "9" * 5000, "1\nx = 2", "'''"])
def test_what_toml_cannot_hold_is_refused_in_a_short_sentence(text, tmp_path):
    with pytest.raises(FairveilError, match="steps cannot be") as refusal:
        override(LowKey(), [f"steps={text}"])
    assert len(str(refusal.value)) < 1000
    (tmp_path / "settings.toml").write_text(f"steps = {text}")
    with pytest.raises(FairveilError, match=r"cannot be|no setting 'x'"):
        override_from_file(LowKey(), tmp_path / "settings.toml")


def test_a_file_that_cannot_be_settings_is_refused_at_once(tmp_path):
    (tmp_path / "settings.toml").write_text("a." * 60_000)
    with pytest.raises(FairveilError, match=r"larger than 0\.1 MB"):
        override_from_file(LowKey(), tmp_path / "settings.toml")
