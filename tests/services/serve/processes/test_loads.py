"""Fronts that know nothing of each other give work to the engine that has the least to do."""

from __future__ import annotations

import os

from amble.services.serve.processes.loads import Loads, new_loads


def test_each_front_sees_what_the_others_gave() -> None:
    fd = new_loads(2, 3)
    first, second = Loads(os.dup(fd), 2, 3, 0), Loads(os.dup(fd), 2, 3, 1)
    first.add(0, 50)
    second.add(1, 20)
    assert first.least([0, 1, 2]) == second.least([0, 1, 2]) == 2
    assert first.least([0, 1]) == 1, "one that is gone is not chosen"
    second.add(2, 30)
    assert first.least([0, 1, 2]) == 1
    first.clear(1)
    assert first.least([0, 1, 2]) != 0


def test_idle_engines_have_their_turns() -> None:
    one = Loads(new_loads(1, 3), 1, 3)
    assert {one.least([0, 1, 2]) for _ in range(3)} == {0, 1, 2}
