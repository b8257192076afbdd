"""Reading of profiles as ONNX Runtime writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from amble.runtimes.onnx.trace import kernels, nested


def event(name: str, duration_us: int, **args: Any) -> dict[str, Any]:
    return {"cat": "Node", "pid": 1, "tid": 1, "dur": duration_us, "ts": 10, "ph": "X", "name": name, "args": args}


def saved(folder: Path, *events: dict[str, Any]) -> Path:
    session = {"cat": "Session", "pid": 1, "tid": 1, "dur": 9, "ts": 0, "ph": "X", "name": "model_run", "args": {}}
    path = folder / "profile.json"
    path.write_text(json.dumps([session, *events]))
    return path


def test_kernels_are_read_with_durations_and_shapes(tmp_path: Path) -> None:
    conv = event(
        "a/b_kernel_time",
        25,
        op_name="Conv",
        parameter_size="64",
        input_type_shape=[{"float": [1, 3]}],
        output_type_shape=[{"float": [1, 8]}],
        something_new={"later": 1},
    )
    (kernel,) = kernels(saved(tmp_path, conv, event("a/b_fence_before", 1)))
    assert (kernel.node, kernel.details.op_name) == ("a/b", "Conv")
    assert kernel.duration_s == pytest.approx(25e-6)
    assert (kernel.details.parameter_size, kernel.details.activation_size) == ("64", "0")
    assert kernel.details.output_type_shape == [{"float": [1, 8]}]


def test_what_ends_inside_an_outer_node_is_paired_with_it(tmp_path: Path) -> None:
    names = ["first", "inner", "deeper", "branch", "inner", "loop", "last"]
    found = kernels(saved(tmp_path, *(event(f"{name}_kernel_time", 1) for name in names)))
    pairs = nested(found, {"first", "branch", "loop", "last"})
    assert [(outer.node, [each.node for each in inside]) for outer, inside in pairs] == [
        ("first", []),
        ("branch", ["inner", "deeper"]),
        ("loop", ["inner"]),
        ("last", []),
    ]
