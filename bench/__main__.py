"""Run every bench, or those that are named, and keep their results: what ``make bench`` does.

    python -m bench [NAME ...] [--quick] [--device NAME]

Each runs in a process of its own and its result is written beside it, under the name of the device that it was taken
on (`bench/pit/pit@sim.json`); one that fails is said at the end, with exit code 1. ``--quick`` runs their smaller forms
and writes to build/bench instead. Last, those results are listed that are older than the code they measure.
"""

from __future__ import annotations

import argparse
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


def run(name: str, device: str | None, *, quick: bool) -> bool:
    """Run one bench; tell whether it ended well."""
    began_s = time.perf_counter()
    out = output(name, device, quick=quick)
    words = [sys.executable, "-m", f"bench.{name}", "--out", str(out), *(["--quick"] if quick else [])]
    done = subprocess.run(words, stdout=subprocess.DEVNULL, check=False, cwd=places.ROOT)
    print(f"{name:24} exit {done.returncode}  {time.perf_counter() - began_s:6.0f} s", flush=True)
    return done.returncode == 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=(__doc__ or "").partition("\n")[0])
    known = benches()
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(known)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="smaller runs, written to build/bench")
    parser.add_argument("--device", metavar="NAME", help="name of the device in the result (default: the bench's own)")
    arguments = parser.parse_args(argv)
    if unknown := sorted(set(arguments.names) - set(known)):
        parser.error(f"there is no bench {', '.join(unknown)}: choose from {', '.join(known)}")
    ended = [run(name, arguments.device, quick=arguments.quick) for name in arguments.names or known]
    ages.main()
    return 0 if all(ended) else 1


if __name__ == "__main__":
    sys.exit(main())
