import pytest

from amble.core.errors import Refused
from amble.core.point import Clocks
from amble.devices import sysfs
from amble.devices.host import MonotonicClock, Unmetered
from tests.devices import fake_sys


def opened(root, runner, **options):
    clock = MonotonicClock()
    return sysfs.open(runner, clock, Unmetered(clock), root=root, **options)


def test_the_gpu_is_found_by_its_render_node_whatever_its_name(tmp_path, runner):
    fake_sys.devfreq(tmp_path, "38000000.memory-controller", (1, 2))
    (fake_sys.devfreq(tmp_path, "ff9a0000.xyz") / "device/drm").mkdir(parents=True)
    available = opened(tmp_path, runner).actuator.available()
    assert available == tuple(Clocks(core_hz=float(level)) for level in fake_sys.GPU_LEVELS_HZ)


@pytest.mark.parametrize("offer", ["device/load", "device/of_node/compatible", "device/uevent"])
def test_the_gpu_is_found_by_what_its_device_offers(tmp_path, runner, offer):
    fake_sys.devfreq(tmp_path, "dmc", (1, 2))
    fake_sys.write(fake_sys.devfreq(tmp_path, "17000000.node") / offer, "nvidia,ga10b")
    assert len(opened(tmp_path, runner).actuator.available()) == 3


def test_a_node_can_be_named(tmp_path, runner):
    fake_sys.devfreq(tmp_path, "dmc", (5, 7))
    device = opened(tmp_path, runner, node="dmc")
    assert device.name == "sysfs:dmc"
    assert device.actuator.available() == (Clocks(core_hz=5.0), Clocks(core_hz=7.0))


def test_a_node_that_is_not_there_is_refused_with_those_that_are(tmp_path, runner):
    fake_sys.devfreq(tmp_path, "dmc")
    with pytest.raises(Refused, match=r"no devfreq node for 'gpu'.*there: dmc"):
        opened(tmp_path, runner)


def test_unlike_nodes_that_could_all_be_the_gpu_are_refused(tmp_path, runner):
    fake_sys.devfreq(tmp_path, "gpu-one", (1, 2))
    fake_sys.devfreq(tmp_path, "gpu-two", (1, 3))
    with pytest.raises(Refused, match="several devfreq nodes"):
        opened(tmp_path, runner)


def test_alike_clusters_of_a_gpu_are_held_together(tmp_path, runner):
    folders = [fake_sys.devfreq(tmp_path, f"gpu-gpc-{number}") for number in range(2)]
    opened(tmp_path, runner).actuator.apply(Clocks(core_hz=624_750_000.0))
    assert [fake_sys.bounds(folder) for folder in folders] == [("624750000", "624750000")] * 2


def test_a_node_without_bounds_is_no_clock(tmp_path):
    folder = fake_sys.devfreq(tmp_path, "gpu")
    (folder / "min_freq").unlink()
    assert sysfs.describe(tmp_path) == ()


def test_a_jetson_has_its_memory_clock_too_and_gets_it_back(tmp_path, runner):
    gpu, emc = fake_sys.devfreq(tmp_path, "17000000.ga10b"), fake_sys.emc(tmp_path)
    device = opened(tmp_path, runner)
    assert len(device.actuator.available()) == 9
    with device.held(Clocks(core_hz=114_750_000.0, memory_hz=665_600_000.0)) as got:
        assert got == Clocks(core_hz=114_750_000.0, memory_hz=665_600_000.0)
        assert (emc / "mrq_rate_locked").read_text() == "1\n"
        assert (emc / "rate").read_text() == "665600000\n"
    assert (emc / "mrq_rate_locked").read_text() == "0\n"
    assert (emc / "rate").read_text() == "2133000000\n"
    assert fake_sys.bounds(gpu) == ("114750000", "1300500000")


def test_a_jetson_without_a_list_of_rates_has_its_two_ends(tmp_path, runner):
    fake_sys.devfreq(tmp_path, "gpu")
    emc = fake_sys.emc(tmp_path)
    (emc.parents[1] / "emc/possible_rates").unlink()
    fake_sys.write(emc / "min_rate", 1)
    fake_sys.write(emc / "max_rate", 2)
    assert {clocks.memory_hz for clocks in opened(tmp_path, runner).actuator.available()} == {1.0, 2.0}


def test_a_user_who_may_not_look_into_debugfs_has_the_gpu_clock_alone(open_folder, runner, lose_rights):
    fake_sys.devfreq(open_folder, "gpu")
    fake_sys.emc(open_folder)
    (open_folder / "sys/kernel/debug").chmod(0o700)
    assert len(opened(open_folder, runner).actuator.available()) == 9
    lose_rights()
    assert len(opened(open_folder, runner).actuator.available()) == 3


def test_a_rate_that_the_firmware_drops_is_refused_and_the_gpu_clock_undone(tmp_path, runner):
    gpu, emc = fake_sys.devfreq(tmp_path, "gpu"), fake_sys.emc(tmp_path)
    (emc / "rate").unlink()
    (emc / "rate").symlink_to("/dev/null")
    with pytest.raises(Refused, match="the firmware keeps"):
        opened(tmp_path, runner).actuator.apply(Clocks(core_hz=114_750_000.0, memory_hz=204_000_000.0))
    assert fake_sys.bounds(gpu) == ("114750000", "1300500000")
    assert (emc / "mrq_rate_locked").read_text() == "0\n"


def test_an_unknown_clock_is_refused_not_snapped(tmp_path, runner):
    gpu = fake_sys.devfreq(tmp_path, "gpu")
    with pytest.raises(Refused, match="is not one of this device's 3 settings"):
        opened(tmp_path, runner).actuator.apply(Clocks(core_hz=1.3e9))
    assert fake_sys.bounds(gpu) == ("114750000", "1300500000")


def test_the_description_counts_levels_and_names_missing_rights(open_folder, lose_rights):
    fake_sys.devfreq(open_folder, "gpu")
    fake_sys.emc(open_folder)
    (described,) = sysfs.describe(open_folder)
    assert described.name == "sysfs:gpu"
    assert described.clocks == "core 3 levels, 114.75 to 1300.5 MHz; memory 3 levels"
    assert described.missing == ()
    lose_rights()
    assert "is not writable" in sysfs.describe(open_folder)[0].missing[0]
