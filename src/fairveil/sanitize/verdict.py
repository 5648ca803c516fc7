"""What a rehearsal says: which defence holds, what it costs in accuracy, and whether that can be told at all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from fairveil.errors import FairveilError
from fairveil.faces.rates import Rate
from fairveil.sanitize.poisoning import Hits, pooled
from fairveil.sanitize.trials import Outcome

LEVEL = 0.05
"""The chance of naming a defence that is none, over all defences of a rehearsal together."""

_RESAMPLES = 9999
_SEPARATE = 0.99  # confidence of the intervals that must not overlap for a rehearsal to stop early


@dataclass(frozen=True)
class Standing:
    """How one defence fared.

    Attributes:
        name: of the defence.
        success: of the attack, with its interval.
        accuracy: on clean test images after poisoning, with its interval.
        p_value: how likely the trials are to come out so well if the defence does nothing, corrected for the number of
            defences (Bonferroni); None of no defence.
    """

    name: str
    success: Rate
    accuracy: Rate
    p_value: float | None

    @property
    def holds(self) -> bool:
        """Whether the attack clearly succeeds less often than without it."""
        return self.p_value is not None and self.p_value < LEVEL


@dataclass(frozen=True)
class Verdict:
    """What a rehearsal of one attack came to.

    Attributes:
        attack: its name.
        undefended: how training without a defence fared.
        standings: of the defences.
        base_rate: what looks like success without any poison.
        works: how likely undefended success would be so far above the base rate if the attack did nothing.
        trials: how many.
    """

    attack: str
    undefended: Standing
    standings: tuple[Standing, ...]
    base_rate: Rate
    works: float
    trials: int

    @property
    def best(self) -> Standing | None:
        """Of the defences that hold, the one with the least success, and of these the most accurate; None if none."""
        holding = [one for one in self.standings if one.holds]
        return min(holding, key=lambda one: (one.success.value, -one.accuracy.value)) if holding else None

    @property
    def recommendation(self) -> str:
        """What to do, in a few plain sentences that follow from the numbers."""
        said = [
            f"Without a defence {self.attack} succeeded in {_share(self.undefended.success)} of the pictures it was "
            f"after, over {self.trials} trials; without any poison it looks so in {_share(self.base_rate)}."
        ]
        if self.works >= LEVEL:
            said.append(
                f"That is no clear difference: either the attack does not work here, or {self.trials} trials are too "
                "few to tell, and so it says nothing about defences. Rehearse more trials, train longer or on more "
                "pictures, or strengthen the attack."
            )
            return " ".join(said)
        if self.best is None:
            said.append(
                f"{self._nothing_held} Rehearse more trials before you rely on a defence, or on there being none."
            )
            return " ".join(said)
        best = self.best
        said.append(
            f"Train with {best.name}: success fell to {_share(best.success)} (p = {best.p_value:.2g}), and accuracy "
            f"went from {_percent(self.undefended.accuracy.value)} to {_percent(best.accuracy.value)}."
        )
        said += self._cheaper(best)
        if best.success.high > 0.1:
            many = f" (it is the best of {len(self.standings)}, so rather more than less)" if self.standings[1:] else ""
            said.append(
                f"It is no guarantee: up to {_percent(best.success.high)} of such attacks may still succeed{many}."
            )
        if failing := [one.name for one in self.standings if not one.holds]:
            verb = "was" if len(failing) == 1 else "were"
            said.append(f"{_and(failing)} {verb} not clearly better than no defence.")
        return " ".join(said)

    @property
    def _nothing_held(self) -> str:
        if not self.standings:
            return "No defence was tried."
        best = min(self.standings, key=lambda one: one.success.value)
        return (
            f"No defence was clearly better than none: {best.name}, the best, left {_share(best.success)} "
            f"(p = {best.p_value:.2g}). {self.trials} trials are too few to tell, or none of these helps."
        )

    def _cheaper(self, best: Standing) -> list[str]:
        """The defence that holds too and costs least, if it is more accurate by a point or more."""
        holding = [one for one in self.standings if one.holds]
        cheapest = max(holding, key=lambda one: one.accuracy.value)
        if cheapest.accuracy.value < best.accuracy.value + 0.01:
            return []
        return [
            f"{cheapest.name} costs less ({_percent(cheapest.accuracy.value)} accuracy) and leaves "
            f"{_share(cheapest.success)}."
        ]


def judge(attack: str, outcomes: Mapping[str, Sequence[Outcome]], undefended: str) -> Verdict:
    """Put together what the trials of a rehearsal say.

    Defences are compared to none by a one-sided paired permutation test over trials (signs of the differences are
    flipped): for attacks on one picture it is the exact form of McNemar's. The p-values are multiplied by the number of
    defences.

    Args:
        attack: its name.
        outcomes: of every defence, in the order of the trials, which are the same for all.
        undefended: the name of no defence among them.

    Raises:
        FairveilError: there are no trials, or not the same for all.
    """
    counts = {len(found) for found in outcomes.values()}
    if len(counts) != 1 or counts == {0}:
        raise FairveilError("There is nothing to judge: every defence needs the same trials, at least one.")
    bare = outcomes[undefended]
    defended = {name: found for name, found in outcomes.items() if name != undefended}

    def standing(name: str, found: Sequence[Outcome], p_value: float | None) -> Standing:
        success, accuracy = ([getattr(one, what) for one in found] for what in ("success", "accuracy"))
        return Standing(name, pooled(success), pooled(accuracy), p_value)

    without = [one.success for one in bare]
    base = [one.base_rate for one in bare]
    return Verdict(
        attack=attack,
        undefended=standing(undefended, bare, None),
        standings=tuple(
            standing(name, found, min(1.0, len(defended) * _p_value([one.success for one in found], without)))
            for name, found in defended.items()
        ),
        base_rate=pooled(base),
        works=_p_value(base, without),
        trials=len(bare),
    )


def is_settled(outcomes: Mapping[str, Sequence[Outcome]], undefended: str) -> bool:
    """Whether the 99 % interval of the best defence lies below that of none, so that more trials need not be run.

    The intervals are wider than those that are shown, since they are looked at after every trial.
    """
    rates = {
        name: pooled([one.success for one in found], confidence=_SEPARATE) for name, found in outcomes.items() if found
    }
    bare = rates.pop(undefended, None)
    return bare is not None and any(rate.high < bare.low for rate in rates.values())


def _p_value(lower: Sequence[Hits], higher: Sequence[Hits]) -> float:
    """How likely the first shares would be so far below the second if they were drawn alike, trial by trial."""
    below = np.array([one.rate - other.rate for one, other in zip(lower, higher, strict=True)])
    if len(below) < 2 or not below.any():
        return 1.0
    test = stats.permutation_test(
        (below,), np.mean, permutation_type="samples", alternative="less", n_resamples=_RESAMPLES, rng=0
    )
    return float(test.pvalue)


def _share(rate: Rate) -> str:
    return f"{_percent(rate.value)} [{100 * rate.low:.0f}–{100 * rate.high:.0f}]"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _and(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
