"""What tries variants travels, and finds there what it finds here."""

import pickle
from pathlib import Path

import numpy as np
import pytest

import amble
from amble.core.examples import Examples
from amble.core.variants import Variant
from amble.levers.precision.candidates import Workshop
from amble.levers.precision.trying import Answered, Attempt, Layers, Trying, bench_of, put_down
from tests.runtimes import models


def silent(what: str, done: int, total: int) -> None:
    """Tell nobody."""


@pytest.fixture
def trying(tmp_path: Path) -> Trying:
    nodes = [
        models.node("Conv", ["x", "w1"], ["c"], "conv", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        models.node("Relu", ["c"], ["r"], "relu"),
        models.node("GlobalAveragePool", ["r"], ["mean"], "mean"),
        models.node("Flatten", ["mean"], ["flat"], "flat"),
        models.node("Gemm", ["flat", "w2"], ["y"], "product", transB=1),
    ]
    weights = [models.weight("w1", 16, 4, 3, 3), models.weight("w2", 6, 16)]
    made = models.model(nodes, [models.value("x", [1, 4, 8, 8])], [models.value("y", [1, 6])], weights)
    source = models.saved(tmp_path, made, "net.onnx")
    x = np.random.default_rng(0).standard_normal((40, 4, 8, 8)).astype(np.float32)
    graph = amble.load(source)
    (tmp_path / "made").mkdir()
    shop = Workshop(source, tmp_path / "made", [{"x": x[:1]}, {"x": x[1:2]}], False)
    return Trying(shop, bench_of(amble.open("host"), "host", graph, Examples({"x": x})), "host")


@pytest.mark.parametrize("kind", ["int8-u8s8", "int8-dynamic"])
def test_a_variant_is_the_same_wherever_it_is_made(trying: Trying, tmp_path: Path, kind: str) -> None:
    packed, here = pickle.dumps(trying), trying(Attempt(kind), silent)
    trying.workshop.source.unlink()  # another machine has none
    there = pickle.loads(packed)(Attempt(kind), silent)  # noqa: S301
    assert there == here
    assert isinstance(there, Answered)
    down = put_down(trying.candidate(Attempt(kind)), there, tmp_path, trying.bench)
    assert not isinstance(down, Variant)
    assert down.path.read_bytes() == there.content


def test_a_layer_alone_has_the_same_error_wherever_it_is_asked(trying: Trying) -> None:
    sample = trying.bench.examples.rows(0, 8)
    layers = Layers("int8-u8s8", (("conv",), ("product",)), sample)
    there = pickle.loads(pickle.dumps(trying))  # noqa: S301
    errors = [trying.error_of(layers, layer, silent) for layer in range(2)]
    assert [there.error_of(layers, layer, silent) for layer in range(2)] == errors
    assert errors[0] != errors[1]


def test_what_cannot_be_made_is_told_as_a_refused_variant(trying: Trying, tmp_path: Path) -> None:
    trying.workshop.source.write_bytes(b"no network any more")
    refused = trying(Attempt("fp16"), silent)
    assert isinstance(refused, Variant)
    assert refused.verdict == "refused"
    assert put_down(trying.candidate(Attempt("fp16")), refused, tmp_path, trying.bench) is refused
