"""A governed server of virtual time: on time, cheaper, and as found whatever happens."""

import random
from dataclasses import replace

import numpy as np
import pytest

from amble.core import files
from amble.core.errors import Refused
from amble.core.log import FORMAT
from amble.core.point import Clocks
from amble.services.govern.hands import Hands, rungs
from amble.services.govern.head import AS_FOUND
from amble.services.govern.objective import Objective
from amble.services.govern.opening import NoRunner
from amble.services.govern.rehearsal import device_of
from amble.services.govern.watching import Told, replayed
from bench.govern.faults import Faults
from tests.services.govern.rehearsing import OBJECTIVES, SETTINGS, a_server, governed, poisson


def late(server):
    return server.tallies["latency"].late / server.tallies["latency"].total


def test_a_light_load_is_served_on_time_with_less_energy():
    fastest, server = a_server(), a_server()
    fastest.sleep(300.0)
    governed(server, 300.0, control=0.0)
    assert late(fastest) == 0.0
    assert late(server) <= 0.001
    assert server.read().energy_j < 0.75 * fastest.read().energy_j


def test_the_log_replays_to_the_same_choices_and_can_be_saved_and_read(tmp_path):
    log, head = governed(a_server(duration_s=200.0), 200.0, control=0.2, path=tmp_path / "log.json")
    assert replayed(head, log) == [each.decided for each in log.periods]
    assert len(set(replayed(head, log))) > 3
    assert files.load(tmp_path / "log.json", FORMAT) == log


def test_what_is_found_is_put_back_at_the_end_and_after_an_error_of_ours():
    server = a_server()
    governed(server, 60.0, control=0.0)
    server.sleep(0.1)
    assert server.current() == SETTINGS[0]

    server = a_server()

    def fail(told):
        if told.period.start_s > 40.0:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        governed(server, 60.0, control=0.0, on_period=fail)
    server.sleep(0.1)
    assert server.current() == SETTINGS[0]


def test_a_burst_makes_it_ask_for_the_highest_setting_within_two_periods():
    quiet = poisson(5.0, 120.0)
    burst = 120.0 + poisson(60.0, 20.0, 1)
    times_s = np.sort(np.concatenate([quiet[quiet < 120.0], burst[burst < 140.0]]))
    log, _ = governed(a_server(times_s=times_s), 140.0, control=0.0)
    before = next(each for each in log.periods if each.finish_s > 119.0)
    after = [each for each in log.periods if each.start_s >= 120.0]
    assert before.decided > 0
    assert 0 in [each.decided for each in after[:2]]


def test_an_idle_server_is_parked_and_woken_by_its_first_request():
    few = poisson(20.0, 60.0)
    times_s = np.concatenate([few[few < 3.0], [100.02]])  # before it has found the slowest that keeps the objective
    log, _ = governed(a_server(times_s=times_s), 105.0, control=0.0)
    parked = [each for each in log.periods if 80.0 < each.start_s < 99.0]
    assert {each.asked for each in parked} == {SETTINGS[-1]}
    woken = [each for each in log.periods if each.finish_s > 100.02]
    assert woken[0].decided < len(SETTINGS) - 1, "at the first look after the request"
    assert woken[0].finish_s - 100.02 < 0.2


def test_in_blocks_by_lot_the_clocks_are_as_found():
    log, _ = governed(a_server(duration_s=800.0), 800.0, control=0.25)
    control = [each for each in log.periods if each.control]
    assert all(each.got == SETTINGS[0] for each in control[2:] if each.asked == Clocks())
    share = sum(each.span_s for each in control) / 800.0
    assert 0.12 < share < 0.4


def test_an_objective_missed_at_the_fastest_setting_is_said_and_nothing_is_slowed():
    objectives = (Objective.parse("latency p99 < 14ms"),)
    told: list[Told] = []
    log, _ = governed(a_server(rate_hz=60.0), 120.0, objectives=objectives, control=0.0, on_period=told.append)
    assert {each.decided for each in log.periods[30:]} == {0}
    assert "is missed at the fastest setting" in told[-1].choice.reason


def test_watching_changes_nothing():
    server = a_server()
    log, _ = governed(server, 60.0, acts=False)
    assert server.changes == 0
    assert {each.asked for each in log.periods} == {Clocks()}


def test_faults_leave_the_clocks_as_found_within_two_periods():
    """Some fifty, of every kind."""
    injected, wrong = 0, []
    for seed in range(2):
        server = a_server(rate_hz=20.0, duration_s=600.0, seed=seed)
        faults = Faults(server, random.Random(seed))
        device = replace(device_of(server, NoRunner()), actuator=faults)
        governed(server, 600.0, fetch=faults.page, control=0.0, on_period=faults.looked, device=device)
        injected += faults.count
        wrong += faults.wrong
    assert wrong == []
    assert injected >= 30


def test_a_card_that_refuses_is_let_go_and_left_alone_after_the_third_time():
    server = a_server()
    device = replace(device_of(server, NoRunner()), actuator=Refusing(server))
    log, _ = governed(server, 120.0, control=0.0, device=device)
    notes = [each.note for each in log.periods if "not now" in each.note]
    assert len(notes) == 3
    assert {each.asked for each in log.periods[-20:]} == {Clocks()}
    assert server.current() == SETTINGS[0]


class Refusing:
    """An actuator that refuses slow clocks."""

    def __init__(self, server):
        self._server = server
        self.available, self.current = server.available, server.current

    def apply(self, clocks):
        if clocks in SETTINGS[2:]:
            raise Refused("not now")
        self._server.apply(clocks)


class Stubborn:
    """An actuator that accepts a clock and runs another one, as a hot card does."""

    def __init__(self, server):
        self._server = server

    def available(self):
        return self._server.available()

    def current(self):
        return SETTINGS[2] if self._server.now_s() > 40.0 else self._server.current()

    def apply(self, clocks):
        self._server.apply(clocks)


def test_clocks_that_are_not_kept_are_let_go_and_said():
    server = a_server()
    device = replace(device_of(server, NoRunner()), actuator=Stubborn(server))
    log, _ = governed(server, 120.0, control=0.0, device=device)
    assert any("but core 800 MHz runs" in each.note for each in log.periods)
    assert log.periods[-1].asked == Clocks()


def test_a_full_disk_puts_the_clocks_back(tmp_path):
    folder = tmp_path / "not a folder"
    folder.write_text("")
    server = a_server()
    log, _ = governed(server, 100.0, control=0.0, path=folder / "log.json", every_s=50.0)
    assert {each.asked for each in log.periods if each.start_s > 52.0} == {Clocks()}
    assert {each.asked for each in log.periods if 30.0 < each.start_s < 50.0} != {Clocks()}
    assert all("not a folder" in each.note for each in log.periods if each.start_s > 52.0), "and it is said"


def test_rungs_are_fastest_first_with_both_ends():
    many = tuple(Clocks(core_hz=float(hz), memory_hz=memory) for hz in range(200, 1400, 10) for memory in (1.0, 2.0))
    chosen = rungs(sorted(many, key=lambda each: (each.core_hz, each.memory_hz)))
    assert len(chosen) == 12
    assert chosen[0] == Clocks(core_hz=1390.0, memory_hz=2.0)
    assert chosen[-1] == Clocks(core_hz=200.0, memory_hz=2.0)
    with pytest.raises(Refused, match="--watch"):
        rungs((Clocks(),))


def test_as_found_is_no_setting():
    assert AS_FOUND not in range(len(SETTINGS))
    assert OBJECTIVES[0].allowed == pytest.approx(0.01)


class SlowToTake:
    """An actuator whose first change takes 2 s, as a lease does that starts its watchdog; the others 10 ms."""

    def __init__(self, server):
        self._server = server
        self.taken = False

    def available(self):
        return SETTINGS[::-1]

    def current(self):
        return self._server.current()

    def apply(self, clocks):
        self._server.sleep(0.01 if self.taken else 2.0)
        self.taken = True
        self._server.apply(clocks)


def test_what_a_change_takes_is_told_without_what_the_first_one_takes():
    server = a_server()
    hands = Hands([replace(device_of(server, NoRunner()), actuator=SlowToTake(server))], SETTINGS)
    assert hands.tried(server) == pytest.approx(0.01, abs=0.001)
    assert hands.asked == Clocks()


def test_clocks_put_back_because_amble_was_late_itself_are_asked_for_again():
    server, lapses = a_server(), list[float]()

    def stall(told):
        if len(lapses) < 5 and told.period.start_s > 30.0 + 10.0 * len(lapses):
            lapses.append(told.period.finish_s)
            server.apply(SETTINGS[0])

    log, _ = governed(server, 150.0, control=0.0, on_period=stall, lapsed=lambda: bool(lapses))
    assert len(lapses) == 5, "more often than hands forgive a device that does not keep its clocks"
    assert sum("late itself" in each.note for each in log.periods) == 5
    assert log.periods[-2].asked not in (Clocks(), SETTINGS[0])
