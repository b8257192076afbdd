"""The committed predictions of networks on the TX2: whole, in the recorded schema, and physically possible."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from amble.core.table import Table, read_table
from amble.devices.simulated import chip as catalogue
from bench.tx2_cnns import study as tx2_cnns

CHIP = catalogue.load(tx2_cnns.CHIP)


@pytest.fixture(scope="module")
def table() -> Table:
    return read_table(tx2_cnns.OUT)


def test_every_network_has_every_clock_pair_at_both_precisions(table: Table) -> None:
    found = set(zip(table.workload, table.precision, table.core_hz, table.memory_hz, strict=True))
    wanted = product(tx2_cnns.NETWORKS, tx2_cnns.PRECISIONS, CHIP.ladder("core"), CHIP.ladder("memory"))
    assert found == set(wanted)
    assert table.num_rows == len(found)


@pytest.mark.parametrize("network", tx2_cnns.NETWORKS)
@pytest.mark.parametrize("precision", tx2_cnns.PRECISIONS)
def test_time_falls_and_power_rises_with_both_clocks(table: Table, network: str, precision: str) -> None:
    rows = table.rows((table.workload == network) & (table.precision == precision))
    order = np.lexsort((rows.memory_hz, rows.core_hz))
    shape = len(CHIP.core_mhz), len(CHIP.memory_mhz)
    time_s, power_w = (each[order].reshape(shape) for each in (rows.latency_s, rows.power_w))
    for axis in (0, 1):
        assert np.all(np.diff(time_s, axis=axis) <= 1e-9)
    assert np.all(np.diff(power_w, axis=0) > 0)
    assert power_w.min() > 1.5
    assert power_w.max() < CHIP.power.cap_w


def test_half_precision_saves_time_everywhere_but_not_more_than_its_bytes_and_rate(table: Table) -> None:
    single, half = (table.rows(table.precision == precision) for precision in tx2_cnns.PRECISIONS)
    assert single.workload.tolist() == half.workload.tolist()
    ratio = single.latency_s / half.latency_s
    assert ratio.min() > 1.1
    assert ratio.max() < 2.4  # weights that fit in L2 at half the size are not read again
