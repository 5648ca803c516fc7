"""Rehearsals at a size that fits: from somebody's pictures and a drill to attacks on networks of ours."""

from collections.abc import Sequence
from pathlib import Path

from fairveil.data.images import LabeledImages
from fairveil.sanitize.attacks import Drill
from fairveil.sanitize.defenses import defense
from fairveil.sanitize.learners import HeadOnly
from fairveil.sanitize.rehearsal import Rehearsal
from fairveil.sanitize.trials import Scenario
from fairveil.sanitize.verdict import LEAST_EFFECT, MOST_LOST

_ANY_SIZE = 32  # of pictures, where only the name of a defense is looked at


def rehearsals(
    drill: Drill,
    data: LabeledImages,
    *,
    test: LabeledImages | None = None,
    defenses: Sequence[str] = (),
    trials: int | None = None,
    seed: int = 0,
    folder: Path,
    device: str = "cpu",
    least_effect: float = LEAST_EFFECT,
    most_lost: float = MOST_LOST,
) -> list[Rehearsal]:
    """The rehearsals of one drill, one for each attacker.

    Where there are frozen features they are trained here, which takes its time; what can be refused is refused before.

    Args:
        drill: who is attacked, and how.
        data: clean pictures to train on.
        test: others of the same classes; by default a fifth of each class is put aside.
        defenses: names; by default all that only augment.
        trials: at the most; by default the drill's.
        seed: of everything drawn.
        folder: for networks, poisons and outcomes.
        device: where networks are trained.
        least_effect: by how much success must fall before a defense is recommended; see `Rehearsal`.
        most_lost: how much clean accuracy it may cost at the most; see `Rehearsal`.

    Raises:
        FairveilError: there is no such defense, it cannot be tried on this attack, or there are too few pictures.
    """
    victim = drill.victim
    check_defenses(drill, defenses)
    if test is None:
        data, test = data.split(0.2, seed=seed)
    test = _some(test, victim.test_images, seed)
    rest, most = data.split(0.8, seed=seed) if victim.apart else (data, None)
    train = _some(rest, victim.images, seed)
    for attack in drill.attacks:
        attack.aim(train, test, seed)  # refuses data that it cannot be held on
    apart = None if most is None else _some(most, victim.apart, seed)
    scenario = Scenario.of(victim, train, test, folder, device, apart=apart, seed=seed)
    return [
        Rehearsal(
            scenario.learner,
            train,
            attack,
            defenses or None,
            test=test,
            trials=trials or drill.trials,
            seed=seed,
            padding=victim.padding,
            folder=folder,
            least_effect=least_effect,
            most_lost=most_lost,
        )
        for attack in drill.attacks
    ]


def check_defenses(drill: Drill, names: Sequence[str]) -> None:
    """Refuse defenses that cannot be tried in a drill, before anything is trained.

    Args:
        drill: who is attacked, and how.
        names: of the defenses.

    Raises:
        FairveilError: there is no such defense, or a fitted head cannot be trained under it.
    """
    for name in names:
        one = defense(name, size=_ANY_SIZE)
        if drill.victim.apart:
            HeadOnly.check(one)


def _some(data: LabeledImages, count: int | None, seed: int) -> LabeledImages:
    """As many pictures at random, of each class in its proportion."""
    return data if count is None or count >= len(data) else data.split(count / len(data), seed=seed)[1]
