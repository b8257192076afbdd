"""Errors of ONNX Runtime → one line that says what to do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from onnxruntime.capi.onnxruntime_pybind11_state import (
    EPFail,
    Fail,
    InvalidArgument,
    InvalidGraph,
    InvalidProtobuf,
    NoSuchFile,
    RuntimeException,
)
from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as NoKernel

from amble.core.errors import Refused

__all__ = ["RUNTIME_ERRORS", "refusing"]

RUNTIME_ERRORS = (
    EPFail,
    Fail,
    InvalidArgument,
    InvalidGraph,
    InvalidProtobuf,
    NoKernel,
    NoSuchFile,
    RuntimeException,
)

_NO_KERNEL = re.compile(r"Could not find an implementation for (?P<kind>[\w.:]+)\((?P<opset>-?\d+)\)")
_NO_OPERATOR = re.compile(r"(?:^|[\s:])(?P<kind>[\w.]+:?\w+)\((?P<opset>-?\d+)\) is not a registered function/op")
_PREFIX = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ")


@contextmanager
def refusing(name: str, doing: str) -> Iterator[None]:
    """Turn an error of ONNX Runtime inside the block into Refused; ``doing`` says what was tried."""
    try:
        yield
    except RUNTIME_ERRORS as error:
        raise Refused(_line(name, doing, str(error))) from error


def _line(name: str, doing: str, text: str) -> str:
    if match := _NO_KERNEL.search(text) or _NO_OPERATOR.search(text):
        kind = match["kind"]
        return (
            f"{name}: ONNX Runtime has no CPU kernel for the operator {kind}; "
            f"export the model without {kind.rpartition(':')[2]}, or convert it to another opset"
        )
    reason = " ".join(_PREFIX.sub("", text).split())
    return f"{name} cannot be {doing}: {reason[:300]}"
