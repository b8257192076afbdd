"""A file → the ONNX model in it with all its weights, and the digest of its content."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx.external_data_helper import load_external_data_for_model, uses_external_data

from amble.core.errors import Refused

__all__ = ["MIN_OPSET", "digest", "elements", "read", "tensors"]

MIN_OPSET = 13
"""The oldest opset whose operators are counted by their present meaning (axes as inputs, quantisation per axis)."""


def read(path: Path) -> tuple[onnx.ModelProto, str]:
    """Read a model and everything it refers to → the model and the SHA-256 of its files.

    Refused when the file is missing, is no ONNX model, lacks its external data, or is older than opset 13.
    """
    content = _content(path)
    model = _parse(path, content)
    _check_opset(path, model)
    hasher = hashlib.sha256(content)
    for location in sorted(_external(model)):
        with _opened(path, location).open("rb") as file:
            hasher.update(hashlib.file_digest(file, "sha256").digest())
    if _external(model):
        load_external_data_for_model(model, str(path.parent))
    return model, hasher.hexdigest()


def digest(content: str, batch: int, shapes: dict[str, tuple[int, ...]]) -> str:
    """Return the SHA-256 that identifies a model's content (its own digest) at this batch and these input shapes."""
    text = f"{content} batch {batch} shapes {sorted(shapes.items())}"
    return hashlib.sha256(text.encode()).hexdigest()


def elements(dtype: int) -> str:
    """Return the name of an ONNX element type as people write it: ``float``, ``int64``.

    >>> elements(1)
    'float'
    """
    return str(onnx.TensorProto.DataType.Name(dtype)).lower()


def tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Yield every initialiser and constant, those of subgraphs too."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                yield attribute.t
            elif attribute.type == onnx.AttributeProto.GRAPH:
                yield from tensors(attribute.g)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Refused(f"cannot read {path}: {error.strerror or error}; name an ONNX file") from error


def _parse(path: Path, content: bytes) -> onnx.ModelProto:
    try:
        model = onnx.ModelProto.FromString(content)
    except DecodeError as error:
        raise Refused(f"{path} is not an ONNX file, or it is cut short; export the model to ONNX again") from error
    if not model.opset_import or not model.graph.output:
        raise Refused(f"{path} is not an ONNX file (it holds no network); export the model to ONNX again")
    return model


def _check_opset(path: Path, model: onnx.ModelProto) -> None:
    for opset in model.opset_import:
        if opset.domain in ("", "ai.onnx") and opset.version < MIN_OPSET:
            raise Refused(
                f"{path} uses opset {opset.version}, amble reads opset {MIN_OPSET} and later; "
                f"convert it with onnx.version_converter.convert_version(model, 17)"
            )


def _external(model: onnx.ModelProto) -> set[str]:
    kept = (tensor for tensor in tensors(model.graph) if uses_external_data(tensor))
    return {entry.value for tensor in kept for entry in tensor.external_data if entry.key == "location"}


def _opened(path: Path, location: str) -> Path:
    beside = path.parent / location
    if not beside.is_file():
        raise Refused(f"{path} keeps its weights in {beside}, which is missing; put that file beside the model")
    return beside
