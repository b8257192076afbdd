"""Ten networks on the simulated Orin Nano Super at every clock -> one table in the recorded schema.

    python -m bench.hardware.tables [--out FILE.csv.gz]      after make models

Simulated, not recorded: the chip's file says how far it is from the board it was calibrated on.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import amble
from amble.core.table import NUMBERS, TEXTS, Table, write_table
from bench.hardware.study import MODELS, TEN

CHIP = "jetson-orin-nano-super"
OUT = Path(__file__).parent / f"ten-networks@{CHIP}.csv.gz"


def joined(tables: list[Table]) -> Table:
    """Put tables under one another; the idle device is told once."""
    kept = [tables[0], *(each.rows(each.workload != "idle") for each in tables[1:])]
    columns: dict[str, Any] = {
        name: np.concatenate([getattr(each, name) for each in kept]) for name in (*TEXTS, *NUMBERS, "line")
    }
    return replace(tables[0], **columns)


def main() -> None:
    """Measure them all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=OUT)
    out = parser.parse_args().out
    files = ["fashion-resnet", *(str(MODELS / f"{name}.onnx") for name in TEN)]
    found = [amble.tabulate(amble.load(name), amble.open(f"sim:{CHIP}")) for name in files]
    table = joined(found)
    write_table(table, out)
    print(f"{out}: {table.num_rows} rows of {len(files)} networks")


if __name__ == "__main__":
    main()
