"""What an attacker does in one trial: draw an aim, poison the training data for it, and see what it did."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from fairveil.base.errors import FairveilError, did_you_mean
from fairveil.base.estimate import BinomialCount
from fairveil.base.keys import content_key
from fairveil.base.sharing import make_files
from fairveil.data.images import LabeledImages
from fairveil.experiment.study import Preset
from fairveil.sanitize.backdoor import Backdoor, BackdoorSuccess, backdoor_success, poison
from fairveil.sanitize.defenses import Defense
from fairveil.sanitize.gradient_matching import WitchesBrew, brew
from fairveil.sanitize.matching import ParameterGradient
from fairveil.sanitize.noised_gradients import ClipAndNoise
from fairveil.sanitize.plan import PoisonPlan, plan_attack
from fairveil.sanitize.poison_bundle import PoisonBundle
from fairveil.sanitize.victims import HEAD_VICTIM, PUBLISHED_VICTIM, Victim
from fairveil.training import Training
from fairveil.training.checkpoints import described, weights_fingerprint


@dataclass(frozen=True, eq=False)
class Attacker:
    """What an attacker can use.

    Attributes:
        data: the clean training images.
        gradient: of what the victim trains.
        usual: how training goes without a defense: flips and crops.
        expected: how the attacker thinks the victim trains: as usual, or under the very defense if adaptive.
        surrogate: gives the attacker's own network, trained so on clean data.
        folder: for what takes long to make.
    """

    data: LabeledImages
    gradient: ParameterGradient
    usual: Defense
    expected: Defense
    surrogate: Callable[[], nn.Module]
    folder: Path


class Aim(Protocol):
    """What the attacker wants in one trial; the same under every defense."""

    @property
    def words(self) -> str:
        """The aim in words, such as "ship 17 taken for truck"."""

    def poisoned(self, attacker: Attacker, seed: int) -> LabeledImages:
        """The training images with the poison in them."""

    def hits(self, network: nn.Module) -> BinomialCount:
        """Of the pictures the attacker cares about, how many a network gives the class the attacker wants."""


class Attack(Protocol):
    """An attack that can be rehearsed; settings, no state."""

    @property
    def name(self) -> str:
        """In tables."""

    @property
    def adaptive(self) -> bool:
        """Whether the poison depends on the defense."""

    def aim(self, data: LabeledImages, test: LabeledImages, seed: int) -> Aim:
        """Draw what one trial is about: classes, pictures, rows."""

    def seconds(self, test: LabeledImages, attacker: Attacker) -> float:
        """How long it takes to poison the data once, scaled up from doing a little of it."""


class BackdoorAttack(BaseModel):
    """A patch on pictures of a class drawn at random, so that another with the patch is taken for it (section 4.4.1).

    Its poison depends on no network: there is no adaptive form.

    Attributes:
        backdoor: trigger, share, labels.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    backdoor: Backdoor = Backdoor()

    @property
    def name(self) -> str:
        """In tables."""
        return f"backdoor ({self.backdoor.share:.0%})"

    @property
    def adaptive(self) -> bool:
        """Never."""
        return False

    def aim(self, data: LabeledImages, test: LabeledImages, seed: int) -> Aim:
        """Draw target and base class; see `Attack`.

        Raises:
            FairveilError: fewer than two classes have pictures to train on and to test with.
        """
        able = sorted(set(data.labels.tolist()) & set(test.labels.tolist()))
        if len(able) < 2:
            raise FairveilError(
                f"A backdoor needs two classes with pictures to train on and to test with, and {data.name} has "
                f"{len(able)}: give more pictures."
            )
        drawn = torch.randperm(len(able), generator=torch.Generator().manual_seed(seed))[:2].tolist()
        return PatchedClass(self.backdoor, test, *(able[place] for place in drawn))

    def seconds(self, test: LabeledImages, attacker: Attacker) -> float:
        """How long the patch takes; see `Attack`."""
        started = time.perf_counter()
        self.aim(attacker.data, test, 0).poisoned(attacker, 0)
        return time.perf_counter() - started


@dataclass(frozen=True, eq=False)
class PatchedClass:
    """Patched pictures of the base class are to be taken for the target class.

    Attributes:
        backdoor: trigger, share, labels.
        test: where the patched pictures are from.
        target: the label of the target class.
        base: the label of the base class.
    """

    backdoor: Backdoor
    test: LabeledImages
    target: int
    base: int

    @property
    def words(self) -> str:
        """The aim in words."""
        return f"{self.test.classes[self.base]} with the patch taken for {self.test.classes[self.target]}"

    def poisoned(self, attacker: Attacker, seed: int) -> LabeledImages:
        """The training images with the poison in them; see `Aim`."""
        return self.poison(attacker.data, torch.Generator().manual_seed(seed))

    def poison(self, data: LabeledImages, generator: torch.Generator) -> LabeledImages:
        """Training images some of which are patched."""
        return poison(data, self.backdoor, target_class=self.target, generator=generator).data

    def hits(self, network: nn.Module) -> BinomialCount:
        """Of the patched pictures of the base class; see `Aim`."""
        return self.success(network).base

    def success(self, network: nn.Module) -> BackdoorSuccess:
        """What the patch does to test pictures."""
        trigger = self.backdoor.trigger
        return backdoor_success(network, self.test, trigger, target_class=self.target, base_class=self.base)


Knowing = Literal["nothing", "training", "mixing"]
"""What an attacker knows of a defense; see `GradientMatching`."""


class GradientMatching(BaseModel):
    """Witches' Brew against one test picture and one wrong class, both drawn at random (section 4.4.2).

    Attributes:
        brewing: settings of the attack.
        budget: share of the training images that are poisoned.
        knows: what the attacker knows of the defense. "nothing": they train their network with flips and crops.
            "training": they train it under the defense, the dissertation's adaptive attack, and pass the noise of
            noised gradients straight through. "mixing": they also augment the poisons as the defense does while they
            brews (once a picture, not the worst of several as MaxUp), with 128 clean companions to be mixed with where
            `brewing` asks for none: more poison among fewer pictures than in the victim's batches.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    brewing: WitchesBrew = WitchesBrew()
    budget: float = Field(0.01, gt=0, le=1)
    knows: Knowing = "nothing"

    @property
    def name(self) -> str:
        """In tables."""
        return f"gradient matching{_KNOWING[self.knows]}"

    @property
    def adaptive(self) -> bool:
        """Whether the attacker knows the defense."""
        return self.knows != "nothing"

    def aim(self, data: LabeledImages, test: LabeledImages, seed: int) -> Aim:
        """Draw target, adversarial class and rows; see `Attack`.

        Raises:
            FairveilError: the budget is empty or more than a class has; see `plan_attack`.
        """
        generator = torch.Generator().manual_seed(seed)
        return _OnePicture(self, plan_attack(data, test, budget=self.budget, generator=generator), data.classes)

    def seconds(self, test: LabeledImages, attacker: Attacker) -> float:
        """How long brewing takes, by two steps of it; see `Attack`."""
        steps = min(2, self.brewing.steps)
        short = self.model_copy(update={"brewing": self.brewing.model_copy(update={"steps": steps, "restarts": 1})})
        started = time.perf_counter()
        short.aim(attacker.data, test, 0).poisoned(attacker, 0)
        return (time.perf_counter() - started) / steps * self.brewing.steps * self.brewing.restarts

    def brewing_against(self, expected: Defense) -> WitchesBrew:
        """The settings of an attacker who expects a defense."""
        settings = self.brewing
        if isinstance(expected.gradients, ClipAndNoise):
            clip, noise = expected.gradients.clip, expected.gradients.noise
            settings = settings.model_copy(update={"gradient_clip": clip, "gradient_noise": noise / clip})
        if self.knows == "mixing" and not settings.companions:
            settings = settings.model_copy(update={"companions": _COMPANIONS})
        return settings


_KNOWING: Mapping[Knowing, str] = {"nothing": "", "training": ", adaptive", "mixing": ", adaptive and mixing"}
_COMPANIONS = 128


@dataclass(frozen=True, eq=False)
class _OnePicture:
    """One test picture is to be taken for the adversarial class."""

    attack: GradientMatching
    plan: PoisonPlan
    classes: tuple[str, ...]

    @property
    def words(self) -> str:
        plan = self.plan
        return f"{self.classes[plan.true_class]} {plan.target_row} taken for {self.classes[plan.adversarial_class]}"

    def poisoned(self, attacker: Attacker, seed: int) -> LabeledImages:
        """Brew, or take what was brewed before."""
        data, surrogate, settings = attacker.data, attacker.surrogate(), self.attack.brewing_against(attacker.expected)
        augment = attacker.usual.augmentation
        if self.attack.knows == "mixing":
            augment = attacker.expected.augmentation or augment
        words = [settings.model_dump_json(), described(augment), weights_fingerprint(surrogate), data.fingerprint()]
        aim = [self.plan.target.tolist(), self.plan.adversarial_class, self.plan.rows.tolist()]
        about = content_key([*words, aim, seed])

        def make(path: Path) -> None:
            state = attacker.folder / f"brewing-{about}.pt"
            brewed = brew(
                data,
                self.plan,
                [surrogate],
                settings,
                seed=seed,
                augment=augment,
                gradient=attacker.gradient,
                checkpoint=state,
            )
            PoisonBundle.of(data, self.plan, brewed, settings).save(path, overwrite=True)
            state.unlink()

        (file,) = make_files(attacker.folder, {f"poison-{about}.safetensors": make})
        return PoisonBundle.load(file).poison(data).data

    def hits(self, network: nn.Module) -> BinomialCount:
        return BinomialCount(int(self.plan.taken(network)), 1)


@dataclass(frozen=True)
class Drill:
    """How an attack is rehearsed at some size.

    Attributes:
        victim: who is attacked.
        attacks: by whom: where an attacker can know the defense, by that one too.
        trials: at the most.
    """

    victim: Victim
    attacks: tuple[Attack, ...]
    trials: int = 20


@dataclass(frozen=True)
class AttackEntry:
    """An attack that can be rehearsed by name. To add one, add an entry to `ATTACKS`; nothing else has to know it.

    Attributes:
        name: for commands.
        what: it does, in a few words.
        source: where it comes from.
        drills: how it is rehearsed: to see that it runs, on two cores, and as published.
    """

    name: str
    what: str
    source: str
    drills: Mapping[Preset, Drill]


def _matching(victim: Victim, brewing: WitchesBrew, budget: float, trials: int = 20) -> Drill:
    attack = GradientMatching(brewing=brewing, budget=budget)
    return Drill(victim, (attack, attack.model_copy(update={"knows": "training"})), trials)


SMALL_BREWING = WitchesBrew(steps=120, restarts=1)
"""What two cores can afford."""

_SECONDS = {
    "images": 100, "test_images": 60, "network": "resnet-8-fast", "training": Training(epochs=1, batch_size=32)
}  # fmt: skip

ATTACKS: Mapping[str, AttackEntry] = {
    entry.name: entry
    for entry in (
        AttackEntry(
            "backdoor",
            "a patch on training pictures of one class, so that others with the patch are taken for it",
            "section 4.4.1",
            {
                "smoke": Drill(Victim(padding=4).model_copy(update=_SECONDS), (BackdoorAttack(),), trials=2),
                "small": Drill(Victim(padding=4), (BackdoorAttack(),)),
                "paper": Drill(PUBLISHED_VICTIM, (BackdoorAttack(),)),
            },
        ),
        AttackEntry(
            "gradient-matching",
            "changes to training pictures that nobody sees, so that one test picture is taken for another class",
            "section 4.4.2; Geiping et al. 2021 (Witches' Brew)",
            {
                "smoke": _matching(
                    HEAD_VICTIM.model_copy(update=_SECONDS | {"features_from": 200}),
                    WitchesBrew(steps=2, restarts=1),
                    budget=0.04,
                    trials=2,
                ),
                "small": _matching(
                    HEAD_VICTIM.model_copy(update={"images": 3000, "test_images": 2000}), SMALL_BREWING, budget=0.04
                ),
                "paper": _matching(PUBLISHED_VICTIM, WitchesBrew(), budget=0.01),
            },
        ),
    )
}
"""Every attack by its name."""


def attack_entry(name: str) -> AttackEntry:
    """An attack by its name.

    Raises:
        FairveilError: there is no such attack.
    """
    if name not in ATTACKS:
        raise FairveilError(
            f"There is no attack {name!r}.{did_you_mean(name, ATTACKS)} There are {', '.join(ATTACKS)}."
        )
    return ATTACKS[name]
