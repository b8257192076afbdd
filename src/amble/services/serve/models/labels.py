"""A file of names, one a line → the names of the classes of a model's outputs."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from pathlib import Path

from amble.core.errors import Refused
from amble.core.graph import Port
from amble.services.serve.models.model import Found
from amble.services.serve.models.settings import Settings

__all__ = ["labels_of"]

_MOST_BYTES = 16 << 20


def labels_of(found: Found, settings: Settings, outputs: Sequence[Port]) -> dict[str, tuple[str, ...]]:
    """Read the names of the classes of a model's outputs. Refused, by file, where there are not as many as classes."""
    files = dict(found.config.labels)
    if settings.labels is not None:
        if len(outputs) > 1:
            raise Refused(
                f"model {found.name!r}: {settings.said}: labels={settings.labels.name}: it has several outputs "
                f"({', '.join(port.name for port in outputs)}); say label_filename of the right one in a config.pbtxt"
            )
        files.setdefault(outputs[0].name, settings.labels)
    ports = {port.name: port for port in outputs}
    return {name: _read(path, found.name, ports[name]) for name, path in files.items() if name in ports}


def _read(path: Path, model: str, port: Port) -> tuple[str, ...]:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise Refused(f"model {model!r}: labels in {path.name}: more than {_MOST_BYTES} bytes")
        names = tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"model {model!r}: labels in {path.name} cannot be read: {error}") from error
    sizes = port.shape[1:] if len(port.shape) > 1 else port.shape
    if all(size > 0 for size in sizes) and len(names) != prod(sizes):
        raise Refused(
            f"model {model!r}: {path.name} has {len(names)} names, one a line, and output {port.name!r} has "
            f"{prod(sizes)} classes"
        )
    return names
