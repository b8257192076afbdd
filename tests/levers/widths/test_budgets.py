"""Several budgets of one network: each comes to what it comes to alone, and nothing is made twice."""

from __future__ import annotations

import json
import shutil
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import amble
from amble.cli import main
from amble.core.errors import Refused
from amble.core.spreading import in_order
from amble.levers.widths.budgets import places_of, prune_each
from amble.levers.widths.pruning import FILE, NETWORK, Wanted
from amble.levers.widths.staircases import TABLE, Given
from tests.levers.widths.test_pruning import network
from tests.runtimes import models

DEVICE = "sim:jetson-tx2"
BOTH = tuple(Wanted(each, max_loss="100pt", epochs=1, rounds=3) for each in ("0.9x", "0.7x"))


@pytest.fixture
def given(tmp_path: Path) -> Given:
    pytest.importorskip("torch")
    source = models.saved(tmp_path, network(32, 32), "net.onnx")
    x = np.random.default_rng(0).standard_normal((40, 3, 32, 32)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=x)
    return Given(source, tmp_path / "data.npz", DEVICE, tmp_path / "out", labels=False, importance="l1")


def spread(function: Any, items: Any, on_progress: Any) -> Generator[Any, None, None]:
    """Not the one of this process, as a cluster's."""
    yield from in_order(function, items, on_progress)


def test_each_budget_comes_to_what_it_comes_to_alone(given: Given, tmp_path: Path) -> None:
    found = prune_each(given, BOTH)
    assert found["0.9x"].pruning
    assert found["0.9x"].pruning.verdict == "kept"
    for wanted in BOTH:
        alone = tmp_path / f"alone-{wanted.budget}"
        alone.mkdir()
        (alone / TABLE).write_bytes((given.output / TABLE).read_bytes())
        made = amble.prune(
            given.model, wanted, data=given.data, device=DEVICE, output=alone, labels=False, importance="l1"
        )
        assert found[wanted.budget].pruning == made
        place = places_of(BOTH, given.output)[wanted.budget]
        assert amble.read(place / FILE) == made
        assert (place / NETWORK).exists() == (alone / NETWORK).exists() == (made.verdict == "kept")
        if made.verdict == "kept":
            assert (place / NETWORK).read_bytes() == (alone / NETWORK).read_bytes()
    assert not list(tmp_path.glob("**/*.pt"))


def test_an_interrupted_call_goes_on_with_the_budgets_that_are_left(given: Given) -> None:
    begun: list[str] = []

    def dies(function: Any, items: Any, on_progress: Any) -> Generator[Any, None, None]:
        for each in items:
            begun.append(each.budget)
            if len(begun) in (2, 4):
                raise KeyboardInterrupt
            yield function(each, on_progress)

    with pytest.raises(KeyboardInterrupt):
        prune_each(given, BOTH, spread=dies)
    again = prune_each(given, BOTH, spread=dies)
    assert begun == ["0.9x", "0.7x", "0.7x"]
    assert all(each.pruning for each in again.values())
    with pytest.raises(KeyboardInterrupt):
        prune_each(given, [replace(each, epochs=2) for each in BOTH], spread=dies)
    assert begun[3:] == ["0.9x"], "what was trained otherwise was taken for this"


def test_a_budget_that_cannot_be_kept_says_so_beside_the_others(given: Given) -> None:
    found = prune_each(given, [BOTH[0], replace(BOTH[0], budget="0.001x")])
    assert found["0.9x"].pruning
    assert not found["0.001x"].pruning
    assert "least" in found["0.001x"].why


def test_a_budget_named_twice_and_real_devices_elsewhere_are_refused(given: Given) -> None:
    with pytest.raises(Refused, match="name each once"):
        prune_each(given, [BOTH[0], BOTH[0]])
    with pytest.raises(Refused, match=r"host times the narrower networks where it is.*leave --ray out"):
        prune_each(replace(given, device="host"), BOTH, spread=spread)


def test_what_another_pruning_left_in_the_folder_since_is_not_taken_for_this_one(given: Given) -> None:
    first = prune_each(given, BOTH[:1])
    assert first["0.9x"].pruning
    amble.prune(
        given.model, BOTH[1], data=given.data, device=DEVICE, output=given.output, labels=False, importance="l1"
    )
    assert prune_each(given, BOTH[:1])["0.9x"].pruning == first["0.9x"].pruning


@pytest.mark.parametrize("count", [1, 2])
def test_a_network_is_not_replaced_by_what_is_made_of_it(given: Given, count: int) -> None:
    place = places_of(BOTH[:count], given.output)["0.9x"]
    place.mkdir(parents=True)
    shutil.copy(given.model, place / NETWORK)
    with pytest.raises(Refused, match="would be overwritten"):
        prune_each(replace(given, model=place / NETWORK), BOTH[:count])


def test_the_command_prunes_within_several_budgets(given: Given) -> None:
    asked = ["prune", str(given.model), "--data", str(given.data), "-d", DEVICE, "-o", str(given.output), "--json"]
    asked += ["--epochs", "1", "--repeats", "3", "--max-loss", "100pt", "--importance", "l1", "--labels", "none"]
    done = CliRunner().invoke(main, [*asked, "--latency", "0.9x,0.001x"])
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["0.9x"]["verdict"] == "kept"
    assert "why" in document["0.001x"]
    assert (given.output / "latency-0.9x" / NETWORK).exists()
    assert CliRunner().invoke(main, [*asked, "--latency", "0.001x,0.002x"]).exit_code == 1
    for more in ([], ["--dry-run"]):
        mixed = CliRunner().invoke(main, [*asked, "--latency", "0.9x,0.7x", "--least-energy", "0.5", *more])
        assert mixed.exit_code == 2
        assert "leave --least-energy" in mixed.output
    rehearsed = CliRunner().invoke(main, [*asked, "--latency", "0.9x,0.7x", "--dry-run"])
    assert rehearsed.exit_code == 0, rehearsed.output
    assert "0.9x, 0.7x: a network each" in rehearsed.output
