"""An ONNX file → its coupled channels, of which every group was cut once and found to answer as it should."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from amble.core.errors import Refused
from amble.levers.widths.channels.coupling import Coupling, coupled
from amble.levers.widths.channels.cutting import checked
from amble.levers.widths.channels.file import Array, opened

__all__ = ["ALIKE", "tried"]

ALIKE = 1e-4
"""By how much answers may differ, as a share of the largest: sums come in another order."""


def tried(path: Path, example: Array) -> Coupling:
    """Find what may be cut; ``example`` [1, ...] is an input.

    Cutting one class of every group must give the answers of the network with those weights at zero. Where it does
    not, groups are cut one by one, and layers stay whose cutting is not understood. Refused where all stay.
    """
    file = opened(path, example)
    left_alone: dict[str, str] = {}
    found = coupled(file, path.stem)
    while not _is_right(found, found.members):
        wrong = [each for each in found.members if not _is_right(found, [each])] or list(found.members)
        left_alone |= dict.fromkeys(wrong, "cutting it does not give the answers that it should")
        found = coupled(file, path.stem, left_alone=left_alone)
    if not found.members:
        reasons = "; ".join(f"{layer}: {why}" for layer, why in list(found.stays.items())[:3])
        raise Refused(f"{path.name} has no channels that can go ({reasons or 'it has no layers with weights'})")
    return found


def _is_right(found: Coupling, groups: Iterable[str]) -> bool:
    gone = [found.members[each][0] for each in groups]
    try:
        return not gone or checked(found, gone) <= ALIKE
    except Refused:
        return False
