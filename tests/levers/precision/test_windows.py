"""Windows times weights is the convolution that the runtime computes, however it walks."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest

from amble.levers.precision.windows import cut, read
from tests.runtimes import models


@pytest.mark.parametrize(
    "walk",
    [
        {},
        {"strides": [2, 1], "pads": [1, 0, 2, 1]},
        {"dilations": [2, 2]},
        {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
        {"auto_pad": "SAME_LOWER"},
    ],
)
def test_windows_multiplied_are_the_convolution(walk: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(2, 3, 7, 8)).astype(np.float32)
    weights = rng.normal(size=(4, 3, 2, 3)).astype(np.float32)
    node = models.node("Conv", ["x", "w"], ["y"], **walk)
    graph = models.model(
        [node],
        [models.value("x", [2, 3, 7, 8])],
        [models.value("y", None)],
        [models.constant("w", weights, np.float32)],
    )
    expected = onnxruntime.InferenceSession(graph.SerializeToString()).run(None, {"x": inputs})[0]
    windows = cut(inputs, read(node, (2, 3)), 0)
    np.testing.assert_allclose(np.einsum("ncijkl,ockl->noij", windows, weights), expected, rtol=1e-4, atol=1e-5)
