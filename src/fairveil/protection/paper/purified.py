"""A defender who has LowKey too: it trains a network that gives protected faces back as they were."""

from collections.abc import Sequence
from functools import partial
from itertools import chain
from pathlib import Path

import polars as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fairveil.base.errors import FairveilError
from fairveil.base.keys import content_key
from fairveil.base.sharing import make_files
from fairveil.data import FaceTable
from fairveil.faces.embedding import WhichFace, faces_that_count, fingerprint
from fairveil.faces.recognizers import Recognizer
from fairveil.images import as_image
from fairveil.protection.paper.pairs import Pairs, canvas_of, face_pairs
from fairveil.protection.paper.protected import content_name, detector_for

_EPOCHS, _RATE, _DECAY, _BATCH, _WIDTH = 60, 3e-3, 1e-4, 8, 24
_SLOPE = 0.1
_CLEAN = 0.5  # what errors on clean faces weigh beside those on protected ones


class Purifier(nn.Module):
    """A U-Net (Ronneberger et al. 2015) of three levels that adds to a picture what it takes the attack to have taken.

    It works on squares of 2×2 pixels, as FFDNet does (Zhang et al. 2018), for half of the time.

    Args:
        width: channels of the finest level; each coarser one has twice as many.
    """

    def __init__(self, width: int = _WIDTH) -> None:
        super().__init__()
        self.fine, self.middle, self.coarse = _block(12, width), _block(width, 2 * width), _block(2 * width, 4 * width)
        self.middle_up, self.fine_up = _block(6 * width, 2 * width), _block(3 * width, width)
        self.last = nn.Conv2d(width, 12, 1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):  # torch's own start would let ten layers fade to nothing
                nn.init.kaiming_normal_(layer.weight, a=_SLOPE)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(self, pictures: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) in [0, 1], their sides multiples of eight, to pictures of the same shape."""
        fine = self.fine(F.pixel_unshuffle(pictures - 0.5, 2))
        middle = self.middle(F.avg_pool2d(fine, 2))
        coarse = self.coarse(F.avg_pool2d(middle, 2))
        middle = self.middle_up(torch.cat([middle, _enlarged(coarse)], 1))
        fine = self.fine_up(torch.cat([fine, _enlarged(middle)], 1))
        purified: Tensor = (pictures + F.pixel_shuffle(self.last(fine), 2)).clamp(0, 1)
        return purified


def purifier(
    clean: FaceTable, protected: FaceTable, known: Sequence[Recognizer], faces: WhichFace, cache: Path
) -> Purifier:
    """A purifier trained on photos that its owner protected; the same one is trained once.

    Args:
        clean: the photos as they were.
        protected: the same photos, protected, in the same order.
        known: recognizers by which the owner judges what comes out, at best those that the attack used.
        faces: which face of each photo counts.
        cache: where weights are kept.

    Raises:
        FairveilError: no photo shows a face.
    """
    pairs = face_pairs((clean, protected), faces)
    if not pairs.rows:
        raise FairveilError(f"{clean.name}: in none of {len(clean)} photos is a face to train a purifier on.")
    about = [fingerprint(one) for one in known], _EPOCHS, _RATE, _DECAY, _BATCH, _WIDTH, _CLEAN
    key = content_key(repr(about), pairs.views, pairs.landmarks)

    def write(target: Path) -> None:
        torch.save(train_purifier(pairs, known).state_dict(), target)

    weights = make_files(cache / "purifiers", {f"{key}.pt": write})[0]
    network = Purifier()
    network.load_state_dict(torch.load(weights, weights_only=True))
    return network.eval().requires_grad_(False)


def train_purifier(
    pairs: Pairs, known: Sequence[Recognizer], *, epochs: int = _EPOCHS, width: int = _WIDTH, seed: int = 0
) -> Purifier:
    """Train a purifier to give protected faces back and to leave clean ones alone.

    It pays for squared errors of protected faces, as a share of what the attack changed; for half of those of clean
    ones, of which half as many are shown; and for what one of the known recognizers, drawn anew for each batch, misses:
    one minus the cosine between the purified and the clean face. Half of the squares are mirrored.

    Args:
        pairs: of clean and protected faces.
        known: recognizers whose weights stay as they are.
        epochs: passes over the faces.
        width: see `Purifier`.
        seed: of weights, batches and mirroring.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Purifier(width)
    places = [_places(one, pairs.views[:, 0], pairs.landmarks) for one in known]
    optimizer = torch.optim.AdamW(network.parameters(), lr=_RATE, weight_decay=_DECAY)
    count = len(pairs.rows)
    batches = [torch.split(torch.randperm(count, generator=generator), _BATCH) for _ in range(epochs)]
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, sum(map(len, batches)))
    change = (pairs.views[:, 1] - pairs.views[:, 0]).square().mean().clamp_min(1e-8)
    for rows in chain.from_iterable(batches):
        mirrored = torch.rand(len(rows), 1, 1, 1, generator=generator) < 0.5
        clean, protected = (torch.where(mirrored, x.flip(-1), x) for x in pairs.views[rows].unbind(1))
        shown = -(-len(rows) // 2)
        purified, kept = network(torch.cat([protected, clean[:shown]])).split([len(rows), shown])
        loss = ((purified - clean).square().mean() + _CLEAN * (kept - clean[:shown]).square().mean()) / change
        if known:
            one = int(torch.randint(len(known), (), generator=generator))
            seen = known[one].embed(torch.where(mirrored, purified.flip(-1), purified), pairs.landmarks[rows])
            loss = loss + 1 - F.cosine_similarity(seen, places[one][rows]).mean()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
    return network.eval().requires_grad_(False)


def purified_photos(table: FaceTable, network: Purifier, faces: WhichFace, cache: Path) -> FaceTable:
    """The photos of a table with their faces purified, losslessly saved, in their old order, with their labels."""
    images = [f"{content_name(table, row)}.png" for row in range(len(table))]
    folder = cache / "purified" / content_key(faces, *network.state_dict().values(), digits=16)
    makers = {
        image: partial(_purify, table=table, row=row, network=network, faces=faces) for row, image in enumerate(images)
    }
    make_files(folder, makers)
    return FaceTable(table.frame.with_columns(image=pl.Series(images)), folder, table.name, table.groups)


@torch.no_grad()
def _purify(target: Path, *, table: FaceTable, row: int, network: Purifier, faces: WhichFace) -> None:
    photo = table.photo(row).clone()
    for landmarks in faces_that_count(photo, detector_for(faces), faces).landmarks[:1]:
        canvas = canvas_of(landmarks)
        view = canvas.cut(photo)[None]
        canvas.paste(photo, (network(view) - view)[0] * canvas.window(photo))
    as_image(photo).save(target, "PNG")


@torch.no_grad()
def _places(recognizer: Recognizer, views: Tensor, landmarks: Tensor) -> Tensor:
    """Where a recognizer puts faces, (N, D)."""
    batches = zip(torch.split(views, _BATCH), torch.split(landmarks, _BATCH), strict=True)
    return torch.cat([recognizer.embed(*batch) for batch in batches])


def _block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1), nn.LeakyReLU(_SLOPE),
        nn.Conv2d(outputs, outputs, 3, padding=1), nn.LeakyReLU(_SLOPE),
    )  # fmt: skip


def _enlarged(maps: Tensor) -> Tensor:
    return F.interpolate(maps, scale_factor=2.0, mode="bilinear")
