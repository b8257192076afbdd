"""What every device must do, over every back end. A new back end is one more entry of ``BACK_ENDS``."""

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from amble.core.ports import Device
from amble.devices import host, lease, nvml, quota, recorded, simulated, sysfs
from amble.devices.recorded.tabled import open_table
from amble.devices.simulated.paced import paced
from amble.testing import DeviceConformance
from tests.devices import fake_sys
from tests.devices.over_fake_nvml.fake_gpu import HOPPER, FakeGpu
from tests.stages.control.ladders import every_rung


@dataclass(frozen=True)
class Consuming:
    """A machine's clock, by whose sleep its counter of energy goes on: 10 W."""

    clock: host.MonotonicClock
    energy: Path

    def now_s(self) -> float:
        return self.clock.now_s()

    def sleep(self, duration_s: float) -> None:
        self.clock.sleep(duration_s)
        self.energy.write_text(f"{int(self.energy.read_text()) + int(10e6 * duration_s)}\n")


def a_host(root: Path, runner) -> Device:
    fake_sys.cpufreq(root)
    energy = fake_sys.rapl(root, "intel-rapl:0", "package-0", 1_000_000)
    opened = host.open(runner, sysfs_root=root)
    return replace(opened, clock=Consuming(host.MonotonicClock(), energy))


def a_bare_host(root: Path, runner) -> Device:
    return host.open(runner, sysfs_root=root)


def a_board(root: Path, runner) -> Device:
    fake_sys.devfreq(root, "17000000.gpu")
    fake_sys.emc(root)
    clock = host.MonotonicClock()
    return sysfs.open(runner, clock, host.Unmetered(clock), root=root)


def a_guarded_host(root: Path, runner) -> Device:
    return lease.guarded(a_host(root, runner), root / "state")


def a_table(root: Path, runner) -> Device:
    return recorded.open("gtx-titan-x-ulisboa-micro")


def a_table_with_observed_clocks(root: Path, runner) -> Device:
    return recorded.open("rtx-a4000-kerneltuner-fma")


def a_table_without_power(root: Path, runner) -> Device:
    return recorded.open("v100-ttu-kernels")


def a_gpu(root: Path, runner) -> Device:
    FakeGpu(Path(os.environ["AMBLE_EMULATED_CARD"])).reset(**HOPPER)
    return nvml.open(0, runner)


def a_simulated_chip(root: Path, runner) -> Device:
    return simulated.open("jetson-tx2", seed=1)


def a_quota(root: Path, runner) -> Device:
    fake_sys.cgroup(root, version=1)
    clock = host.MonotonicClock()
    return quota.open("server", runner, clock, host.Unmetered(clock), root=root, cpus=2)


def a_guarded_quota(root: Path, runner) -> Device:
    fake_sys.cgroup(root, version=2)
    clock = host.MonotonicClock()
    return lease.guarded(quota.open("server", runner, clock, host.Unmetered(clock), root=root), root / "state")


def a_paced_chip(root: Path, runner) -> Device:
    return paced(simulated.open("jetson-tx2", seed=1))


def rungs(root: Path, runner) -> Device:
    return open_table("rungs", every_rung())


BACK_ENDS: dict[str, Callable[..., Device]] = {
    "host": a_host,
    "bare host": a_bare_host,
    "guarded host": a_guarded_host,
    "sysfs": a_board,
    "quota": a_quota,
    "guarded quota": a_guarded_quota,
    "recorded": a_table,
    "recorded, observed": a_table_with_observed_clocks,
    "recorded, no power": a_table_without_power,
    "simulated": a_simulated_chip,
    "paced": a_paced_chip,
    "tabled": rungs,
}
if (
    "AMBLE_EMULATED_CARD" in os.environ
):  # set by test_nvml.py, which compiles the fake library and runs this suite over it
    BACK_ENDS["nvml"] = a_gpu


class TestEveryBackEnd(DeviceConformance):
    @pytest.fixture(params=BACK_ENDS)
    def device(self, request, tmp_path, runner):
        device = BACK_ENDS[request.param](tmp_path, runner)
        yield device
        with contextlib.suppress(AttributeError):
            device.actuator.close()  # type: ignore[attr-defined]
