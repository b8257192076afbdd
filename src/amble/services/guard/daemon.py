"""A Unix socket → the guard: one thread, one loop, and the kernel's word on who is at the other end."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import selectors
import signal
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from amble.core.errors import Refused
from amble.devices.guarded.protocol import LONGEST_ASK, Answer, encode
from amble.services.guard.guard import Guard, Peer

__all__ = ["Daemon"]

_LOG = logging.getLogger(__name__)
_MOST_CLIENTS = 64
_MOST_OWED_BYTES = 1 << 20
_PEER = struct.Struct("3i")


@dataclass(slots=True)
class _Client:
    number: int
    peer: Peer
    heard: bytes = b""
    owed: bytes = b""


class Daemon:
    """Serves a guard on a socket until it is told to stop. ``ready`` is called once clients can connect."""

    def __init__(self, guard: Guard, path: Path, ready: Callable[[], None] = lambda: None) -> None:
        self._guard = guard
        self._path = path
        self._ready = ready
        self._clients: dict[socket.socket, _Client] = {}
        self._count = 0
        self._selector = selectors.DefaultSelector()
        self._wake, self._woken = socket.socketpair()

    def stop(self) -> None:
        """Let ``serve`` end, from a signal handler or another thread."""
        with contextlib.suppress(OSError):
            self._wake.send(b"x")

    def stop_on_signals(self) -> None:
        """Let SIGTERM and SIGINT end ``serve``."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.stop())

    def serve(self) -> None:
        """Answer clients; put everything back at the end, also after an error."""
        listener = self._listen()
        self._selector.register(listener, selectors.EVENT_READ)
        self._selector.register(self._woken, selectors.EVENT_READ)
        gc.collect()
        gc.freeze()  # what is loaded stays: looking through it again would make clients wait for milliseconds
        try:
            self._ready()
            while self._round(listener):
                pass
        finally:
            self._guard.close()
            self._path.unlink(missing_ok=True)
            for each in (*self._clients, listener, self._wake, self._woken):
                each.close()
            self._selector.close()

    def _round(self, listener: socket.socket) -> bool:
        for key, events in self._selector.select(self._guard.wake()):
            if key.fileobj is self._woken:
                return False
            if key.fileobj is listener:
                self._accept(listener)
            elif isinstance(key.fileobj, socket.socket) and key.fileobj in self._clients:
                self._serve(key.fileobj, events)
        return True

    def _listen(self) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            _make(self._path.parent)
            self._refuse_second()
            self._path.unlink(missing_ok=True)
            listener.bind(str(self._path))
            os.chmod(self._path, 0o666)  # noqa: S103  who may ask what is decided by the kernel's word on the peer
            listener.listen(_MOST_CLIENTS)
        except OSError as error:
            listener.close()
            raise Refused(
                f"cannot listen at {self._path}: {error.strerror or error}; run as root or give --socket"
            ) from error
        listener.setblocking(False)
        return listener

    def _refuse_second(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other, contextlib.suppress(OSError):
            other.connect(str(self._path))
            raise Refused(f"another guard listens at {self._path}; stop it: systemctl stop amble-guard")

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        if len(self._clients) >= _MOST_CLIENTS:
            connection.close()
            return
        pid, uid, _ = _PEER.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
        connection.setblocking(False)
        self._count += 1
        self._clients[connection] = _Client(self._count, Peer(pid, uid))
        self._selector.register(connection, selectors.EVENT_READ)

    def _serve(self, connection: socket.socket, events: int) -> None:
        client = self._clients[connection]
        try:
            if events & selectors.EVENT_READ:
                heard = connection.recv(65536)
                if not heard:
                    self._end(connection)
                    return
                self._hear(client, heard)
            self._tell(connection, client)
        except (OSError, _TooMuchError):
            self._end(connection)

    def _hear(self, client: _Client, heard: bytes) -> None:
        *lines, client.heard = (client.heard + heard).split(b"\n")
        for line in lines:
            if len(line) > LONGEST_ASK or len(client.owed) > _MOST_OWED_BYTES:
                raise _TooMuchError
            client.owed += self._guard.answer(client.number, client.peer, line)
        if len(client.heard) > LONGEST_ASK:
            client.owed += encode(Answer(False, f"an ask has at most {LONGEST_ASK} bytes"))
            raise _TooMuchError

    def _tell(self, connection: socket.socket, client: _Client) -> None:
        if client.owed:
            with contextlib.suppress(BlockingIOError):
                client.owed = client.owed[connection.send(client.owed) :]
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if client.owed else 0)
        if self._selector.get_key(connection).events != wanted:
            self._selector.modify(connection, wanted)

    def _end(self, connection: socket.socket) -> None:
        client = self._clients.pop(connection)
        self._selector.unregister(connection)
        connection.close()
        self._guard.gone(client.number)


def _make(folder: Path) -> None:
    """Make the socket's folder one that everybody may enter, whatever the umask; what is there stays as it is."""
    for each in reversed((folder, *folder.parents)):
        if not each.exists():
            each.mkdir()
            os.chmod(each, 0o755)  # noqa: S103  every user asks there


class _TooMuchError(Exception):
    """A client says, or leaves unread, more than anyone needs to."""
