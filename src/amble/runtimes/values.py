"""Arrays ↔ what ONNX Runtime takes and gives: also of the types that numpy alone has not, such as bfloat16."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

from amble.core.ports import Tensors

__all__ = ["call", "is_plain", "numpy_type", "run"]

Array = npt.NDArray[Any]


def numpy_type(name: str) -> np.dtype[Any]:
    """Return the type of arrays of an ONNX element type.

    >>> numpy_type("double")
    dtype('float64')
    """
    dtype: np.dtype[Any] = onnx.helper.tensor_dtype_to_np_dtype(onnx.TensorProto.DataType.Value(name.upper()))
    return dtype


def is_plain(opened: onnxruntime.InferenceSession) -> bool:
    """Tell whether numpy itself has the types of all inputs and outputs."""
    ports = (*opened.get_inputs(), *opened.get_outputs())
    return not any("float8" in each.type or "bfloat16" in each.type for each in ports)


def run(opened: onnxruntime.InferenceSession, outputs: Sequence[str], inputs: Tensors) -> list[Any]:
    """Run a session that is not plain once."""
    values = {name: _value(np.asarray(each)) for name, each in inputs.items()}
    return [_array(each) for each in opened.run_with_ort_values(list(outputs), values)]


def call(opened: onnxruntime.InferenceSession, inputs: Tensors) -> Callable[[], list[Any]]:
    """Return what runs a session on these inputs, again and again, and gives all outputs."""
    given, outputs = dict(inputs), [each.name for each in opened.get_outputs()]
    if is_plain(opened):
        return lambda: list(opened.run(outputs, given))
    return lambda: run(opened, outputs, given)


def _value(array: Array) -> onnxruntime.OrtValue:
    """Wrap an array; ONNX Runtime's numpy interface has no name for some types, so their bits go under another."""
    if array.dtype.kind != "V":
        return onnxruntime.OrtValue.ortvalue_from_numpy(array)
    element = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
    bits = np.ascontiguousarray(array).view(f"u{array.dtype.itemsize}")
    return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(bits, element)


def _array(value: onnxruntime.OrtValue) -> Any:
    if not value.is_tensor():
        return value.numpy()
    dtype = onnx.helper.tensor_dtype_to_np_dtype(value.element_type())
    if dtype.kind != "V":
        return np.asarray(value.numpy())
    shape = value.shape()
    bits = ctypes.string_at(value.data_ptr(), dtype.itemsize * prod(shape))
    return np.frombuffer(bits, dtype=dtype).reshape(shape)
