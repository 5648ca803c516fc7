import threading

from fairveil.web.turns import Turns


def test_everybody_has_a_turn_before_anybody_has_a_second():
    turns, order, gate, done = Turns("test"), [], threading.Event(), threading.Event()
    turns.put("first", gate.wait)  # holds the thread until all jobs wait
    for owner, job in [("a", "a1"), ("a", "a2"), ("a", "a3"), ("b", "b1"), ("c", "c1")]:
        turns.put(owner, lambda job=job: order.append(job))
    turns.put("a", done.set)
    gate.set()
    assert done.wait(5)
    turns.close()
    assert order == ["a1", "b1", "c1", "a2", "a3"]


def test_jobs_that_are_forgotten_are_not_begun():
    turns, order, gate, done = Turns("test"), [], threading.Event(), threading.Event()
    turns.put("first", gate.wait)
    turns.put("a", lambda: order.append("a"))
    turns.put("b", done.set)
    turns.forget("a")
    gate.set()
    assert done.wait(5)
    turns.close()
    assert order == []


def test_a_job_that_fails_ends_neither_the_work_nor_silently(caplog):
    turns, done = Turns("test"), threading.Event()
    turns.put("a", lambda: 1 / 0)
    turns.put("a", done.set)
    assert done.wait(5)
    turns.close()
    assert "ZeroDivisionError" in caplog.text
