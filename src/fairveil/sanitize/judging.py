"""From the trials of a rehearsal to its verdict: paired tests, intervals, and when enough trials were run."""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats
from torch import Tensor

from fairveil.base.differences import discordance, paired_fall
from fairveil.base.errors import FairveilError
from fairveil.base.estimate import BinomialCount, Estimate
from fairveil.base.rates import pooled
from fairveil.sanitize.trials import TrialOutcome
from fairveil.sanitize.verdict import LEAST_EFFECT, LEVEL, MOST_LOST, Standing, Verdict

_RESAMPLES, _ROUNDING = 9999, 1e-9
_SEPARATE = 0.99  # confidence of the intervals that must not overlap for a rehearsal to stop early
_MOST_TRIALS = 1000  # that `fewest_trials` looks at


def judge(
    attack: str,
    outcomes: Mapping[str, Sequence[TrialOutcome]],
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

    def standing(name: str, found: Sequence[TrialOutcome], p_value: float | None) -> Standing:
        own_base = base if name == undefended else [one.own_base_rate for one in found if one.own_base_rate is not None]
        return Standing(
            name=name,
            success=pooled([one.success for one in found]),
            base_rate=pooled(own_base) if len(own_base) == len(found) else None,
            fall=None if p_value is None else paired_fall(without, [one.success for one in found]),
            price=None if p_value is None else _price(found, bare, clean, name, undefended),
            clean_accuracy=None if clean is None else _of_pictures(clean[name]),
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


def is_settled(outcomes: Mapping[str, Sequence[TrialOutcome]], undefended: str) -> bool:
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
        fall = paired_fall([BinomialCount(1, 1)] * trials, [BinomialCount(0, 1)] * trials)
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
    found: Sequence[TrialOutcome],
    bare: Sequence[TrialOutcome],
    clean: Mapping[str, Tensor] | None,
    name: str,
    undefended: str,
) -> Estimate:
    if clean is None:
        return paired_fall([one.accuracy for one in bare], [one.accuracy for one in found])
    before, after = clean[undefended], clean[name]
    lost, gained = int((before & ~after).sum()), int((after & ~before).sum())
    return discordance(lost, gained, len(before), unit="test pictures")


def _of_pictures(right: Tensor) -> Estimate:
    """The accuracy of one network, with an interval that takes pictures for the sample."""
    return pooled([BinomialCount(int(one), 1) for one in right], unit="test pictures")


def _worst_aim(found: Sequence[TrialOutcome]) -> tuple[str, Estimate] | None:
    by_aim: dict[str, list[BinomialCount]] = {}
    for one in found:
        by_aim.setdefault(one.aim, []).append(one.success)
    if len(by_aim) == len(found):
        return None
    rates = {aim: pooled(counts) for aim, counts in by_aim.items()}
    worst = max(rates, key=lambda aim: rates[aim].value)
    others = [count.share for aim, counts in by_aim.items() if aim != worst for count in counts]
    if not others or len(by_aim) * _p_above([count.share for count in by_aim[worst]], others) >= LEVEL:
        return None
    return worst, rates[worst]


def _p_above(some: Sequence[float], others: Sequence[float]) -> float:
    """How likely the first would be so far above the others if all were drawn alike, by permutations of them."""
    drawn = np.tile(np.array([*some, *others]), (_RESAMPLES, 1))
    sums = np.random.default_rng(0).permuted(drawn, axis=1)[:, : len(some)].sum(axis=1)
    return float((1 + (sums >= sum(some) - _ROUNDING).sum()) / (1 + _RESAMPLES))


def _p_value(lower: Sequence[BinomialCount], higher: Sequence[BinomialCount]) -> float:
    """How likely the first shares would be so far below the second if they were drawn alike, trial by trial."""
    below = np.array([one.share - other.share for one, other in zip(lower, higher, strict=True)])
    if len(below) < 2 or not below.any():
        return 1.0
    changed = below[below != 0]
    if np.ptp(np.abs(changed)) == 0:  # such as of single pictures: the exact test of McNemar
        return float(stats.binom.cdf(int((changed > 0).sum()), len(changed), 0.5))
    test = stats.permutation_test(
        (below,), np.mean, permutation_type="samples", alternative="less", n_resamples=_RESAMPLES, rng=0
    )
    return float(test.pvalue)
