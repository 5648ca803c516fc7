"""One trial of a rehearsal: the same aim and seeds under every defense, and what takes long is kept in files."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from fairveil.base.errors import FairveilError
from fairveil.base.estimate import BinomialCount
from fairveil.base.keys import content_key
from fairveil.base.sharing import make_files
from fairveil.data.images import LabeledImages
from fairveil.sanitize.attacks import Attack, Attacker
from fairveil.sanitize.defenses import Defense, defense
from fairveil.sanitize.head_matching import TransferNetwork
from fairveil.sanitize.learners import FromScratch, HeadOnly, Learner
from fairveil.sanitize.poisoning import predicted_classes
from fairveil.sanitize.victims import Victim
from fairveil.training import NETWORKS
from fairveil.training.checkpoints import described
from fairveil.training.networks import ResidualNetwork
from fairveil.version import __version__, code_version

_KEPT = f"2, fairveil {__version__}"
"""What kept outcomes are, and of which release: those of another one are not taken for its own."""


class TrialOutcome(BaseModel):
    """What came of one trial under one defense.

    Attributes:
        aim: of the attacker, in words.
        hits: pictures that the poisoned network gave the class the attacker wanted.
        clean_hits: the same of a network that was trained on clean data, without a defense.
        pictures: the attacker cared about.
        right: clean test images the poisoned network was right about.
        tested: of so many.
        seconds: it took, with whatever had to be made for it.
        own_clean_hits: as `clean_hits`, of the network that was trained once on clean data under this very defense;
            None where nobody looked.
        version: of fairveil and its source, that made it.
    """

    model_config = ConfigDict(frozen=True)

    aim: str
    hits: int
    clean_hits: int
    pictures: int
    right: int
    tested: int
    seconds: float
    own_clean_hits: int | None = None
    version: str = ""

    @property
    def success(self) -> BinomialCount:
        """Of the attack."""
        return BinomialCount(self.hits, self.pictures)

    @property
    def base_rate(self) -> BinomialCount:
        """What looks like success without any poison."""
        return BinomialCount(self.clean_hits, self.pictures)

    @property
    def own_base_rate(self) -> BinomialCount | None:
        """What looks like success without any poison under this very defense."""
        return None if self.own_clean_hits is None else BinomialCount(self.own_clean_hits, self.pictures)

    @property
    def accuracy(self) -> BinomialCount:
        """On clean test images, of the network that was trained on poison: not what a defense costs."""
        return BinomialCount(self.right, self.tested)


@dataclass(frozen=True, eq=False)
class Scenario:
    """Who is attacked, and where results are kept.

    Files are named by a hash of all that they depend on: several processes can share a folder, and what is there is not
    made again.

    Attributes:
        train: the clean training images.
        test: of the same classes; not trained on.
        learner: how victims learn.
        usual: how they train without a defense.
        folder: for networks, poisons and outcomes.
    """

    train: LabeledImages
    test: LabeledImages
    learner: Learner
    usual: Defense
    folder: Path

    @classmethod
    def of(
        cls,
        victim: Victim,
        train: LabeledImages,
        test: LabeledImages,
        folder: Path,
        device: str = "cpu",
        *,
        apart: LabeledImages | None = None,
        seed: int = 0,
    ) -> "Scenario":
        """Who is attacked, by the settings of a victim.

        Args:
            victim: how it trains.
            train: on what.
            test: pictures of the same classes.
            folder: see `Scenario`.
            device: where networks are trained.
            apart: other pictures, on which frozen features are trained now, or taken from the folder; victims then fit
                a new head. None trains every network from scratch.
            seed: of the features.
        """
        usual = defense(victim.usual, size=min(train.images.shape[2:]), padding=victim.padding)
        network = partial(ResidualNetwork, NETWORKS[victim.network], len(train.classes), channels=train.images.shape[1])
        learner: Learner = FromScratch(network, victim.training, device)
        if apart is not None:
            elsewhere = cls(apart, test, learner, usual, folder)
            learner = HeadOnly(TransferNetwork.of(elsewhere.clean_network(usual, [seed])))
        return cls(train, test, learner, usual, folder)

    def right(self, network: nn.Module) -> Tensor:
        """Which test images a network is right about, bool (N,)."""
        return predicted_classes(network, self.test.images) == self.test.labels

    def clean_network(self, defense: Defense, trial: Sequence[int]) -> nn.Module:
        """The attacker's own network of a trial: trained on clean data, under a defense."""
        seed = _seeds(trial)[1]

        def make(path: Path) -> None:
            torch.save(self.learner.learn(self.train, defense, seed=seed).state_dict(), path)

        (file,) = make_files(self.folder, {f"clean-{content_key([*self._trained, _in_words(defense), seed])}.pt": make})
        network = self.learner.new(seed)
        try:
            network.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
        except Exception as error:  # a damaged file can make its reader raise whatever it likes
            raise FairveilError(f"{file} is damaged: remove it, and it will be made again.") from error
        return network.eval()

    def clean_right(self, defense: Defense, trial: Sequence[int]) -> Tensor:
        """Which test images the clean network of a trial is right about under a defense, bool (N,)."""
        return self.right(self.clean_network(defense, trial))

    def outcomes(self, attack: Attack, defenses: Sequence[Defense], trial: Sequence[int]) -> list[TrialOutcome]:
        """One trial of an attack under each of some defenses, or what came of it before.

        The first trial's clean network under each defense tells the base rate under it, in every trial.

        Args:
            attack: to rehearse.
            defenses: each of which gets the same aim and seeds.
            trial: numbers that all seeds come from, such as a seed and the trial's number.

        Raises:
            FairveilError: whatever the attack, the learner or a defense cannot do.
        """
        about: list[str | int] = [
            _KEPT,
            *self._trained,
            self.test.fingerprint(),
            _in_words(self.usual),
            repr(attack),
            *trial,
        ]
        names = [f"outcome-{content_key([*about, _in_words(one)])}.json" for one in defenses]
        makers = [partial(self._write_outcome, attack, one, trial) for one in defenses]
        make_files(self.folder, dict(zip(names, makers, strict=True)))
        return [_read(self.folder / name) for name in names]

    def outcome(
        self, attack: Attack, defense: Defense, trial: Sequence[int], *, own_base_rate: bool = False
    ) -> TrialOutcome:
        """One trial of an attack under one defense; see `outcomes`.

        Args:
            attack: to rehearse.
            defense: under which the victim trains.
            trial: numbers that all seeds come from.
            own_base_rate: whether to look at a clean network under this very defense too.
        """
        started = time.perf_counter()
        drawing, _, learning = _seeds(trial)
        aim = attack.aim(self.train, self.test, drawing)
        expected = defense if attack.adaptive else self.usual
        attacker = Attacker(
            data=self.train,
            gradient=self.learner.gradient,
            usual=self.usual,
            expected=expected,
            surrogate=lambda: self.clean_network(expected, trial),
            folder=self.folder,
        )
        victim = self.learner.learn(aim.poisoned(attacker, drawing), defense, seed=learning)
        hits, clean = aim.hits(victim), aim.hits(self.clean_network(self.usual, trial))
        own = aim.hits(self.clean_network(defense, first_of(trial))) if own_base_rate else None
        return TrialOutcome(
            aim=aim.words,
            hits=hits.successes,
            clean_hits=clean.successes,
            pictures=hits.trials,
            right=int(self.right(victim).sum()),
            tested=len(self.test),
            seconds=time.perf_counter() - started,
            own_clean_hits=None if own is None else own.successes,
            version=code_version(),
        )

    def _write_outcome(self, attack: Attack, defense: Defense, trial: Sequence[int], path: Path) -> None:
        outcome = self.outcome(attack, defense, trial, own_base_rate=True)
        path.write_text(outcome.model_dump_json(), encoding="utf-8")

    @cached_property
    def _trained(self) -> list[str]:
        return [self.train.fingerprint(), self.learner.described()]


def first_of(trial: Sequence[int]) -> list[int]:
    """The first of the trials that this one belongs to, whose clean networks stand for those of all.

    >>> first_of([7, 3])
    [7, 0]
    """
    return [*trial[:-1], 0]


def _read(file: Path) -> TrialOutcome:
    try:
        return TrialOutcome.model_validate_json(file.read_bytes())
    except ValueError as error:
        raise FairveilError(f"{file} is damaged: remove it, and it will be made again.") from error


def _in_words(defense: Defense) -> str:
    if " at 0x" in repr((defense.objective, defense.gradients)):
        raise FairveilError(
            f"What {defense.name} does cannot be told from its representation, so that what is kept of it might be of "
            "another: make its parts dataclasses, or give them a __repr__ with their settings."
        )
    return f"{described(defense.objective)} {described(defense.gradients)}"


def _seeds(trial: Sequence[int]) -> list[int]:
    """Of what is drawn, of the attacker's network, and of the victim's."""
    return [int(seed) for seed in np.random.SeedSequence(list(trial)).generate_state(3)]
