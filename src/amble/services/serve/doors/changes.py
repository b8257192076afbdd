"""Requests over HTTP that change a server: its repository, and the shared memory that it knows."""

from __future__ import annotations

from typing import Any

import msgspec

from amble.runtimes.remote.fault import Fault
from amble.services.serve.doors.access import Access
from amble.services.serve.doors.shared_memory import NOT_OFFERED, Region, Regions
from amble.services.serve.models.repository import Repository, refuse_unknown

__all__ = ["changed", "registered", "shared_status"]

Body = bytes | memoryview


async def changed(repository: Repository, access: Access, path: tuple[str, ...], body: Body) -> object:
    """Answer what concerns the repository."""
    match path:
        case ("index",):
            ready = _object(body).get("ready", False)
            return [each for each in repository.index() if not ready or each["state"] == "READY"]
        case ("models", name, "load"):
            access.check_control()
            parameters = _object(body).get("parameters", {})
            if not isinstance(parameters, dict):
                raise Fault(400, "parameters: an object is expected")
            refuse_unknown(parameters)
            config = parameters.get("config")
            if config is not None and not isinstance(config, str):
                raise Fault(400, "parameters.config: a model configuration as a text of JSON is expected")
            await repository.start(name, config)
            return {}
        case ("models", name, "unload"):
            access.check_control()
            _object(body)
            await repository.stop(name)
            return {}
    raise Fault(404, f"/v2/repository/{'/'.join(path)}: no such path")


class _Registration(msgspec.Struct):
    key: str
    byte_size: int
    offset: int = 0


def registered(regions: Regions | None, path: tuple[str, ...], body: Body, owner: str, client: str) -> object:
    """Register or unregister shared memory."""
    if regions is None:
        raise Fault(400, NOT_OFFERED)
    match path:
        case ("region", name, "register"):
            try:
                asked = msgspec.json.decode(body, type=_Registration)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                raise Fault(400, f"request: {error}") from error
            regions.register(name, asked.key, asked.offset, asked.byte_size, owner=owner, client=client)
            return {}
        case ("region", name, "unregister"):
            regions.unregister(name, owner=owner)
            return {}
        case ("unregister",):
            regions.unregister("", owner=owner)
            return {}
    raise Fault(404, f"/v2/systemsharedmemory/{'/'.join(path)}: no such path")


def shared_status(regions: Regions | None, path: tuple[str, ...], owner: str) -> list[dict[str, Any]]:
    """List the regions of shared memory, or one."""
    if regions is None:
        raise Fault(400, NOT_OFFERED)
    match path:
        case ("status",):
            return list(map(told, regions.of("", owner=owner)))
        case ("region", name, "status"):
            return list(map(told, regions.of(name, owner=owner)))
    raise Fault(404, f"/v2/systemsharedmemory/{'/'.join(path)}: no such path")


def told(region: Region) -> dict[str, Any]:
    """Say what is known of a region, in the protocol's words."""
    return {name: getattr(region, name) for name in ("name", "key", "offset", "byte_size")}


def _object(body: Body) -> dict[str, Any]:
    """Read a body that may be empty as a JSON object."""
    try:
        return msgspec.json.decode(body, type=dict[str, Any]) if bytes(body).strip() else {}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Fault(400, f"request is no JSON object: {error}") from error
