"""Errors of the libraries that read and run networks → one line that says what to do.

Two places for it: ``refusing`` around a call that knows what it does to which file, and ``door`` around every function
that a user calls, so that nothing else gets through.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import ParamSpec, Protocol, TypeVar, runtime_checkable

import msgspec
import onnxruntime
from google.protobuf.message import DecodeError, EncodeError
from onnx.checker import ValidationError
from onnx.shape_inference import InferenceError
from onnx.version_converter import ConvertError
from onnxruntime.capi.onnxruntime_pybind11_state import (
    EngineError,
    EPFail,
    Fail,
    InvalidArgument,
    InvalidGraph,
    InvalidProtobuf,
    ModelLoadCanceled,
    NoModel,
    NoSuchFile,
    NotFound,
    RuntimeException,
)
from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as NoKernel

from amble.core.errors import Refused
from amble.core.graph import Graph

__all__ = ["LIBRARY_ERRORS", "RUNTIME_ERRORS", "Request", "door", "refusing"]

P = ParamSpec("P")
R = TypeVar("R")

RUNTIME_ERRORS = (
    EngineError,
    EPFail,
    Fail,
    InvalidArgument,
    InvalidGraph,
    InvalidProtobuf,
    ModelLoadCanceled,
    NoKernel,
    NoModel,
    NoSuchFile,
    NotFound,
    RuntimeException,
)
LIBRARY_ERRORS = (
    *RUNTIME_ERRORS,
    ConvertError,
    DecodeError,
    EncodeError,
    InferenceError,
    MemoryError,
    OSError,
    RuntimeError,  # of C++ without a class of its own: types that ONNX Runtime has no name for, torch
    ValidationError,
    msgspec.MsgspecError,
)

_NO_KERNEL = re.compile(r"Could not find an implementation for (?P<kind>[\w.:]+)\((?P<opset>-?\d+)\)")
_NO_OPERATOR = re.compile(r"(?:^|[\s:])(?P<kind>[\w.]+:?\w+)\((?P<opset>-?\d+)\) is not a registered function/op")
_NO_SCHEMA = re.compile(r"No Op registered for (?P<kind>\w+) with domain_version of (?P<opset>\d+)")
_NEW_FORMAT = re.compile(r"Unsupported model IR version: (?P<has>\d+), max supported IR version: (?P<most>\d+)")
_NEW_OPSET = re.compile(
    r"Opset (?P<has>\d+) is under development.* support for domain (?P<domain>\S+) is till opset (?P<most>\d+)"
)
_PREFIX = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ")
_FILE = re.compile(r"^Load model from .*? failed: ?")
_SOURCE = re.compile(
    r"/onnxruntime_src/\S+ .*?\) (?=[A-Z\[])|^Exception during initialization: |^Exception during loading: "
)
_ENOUGH = 300
_REMEDIES = {
    errno.EACCES: "ask for the right to, or choose another place",
    errno.EPERM: "ask for the right to, or choose another place",
    errno.EROFS: "choose a place that can be written",
    errno.ENOSPC: "make room, or set TMPDIR and -o to other places",
    errno.EDQUOT: "make room, or set TMPDIR and -o to other places",
    errno.EFBIG: "make room, or set TMPDIR and -o to other places",
    errno.ELOOP: "the link leads to itself; name the file",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EMFILE: "allow more open files with ulimit -n",
    errno.ENOENT: "name a file that is there",
    errno.EISDIR: "name a file in it",
    errno.ENOTDIR: "name a file that is there",
}


@contextmanager
def refusing(name: str, doing: str) -> Iterator[None]:
    """Turn a library's error inside the block into Refused; ``doing`` says what was tried."""
    try:
        yield
    except LIBRARY_ERRORS as error:
        raise Refused(_told(error, name, doing)) from error


@runtime_checkable
class Request(Protocol):
    """What a verb is asked, as one object."""

    @property
    def about(self) -> str:
        """Return how the user knows what it is about: a file, a network's name, or nothing."""
        ...


def door(function: Callable[P, R]) -> Callable[P, R]:
    """Make a function one that users call: errors of libraries leave it as Refused, with what it was called on."""

    @wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        named = [text for each in (*args, *kwargs.values()) if (text := _named(each))]
        with refusing(named[0] if named else function.__name__, "used"):
            return function(*args, **kwargs)

    return guarded


def _named(value: object) -> str:
    """Return how a user knows an argument; nothing for those that are no network and no file."""
    if isinstance(value, Graph):
        return value.source or value.name
    if isinstance(value, str | Path):
        return str(value)
    if isinstance(value, Request):
        return value.about
    if isinstance(value, list | tuple) and value and all(isinstance(each, str | Path) for each in value):
        return ", ".join(map(str, value))
    return ""


def _told(error: BaseException, name: str, doing: str) -> str:
    if isinstance(error, OSError):
        where = error.filename or name
        remedy = _REMEDIES.get(error.errno or 0, "check that file, its rights and the disk")
        return f"cannot read or write {where}: {error.strerror or error}; {remedy}"
    if isinstance(error, MemoryError):
        return (
            f"{name} takes more memory than there is ({_reason(str(error))}); give smaller shapes, or a smaller batch"
        )
    if isinstance(error, EncodeError):
        return f"{name} is larger than the 2 GiB that one ONNX file can hold, which this needs; give a smaller network"
    return _line(name, doing, str(error) or type(error).__name__)


def _line(name: str, doing: str, text: str) -> str:
    text = " ".join(text.split())
    if match := _NO_KERNEL.search(text) or _NO_OPERATOR.search(text) or _NO_SCHEMA.search(text):
        kind = match["kind"]
        return (
            f"{name}: ONNX Runtime has no CPU kernel for the operator {kind}; "
            f"export the model without {kind.rpartition(':')[2]}, or convert it to another opset"
        )
    here = f"ONNX Runtime {onnxruntime.__version__} reads"
    if match := _NEW_FORMAT.search(text):
        return (
            f"{name} has IR version {match['has']}, {here} up to {match['most']}: update onnxruntime, or save the "
            f"model again after model.ir_version = {match['most']}"
        )
    if match := _NEW_OPSET.search(text):
        return (
            f"{name} uses opset {match['has']} of {match['domain']}, {here} up to {match['most']}: update onnxruntime, "
            f"or export the model with opset_version={match['most']}"
        )
    return f"{name} cannot be {doing}: {_reason(text)}"


def _reason(text: str) -> str:
    """Return what an error says, without where in the library it was: whole sentences, as many as fit on a line."""
    whole = " ".join(text.split())
    for noise in (_PREFIX, _FILE, _SOURCE):
        whole = noise.sub("", whole)
    kept, *others = re.split(r"(?<=[.;]) ", whole)
    for sentence in others:
        if len(kept) + len(sentence) > _ENOUGH:
            break
        kept += f" {sentence}"
    return kept
