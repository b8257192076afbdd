"""Calls over gRPC about shared memory. Stubs are given by `grpc`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from google.protobuf import json_format

from amble.services.serve.doors.access import Access
from amble.services.serve.doors.changes import registered, shared_status
from amble.services.serve.doors.rpc import Call
from amble.services.serve.doors.shared_memory import Regions, cuda_refused

__all__ = ["SharedMemory", "owner_of"]


class SharedMemory:
    """The calls about shared memory; a part of the servicer."""

    stubs: Any
    regions: Regions | None = None
    _access: Access

    async def SystemSharedMemoryStatus(self, request: Any, call: Call) -> Any:  # noqa: N802
        """List the regions of shared memory, or one."""
        path = ("region", request.name, "status") if request.name else ("status",)
        listed = shared_status(self.regions, path, owner_of(self._access, call))
        regions = {each["name"]: each for each in listed}
        return json_format.ParseDict({"regions": regions}, self.stubs.SystemSharedMemoryStatusResponse())

    async def SystemSharedMemoryRegister(self, request: Any, call: Call) -> Any:  # noqa: N802
        """Register shared memory."""
        asked = {"key": request.key, "byte_size": request.byte_size, "offset": request.offset}
        path = ("region", request.name, "register")
        self._registered(path, call, asked)
        return self.stubs.SystemSharedMemoryRegisterResponse()

    async def SystemSharedMemoryUnregister(self, request: Any, call: Call) -> Any:  # noqa: N802
        """Forget one region of shared memory, or all."""
        path = ("region", request.name, "unregister") if request.name else ("unregister",)
        self._registered(path, call, {})
        return self.stubs.SystemSharedMemoryUnregisterResponse()

    async def CudaSharedMemoryStatus(self, request: Any, call: Call) -> Any:  # noqa: N802
        """Refuse, with the reason."""
        raise cuda_refused()

    CudaSharedMemoryRegister = CudaSharedMemoryUnregister = CudaSharedMemoryStatus

    def _registered(self, path: tuple[str, ...], call: Call, asked: Mapping[str, object]) -> object:
        body = json.dumps(asked).encode()
        return registered(self.regions, path, body, owner_of(self._access, call), call.client)


def owner_of(access: Access, call: Call) -> str:
    """Return whose a thing is that a call makes."""
    return access.owner_by(call.told.get("authorization", ""), call.told.get("x-api-key", ""))
