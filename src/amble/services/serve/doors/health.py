"""``grpc.health.v1.Health``: what load balancers and Kubernetes ask over gRPC. The empty service is the whole server.

A model's name is a service too. The two messages are so small that their bytes are written here: field 1 of the request
is a text, field 1 of the response an enumeration.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from amble.runtimes.remote.fault import Fault
from amble.services.serve.models.repository import Repository
from amble.services.serve.requests.dispatching import Dispatcher

__all__ = ["SERVICE", "Health", "read", "write"]

_UNKNOWN, _SERVING, _NOT_SERVING, _NO_SERVICE = 0, 1, 2, 3
SERVICE = "grpc.health.v1.Health"
_NAMES = ("inference.GRPCInferenceService", SERVICE)
_TEXT = 1 << 3 | 2
_LOOK_S = 0.2


class Health:
    """Answers ``Check`` at once, and ``Watch`` whenever something changes."""

    def __init__(self, admission: Dispatcher, repository: Repository) -> None:
        self._admission = admission
        self._repository = repository
        self._closed = False

    def status(self, service: str) -> int:
        """Return whether a service takes requests."""
        if service and service not in _NAMES:
            try:
                self._repository.model(service)
            except Fault:
                return _NOT_SERVING if service in self._repository.names() else _NO_SERVICE
        return _SERVING if self._admission.open_for_all else _NOT_SERVING

    def close(self) -> None:
        """Let those go who watch."""
        self._closed = True

    async def check(self, service: str | None) -> int:
        """Answer once; Fault for a service that there is not."""
        if service is None:
            raise Fault(400, "request is no HealthCheckRequest")
        found = self.status(service)
        if found == _NO_SERVICE:
            raise Fault(404, f"unknown service {service[:100]!r}; models and '' are known")
        return found

    async def watch(self, service: str | None) -> AsyncIterator[int]:
        """Answer now and whenever it changes, until the client goes."""
        last = None
        while not self._closed:
            found = _NO_SERVICE if service is None else self.status(service)
            if found != last:
                yield found
                last = found
            await asyncio.sleep(_LOOK_S)


def read(message: bytes) -> str | None:
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


def write(status: int) -> bytes:
    """Write a HealthCheckResponse."""
    return bytes([1 << 3, status]) if status else b""
