"""A torch network → an ONNX file that ONNX Runtime runs: normalisation folded in, any batch size, named nodes."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse

from amble.core.errors import Refused

__all__ = ["OPSET", "to_onnx"]

OPSET = 20
_EXAMPLES = 2  # with a single example torch takes the batch for a constant


def to_onnx(
    module: nn.Module, path: Path, example: Tensor, *, inputs: str = "image", outputs: str = "logits"
) -> onnx.ModelProto:
    """Write the network, whole or not at all, and return what was written; ``example`` [B, ...] is an input.

    Raises Refused where torch cannot export it.
    """
    examples = example[:1].expand(_EXAMPLES, *example.shape[1:]).contiguous()
    proto = _exported(_folded(module), examples, inputs, outputs)
    _tidy(proto.graph)
    onnx.checker.check_model(proto, full_check=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    onnx.save(proto, partial)
    partial.replace(path)
    return proto


def _folded(module: nn.Module) -> nn.Module:
    """Return a copy in which every convolution has taken in the batch normalisation behind it, where fx can trace."""
    copied = copy.deepcopy(module).eval().to(memory_format=torch.contiguous_format)
    try:
        return fuse(copied).eval()
    except (torch.fx.proxy.TraceError, TypeError, NotImplementedError):
        return copied  # ONNX Runtime folds what is left when it loads the file


def _exported(module: nn.Module, examples: Tensor, inputs: str, outputs: str) -> onnx.ModelProto:
    try:
        with _silent():
            program = torch.onnx.export(
                module,
                (examples,),
                dynamo=True,
                opset_version=OPSET,
                input_names=[inputs],
                output_names=[outputs],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        reason = str(error).strip().splitlines()[0]
        raise Refused(f"torch cannot write the network as ONNX ({reason}): replace that operation") from error
    return program.model_proto


@contextmanager
def _silent() -> Iterator[None]:
    """Without what torch says about packages that it would like to have."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _tidy(graph: onnx.GraphProto) -> None:
    """Name nodes by kind and position, and drop what only torch reads."""
    counts: dict[str, int] = {}
    for node in graph.node:
        counts[node.op_type] = counts.get(node.op_type, 0) + 1
        node.name = f"{node.op_type.lower()}_{counts[node.op_type]}"
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    for value in [*graph.value_info, *graph.input, *graph.output, *graph.initializer]:
        value.ClearField("metadata_props")
    graph.ClearField("metadata_props")
