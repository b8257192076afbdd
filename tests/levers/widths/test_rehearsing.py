"""What a dry run of pruning finds out, and that it writes nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from amble.cli import main
from amble.core.errors import Refused
from amble.levers.widths.pruning import Prune, Wanted
from amble.levers.widths.rehearsing import Rehearsal, rehearse
from amble.levers.widths.staircases import Given
from tests.levers.widths.test_pruning import DEVICE, Bench, FakeNarrower, network
from tests.runtimes import models


def rehearsed(folder: Path, wanted: Wanted, fake: FakeNarrower | None = None, **options: object) -> Rehearsal:
    bench = Bench(folder)
    model = models.saved(folder, network(), "net.onnx")
    may_lose, now_s = options.pop("may_lose", None), options.pop("now_s", time.perf_counter)
    given = Given(model, **{"data": bench.data(), "device": DEVICE, "output": folder / "out", **options})  # type: ignore[arg-type]
    return rehearse(
        Prune(given, wanted, may_lose),  # type: ignore[arg-type]
        narrow=lambda path, inputs, labels, worth: fake or FakeNarrower(),
        now_s=now_s,  # type: ignore[arg-type]
    )


def test_it_tells_the_size_of_the_work_and_writes_nothing(tmp_path: Path) -> None:
    fake = FakeNarrower()
    found = rehearsed(tmp_path, Wanted("0.7x", epochs=4), fake)
    assert (found.layers, found.groups, found.unknown_shapes) == (3, ("a", "b"), 3)
    assert (found.learning, found.judging, found.labelled) == (16, 4, True)
    assert found.tuning_s == pytest.approx(4 * fake.epoch_s())
    assert not (tmp_path / "out").exists()
    assert fake.written == []
    assert any("3 layer shapes" in line for line in found.lines)


def test_staircases_take_longer_with_more_repeats(tmp_path: Path) -> None:
    def ticking() -> Callable[[], float]:
        return partial(next, iter(np.arange(0.0, 1e3, 0.5).tolist()))

    few, more = (rehearsed(tmp_path, Wanted("0.7x", rounds=each), now_s=ticking()).staircases_s for each in (3, 6))
    assert more == pytest.approx(2 * few)
    assert few > 0


def test_what_is_known_is_not_measured_again(tmp_path: Path) -> None:
    Bench(tmp_path).prune(Wanted("0.6x", max_loss="100pt", epochs=0))
    found = rehearsed(tmp_path, Wanted("0.7x"))
    assert (found.unknown_shapes, found.known_shapes) == (0, 3)
    assert found.staircases_s == 0.0
    assert any("3 others are known" in line for line in found.lines)


def test_a_time_that_is_kept_already_is_refused_with_what_it_takes(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"takes .* as it is, which keeps --latency 20s; ask for less"):
        rehearsed(tmp_path, Wanted("20s"))


def test_unknown_groups_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="its groups are a, b"):
        rehearsed(tmp_path, Wanted("0.7x", widths={"c": 8}))


def test_without_labels_it_says_what_teaches(tmp_path: Path) -> None:
    found = rehearsed(tmp_path, Wanted("0.7x"), labels=False)
    assert not found.labelled
    assert any("without labels" in line for line in found.lines)


def test_a_dry_run_on_the_command_line_reads_traces_and_estimates(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    source = models.saved(tmp_path, network(32, 32), "net.onnx")
    x = np.random.default_rng(0).standard_normal((20, 3, 32, 32)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=x)
    asked = ["prune", str(source), "--data", str(tmp_path / "data.npz"), "--latency", "0.8x", "--dry-run"]
    found = CliRunner().invoke(main, [*asked, "--importance", "l1", "-d", DEVICE, "-o", str(tmp_path / "out")])
    assert found.exit_code == 0, found.output
    assert "would measure staircases of 3 layer shapes" in found.stderr
    assert "would cut, and tune 3 epochs on 16 examples" in found.stderr
    assert not (tmp_path / "out").exists()


def test_a_dry_run_names_the_operator_that_cannot_be_traced(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    nodes = [models.node("Conv", ["x", "w"], ["c"], kernel_shape=[3, 3])]
    nodes += [models.node("Einsum", ["c"], ["e"], equation="nchw->nchw")]
    nodes += [models.node("GlobalAveragePool", ["e"], ["m"]), models.node("Flatten", ["m"], ["y"])]
    made = models.model(
        nodes,
        [models.value("x", ["batch", 3, 8, 8])],
        [models.value("y", ["batch", 4])],
        [models.weight("w", 4, 3, 3, 3)],
    )
    np.savez(tmp_path / "data.npz", x=np.zeros((20, 3, 8, 8), np.float32))
    source = models.saved(tmp_path, made, "net.onnx")
    asked = ["prune", str(source), "--data", str(tmp_path / "data.npz"), "--latency", "0.8x", "--dry-run"]
    found = CliRunner().invoke(main, [*asked, "-d", DEVICE, "-o", str(tmp_path / "out")])
    assert found.exit_code == 2
    assert "Einsum" in found.stderr


def test_layers_that_would_keep_their_channels_are_told(tmp_path: Path) -> None:
    fake = FakeNarrower(stays={"stem": "odd (LRN) is not known", "head": "its channels are the network's answer"})
    lines = rehearsed(tmp_path, Wanted("0.7x"), fake).lines
    assert [each for each in lines if "stays" in each] == ["stays as it is: stem: odd (LRN) is not known"]
