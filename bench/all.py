"""Run every bench and write its last result to bench/results: what ``make bench`` does.

A bench is a script beside this one that prints a JSON document. Each runs in a process of its own; one that fails is
said at the end, with exit code 1. ``--quick`` runs their smaller forms and writes to build/bench instead. Last, those
results are listed that are older than the code they measure (``make stale`` lists them without running anything).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

import ages

HERE = Path(__file__).parent
NO_BENCH = {"all", "architectures", "calibrate_chips", "document", "fit_dram", "models"}  # parts and builders


def benches() -> list[Path]:
    """Return the scripts that print a document."""
    scripts = sorted(path for path in HERE.glob("*.py") if path.stem not in NO_BENCH)
    return [path for path in scripts if "finish(" in path.read_text()]


def run(script: Path, out: Path, *, quick: bool) -> bool:
    """Run one bench; tell whether it ended well."""
    began_s = time.perf_counter()
    words = [sys.executable, str(script), "--out", str(out), *(["--quick"] if quick else [])]
    done = subprocess.run(words, stdout=subprocess.DEVNULL, check=False)
    print(f"{script.stem:24} exit {done.returncode}  {time.perf_counter() - began_s:6.0f} s", flush=True)
    return done.returncode == 0


def main() -> int:
    """Run them all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="smaller runs, written to build/bench")
    parser.add_argument("--device", default="cpu", help="name of this machine in the results (default: cpu)")
    arguments = parser.parse_args()
    folder = Path("build/bench") if arguments.quick else HERE / "results"
    folder.mkdir(parents=True, exist_ok=True)
    ended = [run(each, folder / f"{each.stem}@{arguments.device}.json", quick=arguments.quick) for each in benches()]
    ages.main()
    return 0 if all(ended) else 1


if __name__ == "__main__":
    sys.exit(main())
