"""What is timed begins when the servers before it have nothing more to do."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bench.serve_triton.servers import processor_s, rested


@contextmanager
def computing(seconds: float) -> Iterator[int]:
    """Run a process that starts another, which computes for so long [s] of its own time and then waits."""
    busy = f"import time\nprint(flush=True)\nwhile time.process_time() < {seconds}: pass\ntime.sleep(100)"
    outer = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {busy!r}])"
    with subprocess.Popen([sys.executable, "-c", outer], stdout=subprocess.PIPE, process_group=0) as running:
        try:
            assert running.stdout is not None
            running.stdout.readline()
            yield running.pid
        finally:
            for pid in processor_s(running.pid):
                subprocess.run(["kill", "-9", str(pid)], check=False)


def test_servers_have_rested_once_those_that_they_started_compute_no_more() -> None:
    with computing(1.0) as pid:
        assert sum(processor_s(pid).values()) < 0.9
        rested([pid], 60.0)
        assert sum(processor_s(pid).values()) > 0.98
        start_s = time.monotonic()
        rested([pid], 60.0)
        assert time.monotonic() - start_s < 10.0


def test_a_server_that_never_rests_is_said() -> None:
    with computing(1e9) as pid, pytest.raises(RuntimeError, match="nobody asked"):
        rested([pid], 1.0)
