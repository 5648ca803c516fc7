"""What a rehearsal says: which defense holds, what it costs in accuracy, and whether that can be told at all."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy import stats
from torch import Tensor

from fairveil.base.errors import FairveilError
from fairveil.base.rates import Rate
from fairveil.report.display import DisplayMixin
from fairveil.report.tables import Table
from fairveil.sanitize.paired import discordance, paired_fall
from fairveil.sanitize.poisoning import Hits, pooled
from fairveil.sanitize.trials import Outcome

LEVEL = 0.05
"""The chance of naming a defense that is none, over all defenses of a rehearsal together."""

LEAST_EFFECT = 0.1
"""By how much success must fall, lower end of the paired interval, before a defense is recommended."""

MOST_LOST = 0.05
"""How much clean accuracy a recommended defense may cost, upper end of the paired interval."""

_RESAMPLES, _ROUNDING = 9999, 1e-9
_SEPARATE = 0.99  # confidence of the intervals that must not overlap for a rehearsal to stop early
_MOST_TRIALS = 1000  # that `fewest_trials` looks at

Obstacle = Literal["not clear", "too small", "too dear", "price unknown"]
"""Why a defense is not recommended: it is not clearly better than none; it is, but success falls too little; accuracy
clearly falls too much; or whether it does cannot be told from so few test pictures or trials."""


@dataclass(frozen=True)
class Standing:
    """How one defense fared.

    Attributes:
        name: of the defense.
        success: of the attack, with its interval.
        base_rate: what looks like success without any poison under this very defense; None where nobody looked.
        fall: how much less often the attack succeeds than without a defense, paired by trial; None of no defense.
        price: clean accuracy that is lost to the defense, paired with training without one; None of no defense. It is
            of networks trained on clean data, paired by test picture, or where there are none of those trained on
            poison, paired by trial.
        clean_accuracy: of the network that was trained once on clean data; None where there is none.
        poisoned_accuracy: on clean test images, of the networks that were trained on poison.
        p_value: how likely the trials are to come out so well if the defense does nothing, corrected for the number of
            defenses (Bonferroni); None of no defense.
        worst_aim: where aims come more than once, the one that succeeds most often under the defense, and how often;
            None where it does not do so more often than the others beyond chance, the number of aims considered.
    """

    name: str
    success: Rate
    base_rate: Rate | None
    fall: Rate | None
    price: Rate | None
    clean_accuracy: Rate | None
    poisoned_accuracy: Rate
    p_value: float | None
    worst_aim: tuple[str, Rate] | None = None

    @property
    def accuracy(self) -> Rate:
        """Of networks trained on clean data where they are known, else of those trained on poison."""
        return self.poisoned_accuracy if self.clean_accuracy is None else self.clean_accuracy

    @property
    def holds(self) -> bool:
        """Whether the attack clearly succeeds less often than without it, by however little."""
        return self.p_value is not None and self.p_value < LEVEL


@dataclass(frozen=True)
class Verdict(DisplayMixin):
    """What a rehearsal of one attack came to.

    Attributes:
        attack: its name.
        undefended: how training without a defense fared.
        standings: of the defenses.
        base_rate: what looks like success without any poison and without a defense.
        works: how likely undefended success would be so far above the base rate if the attack did nothing.
        trials: how many.
        aims: how many different aims these have: data of two classes have two at the most.
        least_effect: by how much success must fall at least for a recommendation.
        most_lost: how much accuracy it may cost at the most.
    """

    attack: str
    undefended: Standing
    standings: tuple[Standing, ...]
    base_rate: Rate
    works: float
    trials: int
    aims: int
    least_effect: float = LEAST_EFFECT
    most_lost: float = MOST_LOST

    @property
    def attack_works(self) -> bool:
        """Whether the attack clearly succeeds where there is no defense."""
        return self.works < LEVEL

    @property
    def recommended(self) -> tuple[Standing, ...]:
        """The defenses that nothing speaks against; none where the attack does not work."""
        return tuple(one for one in self.standings if self.obstacle(one) is None) if self.attack_works else ()

    @property
    def best(self) -> Standing | None:
        """Of the recommended, the one with the least success, and of these the most accurate; None if there is none."""
        return min(self.recommended, key=lambda one: (one.success.value, -one.accuracy.value), default=None)

    @property
    def recommendation(self) -> str:
        """What to do, in a few plain sentences that follow from the numbers."""
        from fairveil.sanitize.recommendation import in_words  # it is about verdicts, so it imports this file

        return in_words(self)

    def _sentences(self) -> tuple[str]:
        return (self.recommendation,)

    def _tables(self) -> tuple[Table]:
        from fairveil.sanitize.report import table_of  # it is about verdicts, so it imports this file

        return (table_of(self),)

    def _rows(self) -> Iterator[dict[str, Any]]:
        for one in (self.undefended, *self.standings):
            figures = {
                "success": one.success,
                "without_poison": one.base_rate,
                "clean_accuracy": one.clean_accuracy,
                "accuracy_lost": one.price,
                "accuracy_with_poison": one.poisoned_accuracy,
            }
            row: dict[str, Any] = {"attack": self.attack, "defense": one.name}
            for name, rate in figures.items():
                for end, suffix in (("value", ""), ("low", "_low"), ("high", "_high")):
                    row[name + suffix] = None if rate is None else getattr(rate, end)
            yield row | {"p_value": one.p_value}

    def obstacle(self, one: Standing) -> Obstacle | None:
        """What speaks against recommending a defense of this rehearsal, if anything does."""
        if not one.holds or one.fall is None or one.price is None:
            return "not clear"
        if one.fall.low < self.least_effect:
            return "too small"
        if one.price.high > self.most_lost:
            return "too dear" if one.price.low > self.most_lost else "price unknown"
        return None


def judge(
    attack: str,
    outcomes: Mapping[str, Sequence[Outcome]],
    undefended: str,
    *,
    clean: Mapping[str, Tensor] | None = None,
    least_effect: float = LEAST_EFFECT,
    most_lost: float = MOST_LOST,
) -> Verdict:
    """Put together what the trials of a rehearsal say.

    Defenses are compared to none by a one-sided paired permutation test over trials (signs of the differences are
    flipped): for attacks on one picture it is the exact form of McNemar's. The p-values are multiplied by the number of
    defenses.

    Args:
        attack: its name.
        outcomes: of every defense, in the order of the trials, which are the same for all.
        undefended: the name of no defense among them.
        clean: of the network that was trained on clean data under each, which test images it is right about, bool
            (N,), the same images for all. Without it the price is told from networks that were trained on poison.
        least_effect: by how much success must fall at least for a recommendation, in [0, 1].
        most_lost: how much accuracy it may cost at the most, in [0, 1].

    Raises:
        FairveilError: there are no trials, or not the same for all; or a limit is no share.
    """
    counts = {len(found) for found in outcomes.values()}
    if len(counts) != 1 or counts == {0}:
        raise FairveilError("There is nothing to judge: every defense needs the same trials, at least one.")
    check_limits(least_effect, most_lost)
    bare = outcomes[undefended]
    defended = {name: found for name, found in outcomes.items() if name != undefended}
    without = [one.success for one in bare]
    base = [one.base_rate for one in bare]

    def standing(name: str, found: Sequence[Outcome], p_value: float | None) -> Standing:
        own_base = base if name == undefended else [one.own_base_rate for one in found if one.own_base_rate is not None]
        right = None if clean is None else Hits(int(clean[name].sum()), len(clean[name]))
        return Standing(
            name=name,
            success=pooled([one.success for one in found]),
            base_rate=pooled(own_base) if len(own_base) == len(found) else None,
            fall=None if p_value is None else paired_fall(without, [one.success for one in found]),
            price=None if p_value is None else _price(found, bare, clean, name, undefended),
            clean_accuracy=None if right is None else _of_pictures(right),
            poisoned_accuracy=pooled([one.accuracy for one in found]),
            p_value=p_value,
            worst_aim=_worst_aim(found),
        )

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
        aims=len({one.aim for one in bare}),
        least_effect=least_effect,
        most_lost=most_lost,
    )


def is_settled(outcomes: Mapping[str, Sequence[Outcome]], undefended: str) -> bool:
    """Whether the 99 % interval of the best defense lies below that of none, so that more trials need not be run.

    The intervals are wider than those that are shown, since they are looked at after every trial.
    """
    rates = {
        name: pooled([one.success for one in found], confidence=_SEPARATE) for name, found in outcomes.items() if found
    }
    bare = rates.pop(undefended, None)
    return bare is not None and any(rate.high < bare.low for rate in rates.values())


def fewest_trials(defenses: int, *, least_effect: float = LEAST_EFFECT) -> int | None:
    """How many trials it takes at the least to recommend one of some defenses, however well it does.

    The best that can happen is that every attack succeeds without a defense and none with it.

    Args:
        defenses: how many are tried together, 1 or more.
        least_effect: by how much success must fall at least.

    Returns:
        The number; None if no number does, since so large an effect is asked for.

    >>> fewest_trials(1), fewest_trials(5)
    (5, 7)
    """
    for trials in range(1, _MOST_TRIALS + 1):
        fall = paired_fall([Hits(1, 1)] * trials, [Hits(0, 1)] * trials)
        if defenses * 2.0**-trials < LEVEL and fall.low >= least_effect:
            return trials
    return None


def bounds_the_price(pictures: int, most_lost: float) -> bool:
    """Whether so many test images can show that a defense costs no more than so much, if it changes none of them."""
    return discordance(0, 0, pictures).high <= most_lost


def check_limits(least_effect: float, most_lost: float) -> None:
    """Refuse limits that are no shares.

    Raises:
        FairveilError: they are not between 0 and 1.
    """
    if not (0 <= least_effect < 1 and 0 <= most_lost <= 1):
        raise FairveilError(
            f"A recommendation cannot ask for a least effect of {least_effect:g} and a loss of accuracy of at most "
            f"{most_lost:g}: give shares from 0 to 1, such as 0.1 and 0.05."
        )


def _price(
    found: Sequence[Outcome],
    bare: Sequence[Outcome],
    clean: Mapping[str, Tensor] | None,
    name: str,
    undefended: str,
) -> Rate:
    if clean is None:
        return paired_fall([one.accuracy for one in bare], [one.accuracy for one in found])
    before, after = clean[undefended], clean[name]
    return discordance(int((before & ~after).sum()), int((after & ~before).sum()), len(before))


def _of_pictures(right: Hits) -> Rate:
    """The accuracy of one network, with an interval that takes pictures for the sample."""
    return pooled([Hits(1, 1)] * right.hits + [Hits(0, 1)] * (right.trials - right.hits))


def _worst_aim(found: Sequence[Outcome]) -> tuple[str, Rate] | None:
    by_aim: dict[str, list[Hits]] = {}
    for one in found:
        by_aim.setdefault(one.aim, []).append(one.success)
    if len(by_aim) == len(found):
        return None
    rates = {aim: pooled(hits) for aim, hits in by_aim.items()}
    worst = max(rates, key=lambda aim: rates[aim].value)
    others = [hit.rate for aim, hits in by_aim.items() if aim != worst for hit in hits]
    if not others or len(by_aim) * _p_above([hit.rate for hit in by_aim[worst]], others) >= LEVEL:
        return None
    return worst, rates[worst]


def _p_above(some: Sequence[float], others: Sequence[float]) -> float:
    """How likely the first would be so far above the others if all were drawn alike, by permutations of them."""
    drawn = np.tile(np.array([*some, *others]), (_RESAMPLES, 1))
    sums = np.random.default_rng(0).permuted(drawn, axis=1)[:, : len(some)].sum(axis=1)
    return float((1 + (sums >= sum(some) - _ROUNDING).sum()) / (1 + _RESAMPLES))


def _p_value(lower: Sequence[Hits], higher: Sequence[Hits]) -> float:
    """How likely the first shares would be so far below the second if they were drawn alike, trial by trial."""
    below = np.array([one.rate - other.rate for one, other in zip(lower, higher, strict=True)])
    if len(below) < 2 or not below.any():
        return 1.0
    changed = below[below != 0]
    if np.ptp(np.abs(changed)) == 0:  # such as of single pictures: the exact test of McNemar
        return float(stats.binom.cdf(int((changed > 0).sum()), len(changed), 0.5))
    test = stats.permutation_test(
        (below,), np.mean, permutation_type="samples", alternative="less", n_resamples=_RESAMPLES, rng=0
    )
    return float(test.pvalue)
