"""Layers timed inside a network by the real runtime, and as operators on a simulated chip."""

import numpy as np
import onnxruntime
import pytest

from amble import inputs
from amble.core.layers import Shape
from amble.runtimes.onnx.layers import OnnxLayers, profiled, sandwich, undisturbed
from amble.runtimes.onnx.overhead import overhead
from amble.runtimes.probing import DeviceLayers, operator_of

CONV = Shape("conv", 64, 64, (3, 3), padding=(1, 1), size=(28, 28))
DEPTHWISE = Shape("depthwise", 32, 32, (3, 3), stride=(2, 2), padding=(1, 1), size=(14, 14))
GROUPED = Shape("conv", 32, 32, (3, 3), padding=(1, 1), groups=4, size=(7, 7))
FIRST = Shape("conv", 3, 32, (3, 3), padding=(1, 1), size=(14, 14), vary_inputs=False)
DENSE = Shape("gemm", 128, 10)


@pytest.mark.parametrize("shape", [CONV, DEPTHWISE, GROUPED, FIRST, DENSE], ids=str)
@pytest.mark.parametrize("batch", [1, 4])
def test_every_kind_of_layer_is_timed(shape: Shape, batch: int) -> None:
    found = OnnxLayers(batch).time(shape, shape.inputs, shape.outputs, 5)
    assert 1e-7 < found.latency_s < 1.0
    assert found.energy_j is None


def test_more_work_takes_longer() -> None:
    probe = OnnxLayers()
    full, half = (probe.time(CONV, 64, width, 9).latency_s for width in (64, 16))
    assert full > 2 * half


def test_a_width_that_breaks_the_blocks_pays_for_it() -> None:
    probe = OnnxLayers()
    whole, broken = (probe.time(CONV, width, 64, 9).latency_s for width in (64, 63))
    assert broken > 1.05 * whole


def test_the_layer_is_between_two_pointwise_convolutions() -> None:
    model = sandwich(CONV, 48, 24, 2)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (answer,) = session.run(None, {"x": np.zeros((2, 16, 28, 28), np.float32)})
    assert answer.shape == (2, 16, 28, 28)
    assert [node.op_type for node in model.graph.node].count("Conv") == 3


def test_bytes_pass_through_the_caches_between_runs() -> None:
    quick, cold = OnnxLayers(between_bytes=0), OnnxLayers(between_bytes=4_000_000)
    assert quick.library == cold.library
    assert cold.time(DENSE, 128, 10, 5).latency_s > 0


def test_every_kernel_of_a_network_is_timed_in_order_without_the_profiler() -> None:
    ran = []
    feed = {"x": np.zeros((1, 16, 28, 28), np.float32)}
    kinds, durations_s = profiled(sandwich(CONV, 64, 64, 1), feed, 9, between=lambda: ran.append(1))
    assert kinds == ["ReorderInput", "Conv", "Conv", "Conv", "ReorderOutput"]
    assert durations_s.shape == (9, 5)
    assert len(ran) >= 9
    whole_us = (durations_s + overhead().profiler_s) * 1e6
    assert whole_us == pytest.approx(whole_us.round(), abs=1e-6)


def test_what_disturbs_some_runs_does_not_count() -> None:
    durations_s = np.full((40, 2), [2.0, 4.0])
    durations_s[::2] *= 10.0
    durations_s[1] = 0.0
    assert undisturbed(durations_s) == pytest.approx([2.0, 4.0])


def test_an_operator_counts_what_the_layer_does() -> None:
    found = operator_of(CONV, 32, 16, batch=2)
    assert found.gemm is not None
    assert (found.gemm.m, found.gemm.n, found.gemm.k) == (2 * 28 * 28, 16, 32 * 9)
    assert found.flops == 2.0 * 2 * 28 * 28 * 16 * 32 * 9
    deep = operator_of(DEPTHWISE, 8, 8, batch=1)
    assert deep.gemm is not None
    assert (deep.gemm.groups, deep.gemm.n, deep.gemm.m) == (8, 1, 49)


def test_a_simulated_chip_tells_time_and_energy_at_clocks() -> None:
    device = inputs.open("sim:jetson-tx2")
    slow, *_, fast = device.actuator.available()
    found = []
    for each in (slow, fast):
        with device.held(each):
            device.clock.sleep(0.1)
            found.append(DeviceLayers(device, each).time(CONV, 64, 64, 5))
    assert found[0].latency_s > 2 * found[1].latency_s
    assert found[1].energy_j is not None
    assert found[1].energy_j > 0
