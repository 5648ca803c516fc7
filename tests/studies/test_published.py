import os
import re
from dataclasses import replace
from itertools import takewhile
from math import log
from pathlib import Path

import pytest

from fairveil.errors import FairveilError
from fairveil.report.tables import Cell, beside, figure
from fairveil.studies.published import published_numbers, published_table

MATRICES = ("3.2", "3.5", "3.6", "3.7", "3.8", "3.9")
RECOGNIZERS = ("IR-50A", "IR-50C", "IR-152A", "IR-152C", "RN-50A", "RN-50C", "RN-152A", "RN-152C")
RANK_1_AND_50 = (("3.5", "3.2"), ("3.7", "3.6"), ("3.9", "3.8"), ("3.10", "3.3"))
SMALL_AND_FULL = (("3.8", "3.2"), ("3.9", "3.5"))

MODELS = ("MFN CosFace", "MFN ArcFace", "ResNet-152 CosFace", "ResNet-152 ArcFace")
OF_IDENTITIES = {"5.2", "5.4", "5.6"}
OF_IMAGES = {"5.3", "5.5", "5.7"}
BALANCES = sorted(OF_IDENTITIES | OF_IMAGES)
RATIOS = [f"{male}:{10 - male}" for male in range(11)]

SEED = Path(os.environ.get("FAIRVEIL_SEED", Path(__file__).parents[2] / "../shared/seed/dissertation.txt"))
needs_text = pytest.mark.skipif(not SEED.exists(), reason="the dissertation's text is not here")


@pytest.fixture(scope="module")
def lines():
    return SEED.read_text(encoding="utf-8").splitlines()


@pytest.fixture(scope="module")
def text(lines):
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


def _below_caption(lines, number):
    """A table of chapter 5 as the text has it, below its caption: caption, headings and rows."""
    start = next(place for place, line in enumerate(lines) if line.startswith(f"Table {number}: "))
    body = takewhile(lambda line: line.startswith("|"), lines[start + 2 :])
    headings, _, *rows = ([cell.strip() for cell in line.strip().strip("|").split("|")] for line in body)
    return lines[start].removeprefix(f"Table {number}: ").replace("**", ""), headings, rows


def test_there_are_nineteen_tables_and_seven_sections():
    assert published_numbers() == (
        *(f"3.{i}" for i in range(1, 11)),
        *("3.6.3", "3.6.4", "3.6.5", "3.8.4"),
        *("4.1", "4.2"),
        *(f"5.{i}" for i in range(1, 8)),
        *("5.4.1", "5.4.2", "5.5.2"),
    )


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
def test_the_tables_of_chapter_4_are_the_texts(number, lines_above, lines):
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


@needs_text
@pytest.mark.parametrize("number", BALANCES)
def test_the_balances_of_chapter_5_are_the_texts(number, lines):
    caption, headings, printed = _below_caption(lines, number)
    ours = published_table(number)
    assert ours.caption == caption
    assert ours.columns == tuple(heading.title() for heading in headings[-3:])
    assert len(ours.rows) == len(printed) == (44 if number in OF_IDENTITIES else 28)
    for name, (_, ratio, *_, male, female, errors) in zip(ours.rows, printed, strict=True):
        values = [ours.values.get((name, column)) for column in ours.columns]
        assert values == [None if cell == "-" else float(cell) for cell in (male, female, errors)]
        assert name.endswith(f" {ratio}") or f"Printed {ratio}" in ours.notes[name, "M Acc"]
    a_model = len(printed) // len(MODELS)
    for place, model in enumerate(MODELS):  # it stands somewhere among its own rows
        block = slice(place * a_model, (place + 1) * a_model)
        assert {row[0] for row in printed[block]} == {"", model}
        assert all(name.startswith(f"{model} ") for name in ours.rows[block])


@needs_text
def test_sizes_are_the_texts_and_ranges_are_notes(lines):
    caption, _, printed = _below_caption(lines, "5.1")
    ours = published_table("5.1")
    assert (ours.caption, ours.rows) == (caption, tuple(row[0] for row in printed))
    for name, *cells in printed:
        for column, cell in zip(ours.columns, cells, strict=True):
            if " - " in cell:
                assert (name, column) not in ours.values
                low_and_high = cell.replace(" - ", " to ").replace("3967", "3,967")
                assert ours.notes[name, column] == f"Varies: {low_and_high}."
            else:
                assert ours.values[name, column] == float(cell.replace("k", "e3"))


@needs_text
@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (
            "5.4.1",
            "gap is closed for all models when the train set consists of about {}% male and {}% female identities",
        ),
        ("5.4.2", "female accuracy is closest to male accuracy occurs when around {}% of images are of males"),
        ("5.5.2", "for image balance in the test set occurs at about {}% male images"),
    ],
)
def test_the_fair_points_are_in_their_sentences(number, sentence, lines):
    figures = [f"{100 * value:.0f}" for value in published_table(number).values.values()]
    assert sentence.format(*figures) in " ".join(lines)


@pytest.mark.parametrize("number", published_numbers())
def test_every_cell_is_there_and_in_range_or_left_empty_as_in_the_text(number):
    table = published_table(number)
    cells = {(row, column) for row in table.rows for column in table.columns}
    empty = cells - set(table.values)
    assert set(table.values) | set(table.notes) <= cells
    if number == "5.1":
        assert len(empty) == 16 and empty == set(table.notes)
    elif number in ("5.4", "5.6"):
        of_nobody = [("M Acc", "0:10"), ("Error Ratio", "0:10"), ("F Acc", "10:0"), ("Error Ratio", "10:0")]
        assert empty == {(f"{model} {ratio}", column) for model in MODELS for column, ratio in of_nobody}
    else:
        assert not empty
    units = dict(zip(table.columns, table.table().units, strict=True))
    assert all(0 <= value <= 1 for (_, column), value in table.values.items() if units[column] == "%")
    assert all(value > 0 for value in table.values.values() if number.startswith("5"))


@pytest.mark.parametrize("number", published_numbers())
def test_units_are_one_for_all_columns_or_one_for_each(number):
    units = {"3.6.3": "s", "5.1": ("count",) * 4 + ("ratio",) * 2 + ("count",) * 2}
    units |= dict.fromkeys(BALANCES, ("%", "%", "ratio"))
    assert published_table(number).unit == units.get(number, "%")


@pytest.mark.parametrize("number", BALANCES)
def test_a_balance_has_a_row_for_each_model_and_ratio(number):
    ratios = RATIOS if number in OF_IDENTITIES else RATIOS[2:9]
    table = published_table(number)
    assert table.rows == tuple(f"{model} {ratio}" for model in MODELS for ratio in ratios)
    assert table.columns == ("M Acc", "F Acc", "Error Ratio")


@pytest.mark.parametrize(
    ("number", "row", "values"),
    [
        ("5.2", "MFN CosFace 1:9", (0.941, 0.939, 1.03)),
        ("5.2", "ResNet-152 ArcFace 10:0", (0.937, 0.748, 4.00)),
        ("5.3", "ResNet-152 ArcFace 4:6", (0.916, 0.881, 1.42)),
        ("5.3", "MFN ArcFace 8:2", (0.960, 0.914, 2.15)),
        ("5.4", "MFN CosFace 0:10", (None, 0.961, None)),
        ("5.4", "ResNet-152 ArcFace 9:1", (0.959, 0.950, 1.20)),
        ("5.5", "ResNet-152 CosFace 2:8", (0.921, 0.938, 0.78)),
        ("5.6", "MFN ArcFace 10:0", (0.969, None, None)),
        ("5.7", "ResNet-152 CosFace 8:2", (0.922, 0.483, 6.66)),
    ],
)
def test_rows_of_chapter_5_picked_by_hand(number, row, values):
    table = published_table(number)
    assert tuple(table.values.get((row, column)) for column in table.columns) == values


@pytest.mark.parametrize("number", BALANCES)
def test_every_error_ratio_follows_from_its_accuracies_as_far_as_they_are_rounded(number):
    values, digit = published_table(number).values, 0.0005
    for (row, column), printed in values.items():
        if column == "Error Ratio":
            male, female = 1 - values[row, "M Acc"], 1 - values[row, "F Acc"]
            lowest, highest = (female - digit) / (male + digit), (female + digit) / (male - digit)
            assert lowest - 0.005 <= printed <= highest + 0.005, row


@pytest.mark.parametrize("number", BALANCES)
def test_rows_whose_ratio_is_printed_the_wrong_way_round_are_turned_and_say_so(number):
    table = published_table(number)
    turned = {f"{model} {ratio}" for model in MODELS for ratio in ("9:1", "10:0") if number in ("5.4", "5.6")}
    assert set(table.notes) == {(row, column) for row, column in table.values if row in turned}
    for (row, _), note in table.notes.items():
        male, female = row.split()[-1].split(":")
        assert note.startswith(f"Printed {female}:{male}")


def _fairest(number, model):
    """The ratio whose error ratio is nearest to 1, by its logarithm."""
    errors = {
        row.removeprefix(f"{model} "): abs(log(value))
        for (row, column), value in published_table(number).values.items()
        if row.startswith(f"{model} ") and column == "Error Ratio"
    }
    return min(errors, key=errors.__getitem__)


def test_which_test_set_treats_both_genders_most_alike():
    assert _fairest("5.5", "MFN CosFace") == "3:7"


@pytest.mark.parametrize(
    ("table", "section", "column"),
    [("5.2", "5.4.1", "male identities"), ("5.3", "5.4.2", "male images"), ("5.5", "5.5.2", "male images")],
)
def test_the_fair_points_of_the_text_are_those_of_its_tables(table, section, column):
    share = published_table(section).values["fair point", column]
    assert {_fairest(table, model) for model in MODELS} == {f"{10 * share:.0f}:{10 - 10 * share:.0f}"}


def test_no_balance_of_identities_in_the_test_set_is_fair_to_women():
    errors = [value for (_, column), value in published_table("5.4").values.items() if column == "Error Ratio"]
    assert len(errors) == 36
    assert min(errors) == 1.20
    assert "no fair point appears to exist" in published_table("5.5.2").remark


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
    assert table.shade == "low is good"


def test_a_published_table_of_several_units_and_empty_cells_becomes_one_for_reports():
    table = published_table("5.4").table()
    assert (table.units, table.shade) == (("%", "%", "ratio"), None)
    rows = dict(table.rows)
    assert rows["MFN CosFace 0:10"] == (Cell(), Cell(0.961), Cell())
    turned = [figure(cell, unit) for cell, unit in zip(rows["MFN CosFace 9:1"], table.units, strict=True)]
    assert turned == ["97.8 %", "96.2 %", "1.72"]
    assert "365 male" in rows["MFN CosFace 9:1"][2].note


def test_ours_stands_beside_a_published_balance_row_by_row():
    published = published_table("5.6").table()
    ours = replace(published, title="Ours", rows=(("MFN CosFace 5:5", (Cell(0.9), Cell(0.8), Cell(2.0))),))
    (joined,) = beside(ours, published)
    assert joined.units == ("%", "%", "ratio") * 2
    assert [cell.value for cell in dict(joined.rows)["MFN CosFace 5:5"]] == [0.9, 0.8, 2.0, 0.965, 0.943, 1.63]


def test_names_tell_tables_from_sections():
    assert [published_table(number).name for number in ("3.10", "3.6.3")] == ["table 3.10", "section 3.6.3"]


def test_an_unknown_table_is_refused_with_those_there_are():
    with pytest.raises(FairveilError, match=r"no published numbers of '3\.11', only of 3\.1, 3\.2"):
        published_table("3.11")
