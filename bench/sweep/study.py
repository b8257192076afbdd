"""A sweep over two workers of a Ray cluster beside two bare processes that share the work by hand: time, and results.

Two sweeps: a network answers with bit errors of many seeds, and profiles of many simulated devices are measured. Every
second item is a bare process's own, started by hand; Ray's workers take what is next. Times are of whole sweeps, with
the start of what does them, in an environment with Ray (`.venv-peer-ray-amble`, made by `tests/acceptance/setup.sh`).
"""

import json
import os
import subprocess
import sys
from statistics import median

from bench.kit import document
from bench.kit.places import ROOT

PEER = ROOT / ".venv-peer-ray-amble" / "bin" / "python"
_NAMES = ("errors in memory", "simulated devices")
_CAUSE = (
    "starting Ray's workers takes about two seconds longer than starting bare processes, and the command and Ray's own "
    "processes share the two cores; longer sweeps amortise it"
)


def main() -> None:
    """Run the sweeps and judge them."""
    options = document.options("sweep", __doc__, judges=True)
    if options.judge:
        records = list(document.stored(options.judge))
        document.judged(options, records, targets(records))
        return
    records = measured(quick=options.quick)
    document.finish(options, records, targets(records))


def measured(*, quick: bool) -> list[dict[str, object]]:
    """Return a record for every sweep and repeat; none where there is no environment with Ray."""
    if not PEER.exists():
        return []
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")])}
    command = [str(PEER), "-m", "bench.sweep.cluster", "quick" if quick else "full", "1" if quick else "3"]
    found = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    lines = [line for line in found.stdout.splitlines() if line.startswith("{")]
    for line in lines:
        print(line, file=sys.stderr)
    return [json.loads(line) for line in lines]


def targets(records: list[dict[str, object]]) -> list[document.Target]:
    """Judge: at least 0.9 times as quick, in the middle of the repeats, and the same results in all of them."""
    found = []
    for name in _NAMES:
        mine = [each for each in records if each["sweep"] == name]
        ratios = [float(str(each["bare_s"])) / float(str(each["ray_s"])) for each in mine]
        quick = f"{name}: times as quick as two bare processes"
        found.append(
            document.target(quick, want=">= 0.9", value=median(ratios) if ratios else None, unit="1", cause=_CAUSE)
        )
        differing = sum(not each["identical"] for each in mine)
        same = f"{name}: sweeps with other results"
        found.append(document.target(same, want="== 0", value=differing if mine else None, unit="1"))
    return found
