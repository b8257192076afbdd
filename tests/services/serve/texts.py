"""Networks on texts and numbers whose inputs cannot be made up, or that have a length: ``input_ids`` [n, seq] …"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["encoder", "quotient", "saved", "tokens", "upper"]

WORDS = 50


def saved(path: Path, model: onnx.ModelProto) -> Path:
    onnx.save(model, str(path))
    return path


def _model(nodes: list[Any], inputs: list[Any], outputs: list[Any], constants: Mapping[str, Any]) -> onnx.ModelProto:
    weights = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "text", inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def encoder(*, masked: bool = True, mask: str = "attention_mask", lengths: tuple[str, str] = ("seq", "seq")) -> Any:
    """Embed tokens, and give them (``tokens`` [n, seq, 4]) and their mean over the length (``pooled`` [n, 4]).

    Unless it is ``masked`` the mean counts masked ones, too.
    """
    table = np.random.default_rng(0).normal(size=(WORDS, 4)).astype(np.float32)
    ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["n", lengths[0]])
    mask_info = helper.make_tensor_value_info(mask, TensorProto.INT64, ["n", lengths[1]])
    outputs = [
        helper.make_tensor_value_info("tokens", TensorProto.FLOAT, ["n", "seq", 4]),
        helper.make_tensor_value_info("pooled", TensorProto.FLOAT, ["n", 4]),
    ]
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["found"]),
        helper.make_node("Cast", [mask], ["as_float"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["as_float", "last"], ["weight"]),
        helper.make_node("Mul", ["found", "weight"], ["tokens"]),
        helper.make_node("ReduceSum", ["tokens" if masked else "found", "middle"], ["sum"], keepdims=0),
        helper.make_node("ReduceSum", ["weight", "middle"], ["count"], keepdims=0),
        helper.make_node("Div", ["sum", "count"], ["pooled"]),
    ]
    constants = {"table": table, "last": np.array([2]), "middle": np.array([1])}
    return _model(nodes, [ids, mask_info], outputs, constants)


def tokens(length: int, seed: int = 0, rows: int = 1) -> dict[str, Any]:
    """A request of the encoder."""
    ids = np.random.default_rng(seed).integers(1, WORDS, (rows, length))
    return {"input_ids": ids, "attention_mask": np.ones((rows, length), np.int64)}


def quotient() -> Any:
    """Divide whole numbers [n, k] by others: made-up ones hold 0, which ONNX Runtime refuses to divide by."""
    ports = [helper.make_tensor_value_info(name, TensorProto.INT64, ["n", "k"]) for name in "abz"]
    return _model([helper.make_node("Div", ["a", "b"], ["z"])], ports[:2], ports[2:], {})


def upper() -> Any:
    """Classify texts [n, 1]: a number for ``yes``, another for ``no``."""
    text = helper.make_tensor_value_info("text", TensorProto.STRING, ["n", 1])
    score = helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n", 1])
    node = helper.make_node(
        "LabelEncoder",
        ["text"],
        ["score"],
        domain="ai.onnx.ml",
        keys_strings=["yes", "no"],
        values_floats=[1.0, -1.0],
        default_float=0.0,
    )
    graph = helper.make_graph([node], "upper", [text], [score])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 2)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)
