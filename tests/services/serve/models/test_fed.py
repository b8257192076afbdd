"""Networks that are read, tried and measured on examples alone."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from amble.core.errors import Refused
from amble.core.point import OperatingPoint
from amble.inputs import open_for_serving
from amble.runtimes.onnx.batched import BatchedRunner
from amble.services.serve.explaining import explain
from amble.services.serve.models.candidates import VARIANTS_FILE
from amble.services.serve.models.fed import Fed, fed_candidates
from amble.services.serve.models.options import Options
from amble.services.serve.models.samples import Samples
from amble.services.serve.serving import Serve
from tests.services.serve.texts import quotient, saved


@pytest.fixture
def samples(tmp_path: Path) -> Samples:
    np.savez(tmp_path / "quo.npz", a=np.arange(6).reshape(3, 2), b=np.arange(1, 7).reshape(3, 2))
    return Samples.read(tmp_path / "quo.npz", "quo?…", {"a": ("n", "k"), "b": ("n", "k")})


def test_a_network_is_read_and_timed_without_any_other_inputs(tmp_path: Path, samples: Samples) -> None:
    path = saved(tmp_path / "quo.onnx", quotient())
    device, runner, _ = open_for_serving("host")
    offered = fed_candidates(path, Options(shapes={"a": (1, 2), "b": (1, 2)}), samples, runner)
    graph = offered.graph("fp32", 3, by_size=False)
    assert (graph.batch, graph.shapes) == (3, {"a": (1, 2), "b": (1, 2)})
    assert [(port.name, port.shape, port.dtype) for port in graph.outputs] == [("z", (1, 2), "int64")]
    fed = Fed(runner, device, samples, threads=1)
    assert fed.run(graph, OperatingPoint(), {})["z"].tolist() == [[0, 0], [0, 0], [0, 0]]
    assert fed.profile(graph, OperatingPoint(), 5).whole.latency_s > 0
    assert graph.digest != fed_candidates(path, Options(), samples, runner).graph("fp32", 1, by_size=False).digest


def test_a_device_that_reckons_from_operators_is_refused(tmp_path: Path, samples: Samples) -> None:
    path = saved(tmp_path / "quo.onnx", quotient())
    with pytest.raises(Refused, match=r"examples=quo\.npz: sim:jetson-tx2 reckons from operators"):
        explain(Serve((f"{path}?examples={tmp_path}/quo.npz",), device=("sim:jetson-tx2",)))


def test_variants_beside_a_network_that_are_not_used_are_told(
    tmp_path: Path, samples: Samples, caplog: pytest.LogCaptureFixture
) -> None:
    path = saved(tmp_path / "quo.onnx", quotient())
    (tmp_path / VARIANTS_FILE).write_text("{}")
    with caplog.at_level(logging.WARNING):
        fed_candidates(path, Options(), samples, BatchedRunner())
    assert "without the variants beside it" in caplog.text
