"""Calls over gRPC about shared memory, and who calls. Stubs, and how a call ends with an error, are given by `grpc`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeVar

from google.protobuf import json_format

from amble.services.serve.doors.access import Access
from amble.services.serve.doors.changes import registered, shared_status
from amble.services.serve.doors.shared_memory import Regions, cuda_refused

__all__ = ["SharedMemory", "client_of", "owner_of"]

Context = Any  # grpcio has no types
T = TypeVar("T")


class SharedMemory:
    """The calls about shared memory; a part of the servicer."""

    stubs: Any
    regions: Regions | None = None
    _access: Access

    async def checked(self, context: Context, call: Callable[[], T]) -> T:
        """Return what a call gives, or end the call with the status of its fault."""
        raise NotImplementedError

    async def SystemSharedMemoryStatus(self, request: Any, context: Context) -> Any:  # noqa: N802
        """List the regions of shared memory, or one."""
        path = ("region", request.name, "status") if request.name else ("status",)
        listed = await self.checked(context, lambda: shared_status(self.regions, path, owner_of(self._access, context)))
        regions = {each["name"]: each for each in listed}
        return json_format.ParseDict({"regions": regions}, self.stubs.SystemSharedMemoryStatusResponse())

    async def SystemSharedMemoryRegister(self, request: Any, context: Context) -> Any:  # noqa: N802
        """Register shared memory."""
        asked = {"key": request.key, "byte_size": request.byte_size, "offset": request.offset}
        path = ("region", request.name, "register")
        await self.checked(context, lambda: self._registered(path, context, asked))
        return self.stubs.SystemSharedMemoryRegisterResponse()

    async def SystemSharedMemoryUnregister(self, request: Any, context: Context) -> Any:  # noqa: N802
        """Forget one region of shared memory, or all."""
        path = ("region", request.name, "unregister") if request.name else ("unregister",)
        await self.checked(context, lambda: self._registered(path, context, {}))
        return self.stubs.SystemSharedMemoryUnregisterResponse()

    async def CudaSharedMemoryStatus(self, request: Any, context: Context) -> Any:  # noqa: N802
        """Refuse, with the reason."""
        await self.checked(context, _refuse_cuda)

    CudaSharedMemoryRegister = CudaSharedMemoryUnregister = CudaSharedMemoryStatus

    def _registered(self, path: tuple[str, ...], context: Context, asked: Mapping[str, object]) -> object:
        body = json.dumps(asked).encode()
        return registered(self.regions, path, body, owner_of(self._access, context), client_of(context))


def _refuse_cuda() -> NoReturn:
    raise cuda_refused()


def owner_of(access: Access, context: Context) -> str:
    """Return whose a thing is that a call makes."""
    told = dict(context.invocation_metadata() or ())
    return access.owner_by(str(told.get("authorization", "")), str(told.get("x-api-key", "")))


def client_of(context: Context) -> str:
    """Return who asks: an address, of ``ipv4:127.0.0.1:1234``."""
    return str(context.peer()).rpartition(":")[0]
