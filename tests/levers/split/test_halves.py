"""Both halves together answer as the whole network does, to the bit in FP32."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from amble import bundled
from amble.levers.split.cuts import Cut, cuts
from amble.levers.split.halves import PORTABLE, halves, joined, tried
from amble.runtimes.onnx.feeds import made_up
from amble.runtimes.onnx.network import Network
from tests.runtimes import models

SHAPES = {"ids": (1, 6), "attention_mask": (1, 6)}


def opened(folder: Path, name: str) -> Network:
    if name == "bundled":
        return Network.open(bundled.model_path(), 1, {}, PORTABLE)
    made = models.cnn() if name == "cnn" else models.attention()
    return Network.open(models.saved(folder, made), 1, SHAPES if name == "attention" else {}, PORTABLE)


def cuts_of(network: Network) -> tuple[Cut, ...]:
    return cuts(network.model.graph, network.tensors, network.graph.outputs).cuts


@pytest.mark.parametrize("name", ["cnn", "attention"])
def test_every_cut_answers_as_the_whole_network_to_the_bit(tmp_path: Path, name: str) -> None:
    network = opened(tmp_path, name)
    for cut in cuts_of(network):
        found = tried(network, cut, "fp32")
        assert found.identical, cut.local
        assert found.deviation == 0.0


def test_cuts_of_the_bundled_network_answer_as_its_own_file_does(tmp_path: Path) -> None:
    """The user's file itself in ONNX Runtime, as far as it is optimised before it is cut."""
    network = opened(tmp_path, "bundled")
    chosen = onnxruntime.SessionOptions()
    chosen.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    chosen.intra_op_num_threads = 1
    file = onnxruntime.InferenceSession(str(bundled.model_path()), chosen, providers=["CPUExecutionProvider"])
    feed = made_up(network.graph.inputs, {}, 7, of="bundled")
    names = [port.name for port in network.graph.outputs]
    (expected,) = file.run(names, dict(feed))
    for cut in cuts_of(network)[::6]:
        (answer,) = joined(halves(network, cut, "fp32"), feed, names)
        np.testing.assert_array_equal(answer, expected)


@pytest.mark.parametrize(("precision", "most"), [("fp16", 2e-3), ("int8", 5e-2)])
def test_what_crosses_in_fewer_bits_moves_the_answer_by_little_and_by_something(
    tmp_path: Path, precision: str, most: float
) -> None:
    network = opened(tmp_path, "cnn")
    for cut in cuts_of(network):
        found = tried(network, cut, precision)
        assert found.identical is (not cut.crossing)
        assert found.deviation <= most
        assert (found.deviation > 0.0) is bool(cut.crossing)


def test_a_half_that_computes_something_else_is_noticed(tmp_path: Path) -> None:
    network = opened(tmp_path, "cnn")
    cut = next(each for each in cuts_of(network) if len(each.local) == 3)
    spoilt = onnx.ModelProto()
    spoilt.CopyFrom(network.model)
    onnx.load_external_data_for_model(spoilt, str(network.folder))
    weight = next(each for each in spoilt.graph.initializer if each.name == "w2")
    weight.raw_data = (np.frombuffer(weight.raw_data, np.float32) * 1.5).tobytes()
    found = tried(replace(network, model=spoilt), cut, "fp32")  # cut from this, compared with the file
    assert not found.identical
    assert found.deviation > 1e-3


def test_whole_numbers_cross_as_they_are_and_inputs_are_forwarded(tmp_path: Path) -> None:
    network = opened(tmp_path, "attention")
    remote = cuts_of(network)[0]
    made = halves(network, remote, "fp32")
    assert made.device is None
    assert set(made.sent) == set(made.forwarded) == {"ids", "attention_mask"}
    local = halves(network, cuts_of(network)[-1], "int8")
    assert local.server is None
    assert local.sent == ()


def test_each_half_carries_only_its_own_weights(tmp_path: Path) -> None:
    network = opened(tmp_path, "cnn")
    made = halves(network, next(each for each in cuts_of(network) if len(each.local) == 4), "fp32")
    assert made.device is not None
    assert made.server is not None
    here, there = ({each.name for each in half.graph.initializer} for half in (made.device, made.server))
    assert here
    assert there
    assert not here & there
