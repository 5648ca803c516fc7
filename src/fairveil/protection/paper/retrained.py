"""A defender who has LowKey too: it protects photos itself and trains its whole network to see through them."""

import copy
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from fairveil.base.errors import FairveilError
from fairveil.base.keys import content_key
from fairveil.base.sharing import make_files
from fairveil.data import FaceTable
from fairveil.faces.canvas import view_of_face
from fairveil.faces.embedding import WhichFace, faces_that_count, fingerprint
from fairveil.faces.recognizers import Recognizer
from fairveil.protection.paper.protected import detector_for

HELD = 200
"""How many other photos keep a network that is trained on few people from taking everybody for one of them."""

_EPOCHS, _RATE, _DECAY, _BATCH = 25, 2e-4, 1e-2, 8


def retrained(
    recognizer: Recognizer, clean: FaceTable, protected: FaceTable, held: FaceTable, faces: WhichFace, cache: Path
) -> Recognizer:
    """A copy of a recognizer, trained on photos that its owner protected; the same network is trained once.

    Args:
        recognizer: what to start from.
        clean: photos with identities.
        protected: the same photos, protected, in the same order.
        held: more photos as they are, of anybody.
        faces: which face of each photo counts.
        cache: where weights are kept.

    Raises:
        FairveilError: no photo shows a face.
    """
    pairs, identities = _crops(recognizer, (clean, protected), faces)
    if not identities:
        raise FairveilError(f"{clean.name}: in none of {len(clean)} photos is a face to train a recognizer on.")
    others, _ = _crops(recognizer, (held,), faces)
    numbers = {identity: number for number, identity in enumerate(dict.fromkeys(identities))}
    people = torch.tensor([numbers[identity] for identity in identities])
    inputs = (pairs[:, 0], pairs[:, 1], people, torch.cat([pairs[:, 0], others[:, 0]]))
    key = content_key(repr((fingerprint(recognizer), _EPOCHS, _RATE, _DECAY, _BATCH)), *inputs)

    def write(target: Path) -> None:
        torch.save(retrain(recognizer, *inputs).state_dict(), target)

    weights = make_files(cache / "retrained", {f"{key}.pt": write})[0]
    network = copy.deepcopy(recognizer)
    network.load_state_dict(torch.load(weights, weights_only=True))
    return network


def retrain(
    recognizer: Recognizer,
    clean: Tensor,
    protected: Tensor,
    people: Tensor,
    held: Tensor,
    *,
    epochs: int = _EPOCHS,
    seed: int = 0,
) -> Recognizer:
    """Train all weights of a recognizer so that protected faces come to lie where clean ones do.

    A protected face is drawn, by the cosine, to where the untrained recognizer puts its clean photo and another photo
    of the same person, and clean faces are held where they were. Half of the crops are mirrored.

    Args:
        recognizer: what to start from; it stays as it is.
        clean: crops of faces as they were, (N, 3, S, S), RGB in [0, 1], framed for the recognizer.
        protected: crops of the same faces protected, (N, 3, S, S).
        people: whose face each is, int64 (N,).
        held: crops of faces that should stay where they are, (M, 3, S, S).
        epochs: passes over the protected faces, eight at a time with as many clean ones.
        seed: of batches and mirroring.

    Returns:
        A trained copy, frozen again.
    """
    generator = torch.Generator().manual_seed(seed)
    learner = copy.deepcopy(recognizer)
    # The weights of graphs read from foreign files are buffers, since elsewhere nobody trains them.
    weights = [tensor for tensor in (*learner.parameters(), *learner.buffers()) if tensor.is_floating_point()]
    for tensor in weights:
        tensor.requires_grad_(True)
    with torch.no_grad():
        places, kept = (
            torch.cat([recognizer.embed_crops(batch) for batch in torch.split(crops, _BATCH)])
            for crops in (clean, held)
        )  # (N, D), (M, D)
    others = _others(people)
    optimizer = torch.optim.AdamW(weights, lr=_RATE, weight_decay=_DECAY)
    batches = (torch.split(torch.randperm(len(clean), generator=generator), _BATCH) for _ in range(epochs))
    for rows in chain.from_iterable(batches):
        still = torch.randperm(len(held), generator=generator)[:_BATCH]
        crops = torch.cat([protected[rows], held[still]])
        mirrored = torch.rand(len(crops), 1, 1, 1, generator=generator) < 0.5
        seen = learner.embed_crops(torch.where(mirrored, crops.flip(-1), crops))
        moved, unmoved = seen[: len(rows)], seen[len(rows) :]
        drawn = (others[rows] * torch.rand(len(rows), len(clean), generator=generator)).argmax(1)
        gains = F.cosine_similarity(moved, places[rows]) + F.cosine_similarity(moved, places[drawn])
        optimizer.zero_grad()
        torch.autograd.backward(-gains.mean() - F.cosine_similarity(unmoved, kept[still]).mean())
        optimizer.step()
    for tensor in weights:
        tensor.requires_grad_(False)
    return learner


def _others(people: Tensor) -> Tensor:
    """Which photos are others of the same person, (N, N); the photo itself where there is no other."""
    same = people[:, None] == people
    others = same & ~torch.eye(len(people), dtype=torch.bool)
    return torch.where(others.any(1, keepdim=True), others, same)


@torch.no_grad()
def _crops(recognizer: Recognizer, versions: Sequence[FaceTable], faces: WhichFace) -> tuple[Tensor, list[str | None]]:
    """What the recognizer sees of the V versions of each photo, (N, V, 3, S, S), and whose faces they are.

    The face is looked for in the first version; photos without one are left out.
    """
    size = recognizer.framing.size
    crops, people = [torch.empty(0, len(versions), 3, size, size)], []
    for row, identity in enumerate(versions[0].identities):
        photos = [table.photo(row) for table in versions]
        found = faces_that_count(photos[0], detector_for(faces), faces)
        if len(found):
            views = [view_of_face(photo, found.landmarks[0]) for photo in photos]
            crops.append(torch.cat([recognizer.framing.crop(*view) for view in views])[None])
            people.append(identity)
    return torch.cat(crops), people
