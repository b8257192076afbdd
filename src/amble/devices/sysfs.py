"""A devfreq node under /sys → Device: GPUs of boards, with the memory clock of Jetson boards where it can be set.

Nodes are found by what they offer; names and folders differ between boards and releases.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from amble.core.errors import Refused
from amble.core.ports import Clock, Device, Meter, Runner
from amble.devices.facts import Description
from amble.devices.knobs import BoundedKnob, Bounds, FileActuator, Knob, LockedKnob, missing_writes, read_text

__all__ = ["describe", "open"]

_DEVFREQ = "sys/class/devfreq"
_BPMP = "sys/kernel/debug/bpmp/debug"
_BOUND_NODES = ("available_frequencies", "min_freq", "max_freq", "cur_freq")
_GPU_WORDS = ("gpu", "mali", "adreno", "kgsl", "gp10b", "gv11b", "ga10b", "gm20b", "panfrost", "panthor")


def open(  # noqa: A001
    runner: Runner,
    clock: Clock,
    meter: Meter,
    *,
    node: str = "gpu",
    root: Path = Path("/"),
    precisions: tuple[str, ...] = ("fp32",),
) -> Device:
    """Open a GPU whose clock is a devfreq node (``sysfs:gpu`` finds it, ``sysfs:NODE`` names it), with the memory
    clock of Jetson boards where it can be set. Refused when there is no such node, or several that could be it.
    """
    memory = _emc(root)
    knobs: list[Knob] = [_devfreq(root, node), *([memory] if memory else [])]
    return Device(f"sysfs:{node}", clock, meter, FileActuator(knobs), runner, "real", precisions)


def describe(root: Path = Path("/")) -> tuple[Description, ...]:
    """Describe every devfreq node that can be bounded; empty where there is none."""
    gpus, memory = _gpu_nodes(root), _emc(root)
    return tuple(_description(path, memory if path in gpus else None) for path in _nodes(root))


def _nodes(root: Path) -> tuple[Path, ...]:
    """Return every devfreq node that offers levels and bounds."""
    folders = sorted((root / _DEVFREQ).glob("*"))
    return tuple(each for each in folders if all((each / name).exists() for name in _BOUND_NODES))


def _gpu_nodes(root: Path) -> tuple[Path, ...]:
    """Return the nodes that drive a GPU: by the render node or load counter of their device, else by what it is
    compatible with. Node names change between boards and releases, so they are only the last hint.
    """
    nodes = _nodes(root)
    offering = [each for each in nodes if (each / "device/drm").exists() or (each / "device/load").exists()]
    return tuple(offering or [each for each in nodes if any(word in _hints(each) for word in _GPU_WORDS)])


def _hints(node: Path) -> str:
    texts = [node.name]
    for name in ("device/of_node/compatible", "device/uevent"):
        with contextlib.suppress(Refused):
            texts.append(read_text(node / name))
    return " ".join(texts).lower()


def _devfreq(root: Path, node: str) -> BoundedKnob:
    """Return the knob of the named node, or of the GPU; GPU clusters with the same levels are one knob."""
    nodes = _nodes(root)
    names = ", ".join(each.name for each in nodes) or "none"
    chosen = _gpu_nodes(root) if node == "gpu" else tuple(each for each in nodes if each.name == node)
    if not chosen:
        raise Refused(f"no devfreq node for {node!r} under {root / _DEVFREQ} (there: {names}); name one as sysfs:NODE")
    levels = {_levels_hz(each) for each in chosen}
    if len(levels) > 1:
        raise Refused(f"several devfreq nodes could be the GPU ({names}); name one as sysfs:NODE")
    bounds = tuple(Bounds(each / "min_freq", each / "max_freq", each / "cur_freq") for each in chosen)
    return BoundedKnob("core", levels.pop(), bounds, 1.0)


def _levels_hz(node: Path) -> tuple[float, ...]:
    return tuple(sorted({float(word) for word in read_text(node / "available_frequencies").split()}))


def _emc(root: Path) -> LockedKnob | None:
    """Return the memory clock of a Jetson board, None where debugfs does not show it (it is for root only)."""
    rate, lock = root / _BPMP / "clk/emc/rate", root / _BPMP / "clk/emc/mrq_rate_locked"
    if not (os.path.exists(rate) and os.path.exists(lock)):  # Path.exists raises where debugfs is closed to this user
        return None
    try:
        words = read_text(root / _BPMP / "emc/possible_rates").split()  # kHz, as in "204000 665600 (kHz)"
        levels = {float(word) * 1e3 for word in words if word.isdigit() and word != "0"}
    except Refused:
        levels = {float(read_text(rate.with_name(name))) for name in ("min_rate", "max_rate")}
    return LockedKnob("memory", tuple(sorted(levels)), rate, lock)


def _description(node: Path, memory: LockedKnob | None) -> Description:
    levels = _levels_hz(node)
    clocks = f"core {len(levels)} levels, {levels[0] / 1e6:g} to {levels[-1] / 1e6:g} MHz"
    if memory is not None:
        clocks += f"; memory {len(memory.levels_hz)} levels"
    return Description(f"sysfs:{node.name}", "real", clocks, "unknown", missing_writes([node / "min_freq"]))
