"""Artefacts ↔ readable, versioned JSON files with their provenance, written whole or not at all.

All that amble writes for its user goes through here. A file is written under another name in the same folder, forced to
the disk and then renamed, so that whoever reads it, also after a crash or on a full disk, finds the old one or the new
one. Files that belong together are written to a folder of their own first (`renewed`).
"""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec
import numpy as np

from amble.core.errors import Refused

__all__ = [
    "Format",
    "cache_folder",
    "home",
    "kind_of",
    "load",
    "plain",
    "renewed",
    "save",
    "try_writing",
    "write_bytes",
    "write_text",
    "write_together",
    "written",
]

T = TypeVar("T")
Upgrade = Callable[[Mapping[str, Any]], dict[str, Any]]
_A_FILE, _A_FOLDER = "a file, not a folder", "a folder, not a file"
_ELSEWHERE = "; choose another place"
_LEAST = 4096  # bytes that must fit where something is to be written


@dataclass(frozen=True, slots=True)
class Format(Generic[T]):
    """A kind of artefact: its name in the file, its version and its type.

    ``upgrades`` are the ways from an older version to the next one, by that older version: what stood in the file under
    the artefact's kind → what stands there one version later.
    """

    kind: str
    version: int
    type: type[T]
    upgrades: Mapping[int, Upgrade] = field(default_factory=dict)


def save(artefact: T, path: Path | str, form: Format[T]) -> None:
    """Write an artefact; an existing file stays as it was until the new one is complete."""
    write_text(path, written(artefact, form))


def written(artefact: T, form: Format[T]) -> str:
    """Return what stands in the file of an artefact."""
    document = {
        "kind": form.kind,
        "format": form.version,
        "provenance": _provenance(),
        form.kind: artefact,
    }
    return msgspec.json.format(msgspec.json.encode(document, enc_hook=plain), indent=1).decode() + "\n"


def load(path: Path | str, form: Format[T]) -> T:
    """Read an artefact, also of an older format that can be brought up to this one.

    Refused when the file is missing, damaged, of another kind or of a format that cannot be read.
    """
    document = _document(path)
    if document.get("kind") != form.kind:
        raise Refused(f"{path} holds a {document.get('kind')}, not a {form.kind}")
    number = document.get("format")
    if number != form.version and number not in form.upgrades:
        oldest = min((*form.upgrades, form.version))
        read = f"format {form.version}" if oldest == form.version else f"formats {oldest} to {form.version}"
        raise Refused(
            f"{path}: {form.kind} format {number}, this amble reads {read}; make the file again with this version"
        )
    try:
        return msgspec.convert(_upgraded(document, form), form.type, strict=False)
    except (KeyError, msgspec.ValidationError, ValueError) as error:
        raise Refused(f"{path} is not a whole {form.kind}: {error}") from error


def home() -> Path:
    """Return the user's folder; Refused where there is none, as in a container for a user that it does not know."""
    try:
        return Path.home()
    except RuntimeError as error:
        raise Refused("this user has no home folder to keep files in; let HOME name one") from error


def cache_folder() -> Path:
    """Return where amble keeps what it can make again: ``AMBLE_CACHE``, else in the user's cache folder."""
    base = os.environ.get("AMBLE_CACHE") or os.environ.get("XDG_CACHE_HOME") or home() / ".cache"
    folder = Path(base) / "amble"
    try:
        try_writing(folder, folder=True)
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, Refused) as error:
        raise Refused(
            f"cannot keep costs in {folder}: {error}; let AMBLE_CACHE name a folder that can be written"
        ) from error
    return folder


def _upgraded(document: Mapping[str, Any], form: Format[Any]) -> object:
    """Return what a file holds as this version of its format has it."""
    held: Any = document[form.kind]
    for older in range(document["format"], form.version):
        if not isinstance(held, dict):
            raise ValueError(f"Expected `object`, got `{type(held).__name__}`")
        held = form.upgrades[older](held)
    return held


def kind_of(path: Path | str) -> str:
    """Return the kind of artefact a file holds."""
    return str(_document(path)["kind"])


def write_text(path: Path | str, text: str) -> None:
    """Replace a file by this text atomically; Refused when the disk or its rights do not allow it."""
    write_bytes(path, text.encode())


def write_bytes(path: Path | str, content: bytes) -> None:
    """Replace a file by these bytes atomically; Refused when the disk or its rights do not allow it."""
    write_together({path: content})


def write_together(contents: Mapping[Path | str, bytes]) -> None:
    """Replace files, in whatever folders: none of them unless there is room for all. Refused where there is not."""
    staged: dict[str, Path] = {}
    path: Path | str = ""
    try:
        for path, content in contents.items():
            if _is_special(Path(path)):
                Path(path).write_bytes(content)
                continue
            target = Path(os.path.realpath(path))  # a link stays one
            if target.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            target.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
            staged[name] = target
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o666 & ~_umask())
        for name, path in staged.items():
            os.replace(name, path)
    except OSError as error:
        raise _unsaved(path, error) from error
    finally:
        for name in staged:
            with contextlib.suppress(OSError):
                os.unlink(name)


@contextlib.contextmanager
def renewed(folder: Path, *, index: str, others: Collection[str] = ()) -> Iterator[Path]:
    """Give an empty folder for files that belong together; they replace those in ``folder`` when all are written.

    ``index`` is the file that tells of the rest, ``others`` names all that may be of the set. What belongs to the old
    set and not to the new one goes. Whatever is stopped half-way, no index stands beside files that are not its own:
    the old one goes before they are replaced, the new one comes last. When writing fails, the old set stays as it was.
    """
    if any(Path(name).name != name for name in (index, *others)):
        raise ValueError(f"files of a set are named without their folder, not {sorted({index, *others})}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".new-") as made:
            yield Path(made)
            _replace_all(Path(made), folder, index, others)
    except OSError as error:
        raise _unsaved(folder, error) from error


def try_writing(path: Path | str, *, folder: bool = False) -> None:
    """Refuse a file, or with ``folder`` a folder for files, that cannot be written, before anything is done for it.

    Tried, not asked: rights say nothing of full disks and read-only mounts, and to root everything is allowed.
    """
    path = Path(path)
    if _is_special(path):
        return
    if path.exists() and path.is_dir() != folder:
        raise Refused(f"{path} cannot be written: it is {_A_FILE if folder else _A_FOLDER}{_ELSEWHERE}")
    wanted = Path(os.path.realpath(path if folder else path.parent))
    nearest = next(each for each in (wanted, *wanted.parents) if each.exists())
    if not nearest.is_dir():
        raise Refused(f"{path} cannot be written: {nearest} is not a folder{_ELSEWHERE}")
    try:
        with tempfile.TemporaryFile(dir=nearest) as file:
            file.write(b"\0" * _LEAST)
            file.flush()
    except OSError as error:
        why = f"the folder {nearest} may not be changed ({error.strerror or error})"
        raise Refused(f"{path} cannot be written: {why}{_ELSEWHERE}") from error


def _replace_all(made: Path, folder: Path, index: str, others: Collection[str]) -> None:
    """Put files in the place of others, the index last; nothing else than renaming is left to be done by then."""
    names = {each.name for each in made.iterdir()}
    for name in sorted(names):
        with (made / name).open("rb+") as file:
            os.fsync(file.fileno())
        os.chmod(made / name, 0o666 & ~_umask())
    for name in (index, *sorted({*others} - names)):
        (folder / name).unlink(missing_ok=True)
    for name in sorted(names, key=lambda each: (each == index, each)):
        os.replace(made / name, folder / name)


def _is_special(path: Path) -> bool:
    """Tell whether a path is something that takes bytes but is no file to be replaced, as /dev/stdout."""
    opened = str(path).startswith(("/dev/std", "/dev/fd/", "/proc/self/fd/"))
    return path.exists() and not path.is_dir() and (opened or not path.is_file())


def _unsaved(path: Path | str, error: OSError) -> Refused:
    return Refused(f"cannot save {path}: {error.strerror or error}{_ELSEWHERE}")


def _document(path: Path | str) -> dict[str, Any]:
    try:
        document = msgspec.json.decode(Path(path).read_bytes())
    except OSError as error:
        raise Refused(f"cannot read {path}: {error.strerror or error}") from error
    except msgspec.DecodeError as error:
        raise Refused(f"{path} is not JSON, as files of amble are: {error}") from error
    if not isinstance(document, dict) or "kind" not in document:
        raise Refused(f"{path} is not a file of amble (it has no 'kind')")
    return document


def plain(value: object) -> object:
    """Return a numpy scalar or array as Python's own numbers, for an encoder; TypeError for anything else."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"a {type(value).__name__} cannot be written to a file")


def _provenance() -> dict[str, str]:
    packages = {name: _version(name) for name in ("amble", "numpy")} | _runtime()
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "machine": f"{platform.machine()} {platform.system()}",
        "command": " ".join(Path(sys.argv[0]).name if i == 0 else word for i, word in enumerate(sys.argv[:20])),
        **packages,
    }


def _runtime() -> dict[str, str]:
    """Return which wheel of ONNX Runtime is installed, with its version."""
    found = {name: _version(name) for name in ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino")}
    return {name: number for name, number in found.items() if number != "unknown"} or {"onnxruntime": "unknown"}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
