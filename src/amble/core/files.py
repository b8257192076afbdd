"""Artefacts ↔ readable, versioned JSON files with their provenance, written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec
import numpy as np

from amble.core.errors import Refused

__all__ = ["Format", "cache_folder", "kind_of", "load", "plain", "save", "write_bytes", "write_text"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Format(Generic[T]):
    """A kind of artefact: its name in the file, its version and its type."""

    kind: str
    version: int
    type: type[T]


def save(artefact: T, path: Path | str, form: Format[T]) -> None:
    """Write an artefact; an existing file stays as it was until the new one is complete."""
    document = {
        "kind": form.kind,
        "format": form.version,
        "provenance": _provenance(),
        form.kind: artefact,
    }
    write_text(path, msgspec.json.format(msgspec.json.encode(document, enc_hook=plain), indent=1).decode() + "\n")


def load(path: Path | str, form: Format[T]) -> T:
    """Read an artefact; Refused when the file is missing, damaged, of another kind or of another format."""
    document = _document(path)
    if document.get("kind") != form.kind:
        raise Refused(f"{path} holds a {document.get('kind')}, not a {form.kind}")
    if document.get("format") != form.version:
        raise Refused(
            f"{path}: {form.kind} format {document.get('format')}, this amble reads format {form.version}; "
            f"make the file again with this version"
        )
    try:
        return msgspec.convert(document[form.kind], form.type, strict=False)
    except (KeyError, msgspec.ValidationError, ValueError) as error:
        raise Refused(f"{path} is not a whole {form.kind}: {error}") from error


def cache_folder() -> Path:
    """Return where amble keeps what it can make again: ``AMBLE_CACHE``, else in the user's cache folder."""
    base = os.environ.get("AMBLE_CACHE") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "amble"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        why = error.strerror or error
        raise Refused(
            f"cannot keep anything in {folder}: {why}; let AMBLE_CACHE name a folder that can be written"
        ) from error
    return folder


def kind_of(path: Path | str) -> str:
    """Return the kind of artefact a file holds."""
    return str(_document(path)["kind"])


def write_text(path: Path | str, text: str) -> None:
    """Replace a file by this text atomically; Refused when the disk or its rights do not allow it."""
    write_bytes(path, text.encode())


def write_bytes(path: Path | str, content: bytes) -> None:
    """Replace a file by these bytes atomically; Refused when the disk or its rights do not allow it."""
    path, handle, name = Path(path), -1, ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise Refused(f"cannot save {path}: {error.strerror or error}; choose another place with -o") from error


def _document(path: Path | str) -> dict[str, Any]:
    try:
        document = msgspec.json.decode(Path(path).read_bytes())
    except OSError as error:
        raise Refused(f"cannot read {path}: {error.strerror or error}") from error
    except msgspec.DecodeError as error:
        raise Refused(f"{path} is not JSON: {error}") from error
    if not isinstance(document, dict) or "kind" not in document:
        raise Refused(f"{path} is not a file of amble (it has no 'kind')")
    return document


def plain(value: object) -> object:
    """Return a numpy scalar or array as Python's own numbers, for an encoder; TypeError for anything else."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"a {type(value).__name__} cannot be written to a file")


def _provenance() -> dict[str, str]:
    packages = {name: _version(name) for name in ("amble", "numpy")} | _runtime()
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "machine": f"{platform.machine()} {platform.system()}",
        "command": " ".join(Path(sys.argv[0]).name if i == 0 else word for i, word in enumerate(sys.argv[:20])),
        **packages,
    }


def _runtime() -> dict[str, str]:
    """Return which wheel of ONNX Runtime is installed, with its version."""
    found = {name: _version(name) for name in ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino")}
    return {name: number for name, number in found.items() if number != "unknown"} or {"onnxruntime": "unknown"}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
