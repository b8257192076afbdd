"""One NVIDIA GPU through NVML: the only place that imports nvidia-ml-py, whose units (MHz, mW, mJ) end here.

New functions are tried first, then those they replaced. What a board or driver does not have is ``Unsupported``.
"""

from __future__ import annotations

import contextlib
from typing import Any

from amble.core.errors import Refused, how_to_install
from amble.devices import emulated
from amble.devices.throttling import Reason

__all__ = ["Board", "Unsupported", "num_boards"]

_AMPERE = 7  # nvmlDeviceArchitecture_t: the first whose memory clock can be locked
_VOLTA = 5  # the first whose core clock can be locked
_POWER_INSTANT = 186  # field NVML_FI_DEV_POWER_INSTANT; nvmlDeviceGetPowerUsage is an average over 1 s since Ampere
_COOL = "cool it: a free air way, fans at full speed, a lower power limit, or rests between runs"
_SUPPLY = "look at its power cables and supply, and at the server's own power cap"
_THROTTLES = {
    0x4: Reason("power cap", "raise the limit (sudo nvidia-smi -pl WATTS, up to what nvidia-smi -q -d POWER says)"),
    0x8: Reason("hardware slowdown", f"{_SUPPLY}; else {_COOL}"),
    0x10: Reason("sync boost", "take this GPU out of its sync boost group: it keeps to the slowest one's clock"),
    0x20: Reason("heat (software)", _COOL),
    0x40: Reason("heat (hardware)", _COOL),
    0x80: Reason("power brake", _SUPPLY),
    0x100: Reason("display clock setting", "let no display run on this GPU"),
}


class Unsupported(Refused):
    """This board or its driver has no such function."""


class Board:
    """A GPU, by its index or its UUID."""

    def __init__(self, which: int | str) -> None:
        self._nvml = _library()
        self.which = which
        name = "nvmlDeviceGetHandleByIndex" if isinstance(which, int) else "nvmlDeviceGetHandleByUUID"
        try:
            self._handle = getattr(self._nvml, name)(which)
        except self._nvml.NVMLError as error:
            raise Refused(f"there is no GPU {which} here ({error}); list them with: nvidia-smi -L") from error
        self.name: str = self._ask("nvmlDeviceGetName")
        self.uuid: str = self._ask("nvmlDeviceGetUUID")

    @property
    def mig(self) -> bool:
        """Tell whether the board is divided: its clocks and its energy then belong to several users."""
        with contextlib.suppress(Unsupported):
            return bool(self._ask("nvmlDeviceGetMigMode")[0])
        return False

    @property
    def locks_core(self) -> bool:
        """Tell whether the core clock can be locked (Volta and newer); older boards have application clocks."""
        return self._architecture() >= _VOLTA

    @property
    def locks_memory(self) -> bool:
        """Tell whether the memory clock can be locked (Ampere and newer)."""
        return self._architecture() >= _AMPERE

    def memory_levels_hz(self) -> tuple[float, ...]:
        """Return the memory clocks [Hz], slowest first; one of them is usual."""
        return tuple(sorted(mhz * 1e6 for mhz in self._ask("nvmlDeviceGetSupportedMemoryClocks")))

    def core_levels_hz(self, memory_hz: float) -> tuple[float, ...]:
        """Return the core clocks [Hz] at a memory clock, slowest first."""
        return tuple(sorted(mhz * 1e6 for mhz in self._ask("nvmlDeviceGetSupportedGraphicsClocks", _mhz(memory_hz))))

    def core_hz(self) -> float:
        """Return the core clock that runs [Hz]."""
        return float(self._ask("nvmlDeviceGetClockInfo", self._nvml.NVML_CLOCK_GRAPHICS)) * 1e6

    def memory_hz(self) -> float:
        """Return the memory clock that runs [Hz]."""
        return float(self._ask("nvmlDeviceGetClockInfo", self._nvml.NVML_CLOCK_MEM)) * 1e6

    def lock_core(self, core_hz: float) -> None:
        """Lock the core clock. NVML takes a request without promising to keep it: read the clock under load."""
        self._ask("nvmlDeviceSetGpuLockedClocks", _mhz(core_hz), _mhz(core_hz))

    def lock_memory(self, memory_hz: float) -> None:
        """Lock the memory clock; on some boards this constrains the core clock too."""
        self._ask("nvmlDeviceSetMemoryLockedClocks", _mhz(memory_hz), _mhz(memory_hz))

    def unlock(self) -> None:
        """Release both locks, on boards that have them."""
        for name in ("nvmlDeviceResetGpuLockedClocks", "nvmlDeviceResetMemoryLockedClocks"):
            with contextlib.suppress(Unsupported):
                self._ask(name)

    def application_clocks_hz(self) -> tuple[float, float] | None:
        """Return the application clocks (memory, core) [Hz]; None on boards without them."""
        names = (self._nvml.NVML_CLOCK_MEM, self._nvml.NVML_CLOCK_GRAPHICS)
        with contextlib.suppress(Unsupported):
            memory_mhz, core_mhz = (self._ask("nvmlDeviceGetApplicationsClock", name) for name in names)
            return memory_mhz * 1e6, core_mhz * 1e6
        return None

    def set_application_clocks(self, memory_hz: float, core_hz: float) -> None:
        """Set the application clocks, the way of boards older than Volta."""
        self._ask("nvmlDeviceSetApplicationsClocks", _mhz(memory_hz), _mhz(core_hz))

    def power_limit_w(self) -> float:
        """Return the power limit in force [W]; the lower of it and the clock wins."""
        names = ("nvmlDeviceGetEnforcedPowerLimit", "nvmlDeviceGetPowerManagementLimit")
        return float(self._first(*((name,) for name in names))) * 1e-3

    def limit_range_w(self) -> tuple[float, float]:
        """Return the lowest and highest power limit that can be set [W]."""
        low_mw, high_mw = self._ask("nvmlDeviceGetPowerManagementLimitConstraints")
        return low_mw * 1e-3, high_mw * 1e-3

    def asked_limit_w(self) -> float:
        """Return the power limit that was set [W]; what is in force may be lower."""
        return float(self._ask("nvmlDeviceGetPowerManagementLimit")) * 1e-3

    def set_power_limit(self, limit_w: float) -> None:
        """Set the power limit."""
        self._ask("nvmlDeviceSetPowerManagementLimit", round(limit_w * 1e3))

    def power_w(self) -> float:
        """Return the power now [W]; the driver's 1-second average where there is no instant reading."""
        with contextlib.suppress(Unsupported):
            field = self._ask("nvmlDeviceGetFieldValues", [_POWER_INSTANT])[0]
            if field.nvmlReturn == 0:
                return float(field.value.uiVal) * 1e-3
        return float(self._ask("nvmlDeviceGetPowerUsage")) * 1e-3

    def energy_j(self) -> float:
        """Return the energy since the driver was loaded [J]; Unsupported before Volta."""
        return float(self._ask("nvmlDeviceGetTotalEnergyConsumption")) * 1e-3

    def temperature_c(self) -> float:
        """Return the temperature of the chip [°C]."""
        sensor = self._nvml.NVML_TEMPERATURE_GPU
        return float(self._first(("nvmlDeviceGetTemperatureV", sensor), ("nvmlDeviceGetTemperature", sensor)))

    def throttled(self) -> tuple[str, ...]:
        """Return the names of what keeps the clock lower than asked right now; empty when nothing does."""
        return tuple(each.says for each in self.reasons())

    def reasons(self) -> tuple[Reason, ...]:
        """Return what keeps the clock lower than asked right now, each with its remedy; empty when nothing does."""
        names = ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons")
        bits = int(self._first(*((name,) for name in names)))
        return tuple(reason for bit, reason in _THROTTLES.items() if bits & bit)

    def _architecture(self) -> int:
        with contextlib.suppress(Unsupported):
            architecture = int(self._ask("nvmlDeviceGetArchitecture"))
            return -1 if architecture == 0xFFFFFFFF else architecture
        return -1

    def _first(self, *calls: tuple[Any, ...]) -> Any:
        """Return what the first supported call gives; each is a function's name and its arguments."""
        *tried, last = calls
        for call in tried:
            with contextlib.suppress(Unsupported):
                return self._ask(*call)
        return self._ask(*last)

    def _ask(self, function: str, *arguments: Any) -> Any:
        try:
            return getattr(self._nvml, function)(self._handle, *arguments)
        except self._nvml.NVMLError as error:
            raise self._refusal(function, error) from error

    def _refusal(self, function: str, error: Any) -> Refused:
        if error.value == self._nvml.NVML_ERROR_NO_PERMISSION:
            return Refused(
                f"nvml:{self.which}: {function} needs root, in containers too; run as root, or have the clock locked "
                f"by an administrator (nvidia-smi -i {self.which} -lgc MIN,MAX)"
            )
        absent = (self._nvml.NVML_ERROR_NOT_SUPPORTED, self._nvml.NVML_ERROR_FUNCTION_NOT_FOUND)
        kind = Unsupported if error.value in absent else Refused
        return kind(f"nvml:{self.which}: {function} failed: {error}; see nvidia-smi -q -i {self.which}")


def num_boards() -> int:
    """Count the GPUs that NVML sees; Refused when there is no NVML."""
    return int(_library().nvmlDeviceGetCount())


def _library() -> Any:
    """Return nvidia-ml-py, started; NVML counts how often, so starting it again is harmless."""
    try:
        import pynvml
    except ImportError as error:
        raise Refused(f"NVIDIA GPUs need nvidia-ml-py: {how_to_install('nvidia')}") from error
    if (card := emulated.folder()) is not None:
        emulated.library(card)
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise Refused(f"NVML does not start ({error}); is the NVIDIA driver installed and loaded?") from error
    return pynvml


def _mhz(clock_hz: float) -> int:
    return round(clock_hz * 1e-6)
