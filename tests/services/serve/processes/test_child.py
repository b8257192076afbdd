"""A child ends with its parent, whatever state it is in."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

from tests.jobs.serving_process import Process, free_port, slow_network, started
from tests.services.serve.processes.kernel import alive, children
from tests.services.serve.processes.test_crew import command, until


def answers(at: Process) -> bool:
    try:
        return at.ask()[0] == 200
    except ConnectionError:  # the new front does not listen yet
        return False


def test_children_that_are_stopped_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    """One of them was started anew, by a thread that is no more: it has another thread of its parent's instead."""
    model = slow_network(tmp_path / "slow.onnx")
    with started(command(model, free_port()), tmp_path) as first:
        before = children(first.running.pid)
        front = next(pid for pid, name in before.items() if name.startswith("front"))
        os.kill(front, signal.SIGKILL)
        until(lambda: len(children(first.running.pid)) == len(before) and not alive(front))
        until(lambda: answers(first))
        own = children(first.running.pid)
        try:
            for pid in own:
                os.kill(pid, signal.SIGSTOP)
            os.kill(first.running.pid, signal.SIGKILL)
            first.running.wait(20)
            until(lambda: not any(alive(pid) for pid in own), 40.0)
        finally:
            for pid in own:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
