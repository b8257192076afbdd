"""The runner on torch's CPU, with a clock of its own in place of CUDA's events."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from amble import bundled  # noqa: E402
from amble.core.cost import Reading  # noqa: E402
from amble.core.errors import Refused  # noqa: E402
from amble.core.point import OperatingPoint  # noqa: E402
from amble.runtimes import onnx  # noqa: E402
from amble.runtimes.torch.runner import TorchRunner, replayed_s  # noqa: E402
from tests.runtimes import models  # noqa: E402

POINT = OperatingPoint()
CALL_S, ENTRY_S = 1e-6, 5e-6


class Calls(TorchDispatchMode):
    """Counts what kernels would take: a microsecond each, and one for every 10,000 elements that they write."""

    def __init__(self) -> None:
        super().__init__()
        self.taken_s = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        self.taken_s += CALL_S * (1 + (found.numel() if isinstance(found, torch.Tensor) else 0) / 1e4)
        return found


def fake_events(work: Callable[[], object], between: Callable[[], object], runs: int) -> np.ndarray:
    with Calls() as calls:
        work()
    return np.full(runs, calls.taken_s + ENTRY_S)


def runner(precision: str = "fp32", **others: Any) -> TorchRunner:
    return TorchRunner(precision, place="cpu", timer=fake_events, **others)


def loaded(path: Path, precision: str = "fp32") -> Any:
    return onnx.load(path, execution=onnx.Execution(onnx.TORCH, precision=precision))


def test_it_answers_as_onnx_runtime_does_whole_and_in_segments() -> None:
    graph = loaded(bundled.model_path())
    inputs = onnx.example_inputs(graph, seed=3)
    expected = onnx.compute(onnx.load(bundled.model_path()), POINT, inputs)
    name = graph.outputs[0].name

    assert np.allclose(runner().run(graph, POINT, inputs)[name], expected[name], rtol=1e-3, atol=1e-4)
    middle = len(graph.operators) // 2
    between = runner().run(graph.segment(0, middle), POINT, inputs)
    last = runner().run(graph.segment(middle, len(graph.operators)), POINT, between)
    assert np.allclose(last[name], expected[name], rtol=1e-3, atol=1e-4)


def test_times_add_up_and_follow_what_each_operator_does() -> None:
    graph = loaded(bundled.model_path())
    timings = runner().profile(graph, POINT, 20)

    assert sum(each.latency_s for each in timings.operators) == pytest.approx(timings.whole.latency_s)
    assert not [note for note in timings.notes if "do not" in note or "are not" in note]
    written = np.array([np.prod(each.output_shape) for each in graph.operators])
    found_s = np.array([each.latency_s for each in timings.operators])
    assert np.corrcoef(written, found_s)[0, 1] > 0.9
    assert timings.whole.energy_j is None


def test_energy_is_the_boards_power_over_the_time_of_the_work() -> None:
    class Meter:
        def __init__(self) -> None:
            self.reads = 0

        def read(self) -> Reading:
            self.reads += 1
            return Reading(float(self.reads), 50.0 * self.reads)

    graph = loaded(bundled.model_path())
    timings = runner(meter=Meter()).profile(graph, POINT, 5)

    assert timings.whole.energy_j == pytest.approx(50.0 * timings.whole.latency_s)


def test_half_precision_is_of_the_graph_and_of_its_digest(tmp_path: Path) -> None:
    path = models.saved(tmp_path, models.cnn())
    half, full = loaded(path, "bf16"), loaded(path)

    assert half.precision == "bf16"
    assert half.digest != full.digest
    outputs = runner("bf16").run(half, OperatingPoint(precision="bf16"), onnx.example_inputs(half, seed=0))
    assert all(value.dtype == np.float32 for value in outputs.values())
    with pytest.raises(Refused, match="load it for this device"):
        runner("bf16").run(full, POINT, onnx.example_inputs(full, seed=0))


def test_a_machine_without_a_gpu_is_refused_in_words() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(Refused, match="sees no NVIDIA GPU"):
        TorchRunner()


def test_events_time_replayed_work() -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs an NVIDIA GPU")
    large = torch.ones(1 << 24, device="cuda")
    assert (replayed_s(lambda: large.mul_(1.0), lambda: None, 5) > 1e-6).all()
