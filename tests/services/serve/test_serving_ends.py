"""A running server that is stopped or killed: nobody waits for ever, clocks go back, and the next one can start."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from amble.devices import lease
from tests.devices import fake_sys
from tests.devices.test_lease import watchdogs
from tests.jobs.serving_process import Process, free_port, script, slow_network, started

AMBLE = str(Path(sys.executable).parent / "amble")
DEVICES = ("host", "sim:jetson-orin-nano")


def command(device: str, model: Path, port: int) -> list[str]:
    doors = [f"--http-port={port}", "--grpc-port=-1", "--metrics-port=-1", "--max-batch=1", "--json"]
    return [AMBLE, "serve", f"slow={model}", "--device", device, *doors]


def until(true: Callable[[], bool], within_s: float = 20.0) -> None:
    deadline_s = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline_s, "it never came true"
        time.sleep(0.005)


def outcomes(asked: Iterable[Future[tuple[int, dict[str, Any]]]]) -> list[object]:
    """Return what each client got: a status, or that its connection broke."""
    found: list[object] = []
    for each in asked:
        try:
            found.append(each.result(30)[0])
        except ConnectionError:
            found.append("broken")
    return found


def warm(at: Process) -> Process:
    """Answer once, so that what comes next is answered by a server that is warm."""
    assert at.ask()[0] == 200
    return at


@pytest.mark.parametrize("device", DEVICES)
def test_a_killed_server_leaves_nobody_waiting_and_its_port_to_the_next(device: str, tmp_path: Path) -> None:
    model, port = slow_network(tmp_path / "slow.onnx"), free_port()
    with started(command(device, model, port), tmp_path) as first, warm(first).asked_by(24) as asked:
        until(lambda: any(each.done() for each in asked))
        assert first.end(signal.SIGKILL) == -signal.SIGKILL
        found = outcomes(asked)
        assert set(found) <= {200, "broken"}
        assert "broken" in found
    with started(command(device, model, port), tmp_path) as second:
        assert second.port == port
        assert second.ask()[0] == 200


@pytest.mark.parametrize("device", DEVICES)
def test_a_server_that_is_asked_to_end_answers_what_it_accepted(device: str, tmp_path: Path) -> None:
    model, port = slow_network(tmp_path / "slow.onnx", layers=4000), free_port()
    with started(command(device, model, port), tmp_path) as first, warm(first).asked_by(12) as asked:
        until(lambda: any(each.done() for each in asked))
        assert first.is_ready()
        first.running.send_signal(signal.SIGTERM)
        until(lambda: not first.is_ready())
        assert not all(each.done() for each in asked), "nothing was in flight any more: the test shows nothing"
        assert outcomes(asked) == [200] * 12
        out, _ = first.running.communicate(timeout=30)
        assert first.running.returncode == 0
        assert '"answered":13' in out
    with started(command(device, model, port), tmp_path) as second:
        assert second.ask()[0] == 200


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_real_clocks_are_put_back_whatever_ends_the_server(end: signal.Signals, tmp_path: Path) -> None:
    model, port = slow_network(tmp_path / "slow.onnx"), free_port()
    (policy,) = fake_sys.cpufreq(tmp_path, 1)
    found = fake_sys.bounds(policy)
    with started(script(tmp_path, model, port), tmp_path) as first, warm(first).asked_by(8) as asked:
        until(lambda: any(each.done() for each in asked))
        assert fake_sys.bounds(policy) != found
        (held,) = lease.leases(tmp_path / "amble")
        assert held.owner.pid == first.running.pid
        assert first.end(end) == (0 if end == signal.SIGTERM else -end)
        late = 503 if end == signal.SIGTERM else "broken"  # who came after the signal was refused
        assert set(outcomes(asked)) <= {200, late}
    until(lambda: fake_sys.bounds(policy) == found)
    until(lambda: lease.leases(tmp_path / "amble") == ())
    with started(script(tmp_path, model, port), tmp_path) as second:
        assert second.ask()[0] == 200
        assert fake_sys.bounds(policy) != found


def test_a_server_killed_twice_over_leaves_clocks_that_the_next_one_puts_back(tmp_path: Path) -> None:
    """The watchdog is killed before the server, so nobody is left to put anything back: the lease is."""
    model, port = slow_network(tmp_path / "slow.onnx"), free_port()
    (policy,) = fake_sys.cpufreq(tmp_path, 1)
    found = fake_sys.bounds(policy)
    with started(script(tmp_path, model, port), tmp_path) as first:
        warm(first)
        dogs = watchdogs(tmp_path)
        assert len(dogs) == 1
        os.kill(dogs[0], signal.SIGKILL)
        first.end(signal.SIGKILL)
    assert fake_sys.bounds(policy) != found
    with started(script(tmp_path, model, port), tmp_path) as second:
        warm(second)
        assert second.end(signal.SIGTERM) == 0
    assert fake_sys.bounds(policy) == found
    assert lease.leases(tmp_path / "amble") == ()
