"""System shared memory of the protocol: regions of ``/dev/shm`` that clients on this machine put tensors into.

Only where the server was started for it. A client names a region and the file that it is; the file must lie in
``/dev/shm`` itself, be the server's own user's, and hold what is said of it. Tensors are read and written by copying,
never mapped: a client that cuts its file short gets an error, and no other process dies of it; what was read does not
change while it is computed. What is registered is kept in a folder, so that all processes of a server know it.

Regions belong to whom registered them, where clients have keys: others do not see, use or remove them.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from amble.runtimes.remote.fault import Fault

__all__ = ["FIELDS", "NOT_OFFERED", "Memory", "Place", "Region", "Regions", "cuda_refused", "is_local"]

NOT_OFFERED = "shared memory is not offered; send the data, or start the server with --shared-memory"
FIELDS = ("shared_memory_region", "shared_memory_byte_size", "shared_memory_offset")
_KEY = re.compile(r"/?([A-Za-z0-9._-]{1,200})")
_MOST_BYTES = 1 << 40
_SAID = 200


class Region(msgspec.Struct, frozen=True):
    """A part of a file that a client may use: ``key`` is the file's name, ``inode`` tells it from one made anew."""

    name: str
    key: str
    offset: int
    byte_size: int
    inode: int
    owner: str


_REGION = msgspec.json.Decoder(Region)


@dataclass(frozen=True, slots=True)
class Regions:
    """The regions of a server, at most ``most``, noted in ``folder``, which nobody else can write."""

    folder: Path
    root: Path = Path("/dev/shm")  # noqa: S108
    most: int = 256

    def register(self, name: str, key: str, offset: int, byte_size: int, *, owner: str, client: str) -> None:
        """Let a client use a part of a file. Fault where it may not."""
        if not is_local(client):
            raise Fault(403, "shared memory is for clients on this machine, by way of the loopback; send the data")
        if not name or len(name) > _SAID:
            raise Fault(400, f"shared memory: a region needs a name of 1 to {_SAID} characters")
        if not 0 <= offset < _MOST_BYTES or not 0 < byte_size < _MOST_BYTES:
            raise Fault(400, f"shared memory region {name!r}: offset {offset} and byte_size {byte_size} are no part")
        with self._opened(key, name) as (_, found):
            if offset + byte_size > found.st_size:
                wanted = f"{key[:_SAID]!r} has {found.st_size} bytes, not {offset + byte_size}"
                raise Fault(400, f"shared memory region {name!r}: {wanted}")
            region = Region(name, key, offset, byte_size, found.st_ino, owner)
        self._note(region)

    def unregister(self, name: str, *, owner: str) -> None:
        """Forget a region, or all of this owner's; one that is not known is forgotten already."""
        for region in self.of(name, owner=owner) if not name or self._path(name, owner).exists() else ():
            self._path(region.name, owner).unlink(missing_ok=True)

    def of(self, name: str, *, owner: str) -> list[Region]:
        """Return a region of an owner's, or all of them; Fault where there is none of that name."""
        if name:
            return [self._known(name, owner)]
        found = []
        for path in sorted(self.folder.glob(f"{_mark(owner)}-*.json")):
            with suppress(FileNotFoundError):
                found.append(_REGION.decode(path.read_bytes()))
        return found

    def read(self, name: str, offset: int, size: int, *, owner: str) -> memoryview:
        """Copy a tensor out of a region."""
        region = self.part(name, offset, size, owner)
        with self._opened(region.key, name, region) as (fd, _):
            found, start = bytearray(size), region.offset + offset
            view, done = memoryview(found), 0
            while done < size:
                more = os.preadv(fd, [view[done:]], start + done)
                if more <= 0:
                    raise Fault(400, f"shared memory region {name!r}: its file has become shorter")
                done += more
        return memoryview(found).toreadonly()

    def write(self, name: str, offset: int, data: bytes, *, owner: str) -> None:
        """Copy a tensor into a region."""
        region = self.part(name, offset, len(data), owner)
        with self._opened(region.key, name, region) as (fd, found):
            start, view, done = region.offset + offset, memoryview(data), 0
            if start + len(data) > found.st_size:
                raise Fault(400, f"shared memory region {name!r}: its file has become shorter")
            while done < len(data):
                done += os.pwrite(fd, view[done:], start + done)

    def part(self, name: str, offset: int, size: int, owner: str) -> Region:
        """Return the region that holds a part; Fault where it is too small."""
        region = self._known(name, owner)
        if offset + size > region.byte_size:
            raise Fault(400, f"shared memory region {name!r} has {region.byte_size} bytes, not {offset + size}")
        return region

    def _known(self, name: str, owner: str) -> Region:
        try:
            return _REGION.decode(self._path(name, owner).read_bytes())
        except FileNotFoundError as error:
            raise Fault(400, f"shared memory region {name[:_SAID]!r} is not registered") from error

    def _note(self, region: Region) -> None:
        """Write a region down; Fault where there is one of that name, or too many."""
        path = self._path(region.name, region.owner)
        if len(os.listdir(self.folder)) >= self.most:
            raise Fault(503, f"{self.most} regions of shared memory are registered already; unregister some")
        draft = path.with_suffix(f".{secrets.token_hex(8)}")
        draft.write_bytes(msgspec.json.encode(region))
        try:
            os.link(draft, path)
        except FileExistsError as error:
            raise Fault(
                400, f"shared memory region {region.name!r} is registered already; unregister it first"
            ) from error
        finally:
            draft.unlink()

    def _path(self, name: str, owner: str) -> Path:
        return self.folder / f"{_mark(owner)}-{_mark(name)}.json"

    @contextmanager
    def _opened(self, key: str, name: str, region: Region | None = None) -> Iterator[tuple[int, os.stat_result]]:
        """Open a region's file; Fault where there is none that this server may use."""
        matched = _KEY.fullmatch(key)
        if matched is None or matched[1] in (".", ".."):
            raise Fault(400, f"shared memory region {name[:_SAID]!r}: key {key[:_SAID]!r} is no name in {self.root}")
        try:
            fd = os.open(self.root / matched[1], os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise Fault(
                400, f"shared memory region {name[:_SAID]!r}: {key[:_SAID]!r} cannot be opened: {error.strerror}"
            ) from error
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
                raise Fault(
                    403,
                    f"shared memory region {name[:_SAID]!r}: {key[:_SAID]!r} is not a file of the server's own user",
                )
            if region is not None and found.st_ino != region.inode:
                raise Fault(400, f"shared memory region {name[:_SAID]!r}: its file was made anew; register it again")
            yield fd, found
        finally:
            os.close(fd)


@dataclass(frozen=True, slots=True)
class Place:
    """Where an output goes."""

    regions: Regions
    owner: str
    region: str
    offset: int
    byte_size: int

    def put(self, name: str, data: bytes) -> dict[str, str | int]:
        """Write an output there → what the answer says of it. Fault where it is too large."""
        if len(data) > self.byte_size:
            raise Fault(400, f"output {name!r}: {len(data)} bytes, shared_memory_byte_size is {self.byte_size}")
        self.regions.write(self.region, self.offset, data, owner=self.owner)
        told: dict[str, str | int] = {FIELDS[0]: self.region, FIELDS[1]: len(data)}
        return {**told, FIELDS[2]: self.offset} if self.offset else told


@dataclass(frozen=True, slots=True)
class Memory:
    """Shared memory as one request may use it; ``grow`` makes room for bytes that it brings."""

    regions: Regions
    owner: str
    grow: Callable[[int], None]

    def input(self, name: str, parameters: Mapping[str, Any]) -> memoryview:
        """Read an input, once there is room for it."""
        region, offset, size = _said(f"input {name!r}", parameters)
        self.regions.part(region, offset, size, self.owner)
        self.grow(size)
        return self.regions.read(region, offset, size, owner=self.owner)

    def output(self, name: str, parameters: Mapping[str, Any]) -> Place:
        """Return where an output is to go."""
        region, offset, size = _said(f"output {name!r}", parameters)
        self.regions.part(region, offset, size, self.owner)
        return Place(self.regions, self.owner, region, offset, size)


def is_local(client: str) -> bool:
    """Tell whether a client (``127.0.0.1``, ``ipv6:[::1]``, ``unix``) is on this machine."""
    if client.startswith("unix"):
        return True
    text = client.removeprefix("ipv4:").removeprefix("ipv6:").replace("%5B", "").replace("%5D", "").strip("[]")
    try:
        return ipaddress.ip_address(text).is_loopback
    except ValueError:
        return False


def cuda_refused() -> Fault:
    """Return the refusal of shared memory of a GPU."""
    return Fault(501, "CUDA shared memory is not offered: tensors are taken on the CPU; use system shared memory")


def _said(what: str, parameters: Mapping[str, Any]) -> tuple[str, int, int]:
    region, size, offset = parameters[FIELDS[0]], parameters.get(FIELDS[1]), parameters.get(FIELDS[2], 0)
    whole = all(
        isinstance(each, int) and not isinstance(each, bool) and 0 <= each < _MOST_BYTES for each in (size, offset)
    )
    if not isinstance(region, str) or not whole:
        raise Fault(400, f"{what}: shared memory needs the name of a region, a byte_size and an offset from 0 on")
    assert isinstance(size, int)
    return region, int(offset), size


def _mark(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]
