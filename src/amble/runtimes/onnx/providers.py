"""A name in a device's URI → an execution provider of ONNX Runtime: what it needs, and how it is asked for.

A new provider is one line of the table. Which ones are installed depends on the one wheel of ONNX Runtime that is: the
wheels share their files, so two at once are one of them with parts of the other, and are refused.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import onnxruntime

from amble.core.errors import Refused, how_to_install

__all__ = [
    "CPU",
    "PROVIDERS",
    "TORCH",
    "Place",
    "Provider",
    "Request",
    "installed",
    "named",
    "refuse_mixture",
    "wheels",
]

_WHEELS = {
    "onnxruntime": "cpu",
    "onnxruntime-gpu": "cuda",
    "onnxruntime-openvino": "openvino",
    "onnxruntime-directml": "",
    "onnxruntime-qnn": "",
    "onnxruntime-rocm": "",
    "onnxruntime-training": "",
}
"""Every wheel that has the package ``onnxruntime``, and the extra of amble that asks for it."""

Place = Literal["cpu", "cuda"]


@dataclass(frozen=True, slots=True)
class Request:
    """What a provider is asked for: the precision of FP32 networks, threads, which GPU, and where engines are kept."""

    precision: str
    threads: int
    index: int
    engines: Path


@dataclass(frozen=True, slots=True)
class Provider:
    """One execution provider. ``place`` is where its tensors live; ``extra`` installs it.

    ``precisions`` are what it can compute an FP32 network in; ``settings`` are its own options for a request;
    ``fuses`` says that it fuses operators itself and must be given the network before ONNX Runtime's own fusion.
    """

    name: str
    full: str
    place: Place
    extra: str
    precisions: tuple[str, ...]
    settings: Callable[[Request], dict[str, str]]
    fuses: bool = True


def _nothing(request: Request) -> dict[str, str]:
    return {}


def _openvino(request: Request) -> dict[str, str]:
    """FP32 is asked for by name: left alone, OpenVINO computes in BF16 on CPUs that have it."""
    hints = {
        "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[request.precision],
        "INFERENCE_NUM_THREADS": request.threads,
        "NUM_STREAMS": 1,
        "CACHE_DIR": str(request.engines),
    }
    return {"device_type": "CPU", "load_config": json.dumps({"CPU": hints})}


def _xnnpack(request: Request) -> dict[str, str]:
    return {"intra_op_num_threads": str(request.threads)}


def _cuda(request: Request) -> dict[str, str]:
    """TF32 only where it is asked for: it is another precision than FP32."""
    return {
        "device_id": str(request.index),
        "use_tf32": "1" if request.precision == "tf32" else "0",
        "enable_cuda_graph": "1",
        "cudnn_conv_algo_search": "EXHAUSTIVE",
    }


def _tensorrt(request: Request) -> dict[str, str]:
    return {
        "device_id": str(request.index),
        "trt_fp16_enable": "1" if request.precision == "fp16" else "0",
        "trt_bf16_enable": "1" if request.precision == "bf16" else "0",
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(request.engines),
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(request.engines),
        "trt_cuda_graph_enable": "1",
    }


CPU = Provider("cpu", "CPUExecutionProvider", "cpu", "cpu", ("fp32",), _nothing, fuses=False)
TORCH = Provider("torch", "", "cuda", "torch", ("fp32", "tf32", "fp16", "bf16"), _nothing)
"""No provider of ONNX Runtime: torch's own kernels, for machines without a build of ONNX Runtime for their GPU."""
PROVIDERS = {
    each.name: each
    for each in (
        CPU,
        Provider("openvino", "OpenVINOExecutionProvider", "cpu", "openvino", ("fp32", "bf16"), _openvino),
        Provider("xnnpack", "XnnpackExecutionProvider", "cpu", "cpu", ("fp32",), _xnnpack),
        Provider("tensorrt", "TensorrtExecutionProvider", "cuda", "cuda", ("fp32", "fp16", "bf16"), _tensorrt),
        Provider("cuda", "CUDAExecutionProvider", "cuda", "cuda", ("fp32", "tf32"), _cuda),
    )
}
"""By name; of those with the same place, the ones that are usually quicker come first, but for the CPU's own."""


def installed(place: Place, available: Sequence[str] | None = None) -> tuple[Provider, ...]:
    """Return the providers that this ONNX Runtime has for a place; ``available`` are ONNX Runtime's own names."""
    there = onnxruntime.get_available_providers() if available is None else available
    return tuple(each for each in PROVIDERS.values() if each.place == place and each.full in there)


def named(name: str, place: Place, available: Sequence[str] | None = None) -> Provider:
    """Return a provider by its name; Refused where there is none of it, or it is not installed, or lives elsewhere."""
    found = PROVIDERS.get(name)
    usable = installed(place, available)
    has = ", ".join(each.name for each in usable) or "none"
    if found is None or found.place != place:
        known = ", ".join(each.name for each in PROVIDERS.values() if each.place == place)
        raise Refused(f"provider={name} is none of {known}, which run there (installed: {has})")
    if found not in usable:
        raise Refused(
            f"provider={name} is not in the installed ONNX Runtime {onnxruntime.__version__} (it has {has}): "
            f"pip uninstall -y {' '.join(wheels()) or 'onnxruntime'}, then {how_to_install(found.extra)}"
        )
    return found


def wheels(installed_version: Callable[[str], str] = version) -> tuple[str, ...]:
    """Return the wheels of ONNX Runtime that are installed."""
    found = []
    for name in _WHEELS:
        try:
            installed_version(name)
        except PackageNotFoundError:
            continue
        found.append(name)
    return tuple(found)


def refuse_mixture(installed_version: Callable[[str], str] = version) -> None:
    """Refused where two wheels of ONNX Runtime overwrote one another's files."""
    found = wheels(installed_version)
    if len(found) > 1:
        ours = next((_WHEELS[name] for name in reversed(found) if _WHEELS[name]), "cpu")
        raise Refused(
            f"{' and '.join(found)} are installed together and overwrite one another's files: "
            f"pip uninstall -y {' '.join(found)}, then {how_to_install(ours)}"
        )
