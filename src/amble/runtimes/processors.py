"""This machine's CPU, and whether what was made and judged on one kind of CPU may answer on another."""

from __future__ import annotations

import logging
import platform
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from amble.core.errors import Refused
from amble.core.processor import Processor, Saturations
from amble.core.variants import Variant, Variants
from amble.runtimes.instructions import instructions
from amble.runtimes.saturation import saturates

__all__ = ["check", "here", "told"]

_LOG = logging.getLogger(__name__)


@cache
def here() -> Processor:
    """Return this machine's CPU; whether it saturates is asked of the runtime."""
    return Processor(platform.machine(), instructions(), saturates())


def told(saturations: Saturations | None, processor: Processor) -> str:
    """Say how many pairs of products saturate, for a reason; nothing where none can."""
    if saturations is None or not saturations.possible:
        return ""
    where = "are cut at 16 bits on this CPU" if processor.saturates else "would be cut at 16 bits on a CPU without VNNI"
    return f"; {saturations.saturated:,} of {saturations.pairs:,} pairs of its INT8 products {where}"


def check(variants: Variants, served: Iterable[Variant], path: Path, processor: Processor | None = None) -> None:
    """Compare the CPU that variants were judged on with the one that is to answer, this machine's unless told.

    Refused where one of those ``served`` was judged with exact INT8 sums and is known to lose some of them here. What
    may differ otherwise is logged as a warning: answers where INT8 may saturate on one of both, else times.
    """
    now, then = processor or here(), variants.where.machine
    anew = (
        f"make it anew on this machine: amble quantize {variants.subject.source} --data {variants.data} "
        f"--device {variants.where.device} -o {path.parent}"
    )
    if then == now:
        return
    for each in served:
        found = each.saturations
        if each.precision not in ("int8", "mixed") or (found is not None and not found.possible):
            continue
        if now.saturates and (then is None or not then.saturates):
            _differs(each, found, path, anew)
        elif then is not None and then.saturates and not now.saturates:
            _LOG.warning("%s: %s was judged on a CPU that cuts INT8 sums, this one does not; %s", path, each.name, anew)
    if then is not None:
        _LOG.warning("%s: times and choices are of another CPU (%s; this is %s); %s", path, then, now, anew)


def _differs(served: Variant, found: Saturations | None, path: Path, anew: str) -> None:
    if found is not None and found.saturated:
        raise Refused(
            f"{path}: {served.name} was judged on a CPU whose INT8 sums are exact, and this one cuts them at 16 bits "
            f"({found.saturated:,} of {found.pairs:,} pairs of its products on examples), which changes answers; {anew}"
        )
    counted = "none was cut on examples" if found is not None else "nobody counted how many"
    _LOG.warning(
        "%s: %s may lose INT8 sums on this CPU, which cuts them at 16 bits (%s); %s", path, served.name, counted, anew
    )
