"""Run by the Python of `.venv-peer-openvino`: networks by ONNX Runtime's CPU kernels and by OpenVINO -> JSON lines.

.venv-peer-openvino/bin/python bench/hardware/here.py chosen|operators FILE.onnx
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from amble.core.graph import Graph
from amble.core.point import OperatingPoint
from amble.core.ports import FloatArray
from amble.runtimes import onnx
from amble.runtimes.onnx.choosing import compared
from amble.runtimes.onnx.dissecting import settle
from amble.runtimes.onnx.execution import Execution, now_s_of

ROUNDS, REPEATS, SEGMENTS, SEGMENT_RUNS, PROFILES = 25, 40, 8, 15, 3


def chosen(path: Path, ways: dict[str, Execution]) -> dict[str, object]:
    """Let amble choose; then compare anew, in more rounds."""
    found = onnx.quickest(path, list(ways.values()))
    times_s = np.median(compared(path, list(ways.values()), num_rounds=ROUNDS), axis=0)
    at = list(ways.values()).index(found)
    told = {f"{name}_ms": 1e3 * float(time_s) for name, time_s in zip(ways, times_s, strict=True)}
    return {"what": "chosen", "chosen": found.provider.name, "regret": float(times_s[at] / times_s.min() - 1), **told}


def apart(path: Path, way: Execution) -> dict[str, object]:
    """Operators' times: how far their sum is from the whole, and predictions of segments from measured ones."""
    graph, runner = onnx.load(path, execution=way), onnx.OnnxRunner(way)
    record: dict[str, object] = {"what": "operators", "provider": way.provider.name, "operators": len(graph.operators)}
    sums_off, operators_s = list[float](), list[FloatArray]()
    for _ in range(PROFILES):
        before_s = taken_s(runner, graph)
        timings = runner.profile(graph, OperatingPoint(precision=graph.precision), REPEATS)
        said = next((note for note in timings.notes if "off the whole run" in note), "")
        if said:
            numbers = [float(word.strip("%,").rstrip("%")) for word in said.split() if word.rstrip(",").endswith("%")]
            return record | {"sum_off": numbers[0] / 100, "segments_off": numbers[1] / 100, "segments": SEGMENTS}
        operators_s.append(np.array([each.latency_s for each in timings.operators]))
        sums_off.append(2 * float(operators_s[-1].sum()) / (before_s + taken_s(runner, graph)) - 1)
    errors = segment_errors(graph, runner, np.median(operators_s, axis=0))
    return record | {
        "sum_off": float(np.median(sums_off)),
        "sums_off": sums_off,
        "segments_off": float(np.median(np.abs(errors))),
        "segments": len(errors),
    }


def segment_errors(graph: Graph, runner: onnx.OnnxRunner, operators_s: FloatArray) -> FloatArray:
    """Predictions over measured times of random segments, less 1 [segment]."""
    rng, count, errors = np.random.default_rng(0), len(graph.operators), []
    for _ in range(SEGMENTS):
        length = int(rng.integers(max(2, count // 8), max(3, 3 * count // 4) + 1))
        start = int(rng.integers(0, max(1, count - length + 1)))
        part = graph.segment(start, min(count, start + length))
        errors.append(float(operators_s[start : start + length].sum()) / taken_s(runner, part) - 1)
    return np.array(errors)


def taken_s(runner: onnx.OnnxRunner, graph: Graph) -> float:
    """Time of a network or of a segment [s]: the median of many runs, as profiles tell it."""
    part, feed, now_s = runner.sessions.part(graph), runner.sessions.feed(graph), now_s_of(runner.sessions.execution)
    first_s = settle(lambda: part.run(feed), now_s)
    times_s = np.empty(int(np.clip(0.1 / max(first_s, 1e-6), SEGMENT_RUNS, 400)))
    for index in range(len(times_s)):
        begin_s = now_s()
        part.run(feed)
        times_s[index] = now_s() - begin_s
    return float(np.median(times_s))


def main() -> None:
    """Take what is asked and a file."""
    ways = {"cpu": Execution(), "openvino": Execution(onnx.named("openvino", "cpu"))}
    asked, path = sys.argv[1], Path(sys.argv[2])
    for record in [chosen(path, ways)] if asked == "chosen" else [apart(path, way) for way in ways.values()]:
        print(json.dumps({"network": path.stem, **record}), flush=True)


if __name__ == "__main__":
    main()
