"""Networks read their tensors from approximate memory: in ONNX Runtime and in torch, the same bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from amble.core.dram import DramErrors, Uniform
from amble.core.errors import Refused
from amble.runtimes.faults import Bounds, Home, Injector
from amble.runtimes.onnx.faulty import FaultyOnnx
from amble.runtimes.onnx.stored import layers

RANDOM = np.random.default_rng(1)
IMAGES = RANDOM.normal(0, 1, (5, 2, 8, 8)).astype(np.float32)


def home(ber: float, start: int = 0, bounds: Bounds | None = None) -> Home:
    return Home(DramErrors(Uniform(1.0, ber)), start, bounds)


@pytest.fixture
def network(tmp_path: Path) -> Path:
    """Two convolutions around a skip connection, and a linear layer."""
    nodes = [
        helper.make_node("Conv", ["image", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["c2", "r1"], ["s"]),
        helper.make_node("Flatten", ["s"], ["f"]),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["scores"], transB=1),
    ]
    shapes = {"w1": (4, 2, 3, 3), "b1": (4,), "w2": (4, 4, 3, 3), "b2": (4,), "w3": (3, 256), "b3": (3,)}
    weights = [
        numpy_helper.from_array(RANDOM.normal(0, 0.2, shape).astype(np.float32), name) for name, shape in shapes.items()
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 2, 8, 8])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 3])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, tmp_path / "small.onnx")
    return tmp_path / "small.onnx"


def plain(path: Path, images: np.ndarray = IMAGES) -> np.ndarray:
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"image": images})[0]


def test_layers_name_their_weights_and_the_feature_map_they_read(network: Path) -> None:
    found = [(layer.weights, layer.input) for layer in layers(onnx.load(network))]
    assert found == [("w1", "image"), ("w2", "r1"), ("w3", "f")]


def test_without_errors_the_outputs_are_those_of_the_network(network: Path) -> None:
    homes = {name: home(0.0) for name in ("w1", "w2", "image", "r1", "f")}
    faulty = FaultyOnnx(network, homes)
    faulty.inject_weights(0)
    np.testing.assert_allclose(faulty.run({"image": IMAGES}, 0)["scores"], plain(network), rtol=1e-4, atol=1e-5)
    assert faulty.num_flips == 0


def test_segments_without_errors_stay_open_and_weights_come_back_clean(network: Path) -> None:
    faulty = FaultyOnnx(network, {"w2": home(0.01), "r1": home(0.0)})
    clean = faulty.run({"image": IMAGES}, 0)["scores"]
    faulty.inject_weights(7)
    first = faulty.run({"image": IMAGES}, 0)["scores"]
    faulty.inject_weights(8)
    assert (faulty.run({"image": IMAGES}, 0)["scores"] != first).any()
    faulty.inject_weights(7)
    np.testing.assert_array_equal(faulty.run({"image": IMAGES}, 0)["scores"], first)
    faulty.place({"w1": home(0.01), "r1": home(0.0)})
    np.testing.assert_array_equal(faulty.run({"image": IMAGES}, 0)["scores"], clean)


def test_the_clean_weights_cannot_be_written_to(network: Path) -> None:
    with pytest.raises(ValueError, match="read-only"):
        FaultyOnnx(network).weights["w1"][0] = 0.0


def test_weight_errors_are_those_of_the_injector(network: Path) -> None:
    homes = {"w2": home(0.003)}
    faulty = FaultyOnnx(network, homes)
    faulty.inject_weights(7)
    model = faulty.hardened(Injector().inject({"w2": faulty.weights["w2"]}, homes, 7))
    onnx.save(model, network.with_name("flipped.onnx"))
    expected = plain(network.with_name("flipped.onnx"))
    assert not np.allclose(expected, plain(network))
    np.testing.assert_allclose(faulty.run({"image": IMAGES}, 0)["scores"], expected, rtol=1e-4, atol=1e-4)


def test_feature_map_errors_are_those_of_the_injector(network: Path) -> None:
    homes = {"image": home(0.003, bounds=Bounds(-4, 4, "zero"))}
    read = Injector().inject({"image": IMAGES}, homes, 3)["image"]
    found = FaultyOnnx(network, homes).run({"image": IMAGES}, 3)["scores"]
    np.testing.assert_allclose(found, plain(network, read), rtol=1e-4, atol=1e-4)
    assert not np.allclose(found, plain(network))


def test_the_given_images_stay_clean(network: Path) -> None:
    before = IMAGES.copy()
    FaultyOnnx(network, {"image": home(0.1), "r1": home(0.1)}).run({"image": IMAGES}, 0)
    np.testing.assert_array_equal(IMAGES, before)


def test_observing_gives_every_feature_map(network: Path) -> None:
    seen = FaultyOnnx(network).observe({"image": IMAGES})
    assert {name: value.shape for name, value in seen.items()} == {
        "image": (5, 2, 8, 8),
        "r1": (5, 4, 8, 8),
        "f": (5, 256),
    }
    assert seen["r1"].min() == 0.0


def test_quantised_networks_keep_their_integers_in_memory(network: Path) -> None:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

    class Images(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = iter([{"image": IMAGES}])

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.left, None)

    path = network.with_name("int8.onnx")
    quantize_static(network, path, Images(), quant_format=QuantFormat.QDQ)
    faulty = FaultyOnnx(path)
    assert all(value.dtype in (np.int8, np.uint8) for value in faulty.weights.values())
    features = {layer.input for layer in faulty.layers}
    faulty.place({**{name: home(0.0) for name in faulty.weights}, **{name: home(0.0) for name in features}})
    np.testing.assert_allclose(faulty.run({"image": IMAGES}, 0)["scores"], plain(path), atol=0.05)
    faulty.place({name: home(0.01) for name in features})
    assert not np.allclose(faulty.run({"image": IMAGES}, 0)["scores"], plain(path), atol=0.05)
    assert faulty.num_flips > 0


def test_packed_four_bit_weights_lose_single_bits(tmp_path: Path) -> None:
    codes = np.arange(-8, 8).reshape(4, 4)
    packed = helper.make_tensor("q", TensorProto.INT4, [4, 4], codes.ravel().tolist())
    scale = numpy_helper.from_array(np.float32(1.0), "scale")
    graph = helper.make_graph(
        [helper.make_node("DequantizeLinear", ["q", "scale"], ["w"]), helper.make_node("MatMul", ["x", "w"], ["y"])],
        "packed",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4, 4])],
        [packed, scale],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), tmp_path / "p.onnx")
    persistent = Home(DramErrors(Uniform(0.1, 1.0)))
    faulty = FaultyOnnx(tmp_path / "p.onnx", {"q": persistent})
    assert faulty.weights["q"].nbytes == 8
    faulty.inject_weights(0)
    read = faulty.run({"x": np.eye(4, dtype=np.float32)}, 0)["y"]
    flipped = Injector().inject(faulty.weights, {"q": persistent}, 0)["q"]
    num_flips = int(np.unpackbits((flipped ^ faulty.weights["q"]).view(np.uint8)).sum())
    assert 0 < (read != codes).sum() <= num_flips
    with pytest.raises(ValueError, match="two values in a byte"):
        faulty.place({"q": home(0.1, bounds=Bounds(-8, 7, "zero"))})


def test_unknown_tensors_and_models_without_layers_are_refused(network: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no layer that reads b1"):
        FaultyOnnx(network, {"b1": home(0.1)})
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "none",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), tmp_path / "r.onnx")
    with pytest.raises(Refused, match="no convolution"):
        FaultyOnnx(tmp_path / "r.onnx")


def test_torch_flips_the_same_bits_and_is_clean_afterwards(network: Path) -> None:
    torch = pytest.importorskip("torch")
    from amble.runtimes.torch.faulty import FaultyTorch

    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(network).graph.initializer}

    class Small(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = torch.nn.Conv2d(2, 4, 3, padding=1), torch.nn.Conv2d(4, 4, 3, padding=1)
            self.last = torch.nn.Linear(256, 3)
            layers = (self.first, self.second, self.last)
            for number, layer in enumerate(layers, start=1):
                layer.weight.data = torch.from_numpy(stored[f"w{number}"].copy())
                layer.bias.data = torch.from_numpy(stored[f"b{number}"].copy())

        def forward(self, image):  # type: ignore[no-untyped-def]
            first = torch.relu(self.first(image))
            return self.last((self.second(first) + first).flatten(1))

    limits = Bounds(-10, 10, "zero")
    faulty = FaultyTorch(
        Small().eval(),
        weights={"first": home(0.002, bounds=limits)},
        inputs={"last": home(0.002, 99, limits)},
        names={"first.weight": "w1", "last.input": "f"},
    )
    other = FaultyOnnx(network, {"w1": home(0.002, bounds=limits), "f": home(0.002, 99, limits)})
    other.inject_weights(4, read=2)
    for seed, count in ((4, None), (5, None), (6, 2), (4, None)):  # other sizes than those drawn ahead, too
        images = IMAGES[:count]
        other.inject_weights(seed, read=2)
        expected = other.run({"image": images}, seed, read=2)["scores"]
        with faulty.reading(seed, read=2) as module:
            found = module(torch.from_numpy(images)).numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
    assert not np.allclose(found, plain(network), atol=1e-3)
    assert faulty.num_flips > 0
    np.testing.assert_allclose(faulty.module(torch.from_numpy(IMAGES)).detach(), plain(network), rtol=1e-3, atol=1e-4)
    with pytest.raises(ValueError, match="no layers third"):
        FaultyTorch(Small(), weights={"third": home(0.1)}, inputs={})


def saved(path: Path, nodes: list[onnx.NodeProto], shape: list[object], weights: dict[str, tuple[int, ...]]) -> Path:
    """A network from "x" to "y" with random weights."""
    stored = [
        numpy_helper.from_array(RANDOM.normal(0, 0.5, each).astype(np.float32), name) for name, each in weights.items()
    ]
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    graph = helper.make_graph(
        nodes, "made", [given], [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], stored
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    return path


def test_extremes_are_those_of_all_examples_also_one_at_a_time(network: Path) -> None:
    seen = FaultyOnnx(network).observe({"image": IMAGES})
    for most_bytes in (2**30, 1):
        faulty = FaultyOnnx(network, memory_bytes=most_bytes)
        assert faulty.examples_at_once({"image": IMAGES}) == max(1, most_bytes // (4 * (2 * 64 + 2 * 256)))
        for name, ends in faulty.extremes({"image": IMAGES}).items():
            assert ends.tolist() == [seen[name].min(), seen[name].max()]
    wrong = IMAGES.copy()
    wrong[0, 0, 0, 0] = np.nan
    assert np.isnan(faulty.extremes({"image": wrong})["image"]).all()


def test_a_network_for_one_example_answers_one_at_a_time(tmp_path: Path) -> None:
    path = saved(tmp_path / "one.onnx", [helper.make_node("Gemm", ["x", "w"], ["y"])], [1, 6], {"w": (6, 3)})
    assert FaultyOnnx(path).examples_at_once({"x": np.zeros((40, 6), np.float32)}) == 1


def test_every_example_of_a_reshaped_tensor_goes_through_the_same_addresses(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Constant", [], ["rows"], value_ints=[-1, 4]),
        helper.make_node("Reshape", ["x", "rows"], ["tokens"]),
        helper.make_node("Gemm", ["tokens", "w"], ["y"]),
    ]
    path = saved(tmp_path / "tokens.onnx", nodes, ["n", 6, 4], {"w": (4, 3)})
    place = Home(DramErrors(Uniform(0.004, 1.0), module=3), each_example=True)
    x = np.repeat(RANDOM.normal(0, 1, (1, 6, 4)), 20, axis=0).astype(np.float32)
    scores = FaultyOnnx(path, {"tokens": place}).run({"x": x}, 0)["y"].reshape(20, 6, 3)
    clean = FaultyOnnx(path).run({"x": x}, 0)["y"].reshape(20, 6, 3)
    np.testing.assert_array_equal(scores, np.repeat(scores[:1], 20, axis=0))  # the same of every example
    changed = np.abs(scores[0] - clean[0]).max(axis=1) > 1e-6
    assert 0 < changed.sum() < 6  # tokens have addresses of their own


def test_an_operator_that_onnx_does_not_know_is_refused_in_words(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["a"]),
        helper.make_node("FastGelu", ["a"], ["b"], domain="com.microsoft"),
        helper.make_node("Gemm", ["b", "w"], ["y"]),
    ]
    path = saved(tmp_path / "own.onnx", nodes, ["n", 4], {"w": (4, 4)})
    with pytest.raises(Refused, match="operators of ONNX alone"):
        FaultyOnnx(path, {"x": home(0.0), "b": home(0.0)})


def test_what_a_branch_makes_itself_is_not_asked_of_segments_before(tmp_path: Path) -> None:
    def branch(name: str, kind: str) -> onnx.GraphProto:
        nodes = [helper.make_node(kind, ["b"], [f"{name}_inner"]), helper.make_node("Neg", [f"{name}_inner"], [name])]
        return helper.make_graph(nodes, name, [], [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)])

    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Gemm", ["b", "w"], ["c"]),
        helper.make_node("Constant", [], ["yes"], value=numpy_helper.from_array(np.array(True))),
        helper.make_node("If", ["yes"], ["d"], then_branch=branch("t", "Abs"), else_branch=branch("e", "Exp")),
        helper.make_node("Add", ["c", "d"], ["y"]),
    ]
    path = saved(tmp_path / "branches.onnx", nodes, ["n", 4], {"w": (4, 4)})
    x = RANDOM.normal(0, 1, (5, 4)).astype(np.float32)
    (wanted,) = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"x": x})
    found = FaultyOnnx(path, {"x": home(0.0), "b": home(0.0)}).run({"x": x}, 0)["y"]
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
