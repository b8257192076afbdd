"""The widths in `prune.jsonl` → how long each network takes in ONNX Runtime here: `-m bench.tail.measure`.

Prints one JSON line for each network, batch and distinct widths. Weights are random: times depend on shapes alone. All
widths of a network take turns in rounds of random order on one thread; its processor time is counted, which other
work on the machine changes least, and a low percentile is taken. The prediction sees no narrower network:
each layer is timed inside a network of its own, and the kernels of the whole network say how those times go together.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import numpy_helper
from torch import nn

from amble.core.subject import Where
from amble.levers.widths.choosing import Pricing
from amble.levers.widths.network import Layer, Network, Widths
from amble.levers.widths.staircase import StaircaseTable
from amble.levers.widths.staircases import anchored
from amble.runtimes.onnx.layers import profiled, undisturbed
from amble.runtimes.onnx.overhead import overhead
from amble.runtimes.torch import exporting
from bench.bases.base import KEPT, fresh
from bench.tail import surgery
from bench.tail.choices import LayerTime
from bench.tail.prune import PRUNED, logged
from bench.tail.timing import Times

BATCHES = (1, 8)
PERCENT = 10
EXAMPLE = (1, 28, 28)
_PROFILED = 300


@dataclass(frozen=True, slots=True)
class Measured:
    """One network at some widths: time of a run [s] as measured and as predicted."""

    network: str
    batch: int
    widths: Mapping[str, int]
    latency_s: float
    predicted_s: float
    runs: int


def skeleton(name: str) -> tuple[onnx.ModelProto, Network]:
    """Return an untrained network as ONNX and its groups."""
    module, example = fresh(name, 0).eval(), torch.rand(2, *EXAMPLE)
    for each in module.modules():
        if isinstance(each, nn.BatchNorm2d):
            nn.init.normal_(each.bias)  # else the exporter leaves out biases that are all zero
    path = KEPT / f"{name}-skeleton.onnx"
    return exporting.to_onnx(module, path, example), surgery.coupling(module, example, name=name).network


def resized(model: onnx.ModelProto, network: Network, widths: Widths) -> onnx.ModelProto:
    """Give every layer other widths; the nodes with weights are in the order of the network's layers."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    constants = {each.name: each for each in made.graph.initializer}
    nodes = [each for each in made.graph.node if each.op_type in ("Conv", "Gemm")]
    for node, layer in zip(nodes, network.layers, strict=True):
        sizes = _sizes(layer, network, widths)
        for name, size in zip(node.input[1:], (sizes, sizes[:1]), strict=True):
            _fill(constants[name], size)
        for attribute in node.attribute:
            if attribute.name == "group" and layer.kind == "depthwise":
                attribute.i = sizes[0]
    dense = next(each for each in network.layers if each.kind == "gemm")
    _widen(made, constants, network.num_inputs(dense, widths))
    del made.graph.value_info[:]
    onnx.checker.check_model(made, full_check=True)
    return made


def _sizes(layer: Layer, network: Network, widths: Widths) -> tuple[int, ...]:
    inputs = network.num_inputs(layer, widths) // network.num_groups(layer, widths)
    outputs = network.num_outputs(layer, widths)
    return (outputs, inputs) if layer.kind == "gemm" else (outputs, inputs, *layer.kernel)


def _fill(constant: onnx.TensorProto, size: tuple[int, ...]) -> None:
    scale = 1.0 / math.sqrt(max(1, math.prod(size[1:])))
    values = np.random.default_rng(0).standard_normal(size) * scale
    constant.CopyFrom(numpy_helper.from_array(values.astype(np.float32), constant.name))


def _widen(model: onnx.ModelProto, constants: Mapping[str, onnx.TensorProto], width: int) -> None:
    """Flattening names the number of channels it leaves."""
    for node in model.graph.node:
        if node.op_type == "Reshape":
            shape = np.array([-1, width], np.int64)
            constants[node.input[1]].CopyFrom(numpy_helper.from_array(shape, node.input[1]))


def session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """Open a session of one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def timed(sessions: list[onnxruntime.InferenceSession], shape: tuple[int, ...], rounds: int, runs: int) -> list[float]:
    """Return each session's time of one run [s]: the low percentile over all rounds."""
    feed = {"image": np.random.default_rng(0).random(shape, dtype=np.float32)}
    order, found = np.random.default_rng(0), np.empty((len(sessions), rounds, runs))
    for at in range(rounds):
        for one in order.permutation(len(sessions)):
            sessions[one].run(None, feed)
            for run in range(runs):
                begin_s = time.thread_time()
                sessions[one].run(None, feed)
                found[one, at, run] = time.thread_time() - begin_s
    return [float(each) for each in np.percentile(found.reshape(len(sessions), -1), PERCENT, axis=1)]


def measured(name: str, batch: int, choices: Iterable[Mapping[str, int]], rounds: int, runs: int) -> Iterator[Measured]:
    """Measure one network at all widths, and predict each from the whole one."""
    model, network = skeleton(name)
    widths = [network.today, *(each for each in choices if each != network.today)]
    kept = KEPT / f"layers-in-{name}-{batch}.json"
    kept.unlink(missing_ok=True)  # the machine's other work, which slows all down, is another by the next time
    time_s = Times(network, kept, batch)
    bare = _Exact(network, StaircaseTable(Where("host", "measured"), "onnxruntime", "fp32", batch, 0), time_s=time_s)
    for each in widths:
        bare.total(each)
    time_s.save()
    found_s = timed([session(resized(model, network, each)) for each in widths], (batch, *EXAMPLE), rounds, runs)
    pricing = _anchored(bare, resized(model, network, network.today), batch)
    for each, whole_s in zip(widths, found_s, strict=True):
        yield Measured(name, batch, each, whole_s, pricing.total(each), rounds * runs)


@dataclass(frozen=True)
class _Exact(Pricing):
    """Prices from a measurement of each layer at exactly these widths."""

    time_s: LayerTime = lambda layer, inputs, outputs: 0.0

    def alone(self, layer: Layer, widths: Widths) -> float:
        inputs, outputs = self.network.num_inputs(layer, widths), self.network.num_outputs(layer, widths)
        return self.scale * self.time_s(layer, inputs, outputs)


def _anchored(bare: Pricing, whole: onnx.ModelProto, batch: int) -> Pricing:
    """Profile the whole network → prices that fit its kernels.

    Kernel by kernel, as layers are timed: long runs meet more of what else the machine does than short ones.
    """
    feed = {"image": np.random.default_rng(0).random((batch, *EXAMPLE), dtype=np.float32)}
    kinds, durations_s = profiled(whole, feed, _PROFILED)
    costs_s, entering_s = np.maximum(undisturbed(durations_s), 0.0).tolist(), overhead().run_s
    return anchored(bare, kinds, costs_s, whole=entering_s + sum(costs_s), entering=entering_s)


def distinct(name: str, seeds: Iterable[int]) -> list[dict[str, int]]:
    """Return all widths of a network in the log, once each."""
    records = [each for each in logged() if each["network"] == name and each["seed"] in seeds]
    return [dict(each) for each in dict.fromkeys(tuple(each["widths"].items()) for each in records)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=PRUNED, default=list(PRUNED))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--batches", nargs="+", type=int, default=list(BATCHES))
    parser.add_argument("--rounds", type=int, default=30)
    chosen = parser.parse_args()
    for name in chosen.networks:
        for batch in chosen.batches:
            for each in measured(name, batch, distinct(name, chosen.seeds), chosen.rounds, 10):
                record = {key: getattr(each, key) for key in Measured.__slots__}
                print(json.dumps(record), flush=True)


if __name__ == "__main__":
    main()
