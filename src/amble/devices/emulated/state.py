"""A folder → an emulated card's library and state, shared by every process that is told of the folder.

``card.c`` explains what the state means; here are its names and places.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import as_file, files
from pathlib import Path

from amble.core.errors import Refused

__all__ = ["CORES", "FOLDER", "LIBRARY", "MEMORIES", "STATE", "Ramp", "State", "build", "folder", "library", "opened"]

FOLDER = "AMBLE_EMULATED_CARD"
LIBRARY = "libnvidia-ml.so.1"
STATE = "state"
CORES, MEMORIES = 256, 16

_double, _unsigned = ctypes.c_double, ctypes.c_uint32
_LOADED: list[ctypes.CDLL] = []  # a process can have one libnvidia-ml.so.1
_Table = (_double * MEMORIES) * CORES * 2


class Ramp(ctypes.Structure):
    """One clock on its way."""

    _fields_ = [(name, _double) for name in ("from_mhz", "to_mhz", "since_s")]


class State(ctypes.Structure):
    """The struct of ``card.c``."""

    _fields_ = [
        *((name, _unsigned) for name in ("architecture", "mig", "num_cores", "num_memories", "idle_mhz")),
        *((name, _unsigned) for name in ("limit_low_mw", "limit_high_mw", "limit_default_mw")),
        ("core_mhz", _unsigned * CORES),
        ("memory_mhz", _unsigned * MEMORIES),
        ("name", ctypes.c_char * 64),
        ("uuid", ctypes.c_char * 64),
        *((name, _double) for name in ("factor", "origin_s", "period_s", "rest_s")),
        ("settle_s", _double * 2),
        ("call_s", _double * 2),
        *((name, _double) for name in ("ambient_c", "resistance_c_per_w", "time_constant_s")),
        *((name, _double) for name in ("throttle_c", "resume_c", "leak_per_c")),
        ("fixed_w", _Table),
        ("leak_w", _Table),
        *((name, _unsigned) for name in ("core_lock", "memory_lock", "app_memory", "app_core")),
        *((name, _unsigned) for name in ("limit_mw", "management_mw", "num_sets")),
        *((name, _double) for name in ("now_s", "energy_j", "latched_j", "temperature_c", "worked_s", "checked_s")),
        *((name, _double) for name in ("power_w", "cap_mhz")),
        ("heat_cap", _unsigned),
        ("ramp", Ramp * 2),
        *((name, _unsigned) for name in ("reasons", "keeps", "temperature", "lost", "stalled", "honest", "half")),
        *((name, _unsigned) for name in ("lost_after", "padding")),
        *((name, _double) for name in ("drift_mhz_per_s", "jump_mj", "wrap_mj", "stalled_mj", "locked_s")),
        ("refused", ctypes.c_char * 1024),
    ]


def folder() -> Path | None:
    """Return the folder of the card that this process is told to see instead of real ones; None where it is not."""
    named = os.environ.get(FOLDER)
    return Path(named) if named else None


def build(place: Path) -> Path:
    """Compile the library into a folder, and return its path; Refused where there is no compiler."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise Refused("an emulated card needs a C compiler to make its libnvidia-ml.so.1: apt install gcc libc6-dev")
    made = place / LIBRARY
    with as_file(files("amble.devices.emulated") / "card.c") as source:
        flags = ["-O2", "-Wall", "-Werror", "-fPIC", "-shared", f"-Wl,-soname,{LIBRARY}"]
        command = [compiler, *flags, "-o", str(made), str(source), "-lm", "-lpthread"]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise Refused(f"the emulated card does not compile: {done.stderr.strip()[-300:]}; is libc6-dev installed?")
    return made


def library(place: Path) -> ctypes.CDLL:
    """Load a folder's library, so that nvidia-ml-py finds it under its usual name, and let it look at the state there.

    A process sees one card at a time: the one that was looked at last. The library itself is loaded once, as
    nvidia-ml-py does.
    """
    if not _LOADED:
        _LOADED.append(_load(place / LIBRARY))
    loaded = _LOADED[0]
    if loaded.amble_card_size() != ctypes.sizeof(State):
        raise Refused(f"{place} holds the card of another amble; make it anew: python -m amble.devices.emulated")
    if loaded.amble_card_open(os.fsencode(place / STATE)) != 0:
        raise Refused(f"{place} holds no emulated card; make one: python -m amble.devices.emulated CHIP {place}")
    return loaded


def _load(path: Path) -> ctypes.CDLL:
    try:
        loaded = ctypes.CDLL(str(path))
    except OSError as error:
        raise Refused(f"cannot load {path}: {error}; make it anew: python -m amble.devices.emulated") from error
    loaded.amble_card_now.restype = _double
    loaded.amble_card_work.restype = _double
    loaded.amble_card_work.argtypes = [_double, _double, _double]
    loaded.amble_card_idle.argtypes = [_double]
    loaded.amble_card_clocks.argtypes = [_double, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
    return loaded


@contextmanager
def opened(place: Path) -> Iterator[State]:
    """Look at a card's state and change it, while nobody else does."""
    with (place / STATE).open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield State.from_buffer(mmap.mmap(file.fileno(), ctypes.sizeof(State)))
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)  # the mapping keeps the file open as long as somebody looks at it
