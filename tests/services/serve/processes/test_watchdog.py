"""The parent's eye: it ends who is silent, once, and nobody after a sleep of the whole machine."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from amble.services.serve.processes.beats import SILENT_S, Beat, Beats, new_beats
from amble.services.serve.processes.member import Member
from amble.services.serve.processes.watchdog import Watchdog

NOBODY: Any = None


@pytest.fixture
def members() -> Iterator[list[Member]]:
    found = []
    for name in ("an engine", "a front"):
        running = subprocess.Popen(["sleep", "100"])
        found.append(Member(name, NOBODY, running=running, up=True, since_s=time.monotonic()))
    yield found
    for each in found:
        assert each.running is not None
        each.running.kill()
        each.running.wait()


def test_who_is_silent_is_ended_and_others_are_not(members: list[Member]) -> None:
    fd = new_beats(2)
    beats = Beats(fd, 2)
    watchdog = Watchdog(lambda: members, beats)
    start_s = time.monotonic()
    for at in range(2):
        beats.give(at, SILENT_S)
    for step in range(int(SILENT_S) + 2):
        beats.give(1, SILENT_S + 60.0)
        watchdog.look(start_s + step)
    silent, well = members
    assert silent.hung
    assert not silent.up
    assert silent.running is not None
    assert silent.running.wait(20) == -9
    assert not well.hung
    assert well.running is not None
    assert well.running.poll() is None
    os.close(fd)


def test_nobody_is_ended_for_the_time_in_which_the_parent_itself_stood_still(members: list[Member]) -> None:
    fd = new_beats(2)
    beats = Beats(fd, 2)
    watchdog = Watchdog(lambda: members, beats)
    start_s = time.monotonic()
    for at in range(2):
        beats.give(at, SILENT_S)
    watchdog.look(start_s)
    watchdog.look(start_s + 1000.0)
    watchdog.look(start_s + 1001.0)
    assert not any(each.hung for each in members)
    os.close(fd)


def test_who_has_taken_the_place_of_one_that_died_is_not_ended_for_it(members: list[Member]) -> None:
    fd = new_beats(2)
    first = members[0]
    before, after = first.running, subprocess.Popen(["sleep", "100"])
    assert before is not None

    class Replacing(Beats):
        """Is asked in the moment in which another process takes the place."""

        def of(self, child: int) -> Beat | None:
            found = super().of(child)
            if child == 0:
                first.running = after
            return found

    beats = Replacing(fd, 2)
    start_s = time.monotonic()
    watchdog = Watchdog(lambda: members, beats)
    beats.give(0, 0.0, hangs=True)
    watchdog.look(start_s)
    assert (first.hung, first.up, after.poll()) == (False, True, None)
    before.kill()
    before.wait()
    os.close(fd)
