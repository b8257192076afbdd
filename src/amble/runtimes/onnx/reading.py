"""A file → the ONNX model in it with all its weights, and the digest of its content."""

from __future__ import annotations

import hashlib
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from amble.core.errors import Refused
from amble.runtimes.external import add_digests, beside_plainly, fetch, graph_tensors
from amble.runtimes.modernising import MIN_OPSET, modern
from amble.runtimes.recognising import described, folder_of_models

__all__ = ["MIN_OPSET", "as_written", "digest", "elements", "plain", "plainly", "read"]

_MOST_BYTES = 2**31 - 1
"""What one file in protobuf's format can hold; ONNX keeps the weights of larger networks in files of their own."""


def read(path: Path) -> tuple[onnx.ModelProto, str]:
    """Read a model and everything it refers to → the model in today's form and the SHA-256 of its files.

    Refused when the file is missing, is no ONNX model, lacks its external data, or is older than opset 7.
    """
    model, content = as_written(path)
    return modern(model, str(path)), content


def as_written(path: Path) -> tuple[onnx.ModelProto, str]:
    """Read a model with its weights, in the opset and order that its file has, and the SHA-256 of its files."""
    content = _content(path)
    model = _parse(path, content)
    hasher = hashlib.sha256(content)
    with _weights_of(path):
        add_digests(hasher, model, path)
        fetch(model, path)
    return model, hasher.hexdigest()


def plain(path: Path, folder: Path) -> Path:
    """Return a file that any ONNX library reads as ``read`` does: this one, or a copy of its name in the folder."""
    model = _parse(path, _content(path))
    with _weights_of(path):
        linked = not beside_plainly(model, path)
        fetch(model, path)
    made = modern(model, str(path))
    if made is model and not linked:
        return path
    folder.mkdir(parents=True, exist_ok=True)
    copy = folder / path.name
    large = sum(len(each.raw_data) for each in graph_tensors(made.graph)) > _MOST_BYTES // 2
    onnx.save_model(made, str(copy), save_as_external_data=large, location=f"{path.name}.data")
    return copy


@contextmanager
def plainly(path: Path) -> Iterator[Path]:
    """Give, while the block runs, a file that any ONNX library reads as ``read`` does."""
    with tempfile.TemporaryDirectory(prefix="amble-") as folder:
        yield plain(path, Path(folder))


@contextmanager
def _weights_of(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Refused(f"cannot read {error.filename}, weights of {path}: {error.strerror}; check its rights") from error


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


def _content(path: Path) -> bytes:
    """Read a file; Refused for what is none, such as a folder or a pipe that never ends."""
    try:
        mode = path.stat()
        if stat.S_ISDIR(mode.st_mode):
            raise Refused(f"{path} is a folder; {folder_of_models(path)}")
        if not stat.S_ISREG(mode.st_mode):
            raise Refused(f"{path} is no file but a pipe or a device; save the network to a file and name that")
        if mode.st_size > _MOST_BYTES:
            raise Refused(
                f"{path} has {mode.st_size / 2**30:.1f} GiB, and no ONNX file more than 2; save the network with its "
                f"weights beside it: onnx.save_model(model, path, save_as_external_data=True)"
            )
        return path.read_bytes()
    except OSError as error:
        raise Refused(f"cannot read {path}: {error.strerror or error}; name an ONNX file") from error


def _parse(path: Path, content: bytes) -> onnx.ModelProto:
    known = described(content)
    if known is not None:
        raise Refused(f"{path} is not an ONNX file but {known[0]}; {known[1]}")
    try:
        model = onnx.ModelProto.FromString(content)
    except DecodeError as error:
        raise Refused(f"{path} is not an ONNX file, or it is cut short; export the model to ONNX again") from error
    if not model.opset_import or not model.graph.output:
        raise Refused(f"{path} is not an ONNX file (it holds no network); export the model to ONNX again")
    return model
