"""Every intervention for fairness in a training loop of one's own: plain PyTorch, generated X-rays and faces.

python examples/fairer_training.py

`train` is the loop; what an intervention changes in it is the one function named after it. Each figure is of one run on
the very data that were trained on: a demonstration, not a measurement. `fairveil fair compare` measures.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import TypeVar

import torch
import torch.nn.functional as F
from fairlearn.metrics import MetricFrame, false_negative_rate, false_positive_rate, selection_rate
from torch import Tensor, nn

from fairveil.data.synthetic import Difficulty, SyntheticFaces
from fairveil.data.xrays.synthetic import SyntheticXrays
from fairveil.faces.heads import MarginHead, cosface_logits, margins_by_group
from fairveil.fair import (
    Removal,
    angles,
    disparate_impact,
    equal_loss,
    equalized_odds,
    flip_identities,
    flip_labels,
    remove_sensitive,
    worst_group_loss,
)
from fairveil.fair.groups import groups_of
from fairveil.fair.interventions.group_margins import ADJUSTED

ALPHA, FACES_ALPHA = 1.0, 0.3  # how much a penalty counts
MARGIN, SCALE = 0.35, 16.0  # of the recognizers; the usual scale of 64 is for many more people than these
EPOCHS, BATCH = 20, 40


@dataclass(frozen=True, eq=False)
class Pictures:
    """Pictures as any loop has them.

    Attributes:
        images: pixels, from -0.5 to 0.5, (N, C, S, S).
        labels: 0 or 1 for each finding, float (N, K); or the person, int64 (N,).
        groups: of each, int64 (N,).
        names: of the groups.
    """

    images: Tensor
    labels: Tensor
    groups: Tensor
    names: Sequence[str]

    def take(self, rows: Tensor) -> "Pictures":
        """Some of them: a batch."""
        return replace(self, images=self.images[rows], labels=self.labels[rows], groups=self.groups[rows])


@dataclass(frozen=True)
class Shown:
    """What an intervention came to, beside training as usual.

    Attributes:
        name: of the intervention.
        losses: the mean loss of right labels, without it and with it.
        gap: what is to become small.
        gaps: that, without it and with it.
    """

    name: str
    losses: tuple[float, float]
    gap: str
    gaps: tuple[float, float]

    def __str__(self) -> str:
        losses, gaps = (" → ".join(f"{value:6.3f}" for value in pair) for pair in (self.losses, self.gaps))
        return f"{self.name:<34} loss {losses}   {self.gap:<39} {gaps}"


Network = TypeVar("Network", bound=nn.Module)
LossOf = Callable[[nn.Module, Pictures, Pictures, torch.Generator], Tensor]
"""A network, a batch, one of pictures put aside and a generator, to the loss that a step lowers."""


def train(network: Network, loss_of: LossOf, data: Pictures, aside: Pictures) -> Network:
    """The loop, with nothing of ours in it: batches come in the same order whatever the loss is."""
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    order, more = (torch.Generator().manual_seed(seed) for seed in (0, 1))
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(data.groups), generator=order).split(BATCH):
            put_aside = aside.take(torch.randint(len(aside.groups), (BATCH,), generator=order))
            loss = loss_of(network, data.take(rows), put_aside, more)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return network.eval()


def small_network(pixels: int, outputs: int) -> nn.Module:
    """Two layers, of the same weights each time: any network of yours will do."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(pixels, 64), nn.ReLU(), nn.Linear(64, outputs))


# Findings: several yes-or-no labels an X-ray


def xrays(patients: int = 200, *, seed: int = 0) -> Pictures:
    """X-rays in which findings show less in women."""
    drawn = SyntheticXrays(patients=patients, size=32, seed=seed, hardness={"F": 0.1}).draw()
    sex = groups_of(drawn.groups, "sex")
    return Pictures(drawn.images / 255 - 0.5, drawn.labels, sex.numbers, sex.names)


def finder() -> nn.Module:
    """From X-rays to a logit for each finding."""
    return small_network(32 * 32, 5)


def finding_losses(network: nn.Module, batch: Pictures) -> Tensor:
    """The loss of each finding of each X-ray, (B, K)."""
    return F.binary_cross_entropy_with_logits(network(batch.images), batch.labels, reduction="none")


def find_as_usual(network: nn.Module, batch: Pictures, aside: Pictures, generator: torch.Generator) -> Tensor:
    """Nothing is done for fairness."""
    return finding_losses(network, batch).mean()


def find_with_equal_loss(network: nn.Module, batch: Pictures, aside: Pictures, generator: torch.Generator) -> Tensor:
    """The groups' losses are to be alike. Labels that are unknown (NaN) are left out by `known=`, here and below."""
    losses = finding_losses(network, batch)
    return losses.mean() + ALPHA * equal_loss(losses, batch.groups, 2)


def find_with_equal_loss_aside(
    network: nn.Module, batch: Pictures, aside: Pictures, generator: torch.Generator
) -> Tensor:
    """The same on X-rays that the network learns no findings from; the other penalties can be put there alike."""
    penalty = equal_loss(finding_losses(network, aside), aside.groups, 2)
    return finding_losses(network, batch).mean() + ALPHA * penalty


def find_with_equalized_odds(
    network: nn.Module, batch: Pictures, aside: Pictures, generator: torch.Generator
) -> Tensor:
    """As many false positives and false negatives in one group as in the other."""
    logits = network(batch.images)
    loss = F.binary_cross_entropy_with_logits(logits, batch.labels)
    return loss + ALPHA * equalized_odds(logits.sigmoid(), batch.labels, batch.groups, 2)


def find_with_disparate_impact(
    network: nn.Module, batch: Pictures, aside: Pictures, generator: torch.Generator
) -> Tensor:
    """Findings are to be told as often in one group as in the other, right or wrong."""
    logits = network(batch.images)
    loss = F.binary_cross_entropy_with_logits(logits, batch.labels)
    return loss + ALPHA * disparate_impact(logits.sigmoid(), batch.groups, 2)


def find_with_min_max(network: nn.Module, batch: Pictures, aside: Pictures, generator: torch.Generator) -> Tensor:
    """Only the group that does worse counts."""
    return worst_group_loss(finding_losses(network, batch), batch.groups, 2)


def find_with_flipped_labels(
    network: nn.Module, batch: Pictures, aside: Pictures, generator: torch.Generator
) -> Tensor:
    """Some of the better-off group's labels are made wrong, anew in every batch."""
    better = batch.names.index("M")
    wrong = replace(batch, labels=flip_labels(batch.labels, batch.groups, better, 0.2, generator))
    return finding_losses(network, wrong).mean()


def find_beside_fairret(network: nn.Module, batch: Pictures, aside: Pictures, generator: torch.Generator) -> Tensor:
    """Equal loss, and from fairret that effusions be told equally often: penalties of both simply add up."""
    from fairret.loss import NormLoss
    from fairret.statistic import PositiveRate

    logits = network(batch.images)
    losses = F.binary_cross_entropy_with_logits(logits, batch.labels, reduction="none")
    told_alike = NormLoss(PositiveRate())(logits[:, -1:], F.one_hot(batch.groups, 2).float())
    return losses.mean() + ALPHA * equal_loss(losses, batch.groups, 2) + told_alike


def loss_gap(network: nn.Module, data: Pictures) -> Tensor:
    """How far apart the mean losses of women and men lie, averaged over the findings."""
    return equal_loss(finding_losses(network, data), data.groups, 2)


def odds_gap(network: nn.Module, data: Pictures) -> Tensor:
    """How far apart their false positives lie, and their false negatives."""
    return equalized_odds(network(data.images).sigmoid(), data.labels, data.groups, 2)


def impact_gap(network: nn.Module, data: Pictures) -> Tensor:
    """By how much findings are told more seldom in one group: 1 less the ratio."""
    return 1 + disparate_impact(network(data.images).sigmoid(), data.groups, 2)


def effusion_gap(network: nn.Module, data: Pictures) -> Tensor:
    """How far apart the mean probabilities of effusion lie."""
    return equal_loss(network(data.images)[:, -1].sigmoid(), data.groups, 2)


FINDERS: dict[str, tuple[LossOf, str, Callable[[nn.Module, Pictures], Tensor]]] = {
    "equal loss": (find_with_equal_loss, "gap of losses", loss_gap),
    "equal loss on holdout": (find_with_equal_loss_aside, "gap of losses, on the holdout", loss_gap),
    "equalized odds": (find_with_equalized_odds, "gaps of false positives and negatives", odds_gap),
    "disparate impact": (find_with_disparate_impact, "1 less the ratio of findings told", impact_gap),
    "min-max": (find_with_min_max, "gap of losses", loss_gap),
    "label flipping": (find_with_flipped_labels, "gap of losses", loss_gap),
    "equal loss beside fairret": (find_beside_fairret, "gap of effusions told", effusion_gap),
}
"""What the loss of a step is, and what it is to make small."""


def shown_finders(data: Pictures, aside: Pictures, *, names: Sequence[str]) -> Iterator[Shown]:
    """Train under each intervention, and compare with training as usual."""
    usual = train(finder(), find_as_usual, data, aside)
    for name in names:
        loss_of, gap, gap_of = FINDERS[name]
        pair = (usual, train(finder(), loss_of, data, aside))
        judged = aside if loss_of is find_with_equal_loss_aside else data
        with torch.no_grad():
            losses = [float(finding_losses(network, data).mean()) for network in pair]
            gaps = [float(gap_of(network, judged)) for network in pair]
        yield Shown(name, (losses[0], losses[1]), gap, (gaps[0], gaps[1]))


@torch.no_grad()
def by_group(network: nn.Module, data: Pictures) -> MetricFrame:
    """What the network tells of effusions, for fairlearn to take apart by group."""
    told = network(data.images)[:, -1] > 0
    return MetricFrame(
        metrics={
            "told to have one": selection_rate,
            "missed": false_negative_rate,
            "false alarms": false_positive_rate,
        },
        y_true=data.labels[:, -1].int().numpy(),
        y_pred=told.int().numpy(),
        sensitive_features={"sex": [data.names[group] for group in data.groups.tolist()]},
    )


# Faces: one of many people a picture


class Recognizer(nn.Module):
    """Features of faces, and the margin head that learns whose they are, in one module for the optimizer."""

    def __init__(self, people: int, margin: float | Tensor = MARGIN) -> None:
        super().__init__()
        self.features = small_network(3 * 32 * 32, 32)
        self.head = MarginHead(people, 32, margin=margin, scale=SCALE, seed=0)

    def forward(self, batch: Pictures) -> Tensor:
        """Logits of a batch, (B, people), with the margin."""
        return self.head(self.features(batch.images), batch.labels)


def faces(people: int = 30, *, seed: int = 0) -> Pictures:
    """Eight photos each of people, of whom those of cool tone are harder to recognize."""
    harder = {"cool": Difficulty(likeness=2, disturbance=1.5)}
    drawn = SyntheticFaces(
        identities=people, per_identity=8, size=64, framing="crop", warm_share=0.6, difficulty=harder, seed=seed
    )
    images = F.avg_pool2d(drawn.render(range(len(drawn))) / 255 - 0.5, 2)
    tone = groups_of({"tone": drawn.labels["tone"].to_list()}, "tone")
    return Pictures(images, torch.arange(len(drawn)) // 8, tone.numbers, tone.names)


def face_losses(network: nn.Module, batch: Pictures) -> Tensor:
    """The loss of each face, (B,), margin and all."""
    return F.cross_entropy(network(batch), batch.labels, reduction="none")


def recognize_as_usual(network: nn.Module, batch: Pictures, aside: Pictures, generator: torch.Generator) -> Tensor:
    """Nothing is done for fairness."""
    return face_losses(network, batch).mean()


def recognize_with_equal_loss(
    network: nn.Module, batch: Pictures, aside: Pictures, generator: torch.Generator
) -> Tensor:
    """As for findings: a penalty takes losses and does not ask what they are of."""
    losses = face_losses(network, batch)
    return losses.mean() + FACES_ALPHA * equal_loss(losses, batch.groups, 2)


def recognizer_with_margins(data: Pictures) -> Recognizer:
    """A larger margin for the people of the worse-off group; the loop stays as it is."""
    of_each_person = [data.names[int(data.groups[data.labels == one][0])] for one in data.labels.unique()]
    return Recognizer(len(of_each_person), margins_by_group({"cool": ADJUSTED, "warm": MARGIN}, of_each_person))


def with_flipped_identities(data: Pictures, share: float = 0.05) -> Pictures:
    """Some photos of the better-off group are said to show somebody else, from before the first epoch on."""
    better = data.names.index("warm")
    labels = flip_identities(data.labels, data.groups, better, share, torch.Generator().manual_seed(0))
    return replace(data, labels=labels)


def without_group(embeddings: Tensor, data: Pictures, weight: float = 30.0) -> Shown:
    """Features of a finished recognizer, made to tell less of the group: whatever loop trained it is over by then.

    So few faces take a large weight, and it costs people's being told apart, as the loss says.
    """
    toward = data.names.index("cool")
    settings = Removal(epochs=40, batch_size=BATCH, learning_rate=3e-3)
    pair = [
        remove_sensitive(
            embeddings, data.labels, data.groups, toward=toward, settings=settings.model_copy(update={"weight": alpha})
        )
        for alpha in (0.0, weight)
    ]
    losses = [float(margin_losses(one.project(embeddings), one.identities, data).mean()) for one in pair]
    told = [one.sensitive_accuracy(embeddings, data.groups) for one in pair]
    return Shown(
        "group removed from features",
        (losses[0], losses[1]),
        "share whose group its adversary tells",
        (told[0], told[1]),
    )


@torch.no_grad()
def margin_losses(vectors: Tensor, head: MarginHead, data: Pictures) -> Tensor:
    """Losses with the one margin for all that recognizers trained otherwise can be compared by, (N,)."""
    cosines = F.normalize(vectors) @ F.normalize(head.weight).T
    logits = cosface_logits(cosines, data.labels, margin=MARGIN, scale=SCALE)
    return F.cross_entropy(logits, data.labels, reduction="none")


@torch.no_grad()
def angle_gap(network: Recognizer, data: Pictures) -> float:
    """How many degrees farther faces of one person lie apart in one group than in the other."""
    found = angles(network.features(data.images), data.labels)
    group_of = torch.stack([data.groups[data.labels == person][0] for person in found.identities])
    return float(equal_loss(found.intra, group_of, 2))


def shown_recognizers(data: Pictures) -> Iterator[Shown]:
    """Train under each intervention, and compare with training as usual."""
    people = len(data.labels.unique())
    usual = train(Recognizer(people), recognize_as_usual, data, data)
    others = {
        "equal loss": train(Recognizer(people), recognize_with_equal_loss, data, data),
        "margins by group": train(recognizer_with_margins(data), recognize_as_usual, data, data),
        "identities flipped": train(Recognizer(people), recognize_as_usual, with_flipped_identities(data), data),
    }
    for name, network in others.items():
        each = [margin_losses(one.features(data.images), one.head, data) for one in (usual, network)]
        losses = [float(one.mean()) for one in each]
        if name == "margins by group":
            gap, gaps = "gap of degrees within a person", [angle_gap(one, data) for one in (usual, network)]
        else:
            gap, gaps = "gap of losses", [float(equal_loss(one, data.groups, 2)) for one in each]
        yield Shown(name, (losses[0], losses[1]), gap, (gaps[0], gaps[1]))
    yield without_group(F.normalize(usual.features(data.images)).detach(), data)


def main() -> None:
    """Train under everything, and tell what it came to."""
    print("A demonstration, not a measurement: one run of seconds each, judged on the pictures it was trained on.")
    print("Figures are without → with the intervention; `fairveil fair compare` tells whether any of it carries over.")
    data, aside = xrays(), xrays(100, seed=1)
    has_fairret = find_spec("fairret") is not None
    print("\nFindings of X-rays, women and men:")
    for shown in shown_finders(data, aside, names=[name for name in FINDERS if has_fairret or "fairret" not in name]):
        print(shown)
    if not has_fairret:
        print("fairret is not installed: after `pip install fairret`, a loss of its is shown beside ours.")
    print("\nWhose face it is, people of cool and of warm tone:")
    for shown in shown_recognizers(faces()):
        print(shown)
    print("\nAnd by fairlearn, effusions under equal loss:")
    print(by_group(train(finder(), find_with_equal_loss, data, aside), data).by_group.round(3))


if __name__ == "__main__":
    main()
