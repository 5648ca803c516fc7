import threading

from fairveil.web.fair_queue import FairQueue


def test_everybody_has_a_turn_before_anybody_has_a_second():
    queue, order, gate, done = FairQueue("test"), [], threading.Event(), threading.Event()
    queue.put("first", gate.wait)  # holds the thread until all jobs wait
    for owner, job in [("a", "a1"), ("a", "a2"), ("a", "a3"), ("b", "b1"), ("c", "c1")]:
        queue.put(owner, lambda job=job: order.append(job))
    queue.put("a", done.set)
    gate.set()
    assert done.wait(5)
    queue.close()
    assert order == ["a1", "b1", "c1", "a2", "a3"]


def test_a_job_that_fails_ends_neither_the_work_nor_silently(caplog):
    queue, done = FairQueue("test"), threading.Event()
    queue.put("a", lambda: 1 / 0)
    queue.put("a", done.set)
    assert done.wait(5)
    queue.close()
    assert "ZeroDivisionError" in caplog.text


def test_several_workers_do_as_many_jobs_at_once_and_still_in_turn():
    queue, order = FairQueue("test", workers=2), []
    both, gate, done = threading.Barrier(3), threading.Event(), threading.Event()

    def hold():
        both.wait(5)
        gate.wait(5)

    queue.put("a", hold)
    queue.put("b", hold)
    both.wait(5)  # which only comes to pass where two jobs are under way at once
    for owner, job in [("a", "a1"), ("a", "a2"), ("a", "a3"), ("b", "b1")]:
        queue.put(owner, lambda job=job: order.append(job))
    queue.put("a", done.set)
    gate.set()
    assert done.wait(5)
    queue.close()
    assert order.index("b1") <= 2


def test_every_thread_is_prepared_before_there_are_jobs():
    both, names = threading.Barrier(3), []

    def prepare():
        names.append(threading.current_thread().name)
        both.wait(5)

    queue = FairQueue("test", workers=2, prepare=prepare)
    both.wait(5)
    queue.close()
    assert sorted(names) == ["test-0", "test-1"]
