"""Named pieces of a long bench -> their records, each kept in a file when it is done, so that it can be run in slices.

    cells = Cells(ROOT / "build" / "pit", digest(FILES, plan))
    cells.run({"sweep-poisson-0.5": work, ...}, within_s=240)     # what is done already is not done again
    records = cells.records("sweep-poisson-0.5")

Files are kept under a digest of the code and the arguments that made them: other code begins anew. Several processes
may work on different pieces of the same bench at the same time.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from bench.kit import code
from bench.kit.reach import PROJECT

__all__ = ["Cells", "digest", "kept", "slices"]

Records = list[dict[str, Any]]
T = TypeVar("T")


def slices(metavar: str) -> tuple[argparse.Namespace, list[str]]:
    """Return what the command line asks of a bench in slices (`slice`, `fresh`, `kept`), and what else it says."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--slice", metavar=metavar)
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--kept", action="store_true")
    return parser.parse_known_args()


def kept(path: Path, make: Callable[[], T], *, fresh: bool = False) -> T:
    """Return what a file keeps of a slice; make and keep it where there is none, or where it is wanted fresh."""
    if fresh or not path.exists():
        _written(path, make())
    found: T = json.loads(path.read_text())
    return found


def _written(path: Path, found: object) -> None:
    """Write beside the file and rename, so that what ends half-way leaves none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(found))
    part.replace(path)


def digest(sources: Iterable[Path], arguments: object) -> str:
    """Return a short digest of what files do and of anything that `repr` tells apart."""
    found = hashlib.sha256(repr(arguments).encode())
    for path in sorted(sources):
        found.update(code.digest(PROJECT, path).encode())
    return found.hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Cells:
    """The pieces that are done, in a folder."""

    folder: Path
    digest: str

    def records(self, name: str) -> Records | None:
        """Return what a piece came to; None where it is not done."""
        path = self._path(name)
        return json.loads(path.read_text()) if path.exists() else None

    def run(self, work: Mapping[str, Callable[[], Records]], *, within_s: float) -> list[str]:
        """Do what is not done, and say so on stderr, until the time is up; return what is left."""
        begin_s = time.monotonic()
        left = [name for name in work if not self._path(name).exists()]
        total = len(work)
        while left and time.monotonic() - begin_s < within_s:
            name = left.pop(0)
            start_s = time.monotonic()
            self._keep(name, work[name]())
            done = total - len(left)
            print(f"{done:4} of {total}  {time.monotonic() - start_s:6.1f} s  {name}", file=sys.stderr, flush=True)
        return left

    def _keep(self, name: str, records: Records) -> None:
        _written(self._path(name), records)

    def _path(self, name: str) -> Path:
        return self.folder / self.digest / f"{name}.json"
