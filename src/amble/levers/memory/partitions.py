"""Tensors, memory partitions and their settings → which tensor lives where, at what setting: the plan as an artefact.

Bit error rates are per partition and setting, limits per tensor. Letters: T tensors, P partitions, S settings.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from amble.core.files import Format
from amble.core.graph import Layer
from amble.levers.memory.profiles import MemoryPoint

__all__ = [
    "FORMAT",
    "BandEnergy",
    "DramPlan",
    "LayerMemory",
    "Partition",
    "Placed",
    "Proof",
    "Setting",
    "Shown",
    "Stored",
]


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor in memory: its size, the highest bit error rate it bears, and its traffic in one inference."""

    name: str
    size_bytes: int
    most_ber: float
    read_bytes: float
    written_bytes: float = 0.0

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.size_bytes <= 0 or not 0.0 <= self.most_ber <= 1.0 or min(self.read_bytes, self.written_bytes) < 0:
            raise ValueError(f"{self.name}: a size above 0, a bit error rate in [0, 1] and traffic of 0 or more")


@dataclass(frozen=True, slots=True)
class Setting:
    """How one partition may be run: its bit error rate there, and its energies and times in one inference.

    ``held_j`` and ``held_s`` count whatever lives there (background, refresh), ``read_j``, ``written_j`` [J per byte]
    and ``read_s`` [s per byte] what is moved.
    """

    point: MemoryPoint
    ber: float
    held_j: float
    read_j: float
    written_j: float
    read_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Partition:
    """A part of memory with one setting at a time. The first setting is nominal: no errors."""

    name: str
    size_bytes: int
    settings: tuple[Setting, ...]

    def __post_init__(self) -> None:
        """Check that there is a safe setting."""
        if not self.settings or self.settings[0].ber != 0.0:
            raise ValueError(f"{self.name}: the first setting must be nominal, with a bit error rate of 0")


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a tensor lives: its partition, and its first bit there."""

    tensor: str
    partition: str
    start_bit: int
    ber: float


@dataclass(frozen=True, slots=True)
class BandEnergy:
    """Energy of the mapping [J] where bit errors at low voltage are so many times the lower bound that is known."""

    factor: float
    energy_j: float


@dataclass(frozen=True, slots=True)
class Proof:
    """Accuracy on examples that found nothing: clean, and what fresh modules lost [trial], beside what they may."""

    clean: float
    num_examples: int
    max_loss: float
    losses: tuple[float, ...]


class Shown(NamedTuple):
    """Whether a mapping keeps its accuracy, how that was seen, the proof, and the module that lost most."""

    kept: bool
    said: str
    proof: Proof | None = None
    worst_module: int = 0


@dataclass(frozen=True, slots=True)
class LayerMemory:
    """What one layer moves in an inference [J], where its tensors were placed and at ratings; where that is.

    ``partitions`` hold its weights and its input; ``layer`` names it as the file does that was mapped, which after
    retraining is the one that the export of the retrained network wrote.
    """

    layer: Layer
    partitions: tuple[str, ...]
    moved_j: float
    nominal_j: float


@dataclass(frozen=True, slots=True)
class DramPlan:
    """A mapping with its predicted energy and time [J, s per inference], beside the same tensors held at ratings.

    ``lower_bound_j``: no mapping within the limits needs less. ``verified`` says how the mapping was shown to keep
    its accuracy ("" where nobody looked); ``labels`` name every source of errors, currents and assumptions. ``limits``
    are the highest bit error rates that tensors are held to, ``bounds`` what loads of them must make 0 (values outside
    low to high, and NaN), ``layers`` what each moves, at ``precision``; ``held_w`` and ``nominal_held_w`` [W] hold the
    partitions in use. ``band`` has the energies of the mappings that other factors of bit errors over their lower bound
    would give, which were not shown on data.
    """

    placed: tuple[Placed, ...]
    settings: dict[str, MemoryPoint]
    energy_j: float
    nominal_j: float
    lower_bound_j: float
    saved_s: float
    method: str
    verified: str = ""
    labels: tuple[str, ...] = ()
    limits: dict[str, float] = field(default_factory=dict)
    layers: tuple[LayerMemory, ...] = ()
    precision: str = ""
    held_w: float = 0.0
    nominal_held_w: float = 0.0
    band: tuple[BandEnergy, ...] = ()
    proof: Proof | None = None
    bounds: dict[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def saving(self) -> float:
        """Return the predicted share of memory energy that is saved."""
        return 1.0 - self.energy_j / self.nominal_j


FORMAT = Format("dram", 2, DramPlan, {1: lambda held: {**held, "layers": []}})
"""Layers of format 1 had no names that tie them to a graph; such a mapping is shown, but not planned with."""
