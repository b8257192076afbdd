"""Where the project, what it builds, and the recorded data lie."""

import os
from pathlib import Path

__all__ = ["BENCH", "BUILD", "FIGURES", "ROOT", "data", "result", "results"]

ROOT = Path(__file__).resolve().parents[2]
BENCH, BUILD, FIGURES = ROOT / "bench", ROOT / "build", ROOT / "docs" / "figures"


def data() -> Path:
    """Return the folder of recorded data: `AMBLE_DATA`, else `../shared/data` beside the project."""
    return Path(os.environ.get("AMBLE_DATA") or ROOT.parent / "shared" / "data")


def result(name: str) -> Path:
    """Return where the result of a bench lies that is named like `pit@sim`."""
    return BENCH / name.partition("@")[0] / f"{name}.json"


def results() -> list[Path]:
    """Return every result that is kept."""
    return sorted(BENCH.glob("*/*@*.json"))
