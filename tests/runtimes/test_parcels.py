"""What travels is what was there, weights outside the file included."""

from pathlib import Path

import numpy as np
import onnx

from amble.runtimes.onnx.reading import read
from amble.runtimes.parcels import Parcel
from tests.runtimes import models


def test_a_network_arrives_with_the_weights_beside_it(tmp_path: Path) -> None:
    nodes = [models.node("Gemm", ["x", "w"], ["y"], transB=1)]
    weight = models.weight("w", 64, 64)
    weights = onnx.numpy_helper.to_array(weight).copy()
    made = models.model(nodes, [models.value("x", [1, 64])], [models.value("y", [1, 64])], [weight])
    path = tmp_path / "net.onnx"
    onnx.save_model(made, str(path), save_as_external_data=True, location="net.data", size_threshold=0)
    parcel = Parcel.of(path)
    assert sorted(parcel.files) == ["net.data", "net.onnx"]
    there = parcel.unpacked(tmp_path / "elsewhere")
    path.unlink()
    (tmp_path / "net.data").unlink()
    arrived = onnx.numpy_helper.to_array(read(there)[0].graph.initializer[0])
    np.testing.assert_array_equal(arrived, weights)
