"""A long queue is not counted for each look; a short one is."""

from __future__ import annotations

import threading

from delivery.queue.remembering import COUNTED_EACH_TIME_UP_TO, Remembered


def test_a_short_queue_is_counted_each_time_and_a_long_one_not() -> None:
    sizes = iter([1, 2, COUNTED_EACH_TIME_UP_TO + 1, 4])
    remembered = Remembered(lambda: next(sizes), size=lambda value: value)

    assert [remembered.get() for _ in range(4)] == [1, 2, COUNTED_EACH_TIME_UP_TO + 1, COUNTED_EACH_TIME_UP_TO + 1]


def test_whoever_looks_while_it_is_counted_gets_the_last_figures() -> None:
    begun, ended = threading.Event(), threading.Event()
    long = COUNTED_EACH_TIME_UP_TO + 1
    counted: list[int] = []

    def count() -> int:
        if counted:
            begun.set()
            assert ended.wait(10)
        counted.append(1)
        return long + len(counted)

    remembered = Remembered(count, size=lambda value: value)
    first = remembered.get()
    assert remembered._last is not None
    remembered._last = type(remembered._last)(first, 0.0)  # its time is over
    looking = threading.Thread(target=remembered.get)
    looking.start()
    assert begun.wait(10)

    assert (remembered.get(), len(counted)) == (first, 1)
    ended.set()
    looking.join(10)
    assert remembered.get() == long + 2
