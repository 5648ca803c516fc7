"""Directions that lead photos of one person apart, so that protected ones do not match each other.

Photos of one person that are only pushed away from themselves are pushed in much the same direction, and a recognizer
matches protected photos with protected photos. So each face may be given a goal of its own in feature space. Directions
drawn at random are out of a network's reach; those in which faces differ from each other are not. Generated faces of
people who do not exist show them (see `fairveil.data.synthetic.people`).
"""

import hashlib
from collections.abc import Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from fairveil.data.synthetic import SyntheticFaces
from fairveil.faces.recognizers import Recognizer

_MIXED = 3
"""How many generated faces a goal is made of: enough for thousands of goals, few enough for each to lie far out."""

_BATCH = 8


def goals(recognizers: Sequence[Recognizer], faces: int, generator: torch.Generator | None) -> list[Tensor]:
    """A goal for each of F faces in the space of each recognizer: the same generated faces, as each sees them.

    Args:
        recognizers: whose spaces.
        faces: how many faces, F.
        generator: draws the generated faces; the default generator of torch if none is given.

    Returns:
        For each recognizer unit vectors (F, D), on its device.
    """
    spreads = [_spread(recognizer).to(recognizer.device) for recognizer in recognizers]  # it may have moved since
    people = len(spreads[0])
    device = generator.device if generator else "cpu"
    drawn = torch.stack([torch.randperm(people, generator=generator, device=device)[:_MIXED] for _ in range(faces)])
    return [F.normalize(spread[drawn.to(spread.device)].sum(1), dim=-1) for spread in spreads]


def generator_of(photo: Tensor, seed: int) -> torch.Generator:
    """A generator that only the owner of an original photo, uint8 (3, H, W), can make again."""
    content = hashlib.sha256(f"{seed} {tuple(photo.shape)}".encode())
    content.update(photo.cpu().contiguous().numpy().tobytes())
    return torch.Generator().manual_seed(int.from_bytes(content.digest()[:8]) >> 1)


@lru_cache(maxsize=16)
@torch.no_grad()
def _spread(recognizer: Recognizer) -> Tensor:
    """How generated people differ from their average under a recognizer: unit vectors (32, D)."""
    people = SyntheticFaces(identities=32, per_identity=1, size=160, seed=5)
    seen = []
    for start in range(0, len(people), _BATCH):
        rows = range(start, start + _BATCH)
        pictures = people.render(rows).to(recognizer.device).float() / 255
        seen.append(recognizer.embed(pictures, people.landmarks(rows).to(pictures)))
    embeddings = torch.cat(seen)
    return F.normalize(embeddings - embeddings.mean(0), dim=-1)
