"""What the site is made of: figures that are committed, and nothing that a browser would load from elsewhere."""

import csv
import re
from pathlib import Path

import pytest

from fairveil.version import __version__

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs" / "results"
SITE = ROOT / "out" / "docs"
LOADED = re.compile(
    r"""<(?:script|img|iframe|source|video|audio|embed)\b[^>]*?\ssrc\s*=\s*["']?(?:https?:)?//"""
    r"""|<link\b(?![^>]*rel\s*=\s*["']?canonical)[^>]*?\shref\s*=\s*["']?(?:https?:)?//"""
    r"""|(?:@import|url\()\s*["']?(?:https?:)?//""",
    re.IGNORECASE,
)
"""What makes a browser load something from elsewhere; links that a reader follows are none."""


def lines(name: str) -> list[dict[str, str]]:
    with (RESULTS / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_file_of_figures_is_named_with_its_command():
    about = {line["file"]: line["command"] for line in lines("contents")}
    assert about.keys() == {path.stem for path in RESULTS.glob("*.csv")} - {"contents"}
    assert all(command.startswith(("fairveil ", "python bench/", "make ")) for command in about.values())


def test_figures_lie_within_their_intervals_and_shares_within_their_bounds():
    for name in (line["file"] for line in lines("contents")):
        for line in lines(name):
            value, low, high = (float(line[part]) if line[part] else None for part in ("value", "low", "high"))
            assert low is None or low <= value <= high, (name, line)
            least = -1 if line["group"].startswith("gap") else 0
            assert line["unit"] != "%" or value is None or least <= value <= 1, (name, line)


def test_the_citation_is_of_this_version():
    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text("utf-8")


@pytest.mark.parametrize(
    ("html", "loads"),
    [
        ('<script src="https://example.org/a.js"></script>', True),
        ("<img alt=x src=//example.org/a.png>", True),
        ("<style>@import 'https://example.org/a.css'</style>", True),
        ('<link rel="stylesheet" href="https://example.org/a.css">', True),
        ('<a href="https://example.org/">there</a>', False),
        ('<link rel="stylesheet" href="../assets/a.css">', False),
        ('<math xmlns="http://www.w3.org/1998/Math/MathML"></math>', False),
    ],
)
def test_what_counts_as_loaded_from_elsewhere(html, loads):
    assert bool(LOADED.search(html)) is loads


def test_the_built_site_loads_nothing_from_elsewhere():
    pages = [path for path in SITE.rglob("*") if path.suffix in {".html", ".css"}]
    if not pages:
        pytest.skip("The site is not built: make docs.")
    assert {str(path): found[0] for path in pages if (found := LOADED.search(path.read_text("utf-8")))} == {}


def test_every_name_that_the_documentation_links_is_on_a_page_of_the_reference():
    pages = {page: page.read_text("utf-8") for page in (ROOT / "docs").rglob("*.md")}
    described = set(re.findall(r"^::: (\S+)", "\n".join(pages.values()), re.MULTILINE))
    linked = {name for text in pages.values() for name in re.findall(r"\]\[(fairveil(?:\.\w+)+)\]", text)}
    assert linked
    assert {name for name in linked if not {name, name.rpartition(".")[0]} & described} == set()
