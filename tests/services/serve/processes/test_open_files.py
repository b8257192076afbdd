"""Open files of a server's processes: none is left by requests, by loading and unloading, or when the server ends."""

from __future__ import annotations

import gc
import os
import signal
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from amble.services.serve.front import Addresses, Doors
from amble.services.serve.models.options import Options
from amble.services.serve.processes.parent import Wanted, serve_apart
from amble.services.serve.processes.places import places
from tests.jobs.serving_process import slow_network, started
from tests.services.serve.processes.kernel import children
from tests.services.serve.processes.test_crew import AMBLE, DEVICES, call, double, large, small, until


def memory_files(pid: int) -> int:
    """Count the memory that a process has open, as files and as maps."""
    opened = Counter[bool]()
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):  # it may have been closed just now
            opened["memfd:" in os.readlink(each)] += 1
    return opened[True] + Path(f"/proc/{pid}/maps").read_text().count("memfd:")


def test_requests_and_loads_leave_no_memory_open(tmp_path: Path) -> None:
    double(tmp_path / "models" / "small" / "1" / "model.onnx", 4)
    double(tmp_path / "models" / "large" / "1" / "model.onnx", 100_000)
    command = [AMBLE, "serve", f"--repository={tmp_path / 'models'}", *DEVICES, "--fronts=1", "--json"]
    command += ["--http-port=0", "--grpc-port=0", "--metrics-port=0", "--model-control=explicit"]
    with started(command, tmp_path) as at:

        def use() -> None:
            for turn in range(10):
                assert large(at.ready["grpc"], turn)
                assert small(at, 1.0)[0] == 200
            for verb in ("unload", "load"):
                assert call(at, "POST", f"/v2/repository/models/large/{verb}", {})[0] == 200

        own = [at.running.pid, *children(at.running.pid)]
        use()
        before = {pid: memory_files(pid) for pid in own}
        for _ in range(4):
            use()
        until(lambda: {pid: memory_files(pid) for pid in own} == before, 20.0)
        assert at.end(signal.SIGTERM) == 0


def test_a_server_that_has_ended_has_nothing_open(tmp_path: Path) -> None:
    model = slow_network(tmp_path / "slow.onnx", layers=4)
    wanted = Wanted(places([DEVICES[0].partition("=")[2]]), 1, Options(), None, {"slow": model}, None)
    doors = Doors(http_port=0, grpc_port=None, metrics_port=None)
    serve_apart(wanted, doors, at_once)
    before = left()
    serve_apart(wanted, doors, at_once)
    until(lambda: left() <= before, 20.0)


def at_once(at: Addresses, stop: Callable[[], object]) -> None:
    stop()


def left() -> int:
    gc.collect()  # a map goes with the last that looks at it
    return memory_files(os.getpid())
