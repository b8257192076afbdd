"""``grpc.health.v1.Health``: what load balancers and Kubernetes ask over gRPC. The empty service is the whole server.

A model's name is a service too. The two messages are so small that their bytes are written here: field 1 of the request
is a text, field 1 of the response an enumeration.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc

from amble.control.server.desk import Desk
from amble.control.server.fault import Fault
from amble.control.server.repository import Repository

__all__ = ["Health"]

_UNKNOWN, _SERVING, _NOT_SERVING, _NO_SERVICE = 0, 1, 2, 3
_SERVICE = "grpc.health.v1.Health"
_NAMES = ("inference.GRPCInferenceService", _SERVICE)
_TEXT = 1 << 3 | 2
_LOOK_S = 0.2

Context = Any


class Health:
    """Answers ``Check`` at once, and ``Watch`` whenever something changes."""

    def __init__(self, desk: Desk, repository: Repository) -> None:
        self._desk = desk
        self._repository = repository
        self._closed = False

    def handlers(self) -> Any:
        """Return what grpcio is to call."""
        write = _written
        return grpc.method_handlers_generic_handler(
            _SERVICE,
            {
                "Check": grpc.unary_unary_rpc_method_handler(self.check, _asked_for, write),
                "Watch": grpc.unary_stream_rpc_method_handler(self.watch, _asked_for, write),
            },
        )

    def status(self, service: str) -> int:
        """Return whether a service takes requests."""
        if service and service not in _NAMES:
            try:
                self._repository.model(service)
            except Fault:
                return _NOT_SERVING if service in self._repository.names() else _NO_SERVICE
        return _SERVING if self._desk.open_for_all else _NOT_SERVING

    def close(self) -> None:
        """Let those go who watch."""
        self._closed = True

    async def check(self, service: str | None, context: Context) -> int:
        """Answer once."""
        if service is None:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "request is no HealthCheckRequest")
            raise AssertionError("aborted calls do not go on")
        found = self.status(service)
        if found == _NO_SERVICE:
            await context.abort(
                grpc.StatusCode.NOT_FOUND, f"unknown service {service[:100]!r}; models and '' are known"
            )
        return found

    async def watch(self, service: str | None, context: Context) -> AsyncIterator[int]:
        """Answer now and whenever it changes, until the client goes."""
        last = None
        while not self._closed:
            found = _NO_SERVICE if service is None else self.status(service)
            if found != last:
                yield found
                last = found
            await asyncio.sleep(_LOOK_S)


def _asked_for(message: bytes) -> str | None:
    """Read a HealthCheckRequest; None for what is none."""
    if not message:
        return ""
    length = message[1] if len(message) > 1 else -1
    if message[0] != _TEXT or length != len(message) - 2 or length > 127:
        return None
    try:
        return message[2:].decode()
    except UnicodeDecodeError:
        return None


def _written(status: int) -> bytes:
    return bytes([1 << 3, status]) if status else b""
