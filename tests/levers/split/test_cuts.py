"""Every cut of a network is found, and the fewest tensors cross."""

from collections.abc import Sequence
from itertools import chain, combinations
from pathlib import Path

import onnx
import pytest

from amble.core.errors import Refused
from amble.core.graph import Port
from amble.levers.split.cuts import cuts, sent_bytes
from amble.levers.split.halves import PORTABLE
from amble.runtimes.onnx.network import Network
from tests.runtimes import models


def network(folder: Path, model: onnx.ModelProto) -> Network:
    return Network.open(models.saved(folder, model), 1, {}, PORTABLE)


def graph_of(nodes: Sequence[tuple[list[str], list[str]]], outputs: Sequence[str]) -> onnx.GraphProto:
    made = [models.node("Sum", inputs, results) for inputs, results in nodes]
    model = models.model(made, [models.value("x", [2])], [models.value(each, [2]) for each in outputs])
    return model.graph


def ports(graph: onnx.GraphProto) -> dict[str, Port]:
    names = {"x", *(name for node in graph.node for name in node.output)}
    return {name: Port(name, (2,), "float") for name in names}


DIAMOND = graph_of(
    [(["x"], ["a"]), (["a"], ["b"]), (["b"], ["c"]), (["a"], ["d"]), (["c", "d", "x"], ["e"]), (["e"], ["y"])], ["y"]
)


def by_brute_force(graph: onnx.GraphProto) -> set[tuple[int, ...]]:
    """Every set of nodes that none of its members leaves."""
    number = range(len(graph.node))
    found = set()
    for chosen in chain.from_iterable(combinations(number, count) for count in range(len(graph.node) + 1)):
        ready = {"x", *(name for index in chosen for name in graph.node[index].output)}
        if all(set(graph.node[index].input) <= ready for index in chosen):
            found.add(chosen)
    return found


def test_every_down_set_is_a_cut() -> None:
    found = cuts(DIAMOND, ports(DIAMOND), [Port("y", (2,), "float")])
    assert found.complete
    assert {each.local for each in found.cuts} == by_brute_force(DIAMOND)
    assert len(found.cuts) == 9


def test_a_tensor_that_several_read_crosses_once_and_one_that_nobody_reads_does_not() -> None:
    found = {each.local: each for each in cuts(DIAMOND, ports(DIAMOND), [Port("y", (2,), "float")]).cuts}
    crossing = {local: [port.name for port in each.crossing] for local, each in found.items()}
    assert crossing[()] == ["x"]
    assert crossing[(0,)] == ["a", "x"]
    assert crossing[(0, 1, 2)] == ["a", "c", "x"]
    assert crossing[(0, 1, 2, 3)] == ["c", "d", "x"]
    assert crossing[(0, 1, 2, 3, 4)] == ["e"]
    assert crossing[(0, 1, 2, 3, 4, 5)] == []


def test_an_answer_that_is_ready_on_the_device_is_not_sent_back() -> None:
    graph = graph_of([(["x"], ["early"]), (["early"], ["b"]), (["b"], ["y"])], ["early", "y"])
    outputs = [Port("early", (2,), "float"), Port("y", (2,), "float")]
    found = {len(each.local): [port.name for port in each.answers] for each in cuts(graph, ports(graph), outputs).cuts}
    assert found == {0: ["early", "y"], 1: ["y"], 2: ["y"], 3: []}


def test_with_too_many_cuts_the_prefixes_are_left() -> None:
    found = cuts(DIAMOND, ports(DIAMOND), [Port("y", (2,), "float")], most=8)
    assert not found.complete
    assert [each.local for each in found.cuts] == [tuple(range(count)) for count in range(7)]


def test_a_network_of_one_operator_cannot_be_cut() -> None:
    graph = graph_of([(["x"], ["y"])], ["y"])
    with pytest.raises(Refused, match="cannot be cut: it has a single operator"):
        cuts(graph, ports(graph), [Port("y", (2,), "float")])


def test_what_is_no_tensor_does_not_cross() -> None:
    graph = graph_of([(["x"], ["a"]), (["a"], ["y"])], ["y"])
    known = {"x": Port("x", (2,), "float")}
    with pytest.raises(Refused, match="'a' would cross, which is no tensor"):
        cuts(graph, known, [Port("y", (2,), "float")])


def test_a_skip_of_a_real_network_crosses_beside_what_skips_nothing(tmp_path: Path) -> None:
    read = network(tmp_path, models.cnn())
    found = cuts(read.model.graph, read.tensors, read.graph.outputs).cuts
    assert [[port.name for port in each.crossing] for each in found if len(each.local) == 3] == [["c2", "r1"]]
    assert found[-1].crossing == ()


def test_int8_takes_a_byte_and_a_scale_and_leaves_whole_numbers_alone() -> None:
    crossing = (Port("a", (10, 10), "float"), Port("ids", (4,), "int64"))
    assert [sent_bytes(crossing, each) for each in ("fp32", "fp16", "int8")] == [432, 232, 137]
