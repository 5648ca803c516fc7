"""A defender who has LowKey too: it protects photos itself and learns to undo what that does to its embeddings."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_STEPS, _RATE, _DECAY = 300, 1e-3, 1e-2


def undo(clean: Tensor, protected: Tensor, *, seed: int = 0) -> Callable[[Tensor], Tensor]:
    """Train a small network behind a recognizer that brings protected faces back and leaves clean ones where they are.

    The network adds to an embedding what two layers make of it, and maximizes the cosine of the result with the clean
    face, over protected and clean faces alike. A defender who retrains the whole recognizer can do better still.

    Args:
        clean: embeddings of faces as they were, (N, D).
        protected: embeddings of the same faces protected, (N, D).
        seed: of the first weights.

    Returns:
        What maps embeddings (B, D) to unit vectors (B, D).
    """
    dimension = clean.shape[1]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        first, last = nn.Linear(dimension, dimension), nn.Linear(dimension, dimension)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    network = nn.Sequential(first, nn.GELU(), last)
    inputs, wanted = torch.cat([protected, clean]), torch.cat([clean, clean])
    optimizer = torch.optim.AdamW(network.parameters(), lr=_RATE, weight_decay=_DECAY)
    for _ in range(_STEPS):
        optimizer.zero_grad()
        loss = 1 - F.cosine_similarity(inputs + network(inputs), wanted).mean()
        torch.autograd.backward(loss)
        optimizer.step()
    network.requires_grad_(False)
    return lambda embeddings: F.normalize(embeddings + network(embeddings), dim=-1)
