"""An NVIDIA GPU → Device: clocks locked through NVML, energy from its counter."""

from amble.devices.nvml.board import Board
from amble.devices.nvml.device import (
    NvmlActuator,
    NvmlMeter,
    PowerMeter,
    describe,
    open,  # noqa: A004
    put_back,
)

__all__ = ["Board", "NvmlActuator", "NvmlMeter", "PowerMeter", "describe", "open", "put_back"]
