"""Certificates for tests, made by the program ``openssl``; tests that want them are skipped where it is not."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

_EXTENSIONS = "subjectAltName=DNS:localhost,IP:127.0.0.1\n"


def _openssl(*words: str | Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl to make certificates with")
    subprocess.run(["openssl", *words], check=True, capture_output=True, timeout=60)


@dataclass(frozen=True)
class Pair:
    """A certificate and its key."""

    cert: Path
    key: Path

    def copy_to(self, other: Pair) -> None:
        other.key.write_bytes(self.key.read_bytes())
        other.cert.write_bytes(self.cert.read_bytes())


def authority(folder: Path, name: str) -> Pair:
    """Make one who signs."""
    made = Pair(folder / f"{name}.pem", folder / f"{name}.key")
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    _openssl("req", "-x509", *curve, "-days", "2", "-subj", f"/CN={name}", "-keyout", made.key, "-out", made.cert)
    return made


def signed(folder: Path, name: str, by: Pair) -> Pair:
    """Make a certificate for 127.0.0.1 that an authority signed."""
    made, wish, more = Pair(folder / f"{name}.pem", folder / f"{name}.key"), folder / "wish.csr", folder / "more.cnf"
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    more.write_text(_EXTENSIONS)
    _openssl("req", *curve, "-subj", f"/CN={name}", "-keyout", made.key, "-out", wish)
    signing = ("-CA", by.cert, "-CAkey", by.key, "-CAcreateserial", "-extfile", more)
    _openssl("x509", "-req", "-in", wish, *signing, "-days", "2", "-out", made.cert)
    return made


def locked(folder: Path, pair: Pair) -> Path:
    """Write a key that asks for a password."""
    path = folder / "locked.key"
    _openssl("pkey", "-in", pair.key, "-aes256", "-passout", "pass:secret", "-out", path)
    return path
