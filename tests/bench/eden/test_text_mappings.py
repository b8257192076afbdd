"""What the bench of a text classifier in approximate memory reads, keeps and leaves out."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from amble.runtimes.onnx.faulty import FaultyOnnx
from bench.eden import text_mappings as eden_text
from bench.eden.mappings import Shelf

ROW = {"precision": "fp32", "tolerable_ber": 1e-4, "tokens_sha256": "t"}


def test_the_last_line_of_a_precision_counts(tmp_path: Path) -> None:
    log = tmp_path / "text.jsonl"
    rows = [ROW, {**ROW, "precision": "int8"}, {**ROW, "tolerable_ber": 3e-4}]
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = eden_text.replayed(log)
    assert [found[each]["tolerable_ber"] for each in ("fp32", "int8")] == [3e-4, 1e-4]
    assert eden_text.replayed(tmp_path / "none.jsonl") == {}


def test_nothing_is_mapped_without_its_network() -> None:
    assert eden_text.kept("fp16", ROW, deadline_s=math.inf) == []


def test_a_network_that_bears_nothing_is_not_mapped(tmp_path: Path) -> None:
    (row,) = eden_text.mapped_network("fp32", {**ROW, "tolerable_ber": 0.0}, Shelf(tmp_path / "shown"))
    assert (row["network"], row["precision"], row["system"]) == ("minilm", "fp32", None)


def test_what_no_layer_reads_as_weights_is_in_reliable_memory(tmp_path: Path) -> None:
    """A table of 300 numbers is looked up, a matrix of 60 multiplied."""
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["states"]),
        helper.make_node("MatMul", ["states", "matrix"], ["scores"]),
    ]
    stored = [
        numpy_helper.from_array(np.ones(shape, np.float32), name)
        for name, shape in (("table", (15, 20)), ("matrix", (20, 3)))
    ]
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, ["n"])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 3])
    model = helper.make_model(
        helper.make_graph(nodes, "small", [ids], [scores], stored),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )
    onnx.save(model, tmp_path / "small.onnx")
    assert eden_text.reliable_share(FaultyOnnx(tmp_path / "small.onnx")) == pytest.approx(300 / 360)


@pytest.mark.skipif(not (eden_text.TEXT / "r8.npz").exists(), reason="the texts are not here")
def test_texts_that_prove_try_and_find_are_others() -> None:
    parts = [("held_out", 0, 600), ("test", *eden_text.PROVING), ("test", *eden_text.TRYING)]
    seen = [{row.tobytes() for row in eden_text.texts(*part).inputs["input_ids"]} for part in parts]
    assert all(seen)
    assert all(not one & other for at, one in enumerate(seen) for other in seen[:at])
