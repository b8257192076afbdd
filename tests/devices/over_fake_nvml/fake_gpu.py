"""An emulated card without a chip's physics, from the side of the tests: plain power, clocks that act at once."""

import ctypes
import mmap
import time
from pathlib import Path

from amble.devices.emulated.state import State

_CORES = tuple(1980 - 210 * level for level in reversed(range(8)))
_MEMORIES = (1593, 2619)
HOPPER = {"app_memory": 2619, "app_core": 1980, "limit_mw": 700_000, "architecture": 9, "memory_levels": 2}
PASCAL = HOPPER | {"architecture": 4, "app_core": 1560}


class FakeGpu:
    """``gpu.get("core_lock")``, ``gpu.set(mig=1)``, ``gpu.refuse(nvmlDeviceGetPowerUsage=4)``."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "state"

    def reset(self, **values: int) -> None:
        """Start anew: power is 80 W and a quarter of a watt a MHz, the counter always moves."""
        if not self._path.exists():
            self._path.write_bytes(bytes(ctypes.sizeof(State)))
        state = self._state()
        ctypes.memset(ctypes.byref(state), 0, ctypes.sizeof(State))
        state.name, state.uuid, state.idle_mhz, state.temperature = b"Fake H200", b"GPU-fake-0", 345, 41
        state.num_cores, state.factor, state.origin_s = len(_CORES), 1.0, time.clock_gettime(time.CLOCK_MONOTONIC)
        state.core_mhz[: len(_CORES)] = _CORES
        for busy in (0, 1):
            for row, mhz in enumerate(_CORES):
                state.fixed_w[busy][row][:2] = [80 + 0.25 * mhz] * 2
        state.resume_c, state.throttle_c, state.worked_s = -1e3, 1e3, -1e3
        state.limit_low_mw, state.limit_high_mw, state.limit_default_mw = 200_000, 700_000, 700_000
        self.set(memory_levels=2)
        self.set(**values)
        state.management_mw = state.limit_mw + 1000
        for ramp, mhz in zip(state.ramp, (345, 2619), strict=True):
            ramp.from_mhz = ramp.to_mhz = mhz

    def get(self, name: str) -> float:
        return getattr(self._state(), name)

    def set(self, **values: float) -> None:
        state = self._state()
        for name, value in values.items():
            if name == "memory_levels":
                levels = _MEMORIES[-int(value) :]
                state.num_memories = len(levels)
                state.memory_mhz[: len(levels)] = levels
            else:
                setattr(state, name, value)

    def refuse(self, **codes: int) -> None:
        self._state().refused = ";".join(f"{name}={code}" for name, code in codes.items()).encode()

    def _state(self) -> State:
        with self._path.open("r+b") as file:
            return State.from_buffer(mmap.mmap(file.fileno(), ctypes.sizeof(State)))
