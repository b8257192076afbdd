import contextlib
import time

import pytest

from amble.core.errors import Refused
from amble.core.point import Clocks
from amble.devices import host
from amble.devices.host import MonotonicClock, RaplMeter
from tests.devices import fake_sys


class ManualClock:
    def __init__(self):
        self.time_s = 0.0

    def now_s(self):
        return self.time_s

    def sleep(self, duration_s):
        self.time_s += duration_s


def test_a_machine_without_counters_and_clocks_knows_neither_and_says_so(tmp_path, runner):
    device = host.open(runner, sysfs_root=tmp_path)
    assert device.meter.read().energy_j is None
    assert device.actuator.available() == (Clocks(),)
    assert device.actuator.current() == Clocks()
    energy, clocks = host.rights(tmp_path)
    assert "no RAPL counter" in energy
    assert "no cpufreq" in clocks


def test_setting_a_clock_that_cannot_be_set_is_refused_with_the_reason(tmp_path, runner):
    device = host.open(runner, sysfs_root=tmp_path)
    with pytest.raises(Refused, match="no cpufreq"):
        device.actuator.apply(Clocks(cpu_hz=1e9))
    device.actuator.apply(Clocks())


def test_levels_are_those_the_driver_names_slowest_first(tmp_path, runner):
    fake_sys.cpufreq(tmp_path)
    available = host.open(runner, sysfs_root=tmp_path).actuator.available()
    assert [clocks.cpu_hz for clocks in available] == [8e8, 1.2e9, 1.6e9, 2e9]


def test_a_driver_without_levels_gets_every_100_mhz_of_its_range(tmp_path, runner):
    (folder,) = fake_sys.cpufreq(tmp_path, 1, (850_000, 1_150_000))
    (folder / "scaling_available_frequencies").unlink()
    available = host.open(runner, sysfs_root=tmp_path).actuator.available()
    assert [clocks.cpu_hz for clocks in available] == [8.5e8, 9e8, 1e9, 1.1e9, 1.15e9]


def test_every_policy_is_held_and_put_back_after_an_error(tmp_path, runner):
    folders = fake_sys.cpufreq(tmp_path)
    fake_sys.write(folders[1] / "scaling_max_freq", 1_600_000)
    device = host.open(runner, sysfs_root=tmp_path)
    with contextlib.suppress(ZeroDivisionError), device.held(Clocks(cpu_hz=1.2e9)) as got:
        assert got == Clocks(cpu_hz=1.2e9)
        assert [fake_sys.bounds(folder) for folder in folders] == [("1200000", "1200000")] * 2
        raise ZeroDivisionError
    assert fake_sys.bounds(folders[0]) == ("800000", "2000000")
    assert fake_sys.bounds(folders[1]) == ("800000", "1600000")


def test_going_up_writes_the_upper_bound_first_and_going_down_the_lower(tmp_path, runner):
    (folder,) = fake_sys.cpufreq(tmp_path, 1)
    actuator = host.open(runner, sysfs_root=tmp_path).actuator
    writes = fake_sys.Writes(folder / "scaling_min_freq", folder / "scaling_max_freq")
    actuator.apply(Clocks(cpu_hz=1.2e9))
    assert writes.names() == ["scaling_min_freq", "scaling_max_freq"]
    actuator.apply(Clocks(cpu_hz=1.6e9))
    assert writes.names() == ["scaling_max_freq", "scaling_min_freq"]
    actuator.apply(Clocks(cpu_hz=8e8))
    assert writes.names() == ["scaling_min_freq", "scaling_max_freq"]
    writes.close()


def test_a_clock_the_kernel_does_not_keep_is_refused_and_undone(tmp_path, runner):
    (folder,) = fake_sys.cpufreq(tmp_path, 1)
    low = folder / "scaling_min_freq"
    low.unlink()
    low.symlink_to("/dev/null")  # takes every value and keeps none
    device = host.open(runner, sysfs_root=tmp_path)
    with pytest.raises(Refused, match="asked for 1200 MHz, the kernel keeps"):
        device.actuator.apply(Clocks(cpu_hz=1.2e9))
    assert (folder / "scaling_max_freq").read_text().strip() == "2000000"
    assert device.actuator.current() == Clocks()


def test_a_reading_can_be_applied_again_although_it_is_no_level(tmp_path, runner):
    (folder,) = fake_sys.cpufreq(tmp_path, 1)
    now = folder / "scaling_cur_freq"
    now.unlink()
    actuator = host.open(runner, sysfs_root=tmp_path).actuator
    fake_sys.write(now, 1_193_412)
    actuator.apply(Clocks(cpu_hz=1.2e9))
    reading = actuator.current()
    assert reading == Clocks(cpu_hz=1_193_412e3)
    actuator.apply(Clocks(cpu_hz=2e9))
    actuator.apply(reading)
    assert fake_sys.bounds(folder) == ("1200000", "1200000")


def test_the_bound_stands_for_a_clock_that_the_kernel_does_not_tell(tmp_path, runner):
    (folder,) = fake_sys.cpufreq(tmp_path, 1)
    (folder / "scaling_cur_freq").unlink()
    fake_sys.write(folder / "scaling_cur_freq", "<unknown>")
    actuator = host.open(runner, sysfs_root=tmp_path).actuator
    actuator.apply(Clocks(cpu_hz=1.6e9))
    assert actuator.current() == Clocks(cpu_hz=1.6e9)


def test_slower_clusters_are_left_alone(tmp_path, runner):
    big = fake_sys.cpufreq(tmp_path, 1)
    little = fake_sys.cpufreq(tmp_path, 1, (400_000, 1_400_000), first=4)
    host.open(runner, sysfs_root=tmp_path).actuator.apply(Clocks(cpu_hz=1.6e9))
    assert fake_sys.bounds(big[0]) == ("1600000", "1600000")
    assert fake_sys.bounds(little[0]) == ("400000", "1400000")


def test_without_the_right_a_clock_is_refused_with_the_remedy_and_nothing_changes(open_folder, runner, lose_rights):
    folders = fake_sys.cpufreq(open_folder)
    lose_rights()
    for folder in folders:
        assert fake_sys.bounds(folder) == ("800000", "2000000")
    with pytest.raises(Refused, match="run as root"):
        host.open(runner, sysfs_root=open_folder).actuator.apply(Clocks(cpu_hz=8e8))
    assert any("scaling_min_freq is not writable" in line for line in host.rights(open_folder))
    assert [fake_sys.bounds(folder) for folder in folders] == [("800000", "2000000")] * 2


def test_energy_adds_packages_and_dram_and_leaves_out_what_packages_contain(tmp_path, runner):
    fake_sys.rapl(tmp_path, "intel-rapl:0", "package-0", 1_000_000)
    fake_sys.rapl(tmp_path, "intel-rapl:0:0", "core", 500_000)
    fake_sys.rapl(tmp_path, "intel-rapl:0:1", "dram", 200_000)
    fake_sys.rapl(tmp_path, "intel-rapl:1", "package-1", 0)
    fake_sys.rapl(tmp_path, "intel-rapl:1:1", "dram", 0)
    fake_sys.rapl(tmp_path, "intel-rapl:2", "psys", 9_000_000)
    fake_sys.rapl(tmp_path, "intel-rapl-mmio:0", "package-0", 1_000_000)
    meter = host.open(runner, sysfs_root=tmp_path).meter
    before = meter.read()
    fake_sys.rapl(tmp_path, "intel-rapl:0", "package-0", 4_000_000)
    fake_sys.rapl(tmp_path, "intel-rapl:0:0", "core", 3_000_000)
    fake_sys.rapl(tmp_path, "intel-rapl:0:1", "dram", 700_000)
    fake_sys.rapl(tmp_path, "intel-rapl:1:1", "dram", 250_000)
    fake_sys.rapl(tmp_path, "intel-rapl:2", "psys", 99_000_000)
    assert (meter.read() - before).energy_j == pytest.approx(3.75)


def test_the_energy_of_a_counter_that_wraps_goes_on(tmp_path):
    zone = fake_sys.rapl(tmp_path, "intel-rapl:0", "package-0", 990_000, range_uj=1_000_000)
    clock = ManualClock()
    meter = RaplMeter(clock, host.zones(tmp_path))
    before = meter.read()
    clock.sleep(2.0)
    fake_sys.write(zone, 10_000)
    passed = meter.read() - before
    assert passed.energy_j == pytest.approx(0.02)
    assert passed.latency_s == 2.0


def test_an_unreadable_counter_is_unknown_energy_with_its_remedy(open_folder, runner, lose_rights):
    fake_sys.rapl(open_folder, "intel-rapl:0", "package-0", 1).chmod(0o400)
    meter = host.open(runner, sysfs_root=open_folder).meter
    assert meter.read().energy_j == 0.0
    assert host.describe(open_folder).meter == "RAPL package-0"
    lose_rights()
    assert meter.read().energy_j is None
    reason = host.rights(open_folder)[0]
    assert "intel-rapl:0/energy_uj" in reason
    assert "chmod a+r" in reason
    assert host.describe(open_folder).meter == "unknown"


def test_one_stopped_counter_makes_the_whole_energy_unknown(tmp_path, runner):
    fake_sys.rapl(tmp_path, "intel-rapl:0", "package-0", 5)
    stopped = fake_sys.rapl(tmp_path, "intel-rapl:1", "package-1", 5)
    meter = host.open(runner, sysfs_root=tmp_path).meter
    assert meter.read().energy_j == 0.0
    stopped.unlink()
    assert meter.read().energy_j is None


def test_the_monotonic_clock_sleeps_at_least_as_long_as_asked():
    clock = MonotonicClock()
    before_s = clock.now_s()
    clock.sleep(0.01)
    clock.sleep(-1.0)
    assert 0.01 <= clock.now_s() - before_s < 1.0
    assert abs(clock.now_s() - time.perf_counter()) < 1.0


def test_the_description_names_levels_and_policies(tmp_path):
    fake_sys.cpufreq(tmp_path)
    assert host.describe(tmp_path).clocks == "cpu 4 levels, 800 to 2000 MHz, on 2 policies"


def test_named_cpus_have_the_clock_of_their_own_cluster(tmp_path, runner):
    """On boards with large and small cores the fastest cluster's clock would be that of cores that do not work."""
    fake_sys.write(fake_sys.cpufreq(tmp_path, 1, (600_000, 1_400_000))[0] / "related_cpus", "0 1 2 3")
    fake_sys.write(fake_sys.cpufreq(tmp_path, 1, (800_000, 2_200_000), first=4)[0] / "related_cpus", "4 5")

    def levels(cpus):
        return [each.cpu_hz for each in host.open(runner, sysfs_root=tmp_path, cpus=cpus).actuator.available()]

    assert levels(()) == levels((4, 5)) == [8e8, 2.2e9]
    assert levels((0, 2)) == [6e8, 1.4e9]
    with pytest.raises(Refused, match=r"clusters with different clocks \(0,1,2,3; 4,5\)"):
        levels((3, 4))
