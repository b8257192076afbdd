"""The power mode of a Jetson board: what ``nvpmodel`` was last told, which caps clocks before anything else does."""

from __future__ import annotations

import re
from pathlib import Path

from amble.core.errors import Refused
from amble.devices.knobs import read_text

__all__ = ["power_mode"]

_MODES = "etc/nvpmodel.conf"
_STATUS = "var/lib/nvpmodel/status"


def power_mode(root: Path = Path("/")) -> str | None:
    """Return the board's power mode and the others, as in ``25W (of 15W, 25W, MAXN)``; None where it has none."""
    try:
        names = {int(number): name for number, name in re.findall(_MODE, read_text(root / _MODES))}
        current = int(read_text(root / _STATUS).partition(":")[2])
    except (Refused, ValueError):
        return None
    return f"{names[current]} (of {', '.join(names.values())})" if current in names else None


_MODE = r"<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+)\s*>"
