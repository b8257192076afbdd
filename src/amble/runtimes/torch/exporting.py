"""A torch network → an ONNX file that ONNX Runtime runs: normalisation folded in, any batch size, named nodes."""

from __future__ import annotations

import copy
import logging
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import onnx
import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval

from amble.core import files
from amble.core.errors import Refused

__all__ = ["OPSET", "tidy", "to_onnx"]

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
    tidy(proto.graph)
    onnx.checker.check_model(proto, full_check=True)
    files.write_bytes(path, proto.SerializeToString())
    return proto


def _folded(module: nn.Module) -> nn.Module:
    """Return a copy in which every convolution has taken in the batch normalisation behind it, where fx can trace."""
    copied = copy.deepcopy(module).eval().to(memory_format=torch.contiguous_format)
    try:
        traced = fx.symbolic_trace(copied)
    except (fx.proxy.TraceError, TypeError, NotImplementedError):
        return copied  # ONNX Runtime folds what is left when it loads the file
    modules = dict(traced.named_modules())
    called = Counter(node.target for node in traced.graph.nodes)
    for node in list(traced.graph.nodes):
        before = node.args[0] if node.args and isinstance(modules.get(str(node.target)), _BatchNorm) else None
        if isinstance(before, fx.Node) and _is_folded(before, modules) and called[before.target] == 1:
            made = fuse_conv_bn_eval(modules[str(before.target)], modules[str(node.target)])
            traced.set_submodule(str(before.target), made)
            node.replace_all_uses_with(before)
            traced.graph.erase_node(node)
    traced.recompile()
    return traced.eval()


def _is_folded(node: fx.Node, modules: Mapping[str, nn.Module]) -> bool:
    """Tell whether a node is a convolution whose answer only the normalisation reads."""
    is_convolution = isinstance(modules.get(str(node.target)), nn.Conv1d | nn.Conv2d)
    return node.op == "call_module" and is_convolution and len(node.users) == 1


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


def tidy(graph: onnx.GraphProto) -> None:
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
