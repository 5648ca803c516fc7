"""How long the gallery sweeps of tables 5.4 and 5.5 take: 18 make-ups, 5 draws of each, 14,000 images.

Beside them one bare product of all similarities, and what a search of each gallery for itself would take (a few of the
90, scaled). Embeddings are made up: people as easily told apart as a good recognizer tells them, and hardly at all.

    python bench/audit.py
"""

import argparse
from functools import partial

import polars as pl
import torch
from torch import Tensor

from fairveil.audit.bias import SEEDS, respond
from fairveil.audit.imbalance import Kind, draw, sweep
from fairveil.data.population import Population
from fairveil.faces.identification import identify
from identify import bare_product, people
from timing import best_in_turns

_ALONE = 3  # galleries that are searched for themselves


KINDS: tuple[Kind, ...] = ("identities", "images")


def sweep_all(vectors: Tensor, population: Population) -> None:
    """Both sweeps, as an audit makes them."""
    for kind in KINDS:
        respond(vectors, population, sweep(population, kind, "1"))


def search_alone(vectors: Tensor, population: Population) -> None:
    """A few of the galleries, each searched for itself."""
    for seed in range(_ALONE):
        rows = draw(population, sweep(population, "images", "1", parts=[5])[0], seed=seed)
        some, names = vectors[rows], population.identity[rows]
        identify(some, some, names, names, exclude=torch.arange(len(rows)))


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--photos", type=int, default=14_000)
    parser.add_argument("--spread", default="1.0,3.0", help="how far photos of one person lie apart")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for spread in map(float, options.spread.split(",")):
        vectors, who = people(options.photos, first=1, spread=spread)
        population = Population.of(pl.DataFrame({"identity": who.numpy(), "gender": (who % 2).numpy()}), "gender")
        ways = {
            "product": partial(bare_product, vectors, vectors),
            "sweeps": partial(sweep_all, vectors, population),
            "alone": partial(search_alone, vectors, population),
        }
        seconds = best_in_turns(ways, options.repeat)
        galleries = sum(len(sweep(population, kind, "1")) for kind in KINDS) * SEEDS
        each = seconds["alone"] / _ALONE * galleries
        print(
            f"spread {spread:g}: {galleries} galleries from {options.photos:,} photos: {seconds['sweeps']:.1f} s, "
            f"{seconds['sweeps'] / seconds['product']:.1f} times one bare product ({seconds['product']:.2f} s); "
            f"searched one by one {each:.0f} s, {each / seconds['sweeps']:.1f} times as long"
        )


if __name__ == "__main__":
    main()
