"""The first bytes of a file that is no ONNX network → what it is, and how an ONNX network comes of it."""

from __future__ import annotations

from pathlib import Path

__all__ = ["POINTER", "described", "folder_of_models"]

POINTER = b"version https://git-lfs"
"""What a file begins with that Git LFS left in place of a large one."""

_FETCH = "fetch the file itself with git lfs pull"
_TORCH = "load it in PyTorch and write it with torch.onnx.export"
_STARTS: tuple[tuple[int, bytes, str, str], ...] = (
    (0, POINTER, "a Git LFS pointer, not the file it stands for", _FETCH),
    (0, b"\x80\x02", "a pickle, as PyTorch's old checkpoints are", _TORCH),
    (0, b"\x80\x04", "a pickle", "export the model to ONNX with the library that made it (skl2onnx for scikit-learn)"),
    (0, b"\x89HDF", "an HDF5 file, as Keras writes them", "convert the model with tf2onnx"),
    (0, b"GGUF", "a GGUF file of weights", "export the model to ONNX from where it was made"),
    (0, b"\x1f\x8b", "compressed with gzip", "unpack it with gunzip"),
    (0, b"BZh", "compressed with bzip2", "unpack it with bunzip2"),
    (0, b"\xfd7zXZ", "compressed with xz", "unpack it with unxz"),
    (0, b"7z\xbc\xaf", "a 7z archive", "unpack it and name the ONNX file in it"),
    (0, b"%PDF", "a PDF", "name an ONNX file"),
    (4, b"TFL3", "a TensorFlow Lite model", "convert the model it was made from with tf2onnx"),
    (
        4,
        b"ORTM",
        "in ONNX Runtime's own format (.ort), which is already optimised",
        "name the ONNX file it was made from",
    ),
    (257, b"ustar", "a tar archive", "unpack it and name the ONNX file in it"),
)
_TEXTS: tuple[tuple[bytes, str, str], ...] = (
    (b"<!doctype html", "a web page, not the file behind it", "download the file itself (its raw link)"),
    (b"<html", "a web page, not the file behind it", "download the file itself (its raw link)"),
    (b"<?xml", "an XML file, as OpenVINO's networks are", "name the ONNX file it was made from"),
    (b"ir_version:", "an ONNX network as text", "read it with google.protobuf.text_format and save it with onnx.save"),
    (b"{", "a JSON file", "name an ONNX file"),
)
_HEAD = 512


def described(content: bytes) -> tuple[str, str] | None:
    """Return what the bytes are and what to do about it; None where they tell nothing.

    >>> described(b"GGUF and so on")
    ('a GGUF file of weights', 'export the model to ONNX from where it was made')
    """
    if not content:
        return "empty", "export the model to ONNX again, or copy the file again"
    if content.startswith(b"PK\x03\x04"):
        return _zipped(content)
    for at, start, what, advice in _STARTS:
        if content.startswith(start, at):
            return what, advice
    if content[8:10] == b'{"' and int.from_bytes(content[:8], "little") < len(content):
        return "a safetensors file, which holds weights without a network", _TORCH
    text = content[:_HEAD].lstrip().lower()
    return next(((what, advice) for start, what, advice in _TEXTS if text.startswith(start)), None)


def folder_of_models(path: Path) -> str:
    """Return what to do about a folder: which of the ONNX files in it to name."""
    inside = sorted(each for pattern in ("*.onnx", "*/*.onnx") for each in path.glob(pattern))
    return f"name a file in it, such as {inside[0]}" if inside else "name an ONNX file"


def _zipped(content: bytes) -> tuple[str, str]:
    if b"data.pkl" in content[:4096]:
        return "a PyTorch file (a zip archive with a pickle)", _TORCH
    if b".npy" in content[:_HEAD]:
        return "an .npz file of arrays", "name an ONNX file; arrays are given with --data"
    if b"config.json" in content[:4096] and b"model.weights" in content[-8192:]:
        return "a Keras file", "convert the model with tf2onnx"
    return "a zip archive", "unpack it and name the ONNX file in it"
