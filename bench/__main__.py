"""Run every bench, or those that are named, and keep their results: what ``make bench`` does.

    python -m bench [NAME ...] [--quick] [--device NAME]

Each runs in a process of its own and its result is written beside it, under the name of the device that it was taken
on (`bench/pit/pit@sim.json`); one that fails is said at the end, with exit code 1. A result that lost what an earlier
one had measured (networks or peers that were not made here) does not take its place, unless ``--replace`` says so: it
stays in build/bench, as do the smaller forms that ``--quick`` runs. Last, those results are listed that are older than
the code they measure.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from bench.kit import ages, places


def benches(root: Path = places.BENCH) -> list[str]:
    """Return the names of the folders that say on which device their result is taken."""
    return sorted(path.parent.name for path in root.glob("*/__init__.py") if "\nDEVICE = " in path.read_text())


def output(name: str, device: str | None, *, quick: bool) -> Path:
    """Return where the result of a bench goes: under the device that it names itself, or that was asked for."""
    result = f"{name}@{device or import_module(f'bench.{name}').DEVICE}"
    return places.BUILD / "bench" / f"{result}.json" if quick else places.result(result)


def lost(kept: Path, made: Path) -> list[str]:
    """Return the targets with a value in the result that is kept, and none in the one just made."""
    return sorted(_measured(kept) - _measured(made)) if kept.is_file() else []


def _measured(result: Path) -> set[str]:
    targets = json.loads(result.read_text(encoding="utf-8"))["targets"]
    return {each["target"] for each in targets if each["value"] is not None}


def run(name: str, device: str | None, *, quick: bool, replace: bool = False) -> bool:
    """Run one bench; tell whether it ended well, and keep its result where it measured no less than the one before."""
    began_s = time.perf_counter()
    kept, out = output(name, device, quick=quick), output(name, device, quick=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    words = [sys.executable, "-m", f"bench.{name}", "--out", str(out), *(["--quick"] if quick else [])]
    done = subprocess.run(words, stdout=subprocess.DEVNULL, check=False, cwd=places.ROOT)
    print(f"{name:24} exit {done.returncode}  {time.perf_counter() - began_s:6.0f} s", flush=True)
    if done.returncode:
        return False
    return quick or kept_by(kept, out, replace=replace)


def kept_by(kept: Path, made: Path, *, replace: bool) -> bool:
    """Let a result take the place of the one before, unless it measured less; tell whether it did."""
    missing = [] if replace else lost(kept, made)
    if missing:
        print(
            f"{kept.name} stays as it is: {made} has no value for {len(missing)} of its targets, such as "
            f"{missing[0]!r}; make models, make setup-peers, or --replace"
        )
        return False
    made.replace(kept)
    return True


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=(__doc__ or "").partition("\n")[0])
    known = benches()
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(known)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="smaller runs, written to build/bench")
    parser.add_argument("--device", metavar="NAME", help="name of the device in the result (default: the bench's own)")
    parser.add_argument("--replace", action="store_true", help="keep a result also where it measured less than before")
    arguments = parser.parse_args(argv)
    if unknown := sorted(set(arguments.names) - set(known)):
        parser.error(f"there is no bench {', '.join(unknown)}: choose from {', '.join(known)}")
    ended = [
        run(name, arguments.device, quick=arguments.quick, replace=arguments.replace)
        for name in arguments.names or known
    ]
    ages.main()
    return 0 if all(ended) else 1


if __name__ == "__main__":
    sys.exit(main())
