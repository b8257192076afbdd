"""Many devices at once: each profile is that of a measurement by itself, and nothing is measured twice."""

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import amble
from amble.cli import main
from amble.core.errors import Refused
from amble.core.spreading import in_order
from amble.jobs.costing import Measure

DEVICES = ("sim:v100", "sim:a100", "sim:v100?seed=3")
FEW = Measure(points=4, repeats=3)


def spread(function: Any, items: Any, on_progress: Any) -> Generator[Any, None, None]:
    """Not the one of this process, as a cluster's."""
    yield from in_order(function, items, on_progress)


def test_each_profile_is_that_of_a_measurement_by_itself(tmp_path: Path) -> None:
    found = amble.survey("synthetic:5", DEVICES, output=tmp_path / "p.json", asked=FEW)
    for uri in DEVICES:
        alone = amble.measure(amble.load("synthetic:5"), amble.open(uri), points=4, repeats=3)
        assert found[uri] == alone
        assert amble.read(amble.places_of(DEVICES, tmp_path / "p.json")[uri]) == alone
    assert {each.name for each in tmp_path.iterdir()} == {"p-v100.json", "p-a100.json", "p-v100-seed-3.json"}


def test_an_interrupted_survey_goes_on_from_what_it_found(tmp_path: Path) -> None:
    begun: list[str] = []

    def dies(function: Any, items: Any, on_progress: Any) -> Generator[Any, None, None]:
        for each in items:
            begun.append(each[1])
            if begun == ["sim:v100", "sim:a100"]:
                raise KeyboardInterrupt
            yield function(each, on_progress)

    with pytest.raises(KeyboardInterrupt):
        amble.survey("synthetic:5", DEVICES, output=tmp_path / "p.json", asked=FEW, spread=dies)
    assert not (tmp_path / "p-v100.json").exists(), "half of a survey was put where all of it belongs"
    again = amble.survey("synthetic:5", DEVICES, output=tmp_path / "p.json", asked=FEW, spread=dies)
    assert begun == ["sim:v100", "sim:a100", "sim:a100", "sim:v100?seed=3"]
    assert again == amble.survey("synthetic:5", DEVICES, output=tmp_path / "q.json", asked=FEW)


def test_what_was_found_of_another_network_is_not_used(tmp_path: Path) -> None:
    kept = tmp_path / "p.json.done"
    amble.save(amble.survey("synthetic:6", ["sim:v100"], output=tmp_path / "o.json", asked=FEW)["sim:v100"], kept)
    found = amble.survey("synthetic:5", ["sim:v100"], output=tmp_path / "p.json", asked=FEW)
    assert len(found["sim:v100"].operators) == 5


def test_real_devices_are_measured_here_alone(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"host is measured where it is, by itself.*leave --ray out"):
        amble.survey("synthetic:5", ["sim:v100", "host"], output=tmp_path / "p.json", spread=spread)


def test_a_device_named_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="name each once"):
        amble.survey("synthetic:5", ["sim:v100", "sim:v100"], output=tmp_path / "p.json")


def test_a_device_that_is_none_is_refused_before_any_is_measured(tmp_path: Path) -> None:
    begun: list[str] = []
    with pytest.raises(Refused, match="nonesuch"):
        amble.survey(
            "synthetic:5", ("sim:v100", "sim:nonesuch"), output=tmp_path / "p.json", asked=FEW,
            on_progress=lambda what, done, total: begun.append(what),
        )  # fmt: skip
    assert not begun
    assert not list(tmp_path.iterdir())


def test_the_command_measures_several_devices(tmp_path: Path) -> None:
    arguments = ["measure", "synthetic:5", "-d", "sim:v100", "-d", "sim:a100", "--points", "4", "--repeats", "3"]
    done = CliRunner().invoke(main, [*arguments, "-o", str(tmp_path / "p.json")])
    assert done.exit_code == 0, done.output
    assert "wrote" in done.output
    assert (tmp_path / "p-a100.json").exists()
    assert CliRunner().invoke(main, arguments).exit_code == 2
