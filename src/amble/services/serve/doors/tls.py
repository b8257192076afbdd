"""Files of a certificate → TLS for both doors, read anew when the files change.

Every handshake takes the newest files that were whole: connections that are open keep what they began with, so nothing
is cut off when a certificate is renewed. Files that have become unreadable, or do not fit one another, leave everything
as it was, and the log says so.
"""

from __future__ import annotations

import logging
import ssl
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from amble.core.errors import Refused

__all__ = ["Certificate", "Pem"]

_LOOK_S = 1.0
_PROTOCOLS = ("http/1.1", "h2")  # the second for gRPC
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pem:
    """What the files said: chain and key of the server, and who may sign for clients (None: clients need none)."""

    cert: bytes
    key: bytes
    client_ca: bytes | None = None


@dataclass(slots=True)
class Certificate:
    """The server's certificate, its key and, where clients must show a certificate, the authorities that sign theirs.

    ``look_s`` is the time [s] after which a handshake looks at the files again.
    """

    cert: Path
    key: Path
    client_ca: Path | None = None
    look_s: float = _LOOK_S
    pem: Pem = field(init=False)
    _contexts: dict[str, ssl.SSLContext] = field(init=False)
    _stamps: tuple[tuple[int, int, int], ...] = field(init=False, default=())
    _next_s: float = field(init=False, default=0.0)
    _lock: threading.Lock = field(init=False, default_factory=threading.Lock)

    def __post_init__(self) -> None:
        """Read the files. Refused with the option and the file that is wrong."""
        self._stamps = self._stamped()
        self.pem, self._contexts = self._read()
        self._next_s = time.monotonic() + self.look_s

    def server_context(self, protocol: str = "http/1.1") -> ssl.SSLContext:
        """Return a context for a listening socket of a protocol; handshakes in it take the newest files."""
        made = _context(self.cert, self.key, self.pem, protocol)

        def renew(connection: ssl.SSLObject, name: str | None, listening: ssl.SSLContext) -> None:
            self.look()
            connection.context = self._contexts[protocol]

        made.sni_callback = renew
        return made

    def look(self) -> Pem:
        """Return what the files say, read again if they have changed."""
        if time.monotonic() >= self._next_s:
            with self._lock:
                self._next_s = time.monotonic() + self.look_s
                self._renew()
        return self.pem

    def _renew(self) -> None:
        try:
            stamps = self._stamped()
            if stamps == self._stamps:
                return
            pem, contexts = self._read()
            if self._stamped() != stamps:
                return  # they are being written: the next look finds them
            self.pem, self._contexts, self._stamps = pem, contexts, stamps
            _LOG.info("%s: read again", self.cert)
        except Refused as error:
            _LOG.warning("the certificate stays as it was: %s", error)

    def _stamped(self) -> tuple[tuple[int, int, int], ...]:
        stamps = []
        for option, path in self._files():
            try:
                found = path.stat()
            except OSError as error:
                _refuse_unreadable(option, path, error)
            stamps.append((found.st_mtime_ns, found.st_size, found.st_ino))
        return tuple(stamps)

    def _files(self) -> tuple[tuple[str, Path], ...]:
        files = (("--tls-cert", self.cert), ("--tls-key", self.key))
        return files if self.client_ca is None else (*files, ("--tls-client-ca", self.client_ca))

    def _read(self) -> tuple[Pem, dict[str, ssl.SSLContext]]:
        found = []
        for option, path in self._files():
            try:
                found.append(path.read_bytes())
            except OSError as error:
                _refuse_unreadable(option, path, error)
            if option != "--tls-key":
                _refuse_no_certificate(option, path, found[-1])
        pem = Pem(*found)
        return pem, {protocol: _context(self.cert, self.key, pem, protocol) for protocol in _PROTOCOLS}


def _context(cert: Path, key: Path, pem: Pem, protocol: str) -> ssl.SSLContext:
    """Make a context: TLS 1.2 and later, and a protocol of HTTP in it."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.set_alpn_protocols([protocol])
    made.options |= ssl.OP_NO_RENEGOTIATION  # keys are agreed on once: doing so costs the server more than its client

    def locked() -> NoReturn:
        raise Refused(f"--tls-key {key}: the key is locked by a password; write it without: openssl pkey -in {key}")

    try:
        made.load_cert_chain(cert, key, locked)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise Refused(f"--tls-key {key} is not the key of --tls-cert {cert}") from error
        raise Refused(f"--tls-key {key} has no private key in PEM that fits: {error.reason or error}") from error
    except OSError as error:
        raise Refused(f"--tls-cert {cert}, --tls-key {key}: {error.strerror}") from error
    if pem.client_ca is not None:
        made.load_verify_locations(cadata=_ascii(pem.client_ca))
        made.verify_mode = ssl.CERT_REQUIRED
        made.options |= ssl.OP_NO_TICKET  # who resumes a session shows no certificate
        made.num_tickets = 0
    return made


def _ascii(text: bytes) -> str:
    """Return PEM without what is not ASCII, which certificates never are; the remarks beside them may be."""
    return text.decode("ascii", "ignore")


def _refuse_unreadable(option: str, path: Path, error: OSError) -> NoReturn:
    raise Refused(f"{option} {path} cannot be read: {error.strerror}") from error


def _refuse_no_certificate(option: str, path: Path, text: bytes) -> None:
    """Have the certificates in a file parsed, so that it is the file at fault that is named."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cadata=_ascii(text))
    except (ssl.SSLError, ValueError) as error:
        raise Refused(f"{option} {path} has no certificate in PEM that can be read") from error
