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
from amble.devices.host import cpu_knob
from amble.devices.knobs import BoundedKnob, Bounds, FileActuator, Knob, LockedKnob, missing_writes, read_text
from amble.devices.powermodes import ModeActuator, PowerModes, power_mode

__all__ = ["actuator", "describe", "open"]

_DEVFREQ = "sys/class/devfreq"
_BPMP = "sys/kernel/debug/bpmp/debug"
_CLK = "sys/kernel/debug/clk/override.emc"  # Tegra 210
_BWMGR = "sys/kernel/debug/tegra_bwmgr"
_MEMORY_NODE = "bwmgr"  # Thor
_BPMP_FILES = ("rate", "mrq_rate_locked", "rate")  # what is, the lock, what is asked for
_CLK_FILES = ("clk_rate", "clk_state", "clk_update_rate")
_BOUND_NODES = ("available_frequencies", "min_freq", "max_freq", "cur_freq")
_NO_GPU = ("nvd",)  # video engines of a GPU that has its clocks apart
_GPU_WORDS = ("gpu", "mali", "adreno", "kgsl", "gp10b", "gv11b", "ga10b", "gm20b", "panfrost", "panthor")


def open(  # noqa: A001
    runner: Runner,
    clock: Clock,
    meter: Meter,
    *,
    node: str = "gpu",
    cpu: bool = False,
    mode: str | None = None,
    root: Path = Path("/"),
    precisions: tuple[str, ...] = ("fp32",),
) -> Device:
    """Open a GPU whose clock is a devfreq node (``sysfs:gpu`` finds it, ``sysfs:NODE`` names it), with the memory
    clock of Jetson boards where it can be set, and the CPUs' where ``cpu`` asks for it; ``mode`` is a power mode that
    is held meanwhile. Refused when there is no such node, or several that could be it.
    """
    return Device(f"sysfs:{node}", clock, meter, actuator(node, root, cpu=cpu, mode=mode), runner, "real", precisions)


def actuator(
    node: str = "gpu", root: Path = Path("/"), *, cpu: bool = False, mode: str | None = None
) -> FileActuator | ModeActuator:
    """Return the clocks of a board's GPU, its memory where it can be set, and its CPUs where ``cpu`` asks for them.

    With a power ``mode`` those that it allows, and the mode is held for as long as they are.
    """
    clocks = _clocks(node, root, cpu=cpu)
    if mode is None:
        return clocks
    modes = PowerModes.of(root)
    if modes is None:
        raise Refused(f"no power modes under {root} (etc/nvpmodel.conf): leave out mode={mode}")
    return ModeActuator(clocks, modes, modes.named(mode))


def _clocks(node: str, root: Path, *, cpu: bool) -> FileActuator:
    memory, host = _memory(root), cpu_knob(root) if cpu else None
    if cpu and host is None:
        raise Refused(f"no cpufreq under {root}: this board's CPU clock cannot be set; leave out cpu")
    knobs: list[Knob] = [_devfreq(root, node), *(each for each in (memory, host) if each is not None)]
    return FileActuator(knobs)


def describe(root: Path = Path("/")) -> tuple[Description, ...]:
    """Describe every devfreq node that can be bounded; empty where there is none."""
    gpus, memory = _gpu_nodes(root), _memory(root)
    return tuple(_description(root, path, memory if path in gpus else None) for path in _nodes(root))


def _nodes(root: Path) -> tuple[Path, ...]:
    """Return every devfreq node that offers levels and bounds."""
    folders = sorted((root / _DEVFREQ).glob("*"))
    return tuple(each for each in folders if all((each / name).exists() for name in _BOUND_NODES))


def _gpu_nodes(root: Path) -> tuple[Path, ...]:
    """Return the nodes that drive a GPU: by the render node or load counter of their device, else by what it is
    compatible with. Node names change between boards and releases, so they are only the last hint.
    """
    nodes = tuple(each for each in _nodes(root) if not any(word in each.name for word in _NO_GPU))
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
    return BoundedKnob("core", levels.pop(), tuple(map(_bounds, chosen)), 1.0)


def _levels_hz(node: Path) -> tuple[float, ...]:
    return tuple(sorted({float(word) for word in read_text(node / "available_frequencies").split()}))


def _memory(root: Path) -> Knob | None:
    """Return the memory clock of a board, None where there is none, or debugfs does not show it (it is for root only).

    Found by what is there: a devfreq node of its own (Thor), the boot processor's debug files (Tegra 186 to 234), or
    the kernel's clock override (Tegra 210).
    """
    node = root / _DEVFREQ / _MEMORY_NODE
    if all((node / name).exists() for name in _BOUND_NODES):
        return BoundedKnob("memory", _levels_hz(node), (_bounds(node),), 1.0)
    for folder, files in ((root / _BPMP / "clk/emc", _BPMP_FILES), (root / _CLK, _CLK_FILES)):
        rate, lock, asked = (folder / name for name in files)
        if all(os.path.exists(each) for each in (rate, lock, asked)):  # Path.exists raises where debugfs is closed
            return LockedKnob("memory", _rates_hz(root, rate), asked, lock)
    return None


def _rates_hz(root: Path, rate: Path) -> tuple[float, ...]:
    """Return the rates that a board lists, else its lowest and highest."""
    try:
        words = read_text(root / _BPMP / "emc/possible_rates").split()  # kHz, as in "204000 665600 (kHz)"
        levels = {float(word) * 1e3 for word in words if word.isdigit() and word != "0"}
    except Refused:
        ends = [rate.with_name(name) for name in ("min_rate", "max_rate")]
        if not ends[0].exists():
            ends = [root / _BWMGR / name for name in ("emc_min_rate", "emc_max_rate")]
        levels = {float(read_text(each)) for each in ends}
    return tuple(sorted(levels))


def _bounds(node: Path) -> Bounds:
    return Bounds(node / "min_freq", node / "max_freq", node / "cur_freq")


def _description(root: Path, node: Path, memory: Knob | None) -> Description:
    levels = _levels_hz(node)
    clocks = f"core {len(levels)} levels, {levels[0] / 1e6:g} to {levels[-1] / 1e6:g} MHz"
    if memory is not None:
        clocks += f"; memory {len(memory.levels)} levels"
        clocks += f"; power mode {mode}" if (mode := power_mode(root)) else ""
    return Description(f"sysfs:{node.name}", "real", clocks, "unknown", missing_writes([node / "min_freq"]))
