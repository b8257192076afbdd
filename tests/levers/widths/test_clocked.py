"""Clocks and widths chosen together on a simulated chip: less energy than either alone, within the latency."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from amble import inputs
from amble.cli import main
from amble.core.errors import Infeasible, Refused
from amble.levers.widths.clocked import least_energy
from amble.levers.widths.pruning import Wanted
from amble.levers.widths.staircases import Given, Work, opened, priced, table_of
from tests.levers.widths.test_pruning import DEVICE, Bench, FakeNarrower, network
from tests.runtimes import models

ROUNDS = 3


def work(folder: Path, device: str = DEVICE) -> Work:
    return opened(
        Given(models.saved(folder, network(), "net.onnx"), Bench(folder).data(), device, folder / "out"),
        narrow=lambda path, inputs, labels, worth: FakeNarrower(),
    )


def test_less_energy_is_needed_than_at_the_clocks_that_were_found_and_are_put_back(tmp_path: Path) -> None:
    bench = work(tmp_path)
    before, today_s = bench.device.actuator.current(), bench.today_s()
    saved = least_energy(bench, today_s, 0.3, ROUNDS)
    found = saved.together
    assert found.latency_s <= today_s
    assert found.lost <= 0.3 * sum(sum(each.importance) for each in bench.network.groups)
    assert bench.device.actuator.current() == before
    assert found.clocks != before
    at_the_top = priced(bench, table_of(bench, ROUNDS), "energy").total(found.widths)
    assert found.energy_j < at_the_top < saved.today_j


def test_a_latency_out_of_reach_names_the_fastest(tmp_path: Path) -> None:
    with pytest.raises(Infeasible, match="allow more loss or more time"):
        least_energy(work(tmp_path), 1e-6, 0.3, ROUNDS)


def test_a_device_with_one_setting_is_refused(tmp_path: Path) -> None:
    if len(inputs.open("host").actuator.available()) > 1:
        pytest.skip("the clocks of this machine can be set")
    with pytest.raises(Refused, match="one setting of clocks; leave --least-energy out"):
        least_energy(work(tmp_path, "host"), 1.0, 0.3, ROUNDS)


def test_a_pruning_tells_its_clocks_and_both_energies(tmp_path: Path) -> None:
    made = Bench(tmp_path).prune(Wanted("1.5x", max_loss="100pt", epochs=0), may_lose=0.3)
    (note,) = (each for each in made.notes if "chosen together" in each)
    assert "core" in note
    assert "MHz" in note
    assert "as measured" in note
    assert made.bound == 0.0
    assert made.after_s <= 1.02 * made.budget


def test_the_command_line_takes_it_with_a_latency_alone(tmp_path: Path) -> None:
    asked = ["prune", "net.onnx", "--data", "d.npz", "-d", DEVICE, "-o", str(tmp_path), "--least-energy", "0.2"]
    for more in (["--energy", "0.7x"], ["--latency", "0.7x", "--width", "a:16"]):
        found = CliRunner().invoke(main, [*asked, *more])
        assert found.exit_code == 2
        assert "--least-energy" in found.output
