"""Work with and without a meter beside it, in turn -> what metering adds to the work's own processor time.

The work is real: the bundled network on this machine's CPU. The meters read as they do beside it: a counter before and
after a few runs, the sensors of a board from a thread of their own. Drivers are stood for by files, and by the emulated
card's library: what a kernel adds to a read of its own is not in here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import amble
from amble.core.point import OperatingPoint
from amble.devices import emulated, host, rails
from amble.devices.emulated import Card
from amble.devices.nvml import Board, NvmlMeter

__all__ = ["costs"]

_RUNS = 5  # between two readings: what profiles take
_LONG = 40  # runs beside a thread that looks every 20 ms
_RAILS = {"VDD_IN": (5000, 900), "VDD_CPU_GPU_CV": (5000, 400), "VDD_SOC": (5000, 200)}


def costs(place: Path, card: Path, pairs: int) -> list[dict[str, object]]:
    """Meter in ``pairs`` of blocks, with and without -> the share that each meter adds to the work."""
    device, graph = amble.open("host"), amble.load("fashion-resnet")
    point = OperatingPoint(precision=graph.precision)

    def work() -> None:
        device.runner.run(graph, point, {})

    for _ in range(50):
        work()
    emulated.make(Card("v100", 1, 1.0), card)
    counter = NvmlMeter(Board(0), device.clock)
    energy = _rapl(place)
    package = host.RaplMeter(device.clock, host.zones(place))
    _board(place)
    board = rails.whole(rails.rails(place))

    def drawn() -> None:
        energy.write_text(f"{int(energy.read_text()) + 100_000}\n")

    def looked_at_card() -> None:
        counter.read()
        counter.power_w()

    found = {
        "NVML counter and power": _ratio(_between(work, looked_at_card), lambda: _repeat(work, _RUNS), pairs),
        "RAPL counter": _ratio(_between(work, package.read), lambda: _repeat(work, _RUNS), pairs, before=drawn),
        "INA rail, a thread every 20 ms": _ratio(
            lambda: _beside(work, board), lambda: _repeat(work, _LONG), pairs // 8 + 1
        ),
    }
    return [{"what": "metering", "meter": name, "more": more} for name, more in found.items()]


def _between(work: Callable[[], None], read: Callable[[], object]) -> Callable[[], None]:
    """Return some runs between two readings."""

    def metered() -> None:
        read()
        _repeat(work, _RUNS)
        read()

    return metered


def _beside(work: Callable[[], None], board: tuple[rails.Rail, ...]) -> None:
    meter = rails.RailMeter(host.MonotonicClock(), board)
    meter.read()
    _repeat(work, _LONG)
    meter.read()
    meter.close()


def _ratio(
    metered: Callable[[], None], plain: Callable[[], None], pairs: int, before: Callable[[], None] = lambda: None
) -> float:
    """Return by how much blocks with a meter take longer than those without, each first in turn, in the median."""
    ratios = np.empty(pairs)
    for index in range(pairs):
        before()
        order = (metered, plain) if index % 2 else (plain, metered)
        taken_s = {each: _taken_s(each) for each in order}
        ratios[index] = taken_s[metered] / taken_s[plain]
    return float(np.median(ratios)) - 1.0


def _taken_s(block: Callable[[], None]) -> float:
    """Return the processor time of this process [s], threads that meter included."""
    begin_s = time.process_time()
    block()
    return time.process_time() - begin_s


def _repeat(work: Callable[[], None], runs: int) -> None:
    for _ in range(runs):
        work()


def _rapl(place: Path) -> Path:
    """Make the files of one package -> its counter."""
    zone = place / "sys/class/powercap/intel-rapl:0"
    zone.mkdir(parents=True, exist_ok=True)
    for name, text in (("name", "package-0"), ("max_energy_range_uj", "262143328850"), ("energy_uj", "1000000")):
        (zone / name).write_text(f"{text}\n")
    return zone / "energy_uj"


def _board(place: Path) -> None:
    """Make the files of an INA3221 with three rails."""
    sensor = place / "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1"
    sensor.mkdir(parents=True, exist_ok=True)
    for number, (name, (voltage_mv, current_ma)) in enumerate(_RAILS.items(), start=1):
        (sensor / f"in{number}_label").write_text(f"{name}\n")
        (sensor / f"in{number}_input").write_text(f"{voltage_mv}\n")
        (sensor / f"curr{number}_input").write_text(f"{current_ma}\n")
