"""The options of a device's URI → how networks are run there: ``provider=openvino&precision=bf16&cpus=0-3``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from amble.core.address import cpu_list
from amble.core.errors import Refused
from amble.runtimes.onnx.execution import Execution
from amble.runtimes.onnx.providers import CPU, TORCH, Place, Provider, installed, named

__all__ = ["OPTIONS", "execution"]

OPTIONS = ("provider", "precision", "threads", "cpus")


def execution(
    given: Mapping[str, str], place: Place, *, index: int = 0, available: Sequence[str] | None = None
) -> Execution:
    """Read the options; ``place`` is where the device computes, ``available`` what ONNX Runtime has.

    Without a provider: on the CPU ONNX Runtime's own kernels, on a GPU the quickest that is installed, and torch where
    ONNX Runtime has none for it.
    """
    cpus = cpu_list(given["cpus"]) if "cpus" in given else ()
    threads = _threads(given["threads"]) if "threads" in given else max(1, len(cpus))
    if place == "cuda" and (cpus or "threads" in given):
        raise Refused("threads= and cpus= are of the CPU: a GPU runs networks without them; leave them out")
    provider = _provider(given.get("provider"), place, available)
    return Execution(provider, threads, cpus, given.get("precision", "fp32"), index)


def _provider(name: str | None, place: Place, available: Sequence[str] | None) -> Provider:
    if name is None:
        return CPU if place == "cpu" else next(iter(installed(place, available)), TORCH)
    if name == "auto":
        raise Refused(
            "provider=auto is chosen for one network, by amble measure and amble plan; name the provider here that "
            "they chose (the plan's device), or amble.quickest(MODEL, DEVICE) in Python"
        )
    if name == TORCH.name and place == TORCH.place:
        return TORCH
    return named(name, place, available)


def _threads(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise Refused(f"threads={text} is not a number of threads; write threads=4")
    return int(text)
