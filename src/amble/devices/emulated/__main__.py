"""``python -m amble.devices.emulated CHIP FOLDER [--seed N --slower X --counter SECONDS]``: make an emulated card."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from amble.core.errors import Refused
from amble.devices.emulated.making import Card, make
from amble.devices.emulated.state import FOLDER

__all__ = ["main"]


def main() -> int:
    """Make the card that the command line asks for and say how to see it."""
    parser = argparse.ArgumentParser(prog="python -m amble.devices.emulated", description=__doc__)
    parser.add_argument("chip", help="a simulated chip, such as v100 or a100 (amble devices lists them)")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0, help="what is off about its physics, up to 15 %% each way")
    parser.add_argument("--slower", type=float, default=50.0, help="seconds here for one of the card's (default 50)")
    parser.add_argument("--counter", type=float, default=0.010, help="how often its energy counter moves [s]")
    given = parser.parse_args()
    try:
        place = make(Card(given.chip, given.seed, given.slower, given.counter), given.folder.absolute())
    except Refused as reason:
        sys.stderr.write(f"{reason}\n")
        return 2
    sys.stdout.write(f"export {FOLDER}={place}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
