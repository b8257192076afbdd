"""The end of a server whose device never comes back: nobody waits for ever, the process ends, and clocks go back."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from pathlib import Path

from amble.devices import lease
from amble.services.serve.ending import LAST_S, LEFT, Stop, finished
from tests.devices import fake_sys
from tests.jobs.serving_process import free_port, slow_network, started
from tests.services.serve.sticking_process import STUCK
from tests.services.serve.test_serving_ends import outcomes, until, warm


def test_a_process_whose_device_never_comes_back_ends_by_itself(tmp_path: Path) -> None:
    model, port = slow_network(tmp_path / "slow.onnx"), free_port()
    (policy,) = fake_sys.cpufreq(tmp_path, 1)
    found = fake_sys.bounds(policy)
    module = "tests.services.serve.sticking_process"
    with started([sys.executable, "-m", module, str(tmp_path), str(model), str(port)], tmp_path) as first:
        warm(first)
        assert fake_sys.bounds(policy) != found
        (tmp_path / STUCK).touch()
        with first.asked_by(3) as asked:
            until((tmp_path / "begun").exists)
            first.running.send_signal(signal.SIGTERM)
            start_s = time.monotonic()
            _, log = first.running.communicate(timeout=LAST_S + 60.0)
            assert first.running.returncode == LEFT == 1
            assert time.monotonic() - start_s > LAST_S
            assert outcomes(asked) == [503] * 3
        assert "has not ended within 10 s" in log
    until(lambda: fake_sys.bounds(policy) == found)
    until(lambda: lease.leases(tmp_path / "amble") == ())


def test_what_computes_is_given_some_time_after_a_signal_and_all_of_it_without_one() -> None:
    async def run() -> list[bool]:
        found, never = [], asyncio.get_running_loop().create_future()
        stop = Stop()
        waiting = asyncio.create_task(finished(never, stop, last_s=0.05))
        stop()
        await asyncio.sleep(0.3)
        found.append(waiting.done())
        stop.hear()
        found.append(await waiting)
        soon = asyncio.get_running_loop().create_task(asyncio.sleep(0.05))
        found.append(await finished(soon, stop, last_s=20.0))
        never.set_exception(ValueError("broken"))
        found.append(await finished(never, Stop(), last_s=20.0))
        return found

    assert asyncio.run(run()) == [False, False, True, True]


def test_a_second_signal_insists() -> None:
    stop = Stop()
    stop.hear()
    assert (stop.asked.is_set(), stop.insisted.is_set(), stop.signalled.is_set()) == (True, False, True)
    stop.hear()
    assert stop.insisted.is_set()
