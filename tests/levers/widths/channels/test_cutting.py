"""A network that was cut answers as the whole one does with the weights of those channels at zero."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from amble.core.errors import Refused
from amble.levers.widths.channels.coupling import Coupling, coupled
from amble.levers.widths.channels.cutting import checked, cut, zeroed
from amble.levers.widths.channels.file import answers, opened
from amble.levers.widths.channels.ranking import ranked, sizes
from amble.levers.widths.channels.trial import tried
from tests.levers.widths.channels.zoo import ZOO, exported, seeded

SHARES = (0.0, 0.4, 1.0)  # of the classes that may go


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Coupling]:
    folder = tmp_path_factory.mktemp("zoo")
    x = example()
    return {
        name: coupled(opened(exported(seeded(name), folder / f"{at}.onnx"), x), name) for at, name in enumerate(ZOO)
    }


def example() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)


def going(found: Coupling, share: float, seed: int) -> list[int]:
    """Classes of every group, chosen by chance; one of each stays."""
    rng = np.random.default_rng(seed)
    return [
        int(each)
        for own in found.members.values()
        for each in rng.permutation(own)[: max(1, round(share * (len(own) - 1)))]
    ]


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize("share", SHARES)
def test_a_cut_network_answers_as_one_whose_weights_are_zero(zoo: dict[str, Coupling], name: str, share: float) -> None:
    found = zoo[name]
    gone = going(found, share, seed=1)
    assert gone
    assert checked(found, gone) < 1e-5
    whole, zero = (answers(each, found.file.feed, name)["y"] for each in (found.file.model, zeroed(found, gone)))
    assert np.abs(whole - zero).max() > 1e-5  # channels that go did something


@pytest.mark.parametrize("name", ZOO)
def test_operators_stay_as_they_were(zoo: dict[str, Coupling], name: str) -> None:
    found = zoo[name]
    before, after = (
        Counter(node.op_type for node in each.graph.node)
        for each in (found.file.model, cut(found, going(found, 0.5, seed=2)))
    )
    assert before.keys() == after.keys()
    assert all(after[each] == before[each] for each in before if each != "Concat")
    assert after["Concat"] <= before["Concat"] + 1  # one that gave sizes to several


@pytest.mark.parametrize("name", ZOO)
def test_layers_count_the_channels_that_they_then_have(zoo: dict[str, Coupling], name: str) -> None:
    best = ranked(zoo[name], sizes(zoo[name]))
    widths = {each.name: each.allowed[len(each.allowed) // 2 - 1] for each in best.network.groups}
    made = {each.name: each for each in best.cut(widths).graph.initializer}
    for layer, weights in zip(best.network.layers, best.coupled.layers, strict=True):
        size = numpy_helper.to_array(made[weights.constant]).size
        groups = best.network.num_groups(layer, widths)
        area = layer.kernel[0] * layer.kernel[1]
        assert size == best.network.num_inputs(layer, widths) // groups * best.network.num_outputs(layer, widths) * area


@pytest.mark.parametrize(
    ("name", "layer", "why"),
    [
        ("attention", "/patch/Conv", "/n1/LayerNormalization.*normalises over all of them"),
        ("mean over channels", "/a/Conv", "ReduceMean.*reduces all of them"),
        ("group normalisation", "/a/Conv", "InstanceNormalization"),
        ("a single channel", "/a/Conv", "a part of what /a/Conv writes"),
        ("residual", "/head/Gemm", "the network's answer"),
    ],
)
def test_layers_that_stay_are_named_with_the_reason(zoo: dict[str, Coupling], name: str, layer: str, why: str) -> None:
    assert re.search(why, zoo[name].stays[layer])


def test_heads_lose_the_same_places_of_queries_keys_and_values(zoo: dict[str, Coupling]) -> None:
    group = zoo["attention"].network.by_name["/qkv/MatMul"]
    assert (group.width, group.multiple) == (48, 6)


def odd(folder: Path, kind: str) -> Path:
    """A convolution, an operator between, and another convolution."""
    rng = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(rng.standard_normal(size).astype(np.float32), name)
        for name, size in (("w1", (6, 3, 3, 3)), ("w2", (6, 6, 1, 1)), ("w3", (5, 6, 1, 1)))
    ]
    between = {
        "Einsum": helper.make_node("Einsum", ["a"], ["b"], name="odd", equation="nchw->nchw"),
        "LRN": helper.make_node("LRN", ["a"], ["b"], name="odd", size=3),
        "CumSum": helper.make_node("CumSum", ["a", "axis"], ["b"], name="odd"),
    }[kind]
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], name="first", pads=[1] * 4),
        between,
        helper.make_node("Conv", ["b", "w2"], ["c"], name="second"),
        helper.make_node("Relu", ["c"], ["d"], name="relu"),
        helper.make_node("Conv", ["d", "w3"], ["e"], name="third"),
        helper.make_node("GlobalAveragePool", ["e"], ["y"], name="mean"),
    ]
    graph = helper.make_graph(
        nodes,
        "odd",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 5, 1, 1])],
        [*weights, numpy_helper.from_array(np.array(1), "axis")],
    )
    path = folder / "odd.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.mark.parametrize("kind", ["Einsum", "LRN", "CumSum"])
def test_before_an_operator_that_is_not_understood_channels_stay_and_behind_it_they_may_go(
    tmp_path: Path, kind: str
) -> None:
    found = tried(odd(tmp_path, kind), example())
    assert found.network.today == {"second": 6}
    assert f"odd ({kind}) is not known" in found.stays["first"]


def test_a_network_of_which_nothing_can_go_is_refused_with_the_reasons(tmp_path: Path) -> None:
    path = odd(tmp_path, "Einsum")
    model = onnx.load(path)
    del model.graph.node[2:5]
    model.graph.node[-1].input[0] = "b"
    del model.graph.output[0].type.tensor_type.shape.dim[:]
    onnx.save(model, path)
    with pytest.raises(Refused, match=r"no channels that can go.*first: how channels pass through odd"):
        tried(path, example())


def test_weights_that_are_computed_from_constants_can_be_cut(tmp_path: Path) -> None:
    path = odd(tmp_path, "Einsum")
    model = onnx.load(path)
    model.graph.node.insert(0, helper.make_node("Neg", ["w2"], ["negative"], name="negated"))
    model.graph.node[3].input[1] = "negative"
    onnx.save(model, path)
    found = tried(path, example())
    assert found.network.today == {"second": 6}
    assert checked(found, going(found, 0.5, seed=0)) < 1e-5


def test_a_layer_whose_cutting_would_go_wrong_is_found_out_and_stays(tmp_path: Path) -> None:
    path = odd(tmp_path, "Einsum")
    model = onnx.load(path)
    slicing = [
        helper.make_node("Shape", ["x"], ["sizes"], name="sizes"),
        helper.make_node("Slice", ["sizes", "two", "three"], ["end"], name="height"),
        helper.make_node("Slice", ["a", "zero", "end", "axis_1"], ["b"], name="sliced"),  # as many channels as rows
    ]
    numbers = {"zero": [0], "two": [2], "three": [3], "axis_1": [1]}
    model.graph.initializer.extend(numpy_helper.from_array(np.array(each), name) for name, each in numbers.items())
    for name, size in (("w1", (16, 3, 3, 3)), ("w2", (6, 8, 1, 1))):
        weight = next(each for each in model.graph.initializer if each.name == name)
        weight.CopyFrom(numpy_helper.from_array(np.random.default_rng(1).random(size).astype(np.float32), name))
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([nodes[0], *slicing, *nodes[2:]])
    onnx.save(model, path)
    assert coupled(opened(path, example()), "odd").network.today == {"first": 16, "second": 6}
    found = tried(path, example())
    assert found.network.today == {"second": 6}
    assert found.stays["first"] == "cutting it does not give the answers that it should"
    assert checked(found, going(found, 0.5, seed=0)) < 1e-5
