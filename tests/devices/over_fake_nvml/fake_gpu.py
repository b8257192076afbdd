"""The struct of fake_nvml.c from the side of the tests: a board's state that tests set and look at."""

import os
import struct
from pathlib import Path

_INTS = (
    "core_lock",
    "memory_lock",
    "app_memory",
    "app_core",
    "limit_mw",
    "architecture",
    "mig",
    "memory_levels",
    "reasons",
    "keeps",
    "temperature",
    "num_sets",
)
_FORMAT = f"{len(_INTS)}I2d1024s"
HOPPER = {"app_memory": 2619, "app_core": 1980, "limit_mw": 700_000, "architecture": 9, "memory_levels": 2}
PASCAL = HOPPER | {"architecture": 4, "app_core": 1560}


class FakeGpu:
    """``gpu.get("core_lock")``, ``gpu.set(mig=1)``, ``gpu.refuse(nvmlDeviceGetPowerUsage=4)``."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def reset(self, **values: int) -> None:
        values = {"temperature": 41, **values}
        numbers = [values.pop(name, 0) for name in _INTS]
        assert not values, values
        self._write(0, struct.pack(_FORMAT, *numbers, 0.0, 0.0, b""))

    def get(self, name: str) -> int:
        return struct.unpack_from("I", self._path.read_bytes(), 4 * _INTS.index(name))[0]

    def set(self, **values: int) -> None:
        for name, value in values.items():
            self._write(4 * _INTS.index(name), struct.pack("I", value))

    def refuse(self, **codes: int) -> None:
        text = ";".join(f"{name}={code}" for name, code in codes.items())
        self._write(struct.calcsize(f"{len(_INTS)}I2d"), text.encode().ljust(1024, b"\0"))

    def _write(self, offset: int, data: bytes) -> None:
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT)
        os.pwrite(handle, data, offset)
        os.close(handle)
