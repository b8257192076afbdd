"""Arrays of types that numpy has not pass through a session bit by bit."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest

from amble.runtimes import values
from tests.runtimes import models


def through(dtype: int) -> onnxruntime.InferenceSession:
    content = models.model(
        [models.node("Identity", ["x"], ["y"])],
        [models.value("x", [2, 3], dtype)],
        [models.value("y", [2, 3], dtype)],
    )
    return onnxruntime.InferenceSession(content.SerializeToString())


@pytest.mark.parametrize("dtype", [onnx.TensorProto.BFLOAT16, onnx.TensorProto.FLOAT16, onnx.TensorProto.INT64])
def test_every_type_comes_out_as_it_went_in(dtype: int) -> None:
    opened = through(dtype)
    given = np.arange(6).reshape(2, 3).astype(onnx.helper.tensor_dtype_to_np_dtype(dtype))
    for found in (values.run(opened, ["y"], {"x": given})[0], values.call(opened, {"x": given})()[0]):
        assert (found.dtype, found.shape) == (given.dtype, given.shape)
        assert found.tobytes() == given.tobytes()


def test_only_types_of_numpys_own_are_plain() -> None:
    assert values.is_plain(through(onnx.TensorProto.FLOAT))
    assert not values.is_plain(through(onnx.TensorProto.BFLOAT16))
    assert values.numpy_type("int8") == np.int8
