import os
import re
from dataclasses import replace
from itertools import takewhile
from math import log
from pathlib import Path

import pytest

from fairveil.base.errors import FairveilError
from fairveil.experiment.published import published_numbers, published_table
from fairveil.report.tables import Cell, beside, figure

MATRICES = ("3.2", "3.5", "3.6", "3.7", "3.8", "3.9")
RECOGNIZERS = ("IR-50A", "IR-50C", "IR-152A", "IR-152C", "RN-50A", "RN-50C", "RN-152A", "RN-152C")
RANK_1_AND_50 = (("3.5", "3.2"), ("3.7", "3.6"), ("3.9", "3.8"), ("3.10", "3.3"))
SMALL_AND_FULL = (("3.8", "3.2"), ("3.9", "3.5"))

MODELS = ("MFN CosFace", "MFN ArcFace", "ResNet-152 CosFace", "ResNet-152 ArcFace")
OF_IDENTITIES = {"5.2", "5.4", "5.6"}
OF_IMAGES = {"5.3", "5.5", "5.7"}
BALANCES = sorted(OF_IDENTITIES | OF_IMAGES)
RATIOS = [f"{male}:{10 - male}" for male in range(11)]

BY_SPLIT = tuple(f"{split} {column}" for split in ("train", "validation", "test") for column in ("M", "F", "gap"))
TASKS = ("CD", "ED", "CO", "AT", "PE")
EQUAL_LOSS = (
    *("Baseline", "Eq. Loss Train α = 0.5", "Eq. Loss Train α = 1", "Eq. Loss Train α = 2"),
    *("Eq. Loss Holdout baseline", "Eq. Loss Holdout α = 0.5", "Eq. Loss Holdout α = 1"),
)
FLIPPING = ("Baseline", "Label Flipping p = 0.1", "Label Flipping p = 0.3", "Label Flipping p = 0.5")
FAIR_FEATURES = tuple(
    name
    for gender in ("Females", "Males")
    for name in ("Fair Features baseline", *(f"Fair Features ({gender}) α = {alpha}" for alpha in (1, 2, 3)))
)


def _by_task(*schemes):
    return tuple(f"{scheme} {task}" for scheme in schemes for task in (*TASKS, "Avg"))


# The rows of chapter 6's tables as they are printed, that is, with the baseline as often as it is.
PRINTED = {
    "6.1": _by_task(
        "Baseline",
        *(f"{name} α = {alpha}" for name in ("Eq. Loss Train", "Disp. Impact", "Eq. Odds") for alpha in (100, 1000)),
    ),
    "6.2": (*EQUAL_LOSS, "Baseline", "Min-Max", *FLIPPING),
    "6.3": ("validation baseline", "validation fair", "test baseline", "test fair"),
    "6.4": tuple(f"Penalize {gender} α = {alpha}" for gender in ("Females", "Males") for alpha in range(4)),
    "6.5": ("Baseline", "Eq Loss", "Eq Loss diff", "Margins", "Margins diff", "Flip", "Flip diff"),
    "6.6": (*EQUAL_LOSS, *FLIPPING, "Baseline", "Adjusted Margins", "Baseline", "Min-Max", *FAIR_FEATURES),
    "6.7": (*EQUAL_LOSS[:4], FLIPPING[0], *FLIPPING[2:], "Baseline", "Adjusted Margins", *FAIR_FEATURES),
    "6.8": _by_task("Baseline", "Eq. Loss Val", "Eq. Odds Val", "Disp. Impact Val"),
    "6.9": _by_task("Baseline", "Min-Max"),
    "6.10": _by_task("Baseline", "Random Flip p = 0.1", "Random Flip p = 0.05", "Random Flip p = 0.01"),
}
COLUMNS = dict.fromkeys(("6.2", "6.6", "6.7", "6.8", "6.9", "6.10"), BY_SPLIT) | {
    "6.1": tuple(f"{split} {column}" for split in ("train", "test") for column in ("M", "F", "gap", "penalty")),
    "6.3": ("Acc M", "Acc F", "Acc gap", "Intra M", "Intra F", "Inter M", "Inter F"),
    "6.4": ("M", "F", "gap", "sensitive accuracy"),
    "6.5": ("African", "Asian", "Caucasian", "Indian"),
}
OF_FACES = ("6.2", "6.3", "6.4", "6.6", "6.7")
OF_XRAYS = ("6.1", "6.8", "6.9", "6.10")  # printed as shares, not in percent
ROUNDED = 0.0015 + 1e-9  # by how much a difference of two rounded figures may differ from its own, with three digits

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
    """The tables as the text has them: caption, columns and the shares in each row, in percent as printed."""
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
    """A table of chapter 5 or 6 as the text has it, below its caption (6.10 above): caption, headings and rows."""
    start = next(place for place, line in enumerate(lines) if f"Table {number}: " in line)
    around = lines[start + 2 :] if number != "6.10" else lines[start - 2 :: -1]
    body = list(takewhile(lambda line: line.startswith("|"), around))
    headings, _, *rows = (
        [cell.strip() for cell in line.strip().strip("|").split("|")]
        for line in (body if number != "6.10" else body[::-1])
    )
    return lines[start].partition(f"Table {number}: ")[2].replace("**", ""), headings, rows


def test_there_are_twenty_nine_tables_and_seven_sections():
    assert published_numbers() == (
        *(f"3.{i}" for i in range(1, 11)),
        *("3.6.3", "3.6.4", "3.6.5", "3.8.4"),
        *("4.1", "4.2"),
        *(f"5.{i}" for i in range(1, 8)),
        *("5.4.1", "5.4.2", "5.5.2"),
        *(f"6.{i}" for i in range(1, 11)),
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
    printed = {re.sub(r" ?, (0\.\d+)", r" (\1)", row[0]): row[1:] for row in cells[2:]}  # as our defenses are called
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


@needs_text
@pytest.mark.parametrize("number", PRINTED)
def test_the_tables_of_chapter_6_are_the_texts(number, lines):
    caption, _, printed = _below_caption(lines, number)
    rows = [cells if cells[-1] else cells[:-1] for cells in printed]  # 6.1 has an empty column on the right
    rows = [cells for cells in rows if re.search(r"\d$", cells[-1])]  # not the second line of headings
    ours = published_table(number)
    assert (ours.caption, ours.columns) == (caption, COLUMNS[number])
    assert ours.rows == tuple(dict.fromkeys(PRINTED[number]))
    for name, cells in zip(PRINTED[number], rows, strict=True):
        for column, unit, cell in zip(ours.columns, ours.table().units, cells[-len(ours.columns) :], strict=True):
            scale = 100 if unit == "%" and number not in OF_XRAYS else 1
            assert ours.values[name, column] == pytest.approx(float(cell) / scale, abs=1e-9), (name, column)
        label = cells[-len(ours.columns) - 1].replace("$", "").replace("\\alpha", "α").lower()
        assert name.lower().endswith(label) or (label, name) in {("fair", "Adjusted Margins"), ("fair", "Min-Max")}


@needs_text
@pytest.mark.parametrize(
    ("sentence", "places"),
    [
        ("accuracy gap on validation data drops from {}% to {}%", "6.3 validation baseline|validation fair: Acc gap"),
        ("decreasing the gender gap from {}% to {}%", "6.7 Baseline|Label Flipping p = 0.3: test gap"),
        ("drops male test accuracy from {}% to {}%", "6.7 Baseline|Label Flipping p = 0.5: test M"),
        ("and results in a {}% accuracy gap on test data", "6.7 Label Flipping p = 0.5: test gap"),
    ],
)
def test_figures_in_the_words_of_chapter_6_are_those_of_its_tables(sentence, places, lines):
    number, rows, column = re.fullmatch(r"(\S+) (.*): (.*)", places).groups()
    values = published_table(number).values
    figures = [f"{100 * values[row, column]:.1f}" for row in rows.split("|")]
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
    shares = {place: value for place, value in table.values.items() if units[place[1]] == "%"}
    assert all(
        abs(value) <= 1 if column.endswith(("gap", "penalty")) or row.endswith("diff") else 0 <= value <= 1
        for (row, column), value in shares.items()
    )
    assert all(value > 0 for value in table.values.values() if number.startswith("5"))


@pytest.mark.parametrize("number", published_numbers())
def test_units_are_one_for_all_columns_or_one_for_each(number):
    units = {"3.6.3": "s", "5.1": ("count",) * 4 + ("ratio",) * 2 + ("count",) * 2}
    units["6.3"] = ("%",) * 3 + ("°",) * 4
    units |= dict.fromkeys(("6.1", "6.8", "6.9", "6.10"), "AUC")
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


@pytest.mark.parametrize(
    ("number", "row", "values"),
    [
        ("6.1", "Disp. Impact α = 1000 CO", (0.834, 0.837, 0.003, -0.213, 0.705, 0.673, 0.040, -0.206)),
        ("6.1", "Eq. Odds α = 1000 Avg", (0.869, 0.869, 0.005, 0.008, 0.814, 0.817, 0.037, 0.061)),
        ("6.2", "Eq. Loss Train α = 2", (0, 0.001, -0.001, 0.270, 0.188, 0.082, 0.709, 0.642, 0.067)),
        ("6.2", "Min-Max", (0.743, 0.759, -0.017, 0.794, 0.734, 0.060, 0.955, 0.934, 0.021)),
        ("6.3", "test fair", (0.959, 0.910, 0.049, 44.7, 49.1, 69.6, 68.4)),
        ("6.4", "Penalize Males α = 3", (0.902, 0.901, 0.001, 0.613)),
        ("6.5", "Flip diff", (-0.009, -0.011, -0.003, -0.004)),
        ("6.6", "Eq. Loss Holdout baseline", (0.840, 0.796, 0.044, 0.786, 0.708, 0.078, 0.942, 0.923, 0.020)),
        ("6.6", "Fair Features (Females) α = 3", (0.962, 0.932, 0.030, 0.799, 0.705, 0.094, 0.933, 0.889, 0.044)),
        ("6.7", "Label Flipping p = 0.5", (0.315, 0.932, -0.617, 0.778, 0.808, -0.030, 0.952, 0.949, 0.003)),
        ("6.8", "Eq. Odds Val ED", (0.936, 0.934, 0.003, 0.729, 0.721, 0.009, 0.858, 0.699, 0.159)),
        ("6.9", "Min-Max AT", (0.901, 0.771, 0.130, 0.657, 0.652, 0.004, 0.758, 0.826, 0.068)),
        ("6.10", "Random Flip p = 0.05 PE", (0.917, 0.910, 0.007, 0.829, 0.841, 0.013, 0.842, 0.906, 0.063)),
    ],
)
def test_rows_of_chapter_6_picked_by_hand(number, row, values):
    table = published_table(number)
    assert tuple(table.values.get((row, column)) for column in table.columns) == values


def _off(number):
    """By how much each gap of a table differs from that of its accuracies or AUCs, where by more than rounding."""
    values = published_table(number).values
    off = {}
    for (row, column), gap in values.items():
        if column.endswith("gap") and not row.endswith("Avg"):
            difference = values[row, f"{column[:-3]}M"] - values[row, f"{column[:-3]}F"]
            off[row, column] = gap - (abs(difference) if number in OF_XRAYS else difference)
    return {place: by for place, by in off.items() if abs(by) > ROUNDED}


@pytest.mark.parametrize("number", (*OF_FACES, *OF_XRAYS))
def test_every_gap_follows_from_its_accuracies_or_is_noted(number):
    off, notes = _off(number), published_table(number).notes
    assert set(off) == {place for place, note in notes.items() if note.startswith("Larger than the difference")}
    assert len(off) == (17 if number == "6.1" else 0)
    assert all(by > 0 for by in off.values())


@pytest.mark.parametrize("number", OF_XRAYS)
def test_averages_are_those_of_the_five_tasks(number):
    table = published_table(number)
    for scheme in (row.removesuffix(" Avg") for row in table.rows if row.endswith(" Avg")):
        for column in table.columns:
            mean = sum(table.values[f"{scheme} {task}", column] for task in TASKS) / len(TASKS)
            assert table.values[f"{scheme} Avg", column] == pytest.approx(mean, abs=0.001), (scheme, column)


def test_differences_by_race_are_from_the_baseline_but_for_the_two_marked():
    table = published_table("6.5")
    values = table.values
    off = {
        (row, column)
        for row in ("Eq Loss", "Margins", "Flip")
        for column in table.columns
        if abs(values["Baseline", column] - values[row, column] - values[f"{row} diff", column]) > ROUNDED
    }
    assert off == {("Eq Loss", "Caucasian"), ("Margins", "Indian")}
    assert set(table.notes) == off | {(f"{row} diff", column) for row, column in off}
    assert all(note.startswith("Suspicious") for note in table.notes.values())


def test_two_rows_that_are_the_same_throughout_are_marked():
    for number in PRINTED:
        table = published_table(number)
        rows = {name: tuple(table.values[name, column] for column in table.columns) for name in table.rows}
        same = {
            (one, other)
            for place, one in enumerate(table.rows)
            for other in table.rows[place + 1 :]
            if rows[one] == rows[other]
        }
        if number == "6.6":
            assert same == {("Fair Features (Males) α = 1", "Fair Features (Males) α = 2")}
            assert set(table.notes) == {("Fair Features (Males) α = 2", column) for column in table.columns}
        else:  # without a penalty it does not matter whom it is not put on
            assert same == ({("Penalize Females α = 0", "Penalize Males α = 0")} if number == "6.4" else set())


def test_tables_of_chapter_6_agree_where_they_have_the_same_figures():
    values = {number: published_table(number).values for number in PRINTED}
    assert values["6.2"].items() <= values["6.6"].items()
    for split in ("validation", "test"):
        for row, name in (("baseline", "Baseline"), ("fair", "Adjusted Margins")):
            for column in ("M", "F", "gap"):
                assert values["6.3"][f"{split} {row}", f"Acc {column}"] == values["6.7"][name, f"{split} {column}"]
    for (row, column), value in values["6.4"].items():
        gender, alpha = re.fullmatch(r"Penalize (\w+) α = (\d)", row).groups()
        name = "Fair Features baseline" if alpha == "0" else f"Fair Features ({gender}) α = {alpha}"
        if column != "sensitive accuracy":
            assert value == values["6.7"][name, f"test {column}"]
    baselines = [{k: v for k, v in values[number].items() if k[0].startswith("Baseline ")} for number in OF_XRAYS]
    assert baselines[1] == baselines[2] == baselines[3]
    assert all(value != baselines[1].get(place) for place, value in baselines[0].items() if "Avg" in place[0])


@pytest.mark.parametrize("number", ["6.2", "6.6", "6.7"])
def test_validation_accuracy_is_lower_than_test_accuracy_in_all_schemes(number):
    table = published_table(number)
    for row in table.rows:
        for column in ("M", "F"):
            assert table.values[row, f"validation {column}"] < table.values[row, f"test {column}"]


@needs_text
def test_where_the_words_of_chapter_6_disagree_with_its_tables_remarks_say_so(lines):
    text, flips = " ".join(lines), published_table("6.10")
    for told in ("(0.816 to 0.746)", "(0.781 to 0.784)", "(0.816 to 0.716)", "(0.781 to 0.705)"):
        before, after = (float(figure) for figure in told.strip("()").split(" to "))
        assert told in text
        assert before in {flips.values["Baseline Avg", "test M"], flips.values["Baseline Avg", "test F"]}
        assert after not in {value for (row, _), value in flips.values.items() if row.endswith("Avg")}
        assert f"{after:.3f}" in flips.remark
    margins = published_table("6.5").values
    penalties = published_table("6.1")
    better = {
        row.removesuffix(" Avg"): f"{gap:.3f}"
        for (row, column), gap in penalties.values.items()
        if row.endswith(" Avg") and column == "test gap" and gap < penalties.values["Baseline Avg", "test gap"]
    }
    assert "There is one noticeable exception in Table 6.1; the equal loss regularizer" in text
    assert set(better) == {"Eq. Loss Train α = 100"} | {
        f"{scheme} α = {alpha}" for scheme in ("Disp. Impact", "Eq. Odds") for alpha in (100, 1000)
    }
    assert all(gap in penalties.remark for scheme, gap in better.items() if not scheme.startswith("Eq. Loss"))
    before, after = (margins[row, "Indian"] - margins[row, "Asian"] for row in ("Baseline", "Margins"))
    assert "being increased by 1.2%" in text
    assert after - before == pytest.approx(0.021)
    assert margins["Margins diff", "Asian"] - margins["Margins diff", "Indian"] == pytest.approx(0.012)
    assert "by 1.2" in published_table("6.5").remark and "by 2.1" in published_table("6.5").remark


@pytest.mark.parametrize("number", MATRICES)
def test_matrices_are_eight_attackers_by_eight_defenders_between_clean_and_ensemble(number):
    table = published_table(number)
    assert table.columns == RECOGNIZERS
    assert table.rows == ("Clean", *(("Fawkes",) if number in ("3.2", "3.5") else ()), *RECOGNIZERS, "Ensemble")


@pytest.mark.parametrize("number", MATRICES)
def test_an_attack_is_strongest_on_its_own_recognizer(number):
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
    assert rows["MFN CosFace 0:10"] == (Cell(), Cell.of(0.961), Cell())
    turned = [figure(cell, unit) for cell, unit in zip(rows["MFN CosFace 9:1"], table.units, strict=True)]
    assert turned == ["97.8 %", "96.2 %", "1.72"]
    assert "365 male" in rows["MFN CosFace 9:1"][2].note


def test_ours_stands_beside_a_published_balance_row_by_row():
    published = published_table("5.6").table()
    ours = replace(published, title="Ours", rows=(("MFN CosFace 5:5", (Cell.of(0.9), Cell.of(0.8), Cell.of(2.0))),))
    (joined,) = beside(ours, published)
    assert joined.units == ("%", "%", "ratio") * 2
    assert [cell.value for cell in dict(joined.rows)["MFN CosFace 5:5"]] == [0.9, 0.8, 2.0, 0.965, 0.943, 1.63]


def test_names_tell_tables_from_sections():
    assert [published_table(number).name for number in ("3.10", "3.6.3")] == ["table 3.10", "section 3.6.3"]


def test_an_unknown_table_is_refused_with_those_there_are():
    with pytest.raises(FairveilError, match=r"no published numbers of '3\.11', only of 3\.1, 3\.2"):
        published_table("3.11")
