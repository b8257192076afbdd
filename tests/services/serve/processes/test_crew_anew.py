"""A child that cannot be brought up is ended, whatever was the reason: so it is tried once more, and for ever."""

from __future__ import annotations

import logging
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from amble.core.errors import Refused
from amble.runtimes.remote.fault import Fault
from amble.services.serve.processes.crew import Crew, pause_s
from amble.services.serve.processes.member import Member

NOBODY: Any = None
ERRORS = (Refused("no"), Fault(400, "no"), OSError("no"), ValueError("no"), RuntimeError("no"))


class Starting(Crew):
    """Starts what needs no parent."""

    def start(self, member: Member) -> None:
        """Start it."""
        assert member.running is None, "while it waits nobody is there to be watched"
        member.running = subprocess.Popen(["sleep", "100"])


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_what_cannot_be_brought_up_is_ended(error: Exception) -> None:
    def revive(member: Member) -> None:
        raise error

    dead = subprocess.Popen(["true"])
    member = Member("an engine", NOBODY, running=dead)
    Starting((member,), (), {}, revive, lambda front: None)._bury(member)
    assert member.running not in (None, dead)
    assert member.running.wait(20) == -9
    assert member.replaced == {"died": 1, "hung": 0}


def test_it_is_tried_ever_more_rarely_and_never_given_up() -> None:
    assert [pause_s(failures) for failures in (0, 1, 2, 100, 100_000)] == [0.1, 0.2, 0.4, 5.0, 5.0]


NOT_OPEN = 1 << 20
"""What no process can be given: starting one fails, as where there is no memory or too many open files."""


def test_what_cannot_be_started_is_refused_and_leaves_nothing_open() -> None:
    member = Member("an engine", NOBODY, fds=(NOT_OPEN,))
    crew = Crew((member,), (), {}, lambda member: None, lambda front: None)
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(Refused, match=r"cannot start an engine: .*; allow more processes"):
        crew.start(member)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert (member.running, member.control, member.up) == (None, None, False)


def test_a_child_that_says_nothing_of_its_role_is_ended_with_its_line() -> None:
    """A role that cannot be sent stands for a line that breaks while it is."""

    class Unsent:
        def __reduce__(self) -> str:
            raise BrokenPipeError("gone")

    member = Member("an engine", Unsent())  # type: ignore[arg-type]
    crew = Crew((member,), (), {}, lambda member: None, lambda front: None)
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(Refused, match="gone"):
        crew.start(member)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert member.running is None


def test_who_cannot_be_started_anew_is_tried_again_later(caplog: pytest.LogCaptureFixture) -> None:
    revived = threading.Event()
    dead = subprocess.Popen(["true"])
    member = Member("an engine", NOBODY, fds=(NOT_OPEN,), running=dead)
    crew = Crew((member,), (), {}, lambda member: revived.set(), lambda front: None)
    with caplog.at_level(logging.ERROR, "amble.services.serve.processes.crew"):
        burying = threading.Thread(target=crew._bury, args=(member,))
        burying.start()
        until_s = time.monotonic() + 20.0
        while "trying again" not in caplog.text and time.monotonic() < until_s:
            time.sleep(0.01)
        assert not revived.is_set()
        member.fds = ()
        assert revived.wait(30.0)
        burying.join(20.0)
    crew._over = True
    assert member.running is not None
    member.running.kill()
    member.running.wait(20)


def test_nobody_is_started_any_more_once_all_is_over() -> None:
    member = Member("an engine", NOBODY, fds=(NOT_OPEN,))
    crew = Crew((member,), (), {}, lambda member: None, lambda front: None)
    crew._over = True
    assert not crew._started_anew(member)
