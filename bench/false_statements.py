"""How often an audit of equal groups states a difference, as it is and as it was without a correction.

People of every group err with probabilities of one beta distribution, images of a person alike; the groups with most
and with fewest errors are set in relation, as `fairveil audit` and `fairveil identify` do, and it is counted how often
the interval of the ratio leaves out 1.

    python bench/false_statements.py
    python bench/false_statements.py --audits 4000 --groups 2,8
"""

import argparse

import numpy as np
import torch

from fairveil.faces.rates import comparable_rates, rate_of_people, ratio

SETTINGS = ((60, 6, 0.1, 0.3), (20, 6, 0.3, 0.3), (200, 4, 0.03, 0.5), (1000, 4, 0.01, 0.5), (15, 20, 0.5, 0.1))
"""People of each group, images of each, error rate, and how alike images of one person fare."""


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
        told.append(ratio(rates[most], rates[fewest]).told)
    return told[0], told[1]


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--audits", type=int, default=1000, help="of each setting")
    parser.add_argument("--groups", default="2,4,8,16")
    options = parser.parse_args()
    torch.set_num_threads(1)
    random = np.random.default_rng(0)
    for setting in SETTINGS:
        print("{} people × {} images, error {:.0%}, correlation {}".format(*setting))
        for groups in map(int, options.groups.split(",")):
            told = [states_a_difference(groups, *setting, random) for _ in range(options.audits)]
            corrected, uncorrected = np.mean(told, axis=0)
            print(f"  {groups:2} groups: {corrected:5.1%} state a difference; uncorrected {uncorrected:5.1%}")


if __name__ == "__main__":
    main()
