"""A profile of every setting → the recorded schema, that fits and devices read again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import amble
from amble.cli import main
from amble.core.errors import Refused
from amble.core.table import read_table
from amble.stages.measure.tabulating import tabulated


def test_a_table_of_all_clocks_tells_what_was_asked_and_what_ran_and_is_read_again(tmp_path: Path) -> None:
    path, chip = tmp_path / "table.csv", "sim:jetson-orin-nano"
    done = CliRunner().invoke(
        main, ["measure", "synthetic:5", "-d", chip, "--all-clocks", "--repeats", "3", "-o", str(path)]
    )
    assert done.exit_code == 0, done.output
    table = read_table(path)
    every = amble.open(chip).actuator.available()
    runs = table.rows(table.workload != "idle")

    assert {*zip(runs.knob("core_hz").tolist(), runs.memory_hz.tolist(), strict=True)} == {
        (each.core_hz, each.memory_hz) for each in every
    }
    assert runs.num_rows == len(every) == (table.workload == "idle").sum()
    assert not np.isnan(runs.core_hz).any()
    assert (runs.power_w > table.rows(table.workload == "idle").power_w.min()).all()
    assert not (tmp_path / "table.csv.part").exists()
    again = amble.open(f"recorded:{path}")
    assert len(again.actuator.available()) == len(every)
    assert amble.fit(path)


def test_times_and_powers_are_those_of_the_whole_runs(tmp_path: Path) -> None:
    device, graph = amble.open("sim:jetson-orin-nano", seed=3), amble.load("synthetic:4")
    profile = amble.measure(graph, device, points=2, repeats=5)
    table = tabulated(profile)
    for total in profile.totals:
        (row,) = np.flatnonzero(
            (table.workload == graph.name)
            & (table.knob("core_hz") == total.point.clocks.core_hz)
            & (table.memory_hz == total.point.clocks.memory_hz)
        )
        assert table.latency_s[row] == total.latency_s
        assert table.power_w[row] * table.latency_s[row] == pytest.approx(total.energy_j)
        assert table.core_hz[row] == total.ran_at.core_hz


def test_unknown_energy_stays_unknown_and_an_empty_profile_is_refused() -> None:
    known = amble.measure(amble.load("synthetic:3"), amble.open("sim:jetson-orin-nano"), points=1, repeats=3)
    totals = tuple(replace(each, energy_j=None) for each in known.totals)
    assert np.isnan(tabulated(replace(known, totals=totals, idle=())).power_w).all()
    with pytest.raises(Refused, match="nothing was measured"):
        tabulated(replace(known, totals=()))


@pytest.mark.parametrize("options", [[], ["-o", "table.json"], ["-o", "table.csv", "--points", "3"]])
def test_a_table_needs_a_file_of_its_kind_and_all_points(options: list[str]) -> None:
    done = CliRunner().invoke(main, ["measure", "synthetic:3", "-d", "sim:v100", "--all-clocks", *options])
    assert done.exit_code == 2
    assert "give -o FILE.csv" in done.output
