"""A seed -> a ResNet-50 in ONNX with random weights: `python examples/resnet50.py resnet50.onnx`.

Time and energy depend on the layers and not on what the weights are, so this graph can be measured and planned without
a download and without torch. The layers are those of He et al., "Deep Residual Learning for Image Recognition", CVPR
2016, Table 1, with the stride of a block in its 3 x 3 convolution, as in torchvision; batch normalisation is folded in.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

STAGES = ((64, 3), (128, 4), (256, 6), (512, 3))  # inner width, number of blocks
EXPANSION = 4
NUM_CLASSES = 1_000
OPSET, IR_VERSION = 20, 10


def node(kind: str, name: str, inputs: list[str], **attributes: int | list[int]) -> onnx.NodeProto:
    """A node whose one output is named after it."""
    return helper.make_node(kind, inputs, [f"{name}_out"], name, **attributes)


class Builder:
    """A graph under construction; every method adds nodes and returns the name of its output tensor."""

    def __init__(self, seed: int) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self._random = np.random.default_rng(seed)

    def weight(self, name: str, *shape: int, gain: float = 2.0) -> str:
        """Normal with variance `gain / fan in` (He et al., 2015, equation 10): activations neither die nor grow."""
        fan_in = int(np.prod(shape[1:]))
        values = self._random.standard_normal(shape, np.float32) * np.float32((gain / fan_in) ** 0.5)
        return self._initialiser(name, values)

    def zeros(self, name: str, count: int) -> str:
        """A bias that folding left at nothing."""
        return self._initialiser(name, np.zeros(count, np.float32))

    def add(self, node: onnx.NodeProto) -> str:
        """Take any node with one output."""
        self.nodes.append(node)
        return str(node.output[0])

    def convolution(self, x: str, name: str, shape: tuple[int, int, int], *, stride: int = 1, gain: float = 2.0) -> str:
        """`shape` is inputs, outputs, width of the square kernel."""
        inputs, outputs, kernel = shape
        tensors = [x, self.weight(f"{name}_weight", outputs, inputs, kernel, kernel, gain=gain)]
        tensors.append(self.zeros(f"{name}_bias", outputs))
        square, pads = [kernel, kernel], [kernel // 2] * 4
        return self.add(node("Conv", name, tensors, kernel_shape=square, strides=[stride, stride], pads=pads))

    def relu(self, x: str, name: str) -> str:
        """max(0, x)."""
        return self.add(node("Relu", name, [x]))

    def _initialiser(self, name: str, values: NDArray[np.float32]) -> str:
        self.weights.append(numpy_helper.from_array(values, name))
        return name


def bottleneck(graph: Builder, x: str, name: str, channels: tuple[int, int, int], *, stride: int) -> str:
    """1 x 1, 3 x 3 and 1 x 1 convolutions around a shortcut; `channels` are inputs, inner, outputs."""
    inputs, inner, outputs = channels
    y = graph.relu(graph.convolution(x, f"{name}_conv1", (inputs, inner, 1)), f"{name}_relu1")
    y = graph.relu(graph.convolution(y, f"{name}_conv2", (inner, inner, 3), stride=stride), f"{name}_relu2")
    y = graph.convolution(y, f"{name}_conv3", (inner, outputs, 1), gain=0.1)
    if inputs != outputs or stride != 1:
        x = graph.convolution(x, f"{name}_shortcut", (inputs, outputs, 1), stride=stride, gain=1.0)
    return graph.relu(graph.add(node("Add", f"{name}_add", [y, x])), f"{name}_relu3")


def stem(graph: Builder) -> str:
    """Image [batch, 3, 224, 224] -> [batch, 64, 56, 56]."""
    x = graph.relu(graph.convolution("image", "conv1", (3, 64, 7), stride=2), "relu1")
    pool = node("MaxPool", "pool1", [x], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    return graph.add(pool)


def body(graph: Builder, x: str) -> str:
    """[batch, 64, 56, 56] -> [batch, 2048, 7, 7]."""
    inputs = 64
    for stage, (inner, num_blocks) in enumerate(STAGES, 2):
        for block in range(num_blocks):
            stride = 2 if stage > 2 and block == 0 else 1
            outputs = inner * EXPANSION
            x = bottleneck(graph, x, f"stage{stage}_block{block + 1}", (inputs, inner, outputs), stride=stride)
            inputs = outputs
    return x


def head(graph: Builder, x: str) -> None:
    """[batch, 2048, 7, 7] -> logits [batch, 1000]."""
    features = STAGES[-1][0] * EXPANSION
    x = graph.add(node("Flatten", "flatten", [graph.add(node("GlobalAveragePool", "pool2", [x]))]))
    weights = [graph.weight("fc_weight", NUM_CLASSES, features, gain=1.0), graph.zeros("fc_bias", NUM_CLASSES)]
    graph.add(helper.make_node("Gemm", [x, *weights], ["logits"], "fc", transB=1))


def resnet50(seed: int = 0) -> onnx.ModelProto:
    """Input `image` [batch, 3, 224, 224], output `logits` [batch, 1000], both float32."""
    graph = Builder(seed)
    head(graph, body(graph, stem(graph)))
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 224, 224])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", NUM_CLASSES])
    made = helper.make_graph(graph.nodes, "resnet50", [image], [logits], graph.weights)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)


def main() -> None:
    """Write the file, whole or not at all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path, nargs="?", default=Path("resnet50.onnx"), help="the file to write")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    partial = chosen.path.with_suffix(".partial")
    onnx.save(resnet50(chosen.seed), partial)
    partial.replace(chosen.path)
    print(f"{chosen.path}: {chosen.path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
