"""Errors of libraries: one line with the file and what to do, in whole sentences; everything else passes."""

from __future__ import annotations

import errno
from pathlib import Path

import msgspec
import onnx
import pytest
from google.protobuf.message import EncodeError
from onnxruntime.capi.onnxruntime_pybind11_state import Fail

from amble.core.errors import AmbleError, Infeasible, Refused
from amble.core.graph import Graph
from amble.levers.precision.quantizing import Quantize
from amble.runtimes.onnx.refusals import door, refusing

LONG = "The first sentence tells what went wrong. " + "The others tell where it was, at length. " * 20


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.ELOOP, "Too many levels", "net.onnx"), "net.onnx: Too many levels; the link leads to itself"),
        (OSError(errno.EACCES, "Permission denied", "net.onnx"), "net.onnx: Permission denied; ask for the right"),
        (OSError(errno.ENOSPC, "No space left on device"), "net.onnx: No space left on device; make room"),
        (OSError("of no kind"), "net.onnx: of no kind; check that file"),
        (MemoryError("Unable to allocate 9 TiB"), r"net.onnx takes more memory .*9 TiB.*smaller"),
        (EncodeError("Failed to serialize proto"), "net.onnx is larger than the 2 GiB"),
        (onnx.checker.ValidationError("Nodes are not sorted"), "net.onnx cannot be used: Nodes are not sorted"),
        (onnx.shape_inference.InferenceError("no rank"), "net.onnx cannot be used: no rank"),
        (RuntimeError("Numpy_type 256"), "net.onnx cannot be used: Numpy_type 256"),
        (RuntimeError(), "net.onnx cannot be used: RuntimeError"),
        (msgspec.DecodeError("not JSON"), "net.onnx cannot be used: not JSON"),
        (Fail("[ONNXRuntimeError] : 1 : FAIL : Load\n model failed"), "net.onnx cannot be used: Load model failed"),
    ],
)
@pytest.mark.parametrize(
    "called", ["net.onnx", Path("net.onnx"), ["net.onnx"], Graph("n", (), 1, "", source="net.onnx")]
)
def test_errors_of_libraries_leave_a_door_as_one_line(error: Exception, told: str, called: object) -> None:
    @door
    def verb(model: object, *, repeats: int) -> None:
        raise error

    with pytest.raises(Refused, match=told) as refusal:
        verb(called, repeats=3)
    assert "\n" not in str(refusal.value)
    assert refusal.value.__cause__ is error


@pytest.mark.parametrize(
    "error", [ValueError("mine"), Refused("mine"), Infeasible("mine", fastest_s=1.0), KeyError("k")]
)
def test_what_is_no_library_s_error_passes_a_door_as_it_is(error: Exception) -> None:
    @door
    def verb() -> None:
        raise error

    with pytest.raises((ValueError, KeyError, AmbleError)) as found:
        verb()
    assert found.value is error


def test_reasons_are_whole_sentences() -> None:
    with pytest.raises(Refused) as refusal, refusing("net.onnx", "run"):
        raise Fail(LONG)
    assert str(refusal.value).startswith("net.onnx cannot be run: The first sentence tells what went wrong. The others")
    assert str(refusal.value).endswith("at length.")
    assert len(str(refusal.value)) < 400


def test_a_first_sentence_is_never_cut() -> None:
    with pytest.raises(Refused, match=f"{'word ' * 200}end$"), refusing("net.onnx", "run"):
        raise Fail(f"{'word ' * 200}end")


def test_where_in_the_library_it_was_is_left_out() -> None:
    text = "[ONNXRuntimeError] : 1 : FAIL : /onnxruntime_src/onnxruntime/core/x.cc:25 int f(a, b) Type Error: no type"
    with pytest.raises(Refused, match="cannot be run: Type Error: no type"), refusing("net.onnx", "run"):
        raise Fail(text)


def test_a_door_names_what_a_request_is_about() -> None:
    @door
    def verb(request: Quantize) -> None:
        raise Fail("broken")

    with pytest.raises(Refused, match=r"^net\.onnx cannot be used: broken"):
        verb(Quantize("net.onnx", "data.npz", "host", Path("out")))
