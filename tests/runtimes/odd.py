"""Networks and files as other people have them: small, odd, and each either runs or is refused in one line."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.runtimes.models import (
    BOOL,
    FLOAT,
    INT64,
    attention,
    branching,
    cnn,
    constant,
    looping,
    lstm,
    mlp,
    model,
    node,
    quantised,
    saved,
    value,
    weight,
)

Make = Callable[[Path], Path]
Shapes = Mapping[str, tuple[int, ...]]

DTYPES = {
    "bool": TensorProto.BOOL,
    "int8": TensorProto.INT8,
    "uint8": TensorProto.UINT8,
    "uint16": TensorProto.UINT16,
    "int32": TensorProto.INT32,
    "float16": TensorProto.FLOAT16,
    "bfloat16": TensorProto.BFLOAT16,
    "double": TensorProto.DOUBLE,
    "string": TensorProto.STRING,
}


@dataclass(frozen=True, slots=True)
class Odd:
    """A file, how it is made in a folder, and what is said of it where it cannot be used (a pattern)."""

    name: str
    make: Make
    refusal: str = ""
    shapes: Shapes = field(default_factory=dict)


_X = [value("x", ["N", 4])]
_PICTURE = [value("x", ["N", 3, 8, 8])]


def _of(content: onnx.ModelProto) -> Make:
    return lambda folder: saved(folder, content)


def _net(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    *weights: onnx.TensorProto,
    opset: int = 17,
    answers: int = FLOAT,
) -> onnx.ModelProto:
    """A network with the output y of any shape."""
    return model(nodes, inputs, [value("y", None, answers)], weights, opset=opset)


def _listed_weights() -> onnx.ModelProto:
    """Weights as lists of numbers, not as bytes."""
    listed = helper.make_tensor("w", FLOAT, [4, 3], [0.1 * number for number in range(12)])
    return _net([node("MatMul", ["x", "w"], ["y"])], [value("x", ["N", 4])], listed)


def _typed(dtype: int, opset: int = 17) -> onnx.ModelProto:
    """An input of this type → cast → product."""
    nodes = [node("Cast", ["x"], ["f"], to=FLOAT), node("MatMul", ["f", "w"], ["y"])]
    return _net(nodes, [value("x", ["N", 4], dtype)], weight("w", 4, 3), opset=opset)


def zipmap() -> onnx.ModelProto:
    """A tree that answers a label and a sequence of maps, as scikit-learn's classifiers are exported."""
    tree: dict[str, Any] = {
        "nodes_treeids": [0, 0, 0],
        "nodes_nodeids": [0, 1, 2],
        "nodes_featureids": [0, 0, 0],
        "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"],
        "nodes_values": [0.0, 0.0, 0.0],
        "nodes_truenodeids": [1, 0, 0],
        "nodes_falsenodeids": [2, 0, 0],
        "class_treeids": [0, 0, 0, 0],
        "class_nodeids": [1, 1, 2, 2],
        "class_ids": [0, 1, 0, 1],
        "class_weights": [0.9, 0.1, 0.2, 0.8],
        "classlabels_int64s": [0, 1],
    }
    nodes = [
        node("TreeEnsembleClassifier", ["x"], ["label", "scores"], domain="ai.onnx.ml", **tree),
        node("ZipMap", ["scores"], ["maps"], domain="ai.onnx.ml", classlabels_int64s=[0, 1]),
    ]
    maps = helper.make_sequence_type_proto(helper.make_map_type_proto(INT64, helper.make_tensor_type_proto(FLOAT, [])))
    outputs = [value("label", ["N"], INT64), helper.make_value_info("maps", maps)]
    made = model(nodes, [value("x", ["N", 4])], outputs)
    made.opset_import.add(domain="ai.onnx.ml", version=3)
    return made


def _words() -> onnx.ModelProto:
    words = node("LabelEncoder", ["s"], ["i"], domain="ai.onnx.ml", keys_strings=["a", "b"], values_floats=[1.0, 2.0])
    made = _net(
        [words, node("MatMul", ["i", "w"], ["y"])], [value("s", ["N", 3], TensorProto.STRING)], weight("w", 3, 2)
    )
    made.opset_import.add(domain="ai.onnx.ml", version=2)
    return made


def old(opset: int) -> onnx.ModelProto:
    """Operators whose meaning or form changed up to opset 13: axes and splits as attributes, a flattening softmax."""
    nodes = [
        node("Unsqueeze", ["x"], ["u"], axes=[1]),
        node("Squeeze", ["u"], ["s"], axes=[1]),
        node("Split", ["s"], ["a", "b"], axis=2, split=[1, 3]),
        node("Concat", ["a", "b"], ["c"], axis=2),
        node("ReduceSum", ["c"], ["r"], axes=[2], keepdims=1),
        node("Add", ["c", "r"], ["d"]),
        node("Softmax", ["d"], ["y"], axis=1),
    ]
    return _net(nodes, [value("x", ["N", 3, 4])], opset=opset)


def _plain(opset: int) -> onnx.ModelProto:
    nodes = [node("MatMul", ["x", "w"], ["h"]), node("Dropout", ["h"], ["d"]), node("Relu", ["d"], ["y"])]
    return _net(nodes, _X, weight("w", 4, 3), opset=opset)


def _upsampled(mode: str) -> onnx.ModelProto:
    return _net(
        [node("Upsample", ["x", "by"], ["y"], mode=mode)], _PICTURE, constant("by", [1, 1, 2, 1.5], np.float32), opset=9
    )


def _dynamic() -> onnx.ModelProto:
    nodes = [node("Shape", ["x"], ["n"]), node("Reshape", ["x", "n"], ["r"]), node("Mul", ["r", "z"], ["y"])]
    return _net(nodes, [value("x", ["N", "height", "width"]), value("z", ["N", "height", "width"])])


def _zero_sized() -> onnx.ModelProto:
    empty = numpy_helper.from_array(np.zeros((1, 0), np.float32), "none")
    nodes = [node("Concat", ["x", "none"], ["c"], axis=1), node("MatMul", ["c", "w"], ["y"])]
    return _net(nodes, [value("x", [1, 4])], empty, weight("w", 4, 3))


def _masked() -> onnx.ModelProto:
    nodes = [
        node("Where", ["mask", "x", "ninf"], ["m"]),
        node("Softmax", ["m"], ["p"]),
        node("MatMul", ["p", "w"], ["y"]),
    ]
    inputs = [value("x", ["N", 6]), value("mask", ["N", 6], BOOL)]
    return _net(nodes, inputs, constant("ninf", -np.inf, np.float32), weight("w", 6, 3))


def _nan() -> onnx.ModelProto:
    return _net(
        [node("MatMul", ["x", "w"], ["y"])], [value("x", ["N", 4])], constant("w", np.full((4, 3), np.nan), np.float32)
    )


def _backwards(content: onnx.ModelProto) -> onnx.ModelProto:
    nodes = [onnx.NodeProto.FromString(each.SerializeToString()) for each in reversed(content.graph.node)]
    del content.graph.node[:]
    content.graph.node.extend(nodes)
    return content


def _function() -> onnx.ModelProto:
    made = _net([node("Twice", ["x"], ["t"], domain="own"), node("Relu", ["t"], ["y"])], [value("x", ["N", 4])])
    body = [node("Add", ["a", "a"], ["b"])]
    opsets = [helper.make_opsetid("", 17)]
    made.functions.append(helper.make_function("own", "Twice", ["a"], ["b"], body, opsets))
    made.opset_import.add(domain="own", version=1)
    return made


def _sequence_inside() -> onnx.ModelProto:
    nodes = [node("SequenceConstruct", ["x", "x"], ["s"]), node("ConcatFromSequence", ["s"], ["y"], axis=0)]
    return _net(nodes, [value("x", [2, 4])])


def _optional() -> onnx.ModelProto:
    inner = helper.make_tensor_type_proto(FLOAT, ["N", 4])
    outputs = [value("y", None), helper.make_value_info("maybe", helper.make_optional_type_proto(inner))]
    return model([node("Exp", ["x"], ["y"]), node("Optional", ["y"], ["maybe"])], [value("x", ["N", 4])], outputs)


def _weights_as_inputs() -> onnx.ModelProto:
    made = old(9)
    made.graph.node.append(node("Mul", ["y", "k"], ["z"]))
    made.graph.output[0].name = "z"
    made.graph.initializer.append(constant("k", np.full(4, 2.0), np.float32))
    made.graph.input.append(value("k", [4]))
    made.ir_version = 3
    return made


def _named_oddly() -> onnx.ModelProto:
    names = ["serving_default_x:0", "with space/é", 'quote"d', "y=ŷ"]
    nodes = [
        node("Exp", [names[0]], [names[1]]),
        node("Neg", [names[1]], [names[2]], name="n\n"),
        node("Relu", [names[2]], [names[3]]),
    ]
    return model(nodes, [value(names[0], ["N", 4])], [value(names[3], None)])


def _partly_constant() -> onnx.ModelProto:
    nodes = [node("Constant", [], ["k"], value=constant("k", [1.0, 2.0], np.float32)), node("Exp", ["x"], ["y"])]
    return model(nodes, [value("x", ["N", 4]), value("unused", ["N", 2])], [value("y", None), value("k", None)])


def _sparse() -> onnx.ModelProto:
    made = _net([node("MatMul", ["x", "w"], ["y"])], [value("x", ["N", 4])])
    values = numpy_helper.from_array(np.array([2.0, 3.0], np.float32), "w")
    places = numpy_helper.from_array(np.array([1, 7], np.int64), "places")
    made.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [4, 3]))
    return made


def _random() -> onnx.ModelProto:
    return _net([node("RandomNormal", [], ["r"], shape=[1, 8]), node("Exp", ["r"], ["y"])], [])


def _with(content: onnx.ModelProto, **changes: int) -> onnx.ModelProto:
    for name, number in changes.items():
        setattr(content, name, number)
    return content


def kept_outside(folder: Path, location: str = "weights.bin") -> Path:
    """A network whose weights are in a file of their own."""
    path = folder / "model.onnx"
    (folder / location).parent.mkdir(parents=True, exist_ok=True)
    onnx.save(mlp((8, 16, 4)), str(path), save_as_external_data=True, location=location, size_threshold=0)
    return path


def beside(folder: Path, name: str) -> Path:
    """A folder with another one in it."""
    (folder / name).mkdir()
    return folder


def moved(path: Path, location: str) -> Path:
    """Say in the file that its weights are elsewhere."""
    content = onnx.load(str(path), load_external_data=False)
    for tensor in content.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    path.write_bytes(content.SerializeToString())
    return path


def cache_of_links(folder: Path, *, beside_link: bool = True) -> Path:
    """A cache that keeps files by their checksum, and a snapshot of links to them."""
    (folder / "blobs").mkdir()
    path = kept_outside(folder / "blobs")
    snapshot = folder / "snapshots" / "onnx"
    snapshot.mkdir(parents=True)
    if beside_link:
        path.rename(folder / "blobs" / "c6edb9")
        (folder / "blobs" / "weights.bin").rename(folder / "blobs" / "b879fe")
        (snapshot / "weights.bin").symlink_to("../../blobs/b879fe")
        (snapshot / "model.onnx").symlink_to("../../blobs/c6edb9")
    else:
        (snapshot / "model.onnx").symlink_to("../../blobs/model.onnx")
    return snapshot / "model.onnx"


def _link_of_link(folder: Path) -> Path:
    (folder / "short.onnx").symlink_to(cache_of_links(folder))
    return folder / "short.onnx"


def _hard_linked(folder: Path) -> Path:
    path = kept_outside(folder)
    os.link(folder / "weights.bin", folder / "same.bin")
    return path


def _cut_weights(folder: Path) -> Path:
    path = kept_outside(folder)
    (folder / "weights.bin").write_bytes((folder / "weights.bin").read_bytes()[:100])
    return path


def _pointed_weights(folder: Path) -> Path:
    path = kept_outside(folder)
    (folder / "weights.bin").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    return path


def _no_weights(folder: Path) -> Path:
    path = kept_outside(folder)
    (folder / "weights.bin").unlink()
    return path


def _bytes(content: bytes) -> Make:
    def make(folder: Path) -> Path:
        path = folder / "model.onnx"
        path.write_bytes(content)
        return path

    return make


def _folder(folder: Path) -> Path:
    saved(folder, mlp(), "inside.onnx")
    return folder


def _pipe(folder: Path) -> Path:
    os.mkfifo(folder / "pipe.onnx")
    return folder / "pipe.onnx"


def _loop(folder: Path) -> Path:
    (folder / "model.onnx").symlink_to("model.onnx")
    return folder / "model.onnx"


def _large(folder: Path) -> Path:
    with (folder / "model.onnx").open("wb") as file:
        file.truncate(3 << 30)  # takes no room
    return folder / "model.onnx"


def _npz(folder: Path) -> Path:
    np.savez(folder / "arrays.npz", x=np.zeros(3))
    return folder / "arrays.npz"


def _dropout() -> onnx.ModelProto:
    nodes = [node("Dropout", ["x", "ratio", "training"], ["y"])]
    return _net(nodes, [value("x", ["N", 4])], constant("ratio", 0.5, np.float32), constant("training", True, np.bool_))


def _batch_norm() -> onnx.ModelProto:
    nodes = [node("BatchNormalization", ["x", *"abcd"], ["y", "m", "v"], training_mode=1)]
    return _net(nodes, [value("x", ["N", 4])], *(constant(each, np.ones(4), np.float32) for each in "abcd"))


def _foreign() -> onnx.ModelProto:
    made = _net([node("Warp", ["x"], ["y"], domain="acme")], [value("x", ["N", 4])])
    made.opset_import.add(domain="acme", version=1)
    return made


def _given(info: onnx.TypeProto, kind: str) -> onnx.ModelProto:
    return _net([node(kind, ["x"], ["y"])], [helper.make_value_info("x", info)])


_TENSOR = helper.make_tensor_type_proto(FLOAT, [2])

RUNNING = (
    *(Odd(f"input of {name}", _of(_typed(dtype))) for name, dtype in DTYPES.items()),
    *(Odd(f"opset {opset}", _of(old(opset))) for opset in range(7, 13)),
    *(
        Odd(f"opset {opset} of format 3, weights no inputs", _of(_with(_plain(opset), ir_version=3)))
        for opset in (7, 9)
    ),
    Odd("scalar input", _of(_net([node("Mul", ["x", "k"], ["y"])], [*_X, value("k", [])]))),
    Odd("only a scalar", _of(_net([node("Exp", ["x"], ["y"])], [value("x", [])]))),
    Odd("texts", _of(_words())),
    Odd("maps", _of(zipmap())),
    Odd("optional output", _of(_optional())),
    Odd("sequence inside", _of(_sequence_inside())),
    Odd("all axes open", _of(_dynamic()), shapes={"x": (1, 3, 4)}),
    Odd("zero-sized weight", _of(_zero_sized())),
    Odd("batch of zero", _of(_net([node("Exp", ["x"], ["y"])], [value("x", [0, 4])]))),
    Odd("mask of infinities", _of(_masked())),
    Odd("answers that are no numbers", _of(_nan())),
    Odd("unsorted", _of(_backwards(mlp()))),
    Odd("own function", _of(_function())),
    Odd("weights among the inputs", _of(_weights_as_inputs())),
    Odd("odd names", _of(_named_oddly())),
    Odd("partly constant", _of(_partly_constant())),
    Odd("sparse weights", _of(_sparse())),
    Odd("recurrent", _of(lstm())),
    Odd("convolutions", _of(cnn())),
    Odd("weights in a folder below", lambda folder: kept_outside(folder, "data/weights.bin")),
    Odd(
        "weights by another path",
        lambda folder: moved(kept_outside(beside(folder, "data")), "./data/../weights.bin"),
    ),
    Odd("hard links", _hard_linked),
    Odd("cache of links", cache_of_links),
    Odd("link to a cache of links", _link_of_link),
    Odd("weights beside the real file", lambda folder: cache_of_links(folder, beside_link=False)),
    Odd("no inputs", _of(_random())),
    Odd("branches", _of(branching())),
    Odd("loop", _of(looping())),
    Odd("quantised", _of(quantised())),
    Odd("words looked up", _of(attention()), shapes={"ids": (1, 6)}),
    Odd("as many answers as there are", _of(_net([node("NonZero", ["x"], ["y"])], _X, answers=INT64))),
    Odd("operator of Microsoft's", _of(_net([node("Gelu", ["x"], ["y"], domain="com.microsoft")], _X))),
    Odd(
        "an input among the answers",
        _of(model([node("Exp", ["x"], ["y"])], _X, [value("y", None), value("x", ["N", 4])])),
    ),
    Odd(
        "a weight among the answers",
        _of(model([node("Exp", ["x"], ["y"])], _X, [value("y", None), value("w", [2, 2])], [weight("w", 2, 2)])),
    ),
    Odd("input of float8", _of(_typed(TensorProto.FLOAT8E4M3FN, 19))),
    Odd("input of int16", _of(_typed(TensorProto.INT16))),
    Odd("input of uint64", _of(_typed(TensorProto.UINT64))),
    Odd("weights in lists", _of(_listed_weights())),
    Odd("weight nobody reads", _of(_net([node("Exp", ["x"], ["y"])], _X, weight("w", 64, 64)))),
    Odd(
        "answers of half precision",
        _of(_net([node("Cast", ["x"], ["y"], to=TensorProto.BFLOAT16)], _X, answers=TensorProto.BFLOAT16)),
    ),
    *(Odd(f"{mode} upsampling of opset 9", _of(_upsampled(mode))) for mode in ("linear", "nearest")),
    Odd("no rank", _of(_net([node("Exp", ["x"], ["y"])], [value("x", None)])), shapes={"x": (1, 4)}),
    Odd("one number for the batch", _of(_net([node("Exp", ["x"], ["y"])], [value("x", ["N"])]))),
    Odd(
        "texts as answers",
        _of(_net([node("Cast", ["x"], ["y"], to=TensorProto.STRING)], _X, answers=TensorProto.STRING)),
    ),
)

REFUSED = (
    Odd(
        "constant",
        _of(_net([node("Constant", [], ["y"], value=constant("k", [1.0], np.float32))], [])),
        "nothing to run",
    ),
    Odd("no operators", _of(model([], _X, _X)), "nothing to run"),
    Odd("format of tomorrow", _of(_with(mlp(), ir_version=99)), "IR version 99.*reads up to"),
    Odd("opset of tomorrow", _of(_net([node("Exp", ["x"], ["y"])], _X, opset=99)), "opset 99"),
    Odd("opset of long ago", _of(_net([node("Exp", ["x"], ["y"])], _X, opset=6)), "opset 6"),
    Odd(
        "operator that onnx converts wrongly",
        _of(_net([node("Hardmax", ["x"], ["y"], axis=1)], _PICTURE, opset=9)),
        "answers otherwise",
    ),
    Odd("foreign operator", _of(_foreign()), "acme:Warp"),
    Odd("unknown operator", _of(_net([node("Frob", ["x"], ["y"])], _X)), "Frob"),
    Odd("no weights", _no_weights, "weights.bin, which is missing"),
    Odd("weights cut short", _cut_weights, "weights.bin is cut short"),
    Odd("pointer for weights", _pointed_weights, "weights.bin is a Git LFS pointer"),
    Odd("weights above", lambda folder: moved(kept_outside(folder), "../weights.bin"), "outside of its own folder"),
    Odd("weights anywhere", lambda folder: moved(kept_outside(folder), "/etc/hostname"), "outside of its own folder"),
    Odd("folder", _folder, "is a folder; name a file in it, such as .*inside.onnx"),
    Odd("pipe", _pipe, "pipe.onnx is no file"),
    Odd("link to itself", _loop, "model.onnx"),
    Odd("missing", lambda folder: folder / "none.onnx", "none.onnx"),
    Odd("empty", _bytes(b""), "empty"),
    Odd("more than one file holds", _large, "has 3.0 GiB.*save_as_external_data=True"),
    Odd("cut short", _bytes(cnn().SerializeToString()[:500]), "cut short"),
    Odd("pointer", _bytes(b"version https://git-lfs.github.com/spec/v1\n"), "git lfs pull"),
    Odd("web page", _bytes(b"\n<!DOCTYPE html><html>"), "web page"),
    Odd("arrays", _npz, "arrays"),
    Odd("archive", _bytes(b"PK\x03\x04" + bytes(40)), "zip archive"),
    Odd("torch", _bytes(b"PK\x03\x04" + bytes(26) + b"net/data.pkl" + bytes(40)), "torch.onnx.export"),
    Odd("pickle", _bytes(b"\x80\x02}q\x00."), "torch.onnx.export"),
    Odd("safetensors", _bytes((12).to_bytes(8, "little") + b'{"a":      }' + bytes(8)), "safetensors"),
    Odd("text", _bytes(b"ir_version: 8\n"), "as text"),
    Odd("cycle", _of(_net([node("Add", ["x", "y"], ["a"]), node("Exp", ["a"], ["y"])], _X)), "waits for its own"),
    Odd("undefined", _of(_net([node("Exp", ["nowhere"], ["y"])], _X)), "nowhere"),
    Odd("answers of another type", _of(_net([node("NonZero", ["x"], ["y"])], _X)), "cannot be loaded: Type Error"),
    Odd("made twice", _of(_net([node("Exp", ["x"], ["y"], "a"), node("Neg", ["x"], ["y"], "b")], _X)), "y"),
    Odd("dropout in training", _of(_dropout()), "training mode"),
    Odd("normalisation in training", _of(_batch_norm()), "training mode"),
    Odd("contradiction", _of(_net([node("MatMul", ["x", "w"], ["y"])], _X, weight("w", 5, 3))), "cannot be"),
    Odd(
        "sequence given",
        _of(_given(helper.make_sequence_type_proto(_TENSOR), "SequenceLength")),
        "not a tensor but seq",
    ),
    Odd("optional given", _of(_given(helper.make_optional_type_proto(_TENSOR), "OptionalHasElement")), "but optional"),
    Odd(
        "complex numbers",
        _of(_net([node("Identity", ["x"], ["y"])], [value("x", [2], TensorProto.COMPLEX64)])),
        "complex64",
    ),
    Odd("numbers of 4 bits", _of(_net([node("Identity", ["x"], ["y"])], [value("x", [2], TensorProto.INT4)])), "int4"),
    Odd("axes not given", _of(_dynamic()), r"axis 1 \(height\).*axis 2 \(width\).*--shape x:1,128,224,"),
    Odd("more than there is memory", _of(_net([node("Exp", ["x"], ["y"])], [value("x", [1, 2**45])])), "memory"),
)
