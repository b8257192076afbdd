from amble.core.point import Clocks
from amble.devices.facts import Readings


def test_a_reading_stands_for_what_was_asked_last_when_it_was_seen():
    readings = Readings()
    readings.note(Clocks(1.7e9), Clocks(1.9e9))
    readings.note(Clocks(1.7e9), Clocks(2.1e9))
    assert readings.asked(Clocks(1.7e9)) == Clocks(2.1e9)


def test_clocks_that_were_never_seen_stand_for_themselves():
    assert Readings().asked(Clocks(1e9)) == Clocks(1e9)


def test_old_readings_are_forgotten_and_recent_ones_kept():
    readings = Readings()
    for clock_hz in range(1, 1001):
        readings.note(Clocks(float(clock_hz)), Clocks(0.0))
        readings.note(Clocks(0.5), Clocks(7.0))
    assert readings.asked(Clocks(1.0)) == Clocks(1.0)
    assert readings.asked(Clocks(1000.0)) == Clocks(0.0)
    assert readings.asked(Clocks(0.5)) == Clocks(7.0)
