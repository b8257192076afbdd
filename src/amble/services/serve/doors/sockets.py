"""Ports → listening sockets, for one process alone or for several of one server; a port that is taken is refused."""

from __future__ import annotations

import errno
import socket

from amble.core.errors import Refused

__all__ = ["listen", "reserve"]

_BACKLOG = 2048


def listen(host: str, port: int, what: str, *, shared: bool = False) -> socket.socket:
    """Open a listening socket; port 0 takes a free one. Refused when the port is taken or not allowed.

    ``shared``: other processes of this server listen there too, and the kernel deals out the connections.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_STREAM)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        opened.bind((host, port))
        opened.listen(_BACKLOG)
    except OSError as error:
        opened.close()
        raise Refused(_taken(host, port, what, error)) from error
    opened.setblocking(False)
    return opened


def reserve(host: str, port: int, what: str) -> socket.socket:
    """Hold a port that processes of this server will listen on; port 0 takes a free one. Refused when it is taken.

    It is taken where anybody listens there now, willing to share it or not.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    held = socket.socket(family, socket.SOCK_STREAM)
    try:
        with socket.socket(family, socket.SOCK_STREAM) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind((host, port))
            port = tried.getsockname()[1]
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind((host, port))
    except OSError as error:
        held.close()
        raise Refused(_taken(host, port, what, error)) from error
    return held


def _taken(host: str, port: int, what: str, error: OSError) -> str:
    elsewhere = isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL
    option = "--host" if elsewhere else f"--{what}-port"
    return f"cannot listen on {host}:{port} for {what}: {error.strerror}; choose another with {option}"
