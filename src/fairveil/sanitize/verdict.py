"""What a rehearsal says: which defense holds, what it costs in accuracy, and whether that can be told at all."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fairveil.base.estimate import Estimate
from fairveil.report.display import DisplayMixin

LEVEL = 0.05
"""The chance of naming a defense that is none, over all defenses of a rehearsal together."""

LEAST_EFFECT = 0.1
"""By how much success must fall, lower end of the paired interval, before a defense is recommended."""

MOST_LOST = 0.05
"""How much clean accuracy a recommended defense may cost, upper end of the paired interval."""

_FEW_AIMS = 2  # trials to an aim from which intervals are said to be of these aims alone
_NOTEWORTHY = 0.1  # share above the mean from which the worst aim is named

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
    success: Estimate
    base_rate: Estimate | None
    fall: Estimate | None
    price: Estimate | None
    clean_accuracy: Estimate | None
    poisoned_accuracy: Estimate
    p_value: float | None
    worst_aim: tuple[str, Estimate] | None = None

    @property
    def accuracy(self) -> Estimate:
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
    base_rate: Estimate
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
        return _in_words(self)

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


@dataclass(frozen=True)
class Conclusion:
    """One verdict over several attacks: what to do against all of them.

    Attributes:
        verdicts: of each attack, one or more.
    """

    verdicts: tuple[Verdict, ...]

    @property
    def working(self) -> tuple[Verdict, ...]:
        """Of the attacks that clearly work where there is no defense: only they tell something of defenses."""
        return tuple(one for one in self.verdicts if one.attack_works)

    @property
    def best(self) -> str | None:
        """The defense that is recommended against each attack that works, by its worst success; None if none is.

        That all of these hold is rejected only if each one is, so that nothing need be corrected for their number.
        """
        if not self.working:
            return None
        common = set.intersection(*({one.name for one in verdict.recommended} for verdict in self.working))
        in_order = [one.name for one in self.verdicts[0].standings if one.name in common]
        return min(in_order, key=lambda name: self._worst(name).success.value, default=None)

    @property
    def recommendation(self) -> str:
        """What to do, in a few plain sentences."""
        if len(self.verdicts) == 1:
            return self.verdicts[0].recommendation
        if not self.working:
            return (
                f"All together: none of the attacks ({_and([one.attack for one in self.verdicts])}) clearly worked "
                "without a defense, so nothing can be said of defenses. Rehearse more trials, train longer or on more "
                "pictures, or strengthen the attacks."
            )
        against = _and([one.attack for one in self.working])
        if self.best is not None:
            worst = self._worst(self.best)
            said = [
                f"All together: train with {self.best}. It holds against every attack that worked here ({against}); "
                f"{_share(worst.success)} succeed in the worst case."
            ]
        else:
            said = ["All together: no single defense can be recommended against every attack that worked here."]
            said += [f"Against {one.attack}: {'none' if one.best is None else one.best.name}." for one in self.working]
        if silent := [one.attack for one in self.verdicts if not one.attack_works]:
            said.append(f"Of {_and(silent)} nothing can be said, since undefended networks were not clearly taken in.")
        return " ".join(said)

    def _worst(self, name: str) -> Standing:
        """How a defense fared against the attack that succeeds most often under it."""
        found = [one for verdict in self.working for one in verdict.standings if one.name == name]
        return max(found, key=lambda one: one.success.value)


def _in_words(verdict: Verdict) -> str:
    """What one verdict says, in a few plain sentences."""
    said = [_attack(verdict)]
    if not verdict.attack_works:
        said.append(
            f"That is no clear difference: either the attack does not work here, or {_trials(verdict)} too few to "
            "tell, and so it says nothing about defenses. Rehearse more trials, train longer or on more "
            "pictures, or strengthen the attack."
        )
        return " ".join(said)
    best = verdict.best
    if best is None:
        said.append(_nothing_held(verdict))
    else:
        said += [_advice(best), *_cheaper(verdict, best), *_caution(verdict, best)]
    said += _others(verdict, best)
    return " ".join(said)


def _attack(verdict: Verdict) -> str:
    trials = f"{verdict.trials} trial{'s' * (verdict.trials > 1)}"
    if verdict.aims < verdict.trials:
        trials += f" with {verdict.aims} different aims" if verdict.aims > 1 else ", all with the same aim"
    said = (
        f"Without a defense {verdict.attack} succeeded in {_share(verdict.undefended.success)} of the pictures it was "
        f"after, over {trials}; without any poison it looks so in {_share(verdict.base_rate)}."
    )
    if verdict.aims * _FEW_AIMS <= verdict.trials:
        said += " The intervals say how networks trained anew would fare with these aims and pictures, not with others."
    return said


def _advice(best: Standing) -> str:
    assert best.fall is not None and best.price is not None
    return (
        f"Train with {best.name}: success fell to {_share(best.success)}, by {_points(best.fall)} points "
        f"(p = {best.p_value:.2g}){_own_base(best)}. {_cost(best)}"
    )


def _cost(one: Standing) -> str:
    """What a defense costs, and what the figure is of."""
    assert one.price is not None
    trained = "Trained on clean data" if one.clean_accuracy is not None else "With the poison in the training data"
    if one.price.low > 0:
        change = f"costs {_points(one.price)} points of accuracy"
    elif one.price.high < 0:
        change = f"costs no accuracy (it gains {_points(-one.price)} points)"
    else:
        change = f"is not seen to change accuracy ({_points(one.price)} points lost)"
    return f"{trained} it {change}, and is right about {_percent(one.accuracy.value)} of the test pictures."


def _own_base(one: Standing) -> str:
    return "" if one.base_rate is None else f"; without any poison it looks so in {_share(one.base_rate)} under it"


def _cheaper(verdict: Verdict, best: Standing) -> list[str]:
    """The recommended defense that costs least, if it is more accurate by a point or more and beyond chance."""
    cheapest = max(verdict.recommended, key=lambda one: one.accuracy.value)
    assert cheapest.price is not None and best.price is not None
    if cheapest.accuracy.value < best.accuracy.value + 0.01 or cheapest.price.high >= best.price.low:
        return []
    return [
        f"{cheapest.name} costs less ({_percent(cheapest.accuracy.value)} accuracy) and leaves "
        f"{_share(cheapest.success)}."
    ]


def _caution(verdict: Verdict, best: Standing) -> list[str]:
    said = []
    if best.success.high > 0.1:
        many = (
            f" (it is the best of {len(verdict.standings)}, so rather more than less)" if verdict.standings[1:] else ""
        )
        said.append(f"It is no guarantee: up to {_percent(best.success.high)} of such attacks may still succeed{many}.")
    if best.worst_aim is not None and best.worst_aim[1].value > best.success.value + _NOTEWORTHY:
        aim, rate = best.worst_aim
        said.append(f"With one aim it does worse: {aim}, {_percent(rate.value)}.")
    return said


def _nothing_held(verdict: Verdict) -> str:
    if not verdict.standings:
        return "No defense was tried. Rehearse some before you rely on there being none."
    if any(one.holds for one in verdict.standings):
        return "No defense can be recommended."
    best = min(verdict.standings, key=lambda one: one.success.value)
    return (
        f"No defense was clearly better than none: {best.name}, the best, left {_share(best.success)} "
        f"(p = {best.p_value:.2g}). {_trials(verdict)} too few to tell, or none of these helps. Rehearse more trials "
        "before you rely on a defense, or on there being none."
    )


def _others(verdict: Verdict, best: Standing | None) -> list[str]:
    """Why each of the other defenses is not recommended."""
    said, unclear = [], []
    for one in verdict.standings:
        match verdict.obstacle(one):
            case "not clear":
                unclear.append(one.name)
            case "too small":
                assert one.fall is not None
                said.append(
                    f"{one.name} lowers success too little to be recommended: to {_share(one.success)}, by "
                    f"{_points(one.fall)} points, where {_percent(verdict.least_effect)[:-2]} or more are asked for."
                )
            case "too dear":
                said.append(
                    f"{one.name} lowers success to {_share(one.success)} but costs too much to be recommended: more "
                    f"than {_percent(verdict.most_lost)[:-2]} points. {_cost(one)}"
                )
            case "price unknown":
                assert one.price is not None
                said.append(
                    f"{one.name} lowers success to {_share(one.success)}, but whether it costs more than "
                    f"{_percent(verdict.most_lost)[:-2]} points cannot be told from {one.price.n:,} {one.price.unit}. "
                    f"{_cost(one)}"
                )
            case None:
                pass
    if unclear and (best is not None or said):
        verb = "was" if len(unclear) == 1 else "were"
        said.append(f"{_and(unclear)} {verb} not clearly better than no defense.")
    return said


def _share(rate: Estimate) -> str:
    return f"{_percent(rate.value)} [{100 * rate.low:.0f}–{100 * rate.high:.0f}]"


def _points(change: Estimate) -> str:
    low, high = (f"{100 * end:.1f}".replace("-", "−") for end in (change.low, change.high))
    return f"{100 * change.value:.1f} [{low} to {high}]".replace("-", "−")


def _percent(share: float) -> str:
    """Whole percent, and tenths where rounding would make all or none of what is not."""
    whole = f"{100 * share:.0f}"
    if whole in ("0", "100") and share not in (0, 1):
        whole = f"{100 * share:.1f}"
    return f"{whole} %"


def _trials(verdict: Verdict) -> str:
    return f"{verdict.trials} trials are" if verdict.trials > 1 else "1 trial is"


def _and(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
