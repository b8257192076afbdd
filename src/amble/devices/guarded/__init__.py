"""Clocks through ``amble guard``: a process without rights asks, the guard sets and puts back."""

from amble.devices.guarded.client import Connection, GuardedActuator, found_socket
from amble.devices.guarded.protocol import SOCKET, VARIABLE, Answer, Ask, Held

__all__ = ["SOCKET", "VARIABLE", "Answer", "Ask", "Connection", "GuardedActuator", "Held", "found_socket"]
