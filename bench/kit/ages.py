"""Results of benches -> which are older than the code that they measure.

    python -m bench.kit.ages      one line a result: of this version, of an older one (and what changed), or unknown

A document holds a digest of every file that its bench reaches by imports, names as a script or log, or reads as data of
this project (`code`), as that file was when it ran; `code.py` says what counts. A result is of this version where today
the same digests are reached, wherever the files lie by now; one without digests is of unknown age.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bench.kit import code, places
from bench.kit.reach import PROJECT, Tree

__all__ = ["NEW", "OLD", "UNKNOWN", "Age", "age", "digests", "key"]

NEW, OLD, UNKNOWN = "of this version", "of an older version", "of unknown age"


@dataclass(frozen=True, slots=True)
class Age:
    """How old a result is, and the files that changed since it was taken."""

    name: str
    words: str
    changed: tuple[str, ...] = ()


def age(result: Path, tree: Tree = PROJECT) -> Age:
    """Compare the digests in a document with today's files."""
    found = json.loads(result.read_text(encoding="utf-8"))
    then = found.get("code", {}).get("files")
    if not then:
        return Age(result.stem, UNKNOWN)
    now = digests(found["name"], tree)
    changed = _one_sided(then, now)
    own = _one_sided(*({name: each.partition(".")[0] for name, each in files.items()} for files in (then, now)))
    return Age(result.stem, OLD if changed else NEW, own or changed)


def _one_sided(then: Mapping[str, str], now: Mapping[str, str]) -> tuple[str, ...]:
    """Return the files whose digest the other side has not, or not as often, wherever they lie."""
    first, second = Counter(then.values()), Counter(now.values())
    other = (first - second) + (second - first)
    return tuple(sorted({name for files in (then, now) for name, each in files.items() if each in other}))


def digests(name: str, tree: Tree = PROJECT) -> dict[str, str]:
    """Return a short digest of every file that a bench reaches, by its path in the project."""
    start = tree.root / "bench" / name / "__main__.py"
    return code.digests(tree, start) if start.is_file() else {}


@cache
def key(name: str, tree: Tree = PROJECT) -> str:
    """Return one short digest of all that a bench reaches, for what it keeps of its pieces: other code begins anew."""
    return hashlib.sha256(json.dumps(digests(name, tree), sort_keys=True).encode()).hexdigest()[:16]


def main() -> int:
    """List every result with its age."""
    for path in places.results():
        found = age(path)
        more = f": {len(found.changed)} files changed, such as {', '.join(found.changed[:3])}" if found.changed else ""
        print(f"{found.name:26} {found.words}{more}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
