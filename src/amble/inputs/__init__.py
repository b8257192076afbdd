"""Names → things: URI → Device, MODEL → Graph, DATA → Examples for a purpose. Here names are read."""

from amble.inputs.opening import BUNDLED, devices, labelled, load, open, restore  # noqa: A004

__all__ = ["BUNDLED", "devices", "labelled", "load", "open", "restore"]
