"""Who may ask a server what: those with a key, from pages of its own, and for loading models those it was told to let.

A key comes as ``Authorization: Bearer KEY`` or ``X-API-Key: KEY``, over gRPC as metadata of these names. Only digests
are kept, and looked up by digest, so that no comparison tells by its time how much of a guess was right. Liveness and
readiness are open to all: probes have no keys.

A browser lets any page send requests to a server on its user's machine, and a foreign name may be made to point there
(DNS rebinding): requests whose ``Origin`` is not the ``Host`` they go to are refused, and where the server listens on
the loopback only, ``Host`` must be one of its names.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit

from amble.core.errors import Refused
from amble.runtimes.remote.fault import Fault

__all__ = ["Access", "Keys"]

SHORTEST = 16  # characters of a key that is no guess
_LOOK_S = 1.0
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_LOG = logging.getLogger(__name__)


@dataclass(slots=True)
class Keys:
    """Keys of a file, one a line (``#`` begins a comment), read anew within a second of a change; or given at once.

    A file that has become unreadable, or empty, leaves the keys as they were, and the log says so.
    """

    path: Path | None = None
    given: str = ""
    look_s: float = _LOOK_S
    _digests: frozenset[bytes] = field(init=False)
    _stamp: tuple[int, int, int] = field(init=False, default=(0, 0, 0))
    _next_s: float = field(init=False, default=0.0)
    _lock: threading.Lock = field(init=False, default_factory=threading.Lock)

    def __post_init__(self) -> None:
        """Read them. Refused when there is none, or one that could be guessed."""
        self._digests = self._read()
        self._next_s = time.monotonic() + self.look_s

    def know(self, key: str) -> bool:
        """Tell whether a key is one of them."""
        if self.path is not None and time.monotonic() >= self._next_s:
            self._look()
        return _digest(key) in self._digests

    def _look(self) -> None:
        """Read the file again if it has changed."""
        with self._lock:
            self._next_s = time.monotonic() + self.look_s
            before = self._stamp
            try:
                if self._stamped() != before:
                    self._digests = self._read()
                    _LOG.info("%s: %d keys", self.path, len(self._digests))
            except (Refused, OSError) as error:
                if self._stamp == before:
                    _LOG.warning("the keys stay as they were: %s", error)

    def _stamped(self) -> tuple[int, int, int]:
        assert self.path is not None, "only files change"
        found = self.path.stat()
        return found.st_mtime_ns, found.st_size, found.st_ino

    def _read(self) -> frozenset[bytes]:
        try:
            text = self.given if self.path is None else self.path.read_text()
            stamp = self._stamp if self.path is None else self._stamped()
        except (OSError, UnicodeDecodeError) as error:
            raise Refused(f"cannot read the keys in {self.path}: {error}") from error
        keys = [word for line in text.splitlines() for word in line.partition("#")[0].replace(",", " ").split()]
        where = self.path or "AMBLE_API_KEYS"
        if not keys:
            raise Refused(f"{where} has no key in it; write one a line, as made by: openssl rand -hex 32")
        if short := sum(len(key) < SHORTEST for key in keys):
            raise Refused(
                f"{where}: {short} keys have less than {SHORTEST} characters; make them by: openssl rand -hex 32"
            )
        self._stamp = stamp
        return frozenset(map(_digest, keys))


@dataclass(frozen=True, slots=True)
class Access:
    """What is allowed. ``keys`` None: no key is asked for. ``control``: models may be loaded and unloaded.

    ``listens`` is the address the server listens on, ``hosts`` are further names it has.
    """

    keys: Keys | None = None
    control: bool = False
    listens: str = "127.0.0.1"
    hosts: tuple[str, ...] = ()

    def check(self, path: str, headers: Mapping[bytes, bytes]) -> None:
        """Let an HTTP request pass, or raise a Fault that says why not."""
        self.check_page(headers)
        if self.keys is not None and not path.startswith("/v2/health/"):
            authorization, key = (headers.get(name, b"").decode("latin-1") for name in (b"authorization", b"x-api-key"))
            self.check_key(authorization, key)

    def owner(self, headers: Mapping[bytes, bytes]) -> str:
        """Return whose a thing is that a client makes here: a digest of its key; empty where none is asked for."""
        return self.owner_by(*(headers.get(name, b"").decode("latin-1") for name in (b"authorization", b"x-api-key")))

    def owner_by(self, authorization: str, key: str) -> str:
        """Return the same by what was told of the key."""
        return "" if self.keys is None else _digest(_told(authorization, key)).hex()

    def check_key(self, authorization: str, key: str) -> None:
        """Let one pass who has a key."""
        if self.keys is None:
            return
        told = _told(authorization, key)
        if not told:
            raise Fault(401, "this server asks for a key: send Authorization: Bearer KEY, or X-API-Key: KEY")
        if not self.keys.know(told):
            raise Fault(401, "this key is not known here; ask whoever runs the server for one")

    def check_control(self) -> None:
        """Let a change of the models pass."""
        if not self.control:
            raise Fault(403, "models are not changed from outside; start the server with --model-control explicit")

    def check_page(self, headers: Mapping[bytes, bytes]) -> None:
        """Let a request pass that no page of somebody else's has sent."""
        host = headers.get(b"host", b"").decode("latin-1")
        if self.listens in _LOOPBACK and host and (name := _name(host)) not in _LOOPBACK and name not in self.hosts:
            raise Fault(
                403,
                f"this server is not called {host[:100]!r}: it listens on {self.listens} only; behind a proxy that "
                "keeps the name, start it with --allow-host NAME",
            )
        origin = headers.get(b"origin")
        if origin is not None and urlsplit(origin.decode("latin-1")).netloc.lower() != host.lower():
            raise Fault(403, "pages of other origins may not ask this server")


def _told(authorization: str, key: str) -> str:
    scheme, _, token = authorization.strip().partition(" ")
    return key.strip() or (token.strip() if scheme.lower() == "bearer" else "")


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


@lru_cache(maxsize=64)  # clients call a server by the same few names
def _name(host: str) -> str:
    """Return a host without its port; empty where there is none that can be read."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""
