"""One verdict over several attacks."""

from fairveil.sanitize.judging import judge
from fairveil.sanitize.trials import TrialOutcome
from fairveil.sanitize.verdict import Conclusion


def verdict(attack, bare=1, **defended):
    """Twelve trials, in which the first so many of twelve succeed under each defense."""

    def outcomes(hits):
        return [
            TrialOutcome(aim=f"{n}", hits=int(n < hits), clean_hits=0, pictures=1, right=900, tested=1000, seconds=1)
            for n in range(12)
        ]

    found = {"Baseline": outcomes(12 * bare), **{name: outcomes(hits) for name, hits in defended.items()}}
    return judge(attack, found, "Baseline")


def test_what_holds_against_all_attacks_that_work_is_the_one_verdict():
    together = Conclusion((verdict("backdoor", A=0, B=2, C=12), verdict("brew", A=12, B=1, C=0)))
    assert [one.best.name for one in together.verdicts] == ["A", "C"]
    assert together.best == "B"
    assert together.recommendation.startswith("All together: train with B. It holds against every attack that worked")
    assert "(backdoor and brew); 17 % [5–45] succeed in the worst case" in together.recommendation


def test_where_no_defense_holds_against_all_each_attack_has_its_own():
    together = Conclusion((verdict("backdoor", A=0, B=12), verdict("brew", A=12, B=0), verdict("adaptive", A=12, B=12)))
    assert together.best is None
    said = together.recommendation
    assert "no single defense can be recommended" in said
    assert "Against backdoor: A." in said and "Against brew: B." in said and "Against adaptive: none." in said


def test_attacks_that_do_not_work_say_nothing_and_that_is_said():
    together = Conclusion((verdict("backdoor", A=0), verdict("brew", bare=0, A=0)))
    assert together.best == "A" and "Of brew nothing can be said" in together.recommendation
    none = Conclusion((verdict("backdoor", bare=0, A=0), verdict("brew", bare=0, A=0)))
    assert none.best is None and "nothing can be said of defenses" in none.recommendation


def test_one_attack_needs_no_second_verdict():
    only = verdict("backdoor", A=0)
    assert Conclusion((only,)).recommendation == only.recommendation
