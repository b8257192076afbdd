"""Tests of the emulated card through the real nvidia-ml-py; ``test_emulated.py`` runs them in their own process."""

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import amble
from amble.core.errors import Refused
from amble.core.point import Clocks, OperatingPoint
from amble.core.ports import SteppedMeter
from amble.devices import emulated, lease
from amble.devices.emulated import Card
from amble.devices.nvml import Board
from amble.devices.simulated import chip
from amble.stages.measure import metering, platform

MAIN = "from amble.cli import main; main()"
PLACE = Path(os.environ["AMBLE_EMULATED_CARD"])


@pytest.fixture
def place():
    return emulated.make(Card("v100", slower=0), PLACE)


@pytest.fixture
def device(place, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    device = amble.open("nvml:0")
    yield device
    device.actuator.apply(Clocks())


@pytest.fixture(scope="module")
def graph():
    return amble.load("fashion-resnet")


def ask(**lies):
    with emulated.opened(PLACE) as state:
        for name, value in lies.items():
            setattr(state, name, value)


def true_energy_j():
    with emulated.opened(PLACE) as state:
        return state.energy_j


def latency_s(device, graph, clocks):
    return device.runner.profile(graph, OperatingPoint(clocks), 5).whole.latency_s


def test_a_card_is_not_the_chip_that_is_known():
    known, true = chip.load("a100"), Card("a100", seed=7).true_chip()
    ratios = [true.power.leak_w / known.power.leak_w, true.memory.latency_s / known.memory.latency_s]
    assert all(0.85 <= ratio <= 1.15 and ratio != 1.0 for ratio in ratios)
    assert true.core_mhz == known.core_mhz
    assert Card("a100", seed=8).true_chip() != true


def test_work_feels_a_clock_only_after_it_settled_whatever_is_read_back(device, graph):
    low, high = device.actuator.available()[0], device.actuator.available()[-1]
    with device.held(high):
        fast_s = latency_s(device, graph, high)
        device.actuator.apply(low)
        assert device.actuator.current() == low
        started_s = device.clock.now_s()
        device.runner.run(graph, OperatingPoint(low), {})
        assert device.clock.now_s() - started_s < 1.3 * fast_s
        assert platform.felt(device, lambda: device.runner.run(graph, OperatingPoint(low), {}))
        started_s = device.clock.now_s()
        device.runner.run(graph, OperatingPoint(low), {})
        assert device.clock.now_s() - started_s > 2 * fast_s


def test_changes_are_timed_until_work_feels_them_not_until_they_are_read_back(device, graph):
    settle_s = emulated.read(PLACE).true_chip().switching["core"].settle_s
    profile = amble.with_transitions(amble.measure(graph, device, points=3), graph, device, repeats=5)
    down, up = profile.transitions
    assert (down.from_hz, down.to_hz, up.to_hz) == (1380e6, 405e6, 1380e6)
    for change in (down, up):
        assert 0.6 * settle_s < change.settle_s < 1.05 * settle_s
        assert change.readback_s < 0.6 * settle_s
        assert change.call_s == pytest.approx(0.4 * settle_s, rel=0.05)
    assert profile.switches[0].settle_s == max(down.settle_s, up.settle_s)
    assert "felt by work" in str(amble.show(profile)[-1])


def test_without_a_lock_the_clock_rises_under_load_and_sinks_at_rest(device, graph):
    for _ in range(200):
        device.runner.run(graph, OperatingPoint(), {})
    assert Board(0).core_hz() == 1380e6
    device.clock.sleep(0.5)
    assert Board(0).core_hz() == 405e6


def test_the_counter_moves_in_its_period(place, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    for period_s in (0.001, 0.010, 0.100):
        emulated.make(Card("v100", slower=0, counter_s=period_s), PLACE)
        meter = amble.open("nvml:0").meter
        assert isinstance(meter, SteppedMeter)
        assert meter.period_s() == pytest.approx(period_s, rel=0.25)


@pytest.mark.parametrize("period_s", [0.001, 0.010, 0.100])
def test_windows_find_the_energy_of_a_run_whatever_the_counters_period(tmp_path, monkeypatch, graph, period_s):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    emulated.make(Card("v100", seed=3, slower=0, counter_s=period_s), PLACE)
    device = amble.open("nvml:0")
    high = device.actuator.available()[-1]
    with device.held(high):
        run = lambda: device.runner.run(graph, OperatingPoint(high), {})  # noqa: E731
        platform.felt(device, run)
        window = metering.measured(device, run, 3e-4)
        before_j = true_energy_j()
        for _ in range(200):
            run()
        assert window.energy_j == pytest.approx((true_energy_j() - before_j) / 200, rel=0.02)
    device.actuator.apply(Clocks())


@pytest.mark.parametrize(
    ("lie", "why"),
    [
        ({"stalled": 1}, "stands still"),
        ({"jump_mj": 5e6}, "jumped"),
        ({"wrap_mj": 1.0}, "went back"),
        ({"lost": 1}, "does not answer"),
    ],
)
def test_a_counter_that_lies_makes_energy_unknown_for_good(device, graph, lie, why):
    device.clock.sleep(1.0)
    assert device.meter.read().energy_j is not None
    device.clock.sleep(1.0)
    assert device.meter.read().energy_j is not None
    ask(**lie)
    device.meter.read()
    device.clock.sleep(1.5)
    assert device.meter.read().energy_j is None
    ask(**dict.fromkeys(lie, 0))
    assert device.meter.read().energy_j is None
    assert why in device.meter.why


def test_a_counter_that_power_contradicts_is_not_believed(device, graph):
    high = device.actuator.available()[-1]
    run = lambda: device.runner.run(graph, OperatingPoint(high), {})  # noqa: E731
    ticks = iter(range(10**9))

    def work():
        run()
        ask(jump_mj=30.0 * next(ticks))  # another 30 mJ a run: too little for a jump, too much for the power

    with device.held(high):
        window = metering.measured(device, work, 3e-4)
    assert window.energy_j is None
    assert "one of them is wrong" in window.why


def test_half_a_lock_is_slower_than_asked_and_the_memory_clock_stays(tmp_path, monkeypatch, graph):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    emulated.make(Card("jetson-tx2", slower=0), PLACE)
    device = amble.open("nvml:0")
    low, high = device.actuator.available()[0], device.actuator.available()[-1]
    with device.held(low):
        device.clock.sleep(0.1)
        honest_s = latency_s(device, graph, low)
        ask(half=1)
        device.clock.sleep(0.1)
        assert latency_s(device, graph, low) < 0.8 * honest_s
        assert device.actuator.current() == low
    assert high.memory_hz is not None
    ask(half=0)
    device.actuator.apply(Clocks())


def test_a_drifting_clock_is_noted_as_asked_and_not_held(device, graph):
    ask(drift_mhz_per_s=100.0)
    device.clock.sleep(0.1)
    profile = amble.measure(graph, device, points=3)
    assert any("was asked for" in note and "ran" in note for note in profile.notes)
    assert any(total.ran_at != total.point.clocks for total in profile.totals)


def test_a_device_that_drifts_while_it_is_measured_is_told_at_the_end(device, graph):
    seen = []

    def limit(done, total):
        seen.append(done)
        if len(seen) == 2:
            ask(limit_mw=60_000)

    profile = amble.measure(graph, device, points=3, on_progress=limit)
    assert "the device drifted while it was measured" in profile.notes[-1]
    ask(limit_mw=250_000)
    assert not any("drifted" in note for note in amble.measure(graph, device, points=3).notes)


def test_the_power_limit_takes_clocks_from_work_and_says_so(device, graph):
    high = device.actuator.available()[-1]
    with device.held(high):
        free_s = latency_s(device, graph, high)
        ask(limit_mw=60_000)
        timings = device.runner.profile(graph, OperatingPoint(high), 5)
        assert timings.throttled
        assert timings.ran_at.core_hz < high.core_hz
        assert timings.whole.latency_s > 1.1 * free_s


def test_a_limit_that_takes_clocks_is_recorded_and_learnt(device, graph):
    ask(limit_mw=90_000)
    profile = amble.measure(graph, device)
    assert any(total.throttled and total.ran_at.core_hz < total.point.clocks.core_hz for total in profile.totals)
    assert any("power cap took clocks from this work" in note for note in profile.notes)
    costs = amble.fit(profile)
    predicted_s = costs.arrays().latency_s.sum(axis=0)
    for at in (60, 100, 130):
        with device.held(costs.points[at].clocks):
            device.clock.sleep(0.05)
            assert predicted_s[at] == pytest.approx(latency_s(device, graph, costs.points[at].clocks), rel=0.04)


def test_heat_takes_clocks_too(device, graph):
    ask(throttle_c=31.0, resume_c=30.5, time_constant_s=0.05)
    high = device.actuator.available()[-1]
    with device.held(high):
        for _ in range(3000):
            device.runner.run(graph, OperatingPoint(high), {})
        assert "heat (software)" in Board(0).throttled()
        assert device.actuator.current().core_hz < high.core_hz


def test_a_lost_card_is_refused_in_words(device):
    ask(lost=1)
    with pytest.raises(Refused, match="GPU is lost"):
        device.actuator.apply(device.actuator.available()[0])
    ask(lost=0)


def findings(**options):
    return {each.what: each for each in amble.examine("nvml:0", **options)}


def test_the_doctor_finds_a_card_in_order(device):
    found = findings(period_s=0.005)
    assert {name: each.verdict for name, each in found.items()} == {
        "rights": "good" if os.geteuid() == 0 else "poor",
        "core clock": "good",
        "memory clock": "good",
        "governor": "good",
        "asked and held": "good",
        "throttling": "good",
        "noise": "good",
        "meter": "good",
    }
    assert "moves every 10" in found["meter"].says
    assert lock_mhz() == 0


@pytest.mark.parametrize(
    ("lie", "what", "verdict", "says"),
    [
        ({"core_lock": 600}, "core clock", "bad", "somebody left it locked"),
        ({"half": 1}, "asked and held", "bad", "work does not take the time of these clocks"),
        ({"drift_mhz_per_s": 100.0}, "asked and held", "bad", "asked 1380, ran"),
        ({"limit_mw": 60_000}, "throttling", "poor", "power cap takes clocks"),
        ({"stalled": 1}, "meter", "bad", "its counter does not move"),
        ({"refused": b"nvmlDeviceSetGpuLockedClocks=4"}, "asked and held", "bad", "needs root"),
    ],
)
def test_the_doctor_finds_what_is_wrong(device, lie, what, verdict, says):
    device.clock.sleep(1.0)
    ask(**lie)
    found = findings()[what]
    assert found.verdict == verdict
    assert says in found.says
    assert found.remedy


def test_the_doctor_tells_what_a_napping_governor_costs_at_a_period(device):
    found = findings(period_s=0.5)["governor"]
    assert found.verdict == "poor"
    assert "it naps" in found.says


def test_the_doctor_ends_with_1_when_something_is_bad(place, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    ask(core_lock=600)
    done = amble_("devices", "--check", "nvml:0")
    assert done.returncode == 1
    assert "amble restore" in done.stdout
    with pytest.raises(Refused, match="there is no GPU 7 here"):
        amble.examine("nvml:7")


def test_outputs_are_computed_for_real(device, graph):
    examples = amble.inputs.labelled("bundled", graph)
    right = [examples.judge(i, device.runner.run(graph, OperatingPoint(), examples.request(i))) for i in range(20)]
    assert sum(right) >= 16


def test_a_card_that_is_lost_in_a_plan_is_an_error_and_no_number(device, graph):
    ask(lost_after=3)
    with pytest.raises(Refused, match="GPU is lost"):
        amble.measure(graph, device)
    ask(lost=0, lost_after=0)


def amble_(*words, **options):
    command = [sys.executable, "-c", MAIN, *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=dict(os.environ), **options)


def test_from_a_network_to_clocks_that_are_put_back(tmp_path, monkeypatch):
    """Plan and check by the command line on a card whose time is the wall's, slower; then kill it in the middle."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("AMBLE_CACHE", str(tmp_path / "cache"))
    emulated.make(Card("v100", seed=5, slower=4, counter_s=0.001), PLACE)
    plan = tmp_path / "plan.json"
    planned = amble_("plan", "fashion-resnet", "--device", "nvml:0", "--deadline", "2ms", "-o", str(plan))
    assert planned.returncode == 0, planned.stderr
    assert "emulated: Emulated v100, card 5, 4 times slower" in planned.stdout
    checked = amble_("check", str(plan), "--device", "nvml:0", "--load", "periodic:3ms:60")
    assert checked.returncode in (0, 1), checked.stderr
    assert "energy" in checked.stdout
    command = [sys.executable, "-c", MAIN, "check", str(plan), "--device", "nvml:0", "--load", "periodic:3ms:90000"]
    with started(command):
        wait_for(lambda: lock_mhz() > 0)
    killed_s = time.monotonic()
    wait_for(lambda: lock_mhz() == 0 and not lease.leases())
    assert time.monotonic() - killed_s < 10


def lock_mhz():
    with emulated.opened(PLACE) as state:
        return state.core_lock


@contextlib.contextmanager
def started(command):
    """A process that is killed at the end, also where what it is waited for never comes."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def wait_for(what, most_s=120.0):
    until_s = time.monotonic() + most_s
    while not what():
        assert time.monotonic() < until_s
        time.sleep(0.01)


def test_through_a_guard_clocks_are_held_and_put_back_when_the_client_is_killed(tmp_path, monkeypatch):
    emulated.make(Card("v100", slower=1), PLACE)
    (tmp_path / "guard.yaml").write_text(
        f"allow: [{{device: 'nvml:0', users: [{os.geteuid()}], core_mhz: [600, 900]}}]"
    )
    monkeypatch.setenv("AMBLE_GUARD", str(tmp_path / "sock"))
    words = ["guard", "--socket", str(tmp_path / "sock"), "--allow", str(tmp_path / "guard.yaml")]
    command = [sys.executable, "-c", MAIN, *words, "--state", str(tmp_path / "state")]
    holding = (
        "import amble, time; d = amble.open('nvml:0'); d.actuator.apply(d.actuator.available()[0]); time.sleep(60)"
    )
    with started(command):
        wait_for((tmp_path / "sock").exists)
        with started([sys.executable, "-c", holding]):
            wait_for(lambda: lock_mhz() == 600)
        wait_for(lambda: lock_mhz() == 0, 5.0)
