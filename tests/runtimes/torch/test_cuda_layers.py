"""Layers on a GPU, with a timer that needs none."""

from collections.abc import Callable

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from amble.core.errors import Refused  # noqa: E402
from amble.core.layers import Shape  # noqa: E402
from amble.runtimes.torch.cuda_layers import CudaLayers, layer_of  # noqa: E402


class FakeTimer:
    """Runs everything once, and tells times that fall to 2 ms after the warm-up."""

    def __init__(self) -> None:
        self.sizes: list[tuple[int, ...]] = []
        self.order: list[str] = []

    def __call__(self, work: Callable[[], object], between: Callable[[], object], runs: int) -> np.ndarray:  # type: ignore[type-arg]
        between()
        self.order.append("between")
        self.sizes.append(tuple(work().shape))  # type: ignore[attr-defined]
        return np.array([1.0] * 5 + [2e-3] * (runs - 5))


@pytest.mark.parametrize(
    ("shape", "inputs", "outputs", "size"),
    [
        (Shape("conv", 8, 16, (3, 3), padding=(1, 1), size=(6, 6)), 5, 7, (2, 7, 6, 6)),
        (Shape("depthwise", 8, 8, (3, 3), stride=(2, 2), padding=(1, 1), size=(6, 6)), 4, 4, (2, 4, 3, 3)),
        (Shape("gemm", 8, 16), 3, 9, (2, 9)),
    ],
    ids=str,
)
def test_a_layer_runs_at_any_width_and_warm_up_does_not_count(
    shape: Shape, inputs: int, outputs: int, size: tuple[int, ...]
) -> None:
    timer = FakeTimer()
    probe = CudaLayers(batch=2, between_bytes=400, place="cpu", timer=timer)
    timing = probe.time(shape, inputs, outputs, 10)
    assert timing.latency_s == pytest.approx(2e-3)
    assert timing.spread_s == pytest.approx(0.0)
    assert timing.energy_j is None
    assert timer.sizes == [size]
    assert timer.order == ["between"]


def test_grouped_layers_keep_their_groups() -> None:
    layer = layer_of(Shape("conv", 8, 8, groups=4, size=(4, 4)), 8, 4)
    assert layer[0].groups == 4


def test_the_table_knows_the_libraries() -> None:
    assert torch.__version__ in CudaLayers(place="cpu").library


def test_a_precision_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="fp16"):
        CudaLayers(place="cpu", precision="int3")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_what_to_check() -> None:
    with pytest.raises(Refused, match="nvidia-smi"):
        CudaLayers()
