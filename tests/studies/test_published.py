import os
import re
from pathlib import Path

import pytest

from fairveil.errors import FairveilError
from fairveil.studies.published import published_numbers, published_table

MATRICES = ("3.2", "3.5", "3.6", "3.7", "3.8", "3.9")
RECOGNIZERS = ("IR-50A", "IR-50C", "IR-152A", "IR-152C", "RN-50A", "RN-50C", "RN-152A", "RN-152C")
RANK_1_AND_50 = (("3.5", "3.2"), ("3.7", "3.6"), ("3.9", "3.8"), ("3.10", "3.3"))
SMALL_AND_FULL = (("3.8", "3.2"), ("3.9", "3.5"))

SEED = Path(os.environ.get("FAIRVEIL_SEED", Path(__file__).parents[2] / "../shared/seed/dissertation.txt"))
needs_text = pytest.mark.skipif(not SEED.exists(), reason="the dissertation's text is not here")


@pytest.fixture(scope="module")
def text():
    lines = SEED.read_text(encoding="utf-8").splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("Table 3.1: "))
    end = next(i for i, line in enumerate(lines) if i > start and line.startswith("Chapter 4: "))
    return lines[start - 10 : end]


def _tables(text):
    """The tables as the text has them: caption, columns and the shares in each row, in per cent as printed."""
    found, body, columns = {}, {}, ()
    for line in text:
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")] if line.startswith("|") else []
        if {"IR-50A", "Amazon rank-1"} & set(cells):
            columns = tuple(cell for cell in cells if cell)
        if name := next((cell[:-2] for cell in cells if cell.endswith(" -")), None):
            body[name] = [cell.removesuffix("%") for cell in cells if cell.endswith("%")]
        if caption := re.match(r"Table (3\.\d+): (.*)", line):
            found[caption[1]] = (caption[2], columns, body)
            body = {}
    return found


def test_there_are_eleven_tables_and_four_sections():
    assert published_numbers() == (*(f"3.{i}" for i in range(1, 11)), "3.6.3", "3.6.4", "3.6.5", "3.8.4", "4.1", "4.2")


@needs_text
@pytest.mark.parametrize("number", [f"3.{i}" for i in range(1, 11)])
def test_every_legible_number_and_caption_is_the_texts(number, text):
    caption, columns, body = _tables(text)[number]
    ours = published_table(number)

    assert (ours.caption, ours.columns, ours.rows) == (caption, columns, tuple(body))
    differing = {
        (row, column): printed
        for row, shares in body.items()
        for column, printed in zip(columns, shares, strict=True)
        if f"{100 * ours.values[row, column]:.1f}" != printed
    }
    garbled = {("Clean", name): "90.7" if name in ("IR-152A", "RN-152A") else "90.8" for name in RECOGNIZERS}
    legible = {("Clean", name) for name in ("IR-50A", "RN-50A", "RN-152C")}
    assert differing == ({} if number != "3.2" else {k: v for k, v in garbled.items() if k not in legible})
    assert all(place in ours.notes and f"{printed} %" in ours.notes[place] for place, printed in differing.items())


@needs_text
@pytest.mark.parametrize(("number", "lines_above"), [("4.1", 7), ("4.2", 11)])
def test_the_tables_of_chapter_4_are_the_texts(number, lines_above):
    lines = SEED.read_text(encoding="utf-8").splitlines()
    end = next(place for place, line in enumerate(lines) if line.startswith(f"Table {number}: "))
    ours = published_table(number)
    assert lines[end] == f"Table {number}: {ours.caption}"
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in lines[end - lines_above : end]
        if line.startswith("|")
    ]
    columns = tuple(cell.removesuffix(" (%)") for cell in cells[0] if cell)
    assert columns == ours.columns
    printed = {re.sub(r" ?, (0\.\d+)", r" (\1)", row[0]): row[1:] for row in cells[2:]}  # as our defences are called
    assert tuple(printed) == ours.rows
    for name, values in printed.items():
        shares = [float(value.removesuffix("%")) / 100 for value in values]
        assert shares == pytest.approx([ours.values[name, column] for column in columns])


@needs_text
@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        ("3.6.3", "Fawkes averages {} seconds per image, LowKey only averages {} seconds per image"),
        ("3.6.4", "Amazon Rekognition now recognizes {2}% of probe images compared to {0}% previously"),
        (
            "3.6.4",
            "Microsoft Azure Face is now able to recognize {3}% of images compared to {1}% when saved in the PNG",
        ),
        ("3.6.5", "when only 5 gallery images are used, the performance of Amazon Rekognition drops from {0}% to {1}%"),
        ("3.6.5", "when small probe images are used, .* the accuracy of Amazon Rekognition drops from {0}% to {2}%"),
        ("3.8.4", "Amazon Rekognition is able to recognize {0}% of probe images .* LowKey small attack"),
        ("3.8.4", "Microsoft Azure Face recognizes {1}% of probe images"),
    ],
)
def test_the_figures_of_sections_are_in_their_sentences(number, sentence, text):
    ours = published_table(number)
    scale = 100 if ours.unit == "%" else 1
    figures = [f"{scale * value:.1f}".removesuffix(".0") for value in ours.values.values()]
    assert re.search(sentence.format(*figures), " ".join(text))


@pytest.mark.parametrize("number", published_numbers())
def test_every_cell_is_there_once_and_in_range(number):
    table = published_table(number)
    assert set(table.values) == {(row, column) for row in table.rows for column in table.columns}
    assert set(table.notes) <= set(table.values)
    assert table.unit == ("s" if number == "3.6.3" else "%")
    assert table.unit == "s" or all(0 <= value <= 1 for value in table.values.values())


@pytest.mark.parametrize("number", MATRICES)
def test_matrices_are_eight_attackers_by_eight_defenders_between_clean_and_ensemble(number):
    table = published_table(number)
    assert table.columns == RECOGNIZERS
    assert table.rows == ("Clean", *(("Fawkes",) if number in ("3.2", "3.5") else ()), *RECOGNIZERS, "Ensemble")


@pytest.mark.parametrize("number", MATRICES)
def test_an_attack_is_strongest_on_its_own_recogniser(number):
    table = published_table(number)
    for name in RECOGNIZERS:
        assert table.values[name, name] == min(table.values[name, other] for other in RECOGNIZERS)


def test_what_cannot_be_is_marked_and_left_as_printed():
    def above(pairs):
        tables = [(published_table(one), published_table(other)) for one, other in pairs]
        return {
            (one.number, other.number, *place)
            for one, other in tables
            for place in one.values
            if place in other.values and one.values[place] > other.values[place]
        }

    assert above(RANK_1_AND_50) == {("3.5", "3.2", "IR-50C", "IR-152C")}
    too_strong = above([(full, small) for small, full in SMALL_AND_FULL])
    assert too_strong == {("3.5", "3.9", "IR-50C", "IR-152C"), ("3.5", "3.9", "RN-50A", "RN-50A")}
    rank_1 = published_table("3.5")
    assert rank_1.values["IR-50C", "IR-152C"] == 0.09
    assert {place for place, note in rank_1.notes.items() if note.startswith("Suspicious")} == {
        ("IR-50C", "IR-152C"),
        ("RN-50A", "RN-50A"),
    }


def test_shares_of_few_probes_come_in_their_steps_but_for_the_one_marked():
    def possible(probes):
        return {f"{int(1000 * i / probes + 0.5 + 1e-9) / 10:.1f}" for i in range(probes + 1)}

    full_size = published_table("3.4")
    odd = {place for place, value in full_size.values.items() if f"{100 * value:.1f}" not in possible(200)}
    assert odd == set(full_size.notes) == {("LowKey 30", "Microsoft rank-1")}
    umdfaces = [f"{100 * value:.1f}" for number in ("3.6", "3.7") for value in published_table(number).values.values()]
    assert set(umdfaces) <= possible(352)


def test_the_clean_rows_of_tables_captioned_umdfaces_are_facescrubs():
    for small, facescrub in SMALL_AND_FULL:
        tables = published_table(small), published_table(facescrub)
        clean = [[table.values["Clean", name] for name in RECOGNIZERS] for table in tables]
        assert clean[0] == clean[1]
        assert "UMDFaces" in tables[0].caption
        assert "FaceScrub" in tables[0].remark


def test_a_published_table_becomes_one_for_reports():
    table = published_table("3.2").table()
    assert (table.columns, table.row_name, table.column_name) == (RECOGNIZERS, "attacker", "defender")
    clean = dict(table.rows)["Clean"]
    assert [cell.value for cell in clean] == [0.968, 0.968, 0.967, 0.968, 0.968, 0.968, 0.967, 0.967]
    assert clean[0].note is None
    assert "90.8 %" in clean[1].note


def test_names_tell_tables_from_sections():
    assert [published_table(number).name for number in ("3.10", "3.6.3")] == ["table 3.10", "section 3.6.3"]


def test_an_unknown_table_is_refused_with_those_there_are():
    with pytest.raises(FairveilError, match=r"no published numbers of '3\.11', only of 3\.1, 3\.2"):
        published_table("3.11")
