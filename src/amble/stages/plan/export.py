"""Schedule → files for people who do not want amble at run time: a shell script, and Perseus' CSV.

The script needs a POSIX shell and either nvidia-smi or the clock files under /sys. It runs a command at the planned
clocks and puts back what it found. A plan with several segments needs the command's help: it writes the number of each
segment into a pipe as it gets there.
"""

from __future__ import annotations

import csv
import io
import shlex
from collections.abc import Iterator, Sequence
from typing import Literal

from amble.core.address import Address
from amble.core.errors import Refused
from amble.core.point import Clocks
from amble.core.quantity import format_energy, format_time
from amble.core.schedule import Schedule, Segment

__all__ = ["Tool", "perseus", "script"]

Tool = Literal["nvidia-smi", "sysfs"]

_BOARDS = ("jetson", "snapdragon", "odroid", "raspberry", "phone")


def script(schedule: Schedule, *, tool: Tool | None = None) -> str:
    """Return a shell script that runs a command at the planned clocks.

    Without a ``tool`` the device decides: nvidia-smi for ``nvml:`` and for recordings and simulations of GPU boards,
    files under /sys for the others. Refused when the plan sets no clock, or one that the tool cannot set.
    """
    settings = (*(segment.point.clocks for segment in schedule.segments), schedule.wait)
    if all(clocks == Clocks() for clocks in settings):
        raise Refused(f"the plan for {schedule.subject.network} sets no clock, so there is nothing for a script to do")
    chosen = tool or _tool(schedule.where.device)
    body = _nvidia_smi(schedule, settings) if chosen == "nvidia-smi" else _sysfs(schedule, settings)
    return "\n".join([*_head(schedule), *body, *_segments(schedule, chosen), *_FOOT]) + "\n"


def perseus(schedule: Schedule) -> str:
    """Return the plan as Perseus' CSV ``stage,instruction,frequency,time,energy`` (Chung et al., 2024).

    A stage is a segment of the plan, its instruction ``forward``; MHz of the core clock (of the CPU where there is no
    other), seconds, joules; energy is empty where unknown.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("stage", "instruction", "frequency", "time", "energy"))
    for stage, segment in enumerate(schedule.segments):
        steps = schedule.steps[segment.start : segment.stop]
        energies_j = [step.predicted.energy_j for step in steps]
        known = None not in energies_j
        energy_j: float | str = sum(each for each in energies_j if each is not None) if known else ""
        writer.writerow((stage, "forward", _mhz(segment), sum(step.predicted.latency_s for step in steps), energy_j))
    return text.getvalue()


def _mhz(segment: Segment) -> int:
    clocks = segment.point.clocks
    clock_hz = clocks.core_hz or clocks.cpu_hz
    if clock_hz is None:
        raise Refused(f"Perseus' CSV needs a clock for every segment; segment {segment.start} runs at {clocks}")
    return round(clock_hz / 1e6)


def _tool(device: str) -> Tool:
    if Address.parse(device).scheme in ("host", "sysfs") or any(board in device for board in _BOARDS):
        return "sysfs"
    return "nvidia-smi"


def _head(schedule: Schedule) -> Iterator[str]:
    """Yield the comments that say what was planned and how to use it."""
    latency, energy = format_time(schedule.predicted.latency_s), format_energy(schedule.predicted.energy_j)
    yield "#!/bin/sh"
    subject, where = schedule.subject, schedule.where
    yield f"# Clocks for {_plain(subject.network)}, batch {subject.batch}, on {_plain(where.device)}."
    yield f"# Deadline {schedule.deadline}; predicted {latency} and {energy} ({schedule.accounting} energy)."
    yield f"# How real the device is that this was planned for: {_plain(where.calibration)}."
    yield "# Usage: sudo sh THIS_FILE COMMAND [ARGUMENT...]"
    yield "# runs COMMAND at these clocks, then puts back what was found (not after kill -9 of this shell)."
    if _changes(schedule):
        yield "# COMMAND finds a pipe in $AMBLE_CLOCKS: it writes one line with the number of a segment when it gets"
        yield "# there, and 'wait' when an inference is done. A change takes about as long as this shell needs for it."
    for number, segment in enumerate(schedule.segments):
        first, last = schedule.steps[segment.start].operator, schedule.steps[segment.stop - 1].operator
        span = _plain(first if first == last else f"{first} to {last}")
        yield f"# Segment {number}: {span}: {segment.point.clocks}, {segment.point.precision}"
    yield "set -eu"
    yield '[ $# -gt 0 ] || { echo "usage: sudo sh $0 COMMAND [ARGUMENT...]" >&2; exit 2; }'
    yield "folder=$(mktemp -d)"
    yield "trap 'rm -rf \"$folder\"' EXIT"


def _nvidia_smi(schedule: Schedule, settings: Sequence[Clocks]) -> Iterator[str]:
    """Yield functions that set and restore through nvidia-smi."""
    if any(clocks.cpu_hz is not None for clocks in settings):
        raise Refused("nvidia-smi cannot set the CPU's clock, which this plan does; export it for sysfs")
    address = Address.parse(schedule.where.device)
    yield f"gpu=${{AMBLE_GPU:-{shlex.quote(address.name) if address.scheme == 'nvml' else '0'}}}"
    yield 'smi() { nvidia-smi -i "$gpu" "$@"; }'
    yield "limit=$(smi --query-gpu=power.limit --format=csv,noheader,nounits)"
    yield 'core() { smi -lgc "$1,$1" >/dev/null; }'
    yield 'memory() { smi -lmc "$1,$1" >/dev/null; }'
    yield 'limit() { smi -pl "$1" >/dev/null; }'
    undo = ["smi -rgc"] if any(clocks.core_hz is not None for clocks in settings) else []
    if _locks_memory(schedule, settings):
        undo.append("smi -rmc")
    if any(clocks.power_limit_w is not None for clocks in settings):
        undo.append('smi -pl "$limit"')
    yield from _restore(undo)


def _sysfs(schedule: Schedule, settings: Sequence[Clocks]) -> Iterator[str]:
    """Yield functions that set and restore files under /sys."""
    if any(clocks.power_limit_w is not None for clocks in settings):
        raise Refused("the files under /sys have no power limit, which this plan sets; export it for nvidia-smi")
    yield from _SYSFS
    cores_hz = [clocks.core_hz for clocks in settings if clocks.core_hz is not None]
    if cores_hz:
        address = Address.parse(schedule.where.device)
        named = address.scheme == "sysfs" and address.name != "gpu"
        node = f"$root/sys/class/devfreq/{shlex.quote(address.name)}" if named else ""
        yield f"gpu=${{AMBLE_GPU:-{node}}}"
        yield f'[ -n "$gpu" ] || find_gpu {max(cores_hz):.0f}'
        yield 'keep "$gpu/max_freq"; keep "$gpu/min_freq"'
    if any(clocks.memory_hz is not None for clocks in settings):
        yield 'keep "$emc/rate"; keep "$emc/mrq_rate_locked"'
    cpus_hz = [clocks.cpu_hz for clocks in settings if clocks.cpu_hz is not None]
    if cpus_hz:
        yield f"find_policies {max(cpus_hz) / 1e3:.0f}"
    yield from _restore(["put_back", "put_back"])  # bounds may cross on the way, so twice


def _restore(undo: Sequence[str]) -> Iterator[str]:
    yield "restore() {"
    yield "    trap - EXIT INT TERM HUP"
    yield '    [ -z "${listener:-}" ] || kill "$listener" 2>/dev/null || :'
    yield from (f"    {line} >/dev/null || :" for line in undo)
    yield '    rm -rf "$folder"'
    yield "}"
    yield "trap restore EXIT"
    yield "trap 'restore; exit 130' INT TERM HUP"


def _segments(schedule: Schedule, tool: Tool) -> Iterator[str]:
    """Yield a function that sets the clocks of a segment by its number, and the pipe where there are several."""
    settings = [segment.point.clocks for segment in schedule.segments]
    memory = tool == "sysfs" or _locks_memory(schedule, settings)
    yield "segment() {"
    yield '    case "$1" in'
    for number, clocks in enumerate(settings):
        yield f"    {number}) {_commands(clocks, tool, memory=memory)} ;;"
    yield f"    wait) {_commands(schedule.wait, tool, memory=memory)} ;;"
    yield '    *) echo "no segment $1" >&2 ;;'
    yield "    esac"
    yield "}"
    if _changes(schedule):
        yield 'AMBLE_CLOCKS="$folder/clocks"; export AMBLE_CLOCKS'
        yield 'mkfifo "$AMBLE_CLOCKS"'
        yield 'exec 3<>"$AMBLE_CLOCKS"'
        yield '(trap - EXIT INT TERM HUP; while read -r name <&3; do segment "$name"; done) &'
        yield "listener=$!"


def _changes(schedule: Schedule) -> bool:
    """Tell whether clocks change while serving: between segments, or to wait for the next request."""
    return len({schedule.wait, *(segment.point.clocks for segment in schedule.segments)}) > 1


def _commands(clocks: Clocks, tool: Tool, *, memory: bool) -> str:
    """Return the calls that set these clocks, in the tool's units: MHz and W, or what the files hold."""
    mhz = tool == "nvidia-smi"
    calls = []
    if clocks.cpu_hz is not None:
        calls.append(f"cpu {clocks.cpu_hz / 1e3:.0f}")
    if clocks.core_hz is not None:
        calls.append(f"core {clocks.core_hz / 1e6 if mhz else clocks.core_hz:.0f}")
    if clocks.memory_hz is not None and memory:
        calls.append(f"memory {clocks.memory_hz / 1e6 if mhz else clocks.memory_hz:.0f}")
    if clocks.power_limit_w is not None:
        calls.append(f"limit {clocks.power_limit_w:g}")
    return "; ".join(calls) or ":"


def _locks_memory(schedule: Schedule, settings: Sequence[Clocks]) -> bool:
    """Tell whether the memory clock is a choice: locking the only one there is can slow other clocks down."""
    known = {clocks.memory_hz for clocks in (*settings, schedule.wait)}
    known |= {baseline.point.clocks.memory_hz for baseline in schedule.baselines if baseline.point is not None}
    return len(known - {None}) > 1


def _plain(text: str) -> str:
    """Return a text that stays on its comment line."""
    return "".join(each if each.isprintable() else " " for each in text)


_SYSFS = r"""root=${AMBLE_SYSFS_ROOT:-}
emc="$root/sys/kernel/debug/bpmp/debug/clk/emc"
found="$folder/found"; : >"$found"
die() { echo "$1" >&2; exit 1; }
keep() { value=$(cat "$1") || die "cannot read $1"; printf '%s %s\n' "$1" "$value" >>"$found"; }
put_back() { while read -r file value; do { echo "$value" >"$file"; } 2>/dev/null || :; done <"$found"; }
put() { { echo "$1" >"$2"; } 2>/dev/null || die "cannot write $2; run as root"; }
bound() {  # level, lower bound, upper bound: going up the upper one first, going down the lower one
    if [ "$1" -ge "$(cat "$3")" ]; then put "$1" "$3"; put "$1" "$2"; else put "$1" "$2"; put "$1" "$3"; fi
    [ "$(cat "$2") $(cat "$3")" = "$1 $1" ] || die "asked for $1, $3 keeps $(cat "$3")"
}
find_gpu() {  # the devfreq node that offers this clock, whatever its name
    for node in "$root"/sys/class/devfreq/*; do
        if grep -qw "$1" "$node/available_frequencies" 2>/dev/null; then gpu=$node; return; fi
    done
    die "no devfreq node offers $1 Hz; name its folder in AMBLE_GPU"
}
find_policies() {  # the CPUs that reach this clock [kHz]
    policies=
    for policy in "$root"/sys/devices/system/cpu/cpufreq/policy*; do
        [ "$(cat "$policy/cpuinfo_max_freq")" -ge "$1" ] || continue
        policies="$policies $policy"
        keep "$policy/scaling_max_freq"; keep "$policy/scaling_min_freq"
    done
    [ -n "$policies" ] || die "no CPU reaches $1 kHz"
}
core() { bound "$1" "$gpu/min_freq" "$gpu/max_freq"; }
cpu() { for policy in $policies; do bound "$1" "$policy/scaling_min_freq" "$policy/scaling_max_freq"; done; }
memory() { put 1 "$emc/mrq_rate_locked"; put "$1" "$emc/rate"; }""".splitlines()

_FOOT = ("segment 0", '"$@"')
