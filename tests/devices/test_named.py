"""URIs of real hardware → its clocks: which files they touch, and what they refuse."""

from pathlib import Path

import pytest

from amble import inputs
from amble.core.address import Address
from amble.core.errors import Refused
from amble.core.point import Clocks
from amble.devices.named import owned_by_name
from amble.services.guard.owning import owned
from tests.devices import fake_sys
from tests.devices.boards import BOARDS

EPP = "energy_performance_preference"


@pytest.fixture
def machine(tmp_path):
    """One with clocks, an energy preference, turbo and a limit."""
    for policy in fake_sys.cpufreq(tmp_path):
        fake_sys.write(policy / EPP, "balance_performance")
        fake_sys.write(policy / "energy_performance_available_preferences", "performance balance_performance power")
    fake_sys.write(tmp_path / "sys/devices/system/cpu/intel_pstate/no_turbo", 0)
    fake_sys.rapl_limit(tmp_path, "intel-rapl:0", "package-0", 100)
    return tmp_path


def named(root, scheme="host", **options):
    return owned_by_name(Address.parse(scheme).having(root=str(root), **options))


def contents(root):
    return {str(path): path.read_text() for path in sorted(root.rglob("*")) if path.is_file()}


def test_turbo_and_preference_hold_for_as_long_as_a_clock_is_held(machine):
    found, actuator = contents(machine), named(machine, turbo="off", preference="power")
    assert contents(machine) == found
    actuator.apply(actuator.available()[0])
    cpu = machine / "sys/devices/system/cpu"
    assert (cpu / "intel_pstate/no_turbo").read_text() == "1\n"
    assert (cpu / "cpufreq/policy1" / EPP).read_text() == "power\n"
    assert (str(cpu / "intel_pstate/no_turbo"), "0") in actuator.found().values
    actuator.apply(Clocks())
    assert contents(machine) == found


def test_boost_is_turbo_on_other_machines(machine):
    (machine / "sys/devices/system/cpu/intel_pstate/no_turbo").unlink()
    boost = fake_sys.write(machine / "sys/devices/system/cpu/cpufreq/boost", 1)
    actuator = named(machine, turbo="off")
    actuator.apply(actuator.available()[0])
    assert boost.read_text() == "0\n"
    actuator.apply(Clocks())
    assert boost.read_text() == "1\n"


def test_a_clock_that_cannot_be_held_leaves_turbo_as_it_was(machine):
    actuator = named(machine, turbo="off")
    bound = machine / "sys/devices/system/cpu/cpufreq/policy1/scaling_max_freq"
    bound.unlink()
    bound.symlink_to("/proc/version")
    with pytest.raises(Refused):
        actuator.apply(actuator.available()[0])
    assert (machine / "sys/devices/system/cpu/intel_pstate/no_turbo").read_text() == "0\n"


def test_the_limit_of_this_machine_is_a_knob_of_its_own(machine):
    actuator = named(machine, knobs="power", preference="power")
    assert [each.power_limit_w for each in actuator.available()][-1] == 100.0
    assert {each.cpu_hz for each in actuator.available()} == {None}


def test_the_gpu_of_a_board_has_its_cpu_beside_it_where_it_is_asked_for(tmp_path):
    BOARDS["jetson_tx2"](tmp_path)
    assert {each.cpu_hz for each in named(tmp_path, "sysfs:gpu").available()} == {None}
    assert None not in {each.cpu_hz for each in named(tmp_path, "sysfs:gpu", cpu="1").available()}


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"turbo": "maybe"}, "turbo=maybe is neither on nor off"),
        ({"preference": "eager"}, "not one of this CPU's: performance, balance_performance, power"),
        ({"knobs": "volume"}, "no knobs 'volume'"),
        ({"cpus": "3-1"}, "backwards"),
        ({"cpus": "a"}, "not a list of CPUs"),
    ],
)
def test_what_cannot_be_set_is_refused_by_name(machine, options, why):
    with pytest.raises(Refused, match=why):
        named(machine, **options)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"turbo": "off"}, "no turbo that can be set"),
        ({"preference": "power"}, "no energy preference"),
        ({"knobs": "power"}, "no RAPL limit"),
    ],
)
def test_a_machine_that_has_no_such_knob_says_so(tmp_path, options, why):
    fake_sys.cpufreq(tmp_path)
    with pytest.raises(Refused, match=why):
        named(tmp_path, **options)


def test_turbo_needs_a_clock_to_be_held_with(tmp_path):
    fake_sys.write(tmp_path / "sys/devices/system/cpu/cpufreq/boost", 1)
    with pytest.raises(Refused, match="no clock that turbo or preference could be held with"):
        named(tmp_path, turbo="off")


def test_a_simulated_chip_has_no_clocks_of_this_machine():
    with pytest.raises(Refused, match="no clocks of this machine; write nvml:0"):
        owned_by_name(Address.parse("sim:a100"))


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("host?knobs=", "the option knobs= is empty"),
        ("host?provider=&threads=2", "the option provider= is empty"),
        ("nvml:0?meter=", "the option meter= is empty"),
        ("sysfs:gpu?cpu=1&rails=", "the option rails= is empty"),
        ("sim:v100?seed=", "the option seed= is empty"),
        ("ssh:a@b/host?python=", "the option python= is empty"),
        ("host?threads=1&threads=2", "the option threads= is given twice"),
    ],
)
def test_options_without_a_value_are_refused_by_name_at_every_door(uri, says):
    with pytest.raises(Refused, match=says):
        inputs.open(uri)
    with pytest.raises(Refused, match=says):
        inputs.open_for_serving(uri)
    with pytest.raises(Refused, match=says):
        owned(uri, Path("nowhere"))
