"""A model and where its file is → the weights that are kept in other files, read into it.

Where they may be: in the model's folder or below, by a relative path. A path that a model file itself gives and that
leads out of its folder is refused, since a file from elsewhere could so read any file of its user's. Links in the
folder are followed wherever they lead: they were made by whoever owns the folder. A cache that keeps every file under
its checksum and links to it (as that of Hugging Face) works both ways: weights may be beside the link or beside the
real file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from math import prod
from pathlib import Path, PurePosixPath

import onnx
from onnx.external_data_helper import uses_external_data

from amble.core.errors import Refused
from amble.runtimes.recognising import POINTER

__all__ = ["add_digests", "beside_plainly", "fetch", "graph_tensors", "tensors"]

_PACKED_BITS = {"INT4": 4, "UINT4": 4, "FLOAT4E2M1": 4, "INT2": 2, "UINT2": 2}


def tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Yield every initialiser and constant of a model, those of its subgraphs and functions too."""
    yield from graph_tensors(model.graph)
    for function in model.functions:
        for node in function.node:
            yield from _node_tensors(node)


def graph_tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Yield every initialiser and constant of a graph, those of its subgraphs too."""
    yield from graph.initializer
    for node in graph.node:
        yield from _node_tensors(node)


def _node_tensors(node: onnx.NodeProto) -> Iterator[onnx.TensorProto]:
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.TENSOR:
            yield attribute.t
        yield from attribute.tensors
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield from graph_tensors(attribute.g)
        for graph in attribute.graphs:
            yield from graph_tensors(graph)


def fetch(model: onnx.ModelProto, path: Path) -> None:
    """Read every tensor that is kept elsewhere into the model; Refused where one is missing, outside or cut short."""
    for tensor in _kept_outside(model):
        tensor.raw_data = _content(tensor, path)
        tensor.ClearField("data_location")
        del tensor.external_data[:]


def add_digests(hasher: hashlib._Hash, model: onnx.ModelProto, path: Path) -> None:
    """Take the files with weights into a digest, each by its own."""
    for location in sorted({_entries(tensor, path)["location"] for tensor in _kept_outside(model)}):
        with _found(path, location).open("rb") as file:
            hasher.update(hashlib.file_digest(file, "sha256").digest())


def beside_plainly(model: onnx.ModelProto, path: Path) -> bool:
    """Tell whether every library finds the weights: there are none outside, or no link is on the way to them."""
    locations = {_entries(tensor, path)["location"] for tensor in _kept_outside(model)}
    if not locations:
        return True
    files = [path, *(path.parent / location for location in locations)]
    return all(each.is_file() and each.resolve() == each.absolute() and each.stat().st_nlink == 1 for each in files)


def _kept_outside(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    return (tensor for tensor in tensors(model) if uses_external_data(tensor))


def _entries(tensor: onnx.TensorProto, path: Path) -> dict[str, str]:
    entries = {each.key: each.value for each in tensor.external_data}
    if "location" not in entries:
        raise Refused(f"{path}: the weight {tensor.name!r} is in another file, which it does not name; export it again")
    return entries


def _content(tensor: onnx.TensorProto, path: Path) -> bytes:
    entries = _entries(tensor, path)
    file = _found(path, entries["location"])
    try:
        start, length = int(entries.get("offset", 0)), int(entries.get("length", -1))
    except ValueError as error:
        raise Refused(
            f"{path}: the weight {tensor.name!r} is at no place in {file} ({error}); export it again"
        ) from error
    wanted = _num_bytes(tensor) if length < 0 else length
    with file.open("rb") as opened:
        if opened.read(len(POINTER)) == POINTER:
            raise Refused(f"{file} is a Git LFS pointer, not the weights of {path}; fetch them with git lfs pull")
        size = file.stat().st_size
        if start < 0 or start + wanted > size:
            raise Refused(
                f"{file} is cut short: it has {size} bytes, {path} keeps {start + wanted} in it; copy it again"
            )
        opened.seek(start)
        return opened.read(wanted)


def _num_bytes(tensor: onnx.TensorProto) -> int:
    """Return how many bytes a tensor's shape and type take."""
    name = onnx.TensorProto.DataType.Name(tensor.data_type)
    bits: int = _PACKED_BITS.get(name) or 8 * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    num_bits: int = prod(tensor.dims) * bits
    return -(-num_bits // 8)


def _found(path: Path, location: str) -> Path:
    """Return the file of this location: beside the model as it was named, or beside a file that its links lead to."""
    inside = PurePosixPath(location.replace("\\", "/"))
    depth = 0
    for part in inside.parts:
        depth += -1 if part == ".." else 1
        if depth < 0 or inside.is_absolute():
            raise Refused(
                f"{path} keeps its weights in {location}, outside of its own folder, where no model file may make "
                f"amble read; export it again with its weights beside it"
            )
    for folder in _folders(path):
        if (folder / inside).is_file():
            return folder / inside
    missing = path.parent / inside
    raise Refused(f"{path} keeps its weights in {missing}, which is missing; put that file beside the model")


def _folders(path: Path) -> Iterator[Path]:
    """Yield the folder of a file, then those of the files that it leads to, link by link."""
    yield path.parent
    while path.is_symlink():
        path = path.parent / path.readlink()
        yield path.parent
    yield path.resolve().parent
