"""A CPU as far as it changes what networks answer and how fast: its instruction sets, and how it adds INT8 products."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Processor", "Saturations"]


@dataclass(frozen=True, slots=True)
class Processor:
    """A kind of CPU.

    ``saturates``: the runtime's products of unsigned and signed INT8 add up pairs in 16 bits there, which cuts off
    sums beyond ±32,767. x86 without VNNI or AMX does so; everything else adds up in 32 bits.
    """

    architecture: str
    instructions: tuple[str, ...]
    saturates: bool

    def __str__(self) -> str:
        """Name it by what it has.

        >>> str(Processor("x86_64", ("avx2", "fma"), True))
        'x86_64 with avx2 fma, INT8 pairs cut at 16 bits'
        """
        sums = "INT8 pairs cut at 16 bits" if self.saturates else "INT8 sums exact"
        return f"{self.architecture} with {' '.join(self.instructions) or 'unknown instruction sets'}, {sums}"


@dataclass(frozen=True, slots=True)
class Saturations:
    """Pairs of INT8 products that were looked at, and how many of them do not fit in 16 bits.

    ``possible`` tells whether the weights let any pair saturate, whatever the activations are.
    """

    pairs: int
    saturated: int
    possible: bool
