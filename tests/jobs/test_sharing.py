"""Several devices on one link and one server: what each is told to do, against what the planner of shares chooses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from amble.cli import main
from amble.core.errors import Infeasible, Refused
from amble.core.schedule import Deadline
from amble.jobs.sharing import counted, together
from amble.jobs.splitting import Wanted, opened, question_of, split
from amble.levers.split.cuts import cuts
from amble.levers.split.link import Link, Radio
from amble.levers.split.page import shared_table
from amble.levers.split.sharing import equal, options, share
from tests.runtimes import models

DEVICE = "sim:jetson-tx2"
LINK = Link(20e6, 0.0, Radio("test", 0.01))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.saved(tmp_path_factory.mktemp("model"), models.cnn())


def wanted(model: Path, **others: object) -> Wanted:
    asked = {"server": "8x", "link": LINK, "deadline": Deadline(0.005), **others}
    return Wanted(str(model), DEVICE, **asked)  # type: ignore[arg-type]


def test_shares_are_those_of_the_planner_fit_and_are_no_worse_than_equal_ones(model: Path) -> None:
    asked = wanted(model)
    found = together(asked, [DEVICE] * 3)
    network = opened(asked)
    every = cuts(network.model.graph, network.tensors, network.graph.outputs)
    question = question_of(asked, network, every, lambda what, done, total: None)
    of = options(question, LINK, found.num_units)
    assert found.energy_j == share([of] * 3, found.num_units).energy_j
    alike = equal([of] * 3, found.num_units)
    assert alike is not None
    assert found.equal_j == sum(each.energy_j for each in alike)
    assert question.gap_j > 0.0  # of clocks, which the bound of all must allow for
    assert found.bound_j == pytest.approx(share([of] * 3, found.num_units).bound_j - 3 * question.gap_j, rel=1e-12)
    assert found.bound_j < found.energy_j < found.equal_j
    assert found.energy_j == pytest.approx(sum(each.does.choice.energy_j or 0.0 for each in found.devices))
    assert 0.0 < sum(each.share for each in found.devices) <= 1.0 + 1e-12
    assert sum(each.rate_bit_s for each in found.devices) <= LINK.rate_bit_s * (1 + 1e-12)
    assert sum(each.busy for each in found.devices) <= 1.0 + 1e-9
    assert all(each.does.choice.latency_s <= asked.deadline.latency_s for each in found.devices)


def test_one_device_alone_does_what_a_split_for_it_says(model: Path) -> None:
    (alone,) = together(wanted(model), [DEVICE]).devices
    assert alone.does.choice.energy_j == pytest.approx(split(wanted(model))[0].best.choice.energy_j)


def test_the_table_tells_every_device_the_sum_its_bound_and_equal_shares(model: Path) -> None:
    table = shared_table(together(wanted(model), [DEVICE] * 3))
    assert [row[0] for row in table.rows] == [DEVICE] * 3
    told = " ".join(table.notes)
    for needed in ("Together", "take less than", "with equal shares", "the server is busy", "not counted", "predicted"):
        assert needed in told


def local_s(model: Path) -> float:
    """The least time of the device alone."""
    with pytest.raises(Infeasible) as caught:
        split(wanted(model, deadline=Deadline(1e-6)))
    assert caught.value.fastest_s is not None
    return caught.value.fastest_s


def test_too_slow_a_server_or_link_is_named(model: Path) -> None:
    deadline, quick = Deadline(0.8 * local_s(model)), Link(1e11, 0.0, Radio("test", 0.01))
    busy = wanted(model, deadline=deadline, server="1.5x", link=quick)
    assert together(busy, [DEVICE]).devices[0].busy > 0.5
    with pytest.raises(Infeasible, match="the server is too slow for 8 devices"):
        together(busy, [DEVICE] * 8)
    slow = Link(4 * 8 * 4096 / deadline.latency_s, 0.0, Radio("test", 0.01))
    scarce = wanted(model, deadline=Deadline(deadline.latency_s / 2), server="1000x", link=slow)
    with pytest.raises(Infeasible, match="the link is too slow for 40 devices"):
        together(scarce, [DEVICE] * 40)
    with pytest.raises(Infeasible, match=r"no cut of model .* the fastest takes"):
        together(wanted(model, deadline=Deadline(1e-6)), [DEVICE] * 2)


def test_devices_are_counted_as_written() -> None:
    assert counted(["2xsim:a", "sim:b"]) == ("sim:a", "sim:a", "sim:b")
    with pytest.raises(Refused, match="is no device at all"):
        counted(["0xsim:a"])
    with pytest.raises(Refused, match="65 devices are more than"):
        counted(["64xsim:a", "sim:b"])


def test_so_many_times_as_fast_as_which_device_is_asked(model: Path) -> None:
    with pytest.raises(Refused, match="so many times as fast as sim:jetson-tx2 or as sim:jetson-nano"):
        together(wanted(model), [DEVICE, "sim:jetson-nano"])


def call(model: Path, *words: str) -> Result:
    both = ("-d", f"2x{DEVICE}", "--server", "8x", "--radio", "0.01W", "--round-trip", "0ms")
    return CliRunner().invoke(main, ["split", str(model), *both, *words], prog_name="amble")


def test_the_verb_shares_and_an_infeasible_deadline_ends_with_one(model: Path) -> None:
    found = call(model, "--link", "20Mbit/s", "--deadline", "5ms", "--json")
    assert found.exit_code == 0, found.stderr
    document = json.loads(found.stdout)
    assert [each["device"] for each in document["devices"]] == [DEVICE] * 2
    assert document["energy_j"] == together(wanted(model), [DEVICE] * 2).energy_j
    late = call(model, "--link", "20Mbit/s", "--deadline", "1us")
    assert late.exit_code == 1
    assert "no cut of model" in late.stderr


def test_the_files_of_one_split_are_refused_for_several_devices(model: Path, tmp_path: Path) -> None:
    found = call(model, "--link", "20Mbit/s", "--deadline", "5ms", "-o", str(tmp_path / "out"))
    assert found.exit_code == 2
    assert "--output is for one device" in found.stderr
    assert not (tmp_path / "out").exists()
