"""Rehearsals at a size that fits: from somebody's pictures and a preset to attacks on networks of ours."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal

from fairveil.data.images import LabelledImages
from fairveil.sanitize.attacks import Attack, BackdoorAttack, GradientMatching
from fairveil.sanitize.defenses import Defense, defense
from fairveil.sanitize.gradient_matching import Brewing
from fairveil.sanitize.head_matching import TransferNetwork
from fairveil.sanitize.learners import FromScratch, HeadOnly, Learner
from fairveil.sanitize.published import PUBLISHED_TRAINING
from fairveil.sanitize.rehearsal import Rehearsal
from fairveil.sanitize.trials import Scenario
from fairveil.sanitize.verdict import LEAST_EFFECT, MOST_LOST
from fairveil.training import NETWORKS, Training
from fairveil.training.networks import ResidualNetwork

Kind = Literal["backdoor", "gradient-matching"]
"""What can be rehearsed."""

_ANY_SIZE = 32  # of pictures, where only the name of a defense is looked at


@dataclass(frozen=True)
class SetUp:
    """How large a rehearsal is.

    Attributes:
        network: one of `fairveil.training.NETWORKS`.
        training: of whole networks.
        images: on how many pictures victims are trained at the most; None for all.
        test_images: how many others are looked at at the most.
        brewing: settings of gradient matching.
        budget: of it, as a share of the training pictures.
        features: with which network and training frozen features are made, where gradient matching is rehearsed on new
            heads; None to train every victim from scratch.
        feature_images: on how many pictures at the most; four fifths of those there are if that is fewer.
        trials: at the most.
    """

    network: str = "resnet-8-fast"
    training: Training = field(default_factory=lambda: Training(epochs=25, batch_size=64, precision="bf16"))
    images: int | None = 3000
    test_images: int | None = 2000
    brewing: Brewing = field(default_factory=lambda: Brewing(steps=120, restarts=1))
    budget: float = 0.04
    features: tuple[str, Training] | None = field(
        default_factory=lambda: ("resnet-8", Training(epochs=14, precision="bf16"))
    )
    feature_images: int = 10_000
    trials: int = 20


SET_UPS: Mapping[str, SetUp] = {
    "smoke": SetUp(
        training=Training(epochs=1, batch_size=32),
        images=100,
        test_images=60,
        brewing=Brewing(steps=2, restarts=1),
        features=("resnet-8-fast", Training(epochs=1, batch_size=32)),
        feature_images=200,
        trials=2,
    ),
    "small": SetUp(),
    "paper": SetUp(
        network="resnet-18",
        training=PUBLISHED_TRAINING,
        images=None,
        test_images=None,
        brewing=Brewing(),
        budget=0.01,
        features=None,
    ),
}
"""By preset: to see that it runs, for two cores, and the dissertation's own."""


def rehearsals(
    kind: Kind,
    data: LabelledImages,
    set_up: SetUp,
    *,
    test: LabelledImages | None = None,
    defenses: Sequence[str] = (),
    trials: int | None = None,
    seed: int = 0,
    folder: Path,
    device: str = "cpu",
    least_effect: float = LEAST_EFFECT,
    most_lost: float = MOST_LOST,
) -> list[Rehearsal]:
    """The rehearsals of one kind of attack: where an attacker can know the defense, of that attacker too.

    Where there are frozen features they are trained here, which takes its time; what can be refused is refused before.

    Args:
        kind: of attack.
        data: clean pictures to train on.
        set_up: how large.
        test: others of the same classes; by default a fifth of each class is put aside.
        defenses: names; by default all that only augment.
        trials: at the most; by default the set-up's.
        seed: of everything drawn.
        folder: for networks, poisons and outcomes.
        device: where networks are trained.
        least_effect: by how much success must fall before a defense is recommended; see `Rehearsal`.
        most_lost: how much clean accuracy it may cost at the most; see `Rehearsal`.

    Raises:
        FairveilError: there is no such defense, it cannot be tried on this attack, or there are too few pictures.
    """
    check_defenses(kind, set_up, defenses)
    if test is None:
        data, test = data.split(0.2, seed=seed)
    test = _some(test, set_up.test_images, seed)
    learner = FromScratch(
        partial(ResidualNetwork, NETWORKS[set_up.network], len(data.classes), channels=data.images.shape[1]),
        set_up.training,
        device,
    )
    attacks: list[Attack] = [BackdoorAttack()]
    if kind == "gradient-matching":
        matching = GradientMatching(brewing=set_up.brewing, budget=set_up.budget)
        attacks = [matching, matching.model_copy(update={"knows": "training"})]
    how: Learner = learner
    on_heads = kind == "gradient-matching" and set_up.features is not None
    rest, most = data.split(0.8, seed=seed) if on_heads else (data, None)
    train = _some(rest, set_up.images, seed)
    for attack in attacks:
        attack.aim(train, test, seed)  # refuses data that it cannot be held on
    if most is not None:
        how = _on_features(most, test, set_up, learner, seed, folder)
    return [
        Rehearsal(
            how,
            train,
            attack,
            defenses or None,
            test=test,
            trials=trials or set_up.trials,
            seed=seed,
            folder=folder,
            least_effect=least_effect,
            most_lost=most_lost,
        )
        for attack in attacks
    ]


def check_defenses(kind: Kind, set_up: SetUp, names: Sequence[str]) -> None:
    """Refuse defenses that cannot be tried on an attack, before anything is trained.

    Args:
        kind: of attack.
        set_up: how large.
        names: of the defenses.

    Raises:
        FairveilError: there is no such defense, or a fitted head cannot be trained under it.
    """
    for name in names:
        one = defense(name, size=_ANY_SIZE)
        if kind == "gradient-matching" and set_up.features is not None:
            HeadOnly.check(one)


def _on_features(
    most: LabelledImages, test: LabelledImages, set_up: SetUp, learner: FromScratch, seed: int, folder: Path
) -> HeadOnly:
    """Train features on most of the pictures, or take those that are kept; victims get the rest."""
    assert set_up.features is not None
    name, training = set_up.features
    network = partial(ResidualNetwork, NETWORKS[name], len(most.classes), channels=most.images.shape[1])
    learner = replace(learner, network=network, training=training)
    usual: Defense = defense("Baseline", size=min(most.images.shape[2:]))
    place = Scenario(_some(most, set_up.feature_images, seed), test, learner, usual, folder)
    return HeadOnly(TransferNetwork.of(place.clean_network(usual, [seed])))


def _some(data: LabelledImages, count: int | None, seed: int) -> LabelledImages:
    """As many pictures at random, of each class in its proportion."""
    return data if count is None or count >= len(data) else data.split(count / len(data), seed=seed)[1]
