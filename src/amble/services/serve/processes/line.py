"""Messages between a front and an engine: whole ones over a local socket that nobody ever waits for.

A message is a head and the parts of its tensors: behind the head where they are small, otherwise in a block of shared
memory that the head names, or in memory of its own that is passed along.
"""

from __future__ import annotations

import array
import os
import pickle
import socket
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from amble.core.ports import Tensors
from amble.services.serve.processes.arena import mapped

__all__ = ["INLINE_BYTES", "Line", "Message", "packed", "placed", "unpacked"]

INLINE_BYTES = 32 << 10  # of tensors that go with the message
_MOST_BYTES = 128 << 10
_BUFFER_BYTES = 1 << 20
_MOST_PIECES = 512  # the kernel takes 1,024 at once
_HEAD = 4
_ALIGNED_BYTES = 64

Part = bytes | memoryview


class Message(NamedTuple):
    """What came: its head, and what lay behind it, or in memory that was passed along."""

    head: tuple[Any, ...]
    payload: memoryview


def packed(tensors: Tensors | None) -> list[Part]:
    """Return tensors as parts: what they are, then the bytes of each that has plain ones, uncopied."""
    buffers: list[pickle.PickleBuffer] = []
    told = pickle.dumps(None if tensors is None else dict(tensors), protocol=5, buffer_callback=buffers.append)
    return [told, *(each.raw() for each in buffers)]


def placed(parts: Sequence[Part], place: memoryview) -> None:
    """Write parts one behind the other, each aligned."""
    at = 0
    for part in parts:
        place[at : at + len(part)] = part
        at += _up(len(part))


def room(sizes: Sequence[int]) -> int:
    """Return the bytes that parts of these sizes take."""
    return sum(map(_up, sizes))


def unpacked(sizes: Sequence[int], place: memoryview) -> Mapping[str, Any]:
    """Return tensors from where their parts were written; they look at that very memory."""
    parts, at = [], 0
    for size in sizes:
        parts.append(place[at : at + size])
        at += _up(size)
    found: Mapping[str, Any] = pickle.loads(parts[0], buffers=parts[1:])  # noqa: S301
    return found


def _up(size: int) -> int:
    return -(-size // _ALIGNED_BYTES) * _ALIGNED_BYTES


class Line:
    """One end of a connection. Messages go at once where the socket takes them, else in order when it does."""

    def __init__(self, opened: socket.socket) -> None:
        opened.setblocking(False)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
        self._socket = opened
        self._lock = threading.Lock()
        self._out: deque[tuple[list[Part], int | None]] = deque()
        self.closed = False

    def fileno(self) -> int:
        """Return the socket's number."""
        return self._socket.fileno()

    @property
    def waits(self) -> bool:
        """Tell whether something could not be sent yet: ``flush`` when the socket can be written to."""
        return bool(self._out)

    def send(self, head: tuple[Any, ...], parts: Sequence[Part] = (), *, fd: int | None = None) -> bool:
        """Send a message, ``parts`` behind its head, and an open file along → whether it is gone already.

        The file is closed once it is sent.
        """
        told = pickle.dumps(head, protocol=5)
        pieces: list[Part] = [len(told).to_bytes(_HEAD, "little"), told, bytes(-(_HEAD + len(told)) % _ALIGNED_BYTES)]
        for part in parts:
            pieces += [part, bytes(_up(len(part)) - len(part))]
        if len(pieces) > _MOST_PIECES:
            pieces = [b"".join(pieces)]
        with self._lock:
            self._out.append((pieces, fd))
            return self._flushed()

    def flush(self) -> bool:
        """Send what waits → whether all of it is gone."""
        with self._lock:
            return self._flushed()

    def _flushed(self) -> bool:
        while self._out:
            pieces, fd = self._out[0]
            passed = [] if fd is None else [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))]
            try:
                self._socket.sendmsg(pieces, passed)
            except BlockingIOError:
                return False
            except OSError:  # the other end is gone, which the reader is told too
                self.closed = True
                self._drop()
                return True
            self._out.popleft()
            if fd is not None:
                os.close(fd)
        return True

    def _drop(self) -> None:
        while self._out:
            _, fd = self._out.popleft()
            if fd is not None:
                os.close(fd)

    def receive(self) -> Message | None:
        """Return the next message; None when there is none now. ``closed`` is true after the last one."""
        try:
            data, passed, _, _ = self._socket.recvmsg(_MOST_BYTES, socket.CMSG_SPACE(4))
        except BlockingIOError:
            return None
        except OSError:
            data, passed = b"", []
        if not data:
            self.closed = True
            return None
        length = int.from_bytes(data[:_HEAD], "little")
        head = pickle.loads(memoryview(data)[_HEAD : _HEAD + length])  # noqa: S301
        payload = memoryview(data)[_HEAD + length + -(_HEAD + length) % _ALIGNED_BYTES :]
        for _, _, fds in passed:
            (fd,) = array.array("i", fds)
            try:
                payload = mapped(fd)
            finally:
                os.close(fd)
        return Message(head, payload)

    def close(self) -> None:
        """Close it."""
        self.closed = True
        with self._lock:
            self._drop()
        with suppress(OSError):
            self._socket.close()
