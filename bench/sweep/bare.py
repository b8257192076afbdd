"""One bare process's share of a sweep, every so many items from one on -> its results, pickled, in a file.

PYTHON -m bench.sweep.bare NAME quick|full PART OF FILE
"""

import pickle
import sys
from pathlib import Path

from bench.sweep.work import untold, work


def main(name: str, size: str, part: str, parts: str, output: str) -> None:
    """Do the share."""
    function, items = work(name, quick=size == "quick")
    found = [function(each, untold) for each in items[int(part) :: int(parts)]]
    Path(output).write_bytes(pickle.dumps(found))


main(*sys.argv[1:])
