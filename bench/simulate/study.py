"""How fast the simulated device simulates: operators per second, at one point and in schedules of segments."""

from __future__ import annotations

import time
from collections.abc import Callable

from bench.kit import document

document.on_one_core()

from amble.core.graph import Gemm, Graph, Operator  # noqa: E402
from amble.core.point import OperatingPoint  # noqa: E402
from amble.core.ports import Device  # noqa: E402
from amble.devices import simulated  # noqa: E402

_CHIP = "jetson-tx2"
_WANT = ">= 200000"


def _graph(num_operators: int) -> Graph:
    """A chain of 3 x 3 convolutions, 1 x 1 convolutions and additions, as in a residual network."""
    pixels, channels = 14 * 14, 256
    size = 4.0 * pixels * channels
    operators = []
    for index in range(num_operators):
        window = (9, 1, 0)[index % 3]
        product = Gemm(pixels, channels, channels * window) if window else None
        flops = 2.0 * pixels * channels * channels * window or pixels * channels
        weights = 4.0 * channels * channels * window
        kind = "Conv" if window else "Add"
        operators.append(Operator(f"op{index}", kind, flops, size + weights, size, weights, gemm=product))
    return Graph(f"chain{num_operators}", tuple(operators), 1, f"chain{num_operators}")


def _rate(device: Device, call: Callable[[], None], num_operators: int, least_s: float) -> tuple[int, float]:
    """Call until ``least_s`` have passed; return the operators run and the host's seconds."""
    call()
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < least_s:
        for _ in range(10):
            call()
        count += 10
    return count * num_operators, time.perf_counter() - start


def _schedule(device: Device, graph: Graph, segments: int) -> Callable[[], None]:
    settings = device.actuator.available()
    pair = settings[-1], settings[-len(settings) // 4]
    size = -(-len(graph.operators) // segments)
    parts = [graph.segment(start, min(start + size, len(graph.operators))) for start in range(0, size * segments, size)]

    def run() -> None:
        for index, part in enumerate(parts):
            if segments > 1:
                device.actuator.apply(pair[index % 2])
            device.runner.run(part, OperatingPoint(device.actuator.current()), {})
        device.clock.sleep(0.005)

    return run


def main() -> None:
    """Time whole graphs and schedules, with and without a governor."""
    options = document.options("simulate", __doc__)
    least_s = 0.3 if options.quick else 2.0
    results: list[dict[str, object]] = []
    targets = []
    for num_operators, segments, governor in (
        (60, 1, "performance"),
        (60, 5, "performance"),
        (150, 1, "performance"),
        (150, 10, "performance"),
        (60, 1, "schedutil"),
        (60, 1, "simple_ondemand"),
        (60, 1, "sysscale"),
    ):
        device = simulated.open(_CHIP, seed=1, governor=governor)
        graph = _graph(num_operators)
        done, spent_s = _rate(device, _schedule(device, graph, segments), num_operators, least_s)
        rate = done / spent_s
        results.append(
            {
                "chip": _CHIP,
                "operators": num_operators,
                "segments": segments,
                "governor": governor,
                "operators_per_s": rate,
                "simulated_over_real_time": device.clock.now_s() / spent_s,
            }
        )
        if governor == "performance":
            name = f"executions per second, {num_operators} operators in {segments} segments"
            targets.append(document.target(name, want=_WANT, value=rate, unit="1/s"))
    document.finish(options, results, targets)
