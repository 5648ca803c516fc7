"""The fire drill: attack one's own set-up, time and again, under every defense, and see which of them holds."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn

from fairveil.base.errors import FairveilError
from fairveil.data.images import LabeledImages
from fairveil.report.display import DisplayMixin
from fairveil.report.tables import Table
from fairveil.sanitize.attacks import Attack, Attacker
from fairveil.sanitize.defenses import DEFENSES, Defense, defense
from fairveil.sanitize.judging import bounds_the_price, check_limits, fewest_trials, is_settled, judge
from fairveil.sanitize.learners import FromScratch, Learner
from fairveil.sanitize.plan import check_together
from fairveil.sanitize.trials import Scenario, TrialOutcome
from fairveil.sanitize.verdict import LEAST_EFFECT, MOST_LOST, Verdict
from fairveil.training import Training

_SAMPLE, _FEW = 1 / 20, 64  # of the data, and at least so many pictures, to see how long learning takes


@dataclass(frozen=True)
class Cost:
    """What a rehearsal takes at the most, if nothing of it is there yet and it does not stop early.

    Attributes:
        victims: networks to be trained on poisoned data.
        clean: networks to be trained on clean data: the attacker's own, and one under each defense, for its price.
        poisons: to be made.
        seconds: all together, scaled up from a twentieth of the data and two steps of brewing.
    """

    victims: int
    clean: int
    poisons: int
    seconds: float


@dataclass(frozen=True)
class Rehearsed(DisplayMixin):
    """What came of a rehearsal.

    Attributes:
        verdict: in figures and in words.
        outcomes: of every defense, trial by trial; the same trials for all.
        stopped_early: whether the best defense was clearly apart before all trials were run.
    """

    verdict: Verdict
    outcomes: Mapping[str, Sequence[TrialOutcome]]
    stopped_early: bool

    @property
    def versions(self) -> tuple[str, ...]:
        """The versions of fairveil that made the outcomes, in order: more than one where kept outcomes are older."""
        return tuple(sorted({one.version for found in self.outcomes.values() for one in found}))

    def _display(self) -> tuple[Iterable[str], Iterable[Table]]:
        return self.verdict._display()

    def _rows(self) -> Iterator[dict[str, Any]]:
        return self.verdict._rows()


class Rehearsal:
    """One attack on one set-up, under none and each of some defenses.

        rehearsal = Rehearsal(partial(ResidualNetwork, NETWORKS["resnet-8-fast"], 10), data, BackdoorAttack())
        print(rehearsal.cost())
        print(rehearsal.run())

    Trials are paired: each has an aim and seeds of its own, the same under every defense.

    Attributes:
        scenario: who is attacked.
        attack: how.
        defenses: by which names; no defense is the first.
        trials: how many at the most.
        least: after how many it may stop early.
        seed: of everything drawn.
        least_effect: by how much success must fall at least before a defense is recommended.
        most_lost: how much clean accuracy it may cost at the most.
    """

    def __init__(
        self,
        model: Callable[[], nn.Module] | Learner,
        data: LabeledImages,
        attack: Attack,
        defenses: Sequence[Defense | str] | None = None,
        *,
        test: LabeledImages | None = None,
        training: Training | None = None,
        trials: int = 20,
        least: int = 8,
        seed: int = 0,
        padding: int = 4,
        folder: Path | None = None,
        device: str = "cpu",
        least_effect: float = LEAST_EFFECT,
        most_lost: float = MOST_LOST,
    ) -> None:
        """Set it up; nothing is trained yet.

        Args:
            model: makes a new network, from pixels in [0, 1] to logits, and is trained from scratch; or a `Learner`.
            data: clean, to train on.
            attack: to rehearse.
            defenses: some of `fairveil.sanitize.defenses.DEFENSES`, or your own; by default all that only augment.
            test: clean, of the same classes and size; by default a fifth of each class of the data is put aside.
            training: how a model is trained; a `Learner` knows.
            trials: at the most.
            least: after so many it stops as soon as the best defense is clearly apart from none; see `is_settled`.
            seed: of everything drawn.
            padding: by how many pixels the usual crops of named defenses, and of none, shift pictures.
            folder: for networks, poisons and outcomes. What already exists is not made again, several processes
                may share it, and it may be removed at any time. By default nothing is kept.
            device: where models are trained; a `Learner` knows.
            least_effect: by how much success must fall, lower end of the interval, before a defense is recommended.
            most_lost: how much clean accuracy it may cost at the most, upper end of the interval.

        Raises:
            FairveilError: there is no defense of a name, two have the same, data do not belong together, or a limit is
                no share.
        """
        if trials < 1 or least < 1:
            raise FairveilError(f"A rehearsal of {trials} trials, at least {least}, cannot be held: give 1 or more.")
        check_limits(least_effect, most_lost)
        if test is None:
            data, test = data.split(0.2, seed=seed)
        check_together(data, test)
        size = min(data.images.shape[2:])
        usual = defense("Baseline", size=size, padding=padding)
        named = [
            defense(one, size=size, padding=padding) if isinstance(one, str) else one for one in defenses or DEFENSES
        ]
        if defenses is None:
            named = [one for one in named if one.gradients is None]
        if any(one.name == usual.name and one != usual for one in named):
            raise FairveilError(f"{usual.name} is the name of training without a defense: give yours another.")
        self.defenses = {usual.name: usual} | {one.name: one for one in named}
        if len(self.defenses) - 1 != len([one for one in named if one.name != usual.name]):
            raise FairveilError("Two defenses have the same name: give each its own.")
        learner = model if isinstance(model, Learner) else FromScratch(model, training or Training(), device)
        self.attack, self.trials, self.least, self.seed = attack, trials, least, seed
        self.scenario = Scenario(data, test, learner, usual, folder or Path())
        self.folder = folder
        self.least_effect, self.most_lost = least_effect, most_lost

    @property
    def warnings(self) -> list[str]:
        """Why this rehearsal cannot recommend a defense, whatever comes out, a sentence each; empty if it can."""
        tried = len(self.defenses) - 1
        if not tried:
            return ["No defense is tried besides training as usual: name one."]
        said, needed = [], fewest_trials(tried, least_effect=self.least_effect)
        if needed is None or self.trials < needed:
            what = f"{self.trials} trial{'s' * (self.trials > 1)} of {tried} defense{'s' * (tried > 1)}"
            remedy = "ask for a smaller least effect" if needed is None else f"rehearse {needed} or more"
            said.append(f"{what} cannot recommend any, however well it does: {remedy}.")
        pictures = len(self.scenario.test)
        if not bounds_the_price(pictures, self.most_lost):
            said.append(
                f"{pictures:,} test pictures cannot show that a defense costs no more than {100 * self.most_lost:g} "
                "points of accuracy, so none will be recommended: give more pictures, or allow a larger loss."
            )
        return said

    def cost(self) -> Cost:
        """What it takes, found by doing a little of it. Also finds what cannot work, such as a batch too small to mix.

        Raises:
            FairveilError: whatever the attack, the learner or a defense cannot do.
        """
        each, scenario = len(self.defenses) if self.attack.adaptive else 1, self.scenario
        order = torch.randperm(len(scenario.train), generator=torch.Generator().manual_seed(self.seed))
        few = scenario.train.take(order[: max(_FEW, round(len(order) * _SAMPLE))])
        seconds = []
        for one in self.defenses.values():
            started = time.perf_counter()
            network = scenario.learner.learn(few, one, seed=self.seed)
            seconds.append((time.perf_counter() - started) * len(order) / len(few))
        with TemporaryDirectory(prefix="fairveil-") as folder:
            attacker = Attacker(
                data=scenario.train,
                gradient=scenario.learner.gradient,
                usual=scenario.usual,
                expected=scenario.usual,
                surrogate=lambda: network,
                folder=Path(folder),
            )
            poisoning = self.attack.seconds(scenario.test, attacker)
        return Cost(
            victims=self.trials * len(self.defenses),
            clean=self.trials * each + len(seconds[each:]),
            poisons=self.trials * each,
            seconds=self.trials * (sum(seconds) + sum(seconds[:each]) + each * poisoning) + sum(seconds[each:]),
        )

    def run(
        self, *, on_trial: Callable[[int, Mapping[str, TrialOutcome]], None] = lambda count, outcomes: None
    ) -> Rehearsed:
        """Hold it: all trials, or fewer where the intervals are apart before.

        Args:
            on_trial: told after each trial how many are done, and what came of it under each defense.

        Raises:
            FairveilError: whatever the attack, the learner or a defense cannot do.
        """
        outcomes: dict[str, list[TrialOutcome]] = {name: [] for name in self.defenses}
        with ExitStack() as stack:
            folder = self.folder or Path(stack.enter_context(TemporaryDirectory(prefix="fairveil-")))
            scenario = replace(self.scenario, folder=folder)
            clean = {name: scenario.clean_right(one, [self.seed, 0]) for name, one in self.defenses.items()}
            for trial in range(self.trials):
                found = scenario.outcomes(self.attack, list(self.defenses.values()), [self.seed, trial])
                of_trial = dict(zip(self.defenses, found, strict=True))
                for name, outcome in of_trial.items():
                    outcomes[name].append(outcome)
                on_trial(trial + 1, of_trial)
                verdict = judge(
                    self.attack.name,
                    outcomes,
                    scenario.usual.name,
                    clean=clean,
                    least_effect=self.least_effect,
                    most_lost=self.most_lost,
                )
                settled = verdict.best is not None and is_settled(outcomes, self.scenario.usual.name)
                if settled and trial + 1 >= self.least:
                    break
        return Rehearsed(verdict, outcomes, stopped_early=verdict.trials < self.trials)
