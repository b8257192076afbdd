"""A child that cannot be brought up is ended, whatever was the reason: so it is tried once more, and for ever."""

from __future__ import annotations

import subprocess
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
