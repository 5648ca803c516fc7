import base64
import re
from dataclasses import dataclass
from html.parser import HTMLParser

import pytest

from fairveil.base.errors import FairveilError
from fairveil.base.estimate import Estimate
from fairveil.experiment.published import published_table
from fairveil.report.study import StudySection, TrialRow, write_report
from fairveil.report.tables import Cell, Table
from fairveil.version import __version__

VOID = {"meta", "img", "br", "hr", "link", "input"}


@dataclass(frozen=True)
class Picture:
    caption: str
    svg: str


class Page(HTMLParser):
    """What a page holds, with every element closed in the order it was opened."""

    def __init__(self, html):
        super().__init__()
        self.open, self.elements, self.words = [], [], []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words += data.split()

    @property
    def text(self):
        return " ".join(self.words)

    def all(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]


def _section(**settings):
    given = {
        "name": "lowkey-transfer",
        "title": "LowKey across recognizers",
        "question": "Does it hold?",
        "source": "tables 3.2, 3.5",
        "preset": "small",
        "settings": {"attack": {"steps": 50, "smoothing": None}, "recognizers": ["a", "b"], "none": []},
    }
    return StudySection(**(given | settings))


def _page(tmp_path, *sections, **settings):
    path = tmp_path / "report.html"
    write_report(path, sections, title="Studies", date="1 May 2027", **settings)
    return Page(path.read_text(encoding="utf-8"))


def test_a_page_says_what_was_asked_what_came_out_and_what_differs(tmp_path):
    ours = Table("Rank-50", ("a",), (("clean", (Cell(Estimate(0.9, 0.8, 0.95)),)),))
    page = _page(
        tmp_path,
        _section(
            tables=(ours, published_table("3.2").table()),
            differences=("The gallery is LFW, because FaceScrub is not here.",),
            machines=({"system": "Linux", "cores": 2, "torch": "2.13.0"},),
        ),
        introduction="Read on.",
    )
    for words in (
        "LowKey across recognizers",
        "Does it hold?",
        "tables 3.2, 3.5",
        "small",
        "90.0 % [80.0–95.0]",
        "Rank-50 accuracy, FaceScrub (table 3.2)",
        "The gallery is LFW, because FaceScrub is not here.",
        "cores 2; torch 2.13.0",
        "attack.steps 50",
        "attack.smoothing none",
        "recognizers a, b",
        f"Made on 1 May 2027 with fairveil {__version__}.",
        "Read on.",
    ):
        assert words in page.text


def test_trials_are_counted_timed_and_their_errors_shown(tmp_path):
    trials = (
        TrialRow("first", 3700.0, "finished", machine=2),
        TrialRow("second", 2.5, "failed", error="The file ended early."),
        TrialRow("third", None, "not run"),
    )
    text = _page(tmp_path, _section(trials=trials, machines=({"cores": 2}, {"cores": 64}))).text
    assert "1 of 3 finished, 1 failed" in text
    assert "time of all trials 1 h 02 min" in text
    assert "second : The file ended early." in text
    assert "first finished 1 h 02 min 2 second failed 2.50 s – third not run – –" in text


@pytest.mark.parametrize(("seconds", "shown"), [(59.4, "59.4 s"), (60, "1 min 00 s"), (3599.6, "1 h 00 min")])
def test_times_are_given_as_people_say_them(tmp_path, seconds, shown):
    assert shown in _page(tmp_path, _section(trials=(TrialRow("one", seconds, "finished"),))).text


def test_pictures_lie_inside_and_nothing_is_asked_of_outside(tmp_path):
    svg = "<svg xmlns='http://www.w3.org/2000/svg'><text>é</text></svg>"
    page = _page(tmp_path, _section(plots=(Picture("A curve", svg),)))
    (picture,) = page.all("img")
    kind, content = picture["src"].split(",")
    assert (kind, base64.b64decode(content).decode()) == ("data:image/svg+xml;base64", svg)
    assert picture["alt"] == "A curve"
    assert not page.all("script") + page.all("link") + page.all("iframe")
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"https?://|@import|url\(", html)


def test_several_studies_get_a_list_of_contents(tmp_path):
    page = _page(tmp_path, _section(), _section(name="lowkey-small", title="Small"))
    assert [link["href"] for link in page.all("a")] == ["#lowkey-transfer", "#lowkey-small"]
    assert [article["id"] for article in page.all("article")] == ["lowkey-transfer", "lowkey-small"]


def test_one_study_gets_none(tmp_path):
    assert not _page(tmp_path, _section()).all("nav")


def test_everything_given_is_escaped(tmp_path):
    evil = "<script>'&\""
    section = _section(
        title=evil,
        question=evil,
        source=evil,
        settings={evil: evil},
        plots=(Picture(evil, "<svg/>"),),
        differences=(evil,),
        trials=(TrialRow(evil, 1.0, "failed", error=evil),),
        machines=({evil: evil},),
    )
    page = _page(tmp_path, section, introduction=evil)
    assert not page.all("script")
    assert page.text.count(evil) >= 9


def test_wide_tables_scroll_in_their_own_box(tmp_path):
    page = _page(tmp_path, _section(tables=(published_table("3.2").table(),)))
    tags = [(tag, attrs.get("style", "")) for tag, attrs in page.elements]
    for i, (tag, _) in enumerate(tags):
        if tag == "table":
            assert tags[i - 1] == ("div", "overflow-x:auto")


def test_a_page_that_is_there_is_kept_unless_it_may_be_replaced(tmp_path):
    _page(tmp_path, _section())
    with pytest.raises(FairveilError, match="already exists"):
        _page(tmp_path, _section())
    assert "Other" in _page(tmp_path, _section(title="Other"), overwrite=True).text


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FairveilError, match="could not be written"):
        write_report(tmp_path / "missing" / "report.html", [_section()], title="Studies", date="now")
