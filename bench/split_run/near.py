"""`amble run` with rules of one's own, in a process of its own: a plan, a server → a log and what is told.

    python -m bench.split_run.near PLAN URL LOAD LOG OUT [eager] [compare]

The first line on stdout comes with the first request, so that what is done to the link begins then. ``eager``: whatever
is proved is used, however bad the link is believed to be, and asked for again at once, so that failures are many.
"""

from __future__ import annotations

import sys
from pathlib import Path

import amble
from amble.jobs.cooperating import Cooperation, run
from amble.levers.split.steering import Rules

__all__ = ["EAGER", "main"]

EAGER = Rules(
    z=-1e6, gain=0.0, agree=1, most_moves=100_000, proofs=1, probe_s=0.1, most_probe_s=1.0, most_away_s=0.1
)  # fmt: skip


def main(words: list[str]) -> None:
    """Run."""
    plan, url, load, log, out, *more = words
    rules = EAGER if "eager" in more else Rules()
    begun = False

    def on_progress(done: int, total: int, stage: str) -> None:
        nonlocal begun
        if not begun and done and not stage.startswith("asking "):
            begun = True
            print("answering", flush=True)

    found, told, _ = run(Cooperation(Path(plan), url, load=load, compare="compare" in more, rules=rules), on_progress)
    amble.save(found, out)
    amble.save(told, log)


if __name__ == "__main__":
    main(sys.argv[1:])
