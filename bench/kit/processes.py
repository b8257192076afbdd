"""Servers that are measured, ours and others' -> ports for them, and an end for all that they have started."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress

__all__ = ["ended", "free_port"]

END_S = 30.0


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


@contextmanager
def ended(leader: subprocess.Popen[bytes]) -> Iterator[None]:
    """Have the leader of a group of processes end with the block, and then kill what is left of its group."""
    try:
        yield
    finally:
        leader.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            leader.wait(END_S)
        with suppress(ProcessLookupError):
            os.killpg(leader.pid, signal.SIGKILL)
        leader.wait()
