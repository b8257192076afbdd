"""Names → things: URI → Device, MODEL → Graph, DATA → Examples for a purpose. Here names are read."""

from amble.inputs.backends import back_end
from amble.inputs.opening import (
    BUNDLED,
    devices,
    execution,
    governed,
    labelled,
    load,
    open,  # noqa: A004
    open_for_serving,
    probe,
    quickest,
    refuse_layers,
    restore,
    timer,
    twin,
)

__all__ = [
    "BUNDLED",
    "back_end",
    "devices",
    "execution",
    "governed",
    "labelled",
    "load",
    "open",
    "open_for_serving",
    "probe",
    "quickest",
    "refuse_layers",
    "restore",
    "timer",
    "twin",
]
