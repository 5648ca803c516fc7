"""How often audits and fairness cards of equal groups state a difference, as they are and without a correction.

Audits: people of every group err with probabilities of one beta distribution, images of a person alike; the groups with
most and with fewest errors are set in relation, as `fairveil audit` and `fairveil identify` do, and it is counted how
often the interval of the ratio leaves out 1.

Cards: all groups fare alike but for what each run adds, half of it on all splits, and an intervention does nothing but,
in some settings, make runs scatter more. It is counted how often a card, as `fairveil fair compare` writes it, tells a
gap of the baseline or a change of it on validation (where its groups are picked), that groups came closer or moved
apart on the test, that a group of the column changed, that it leveled down, that another column's group gained or
paid, or which group is ahead where it was fitted or on the test.

    python bench/false_statements.py
    python bench/false_statements.py --of audits --audits 4000 --groups 2,8
    python bench/false_statements.py --of cards --cards 500
"""

import argparse

import numpy as np
import polars as pl
import torch

from fairveil.base.comparisons import CONFIDENCE
from fairveil.base.differences import mean_of_runs, ratio
from fairveil.base.rates import comparable_rates, rate_of_people
from fairveil.fair.comparing import SPLITS, Comparison
from fairveil.fair.gerrymandering import bystanders
from fairveil.fair.report import reading
from fairveil.fair.scores import SCORES

SETTINGS = ((60, 6, 0.1, 0.3), (20, 6, 0.3, 0.3), (200, 4, 0.03, 0.5), (1000, 4, 0.01, 0.5), (15, 20, 0.5, 0.1))
"""People of each group, images of each, error rate, and how alike images of one person fare."""


CARD_SETTINGS = ((3, 1.0), (5, 1.0), (5, 2.0), (10, 2.0))
"""Runs of each, and how many times as much runs scatter under the intervention as at the baseline."""

SCATTER = 0.02
"""By how much figures of groups differ from run to run, a standard deviation."""


class Uncorrected(Comparison):
    """A card as it would be if two groups were all there are."""

    @property
    def confidence(self) -> float:
        """Of an interval that nobody picked."""
        return CONFIDENCE


def states_a_difference(
    groups: int, people: int, images: int, error: float, alike: float, random: np.random.Generator
) -> tuple[bool, bool]:
    """Whether one audit does, corrected and uncorrected."""
    beta = error * (1 - alike) / alike, (1 - error) * (1 - alike) / alike
    probes = torch.full((people,), images)
    counts = {
        str(group): (torch.from_numpy(random.binomial(images, random.beta(*beta, people))), probes)
        for group in range(groups)
    }
    told = []
    for rates in (comparable_rates(counts), {group: rate_of_people(*both) for group, both in counts.items()}):
        fewest, *_, most = sorted(rates, key=lambda group: rates[group].value)
        told.append(ratio(rates[most], rates[fewest]).excludes(1))
    return told[0], told[1]


def card_of(groups: int, runs: int, scatter: float, random: np.random.Generator) -> Comparison:
    """A card of equal groups, of which a second column has as many."""
    rows = []
    for name, times in (("baseline", 1.0), ("min-max", scatter)):
        for column in ("tone", "place"):
            shared, own = random.normal(size=(1, groups, runs)), random.normal(size=(len(SPLITS), groups, runs))
            values = 0.7 + SCATTER * times * (shared + own) / np.sqrt(2)  # (split, group, run)
            rows += [
                (
                    name,
                    run,
                    split,
                    "rank-1",
                    "",
                    column,
                    f"{column} {group}",
                    values[part, group, run],
                    None,
                    None,
                    9,
                    9,
                )
                for part, split in enumerate(SPLITS)
                for group in range(groups)
                for run in range(runs)
            ]
            everybody = values.mean(axis=1)
        rows += [
            (name, run, split, "rank-1", "", "", "", everybody[part, run], None, None, 9, 9)
            for part, split in enumerate(SPLITS)
            for run in range(runs)
        ]
    schema = pl.Schema([("intervention", pl.String), ("seed", pl.Int64), *SCORES.items()])
    measures, baselines = dict.fromkeys(SPLITS, "rank-1"), dict.fromkeys(("baseline", "min-max"), "baseline")
    scores = pl.DataFrame(rows, schema=schema, orient="row")
    return Comparison("recognition", "tone", measures, baselines, scores, {}, {"min-max": "train"})


def card_statements(card: Comparison) -> dict[str, bool]:
    """Which statements a card makes, none of which is true of equal groups."""
    return {
        "gap": card.gap("baseline", "validation").excludes(0),
        "its change": card.gap_change("min-max", "validation").excludes(0),
        "closer or apart": card.movement("min-max", "test") != "",
        "a group changed": any(change.excludes(0) for change in card.group_changes("min-max", "test").values()),
        "levelled down": card.leveled_down("min-max") in ("yes", "perhaps"),
        "who paid": any(one.effect for one in bystanders(card)),
        "ahead": "ahead" in reading(card, "min-max"),
    }


def uncorrected_statements(card: Comparison) -> dict[str, bool]:
    """The same of intervals for a single pair of groups, where correcting makes a difference."""
    plain = Uncorrected(
        card.task, card.column, card.measures, card.baselines, card.scores, card.skipped_fraction, card.fitted
    )
    best, worst = (card.by_seed("baseline", "validation", group) for group in (card.best_group, card.worst_group))
    return {
        "gap": mean_of_runs([best[run] - worst[run] for run in best]).excludes(0),
        "its change": plain.gap_change("min-max", "validation").excludes(0),
        "closer or apart": plain.narrowing("min-max", "test").excludes(0),
        "a group changed": any(change.excludes(0) for change in plain.group_changes("min-max", "test").values()),
    }


def tell_of_audits(groups: list[int], audits: int) -> None:
    """Print how many audits state a difference."""
    random = np.random.default_rng(0)
    for setting in SETTINGS:
        print("{} people × {} images, error {:.0%}, correlation {}".format(*setting))
        for count in groups:
            told = [states_a_difference(count, *setting, random) for _ in range(audits)]
            corrected, uncorrected = np.mean(told, axis=0)
            print(
                f"  {count:2} groups: {corrected:5.1%} ± {error(corrected, audits):.1%} state a difference; "
                f"uncorrected {uncorrected:5.1%}",
                flush=True,
            )


def tell_of_cards(groups: list[int], cards: int) -> None:
    """Print how many cards make which statement."""
    random = np.random.default_rng(0)
    for runs, scatter in CARD_SETTINGS:
        print(f"cards of {runs} runs, scattering {scatter:g} times as much under the intervention")
        for count in groups:
            made = [card_of(count, runs, scatter, random) for _ in range(cards)]
            now, before = (
                [statements(card) for card in made] for statements in (card_statements, uncorrected_statements)
            )
            told = []
            for name in now[0]:
                share = float(np.mean([one[name] for one in now]))
                plain = f" ({np.mean([one[name] for one in before]):.1%})" if name in before[0] else ""
                told.append(f"{name} {share:.1%} ± {error(share, cards):.1%}{plain}")
            print(f"  {count:2} groups, in brackets uncorrected: {'; '.join(told)}", flush=True)


def error(share: float, count: int) -> float:
    """The standard error of a share."""
    return float(np.sqrt(share * (1 - share) / count))


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--of", choices=("audits", "cards", "both"), default="both", help="what is simulated")
    parser.add_argument("--audits", type=int, default=1000, help="of each setting")
    parser.add_argument("--cards", type=int, default=1000, help="of each setting")
    parser.add_argument("--groups", default="2,4,8,16")
    options = parser.parse_args()
    torch.set_num_threads(1)
    groups = [int(count) for count in options.groups.split(",")]
    if options.of != "cards":
        tell_of_audits(groups, options.audits)
    if options.of != "audits":
        tell_of_cards(groups, options.cards)


if __name__ == "__main__":
    main()
