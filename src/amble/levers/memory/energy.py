"""Currents and timings of DRAM chips → energy of commands, of bytes moved, and of holding data. All of it predicted.

The equations are DRAMPower's (Chandrasekar et al., 2014): per command and chip, currents above standby times supply and
time; a second supply adds the same terms. Lowering the array supply scales the array's share of each term by its
square; the rest (interface, delay-locked loop) stays. The energy of output drivers and termination is in no current of
a data sheet, so it is in no figure here, nominal or lowered.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ArrayShares", "CommandEnergy", "DataDependence", "DramChip", "Module", "Supply", "System"]

LINE_BYTES = 64


@dataclass(frozen=True, slots=True)
class Supply:
    """Voltage and currents of one supply, as data sheets name them [V, A]."""

    voltage_v: float
    idd0_a: float
    idd2n_a: float
    idd3n_a: float
    idd4r_a: float
    idd4w_a: float
    idd5_a: float


@dataclass(frozen=True, slots=True)
class CommandEnergy:
    """Energy of one command of one chip [J]: activate, precharge, read and write of a burst, refresh."""

    activate_j: float
    precharge_j: float
    read_j: float
    write_j: float
    refresh_j: float


@dataclass(frozen=True, slots=True)
class DramChip:
    """A chip: organisation, clock [Hz], timings [cycles], supplies."""

    source: str
    standard: str
    width_bits: int
    num_banks: int
    num_rows: int
    num_columns: int
    burst: int
    clock_hz: float
    data_rate: int
    trcd: int
    trp: int
    tras: int
    trc: int
    trfc: int
    trefi: int
    first: Supply
    second: Supply | None = None

    @property
    def supplies(self) -> tuple[Supply, ...]:
        """Return the supplies that there are."""
        return (self.first,) if self.second is None else (self.first, self.second)

    @property
    def size_bytes(self) -> int:
        """Return the capacity."""
        return self.num_banks * self.num_rows * self.num_columns * self.width_bits // 8

    def command_j(self) -> CommandEnergy:
        """Return the energy of each command at the rated supply (DRAMPower 4)."""
        parts = [self._command_j(each) for each in self.supplies]
        return CommandEnergy(*(sum(values) for values in zip(*parts, strict=True)))

    def standby_w(self, *, active: float) -> float:
        """Return the background power with banks open for this share of the time."""
        return sum(each.voltage_v * (active * each.idd3n_a + (1.0 - active) * each.idd2n_a) for each in self.supplies)

    def _command_j(self, supply: Supply) -> tuple[float, ...]:
        burst = self.burst / self.data_rate
        return tuple(
            supply.voltage_v * current_a * cycles / self.clock_hz
            for current_a, cycles in (
                (supply.idd0_a - supply.idd3n_a, self.tras),
                (supply.idd0_a - supply.idd2n_a, self.trc - self.tras),
                (supply.idd4r_a - supply.idd3n_a, burst),
                (supply.idd4w_a - supply.idd3n_a, burst),
                (supply.idd5_a - supply.idd3n_a, self.trfc),
            )
        )


@dataclass(frozen=True, slots=True)
class ArrayShares:
    """Which share of each term the array supply feeds: assumptions, stated beside the specifications."""

    activate: float
    refresh: float
    transfer: float
    background: float


@dataclass(frozen=True, slots=True)
class DataDependence:
    """How the current of a transfer grows with the ones in its line: base plus so much for every 8 ones [A]."""

    base_a: float
    per_8_ones_a: float

    def factor(self, ones: float) -> float:
        """Return the current of lines with this share of ones over that of half ones."""
        bits = 8 * LINE_BYTES
        return (self.base_a + self.per_8_ones_a * bits * ones / 8) / (self.base_a + self.per_8_ones_a * bits / 16)


@dataclass(frozen=True, slots=True)
class System:
    """What is around the memory: on-chip buffer, how it goes through memory, and how long that takes; all assumed.

    ``lines_per_activation``: lines of 64 bytes moved for each row opened. ``exposed``: share of activations that the
    processor waits for. ``weights_stay``: weights are kept on chip tile by tile and inputs stream past them; otherwise
    the cheaper of both orders is taken. ``active``: share of the time with rows open.
    """

    name: str
    buffer_bytes: int
    flops_hz: float
    bandwidth_bytes_hz: float
    lines_per_activation: float
    exposed: float
    weights_stay: bool
    active: float
    note: str


@dataclass(frozen=True, slots=True)
class Module:
    """Chips that together give a line of 64 bytes a burst, in a system."""

    chip: DramChip
    shares: ArrayShares
    system: System

    @property
    def num_chips(self) -> int:
        """Return how many chips share a burst."""
        return LINE_BYTES * 8 // (self.chip.width_bits * self.chip.burst)

    @property
    def size_bytes(self) -> int:
        """Return the capacity."""
        return self.num_chips * self.chip.size_bytes

    def read_j(self, voltage_ratio: float) -> float:
        """Return the energy of reading one byte, its share of opening rows included [J]."""
        return self._moved_j(self.chip.command_j().read_j, voltage_ratio)

    def written_j(self, voltage_ratio: float) -> float:
        """Return the energy of writing one byte [J]."""
        return self._moved_j(self.chip.command_j().write_j, voltage_ratio)

    def held_w(self, voltage_ratio: float, refresh_s: float = 0.064) -> float:
        """Return the power of holding the whole module: background, and refresh of all rows each so often [W]."""
        refresh_w = self.chip.command_j().refresh_j * self.chip.clock_hz / self.chip.trefi
        background_w = self.chip.standby_w(active=self.system.active)
        scaled = refresh_w * 0.064 / refresh_s * _scale(self.shares.refresh, voltage_ratio)
        return self.num_chips * (scaled + background_w * _scale(self.shares.background, voltage_ratio))

    def read_s(self, trcd_s: float, trp_s: float) -> float:
        """Return the time that one byte waits for rows to open and close, as far as the processor waits for it [s]."""
        return self.system.exposed * (trcd_s + trp_s) / (LINE_BYTES * self.system.lines_per_activation)

    def _moved_j(self, transfer_j: float, voltage_ratio: float) -> float:
        energy = self.chip.command_j()
        opened = (energy.activate_j + energy.precharge_j) / self.system.lines_per_activation
        scaled = opened * _scale(self.shares.activate, voltage_ratio)
        scaled += transfer_j * _scale(self.shares.transfer, voltage_ratio)
        return self.num_chips * scaled / LINE_BYTES


def _scale(share: float, voltage_ratio: float) -> float:
    return 1.0 - share + share * voltage_ratio**2
