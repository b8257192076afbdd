"""Of what and where: the network that an artefact is about, and the device it holds on. Every artefact carries both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from amble.core.processor import Processor

__all__ = ["Subject", "Where", "gathered", "placed"]

_SUBJECT = {"graph": "network", "source": "source", "digest": "digest", "batch": "batch", "shapes": "shapes"}
_WHERE = {"device": "device", "calibration": "calibration", "processor": "machine"}


@dataclass(frozen=True, slots=True)
class Subject:
    """A network by its name, and what it takes to read it again: where from, for which batch and shapes of inputs.

    ``source`` is empty where there is nothing to read, ``digest`` (of file, batch and shapes) where nobody knows it.
    """

    network: str
    source: str = ""
    digest: str = ""
    batch: int = 1
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Where:
    """A device as it was named when it was opened, how real it is, and the CPU that its times and answers hold on.

    ``calibration`` is ``real``, ``recorded: …``, ``calibrated: …`` or ``uncalibrated``; ``machine`` is None where this
    machine's CPU has no say (simulated times), and in files that were made before it was asked.
    """

    device: str
    calibration: str = "real"
    machine: Processor | None = None


def gathered(old: Mapping[str, Any]) -> dict[str, Any]:
    """Return an artefact of format 1, which had all these fields of its own, with its ``subject`` and ``where``."""
    return placed(_moved(old, "subject", _SUBJECT))


def placed(old: Mapping[str, Any]) -> dict[str, Any]:
    """Return an artefact of format 1 that is about no network with its ``where``."""
    return _moved(old, "where", _WHERE)


def _moved(old: Mapping[str, Any], name: str, names: Mapping[str, str]) -> dict[str, Any]:
    left = {key: value for key, value in old.items() if key not in names}
    return left | {name: {new: old[key] for key, new in names.items() if key in old}}
