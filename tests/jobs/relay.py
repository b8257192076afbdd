"""A TCP relay on loopback that a test can make slow, stop for some time, or have drop its connections."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

__all__ = ["Relay", "relayed"]

_PIECE_BYTES = 2048


class Relay:
    """Passes bytes to a port, both ways; ``rate_bit_s`` 0: as fast as they come."""

    def __init__(self, to: int) -> None:
        self.to, self.rate_bit_s = to, 0.0
        self.open = threading.Event()
        self.open.set()
        self._ended = threading.Event()
        self._sockets: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def lead(self, to: int) -> None:
        """Pass what comes from now on to another port."""
        self.to = to

    def drop(self) -> None:
        """Reset every connection there is."""
        with self._lock:
            sockets, self._sockets = self._sockets, set()
        for each in sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._ended.set()
        self.open.set()
        self._listener.close()
        self.drop()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._connect, args=(client,), daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        self.open.wait()
        try:
            server = socket.create_connection(("127.0.0.1", self.to), timeout=5)
        except OSError:
            client.close()
            return
        for each in (client, server):
            each.settimeout(None)
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self._sockets |= {client, server}
        for here, there in ((client, server), (server, client)):
            threading.Thread(target=self._pass, args=(here, there), daemon=True).start()

    def _pass(self, here: socket.socket, there: socket.socket) -> None:
        with suppress(OSError):
            while piece := here.recv(_PIECE_BYTES):
                self.open.wait()
                if self.rate_bit_s:
                    time.sleep(8 * len(piece) / self.rate_bit_s)
                there.sendall(piece)
        for each in (here, there):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            with self._lock:
                self._sockets.discard(each)
        there.close()


@contextmanager
def relayed(to: int) -> Iterator[Relay]:
    relay = Relay(to)
    try:
        yield relay
    finally:
        relay.close()
