"""The verb prune, from a file and examples to a narrower file; with fakes where the real thing is slow."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

import amble
from amble.cli import main
from amble.core import files
from amble.core.errors import Infeasible, Refused
from amble.levers.widths.choosing import Resource
from amble.levers.widths.network import Group, Layer, Network, Widths
from amble.levers.widths.pruning import FILE, NETWORK, NETWORK_INT8, Wanted, prune
from amble.levers.widths.results import SPACE, Pruning
from tests.runtimes import models

DEVICE = "sim:jetson-tx2"


def network(a: int = 96, b: int = 128) -> onnx.ModelProto:
    """[batch, 3, 32, 32] → a → b channels → 10 classes."""
    nodes = [
        models.node("Conv", ["x", "w1"], ["c1"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        models.node("Relu", ["c1"], ["r1"]),
        models.node("Conv", ["r1", "w2"], ["c2"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        models.node("Relu", ["c2"], ["r2"]),
        models.node("GlobalAveragePool", ["r2"], ["mean"]),
        models.node("Flatten", ["mean"], ["flat"]),
        models.node("Gemm", ["flat", "w3"], ["y"], transB=1),
    ]
    weights = [models.weight("w1", a, 3, 3, 3), models.weight("w2", b, a, 3, 3), models.weight("w3", 10, b)]
    inputs, outputs = [models.value("x", ["batch", 3, 32, 32])], [models.value("y", ["batch", 10])]
    return models.model(nodes, inputs, outputs, weights)


def layers(a: int = 96, b: int = 128) -> Network:
    importance = [tuple(np.linspace(0.1, 1.0, each).tolist()) for each in (a, b)]
    three = {"kernel": (3, 3), "padding": (1, 1), "size": (32, 32)}
    return Network(
        "net",
        (
            Layer("first", "conv", (), "a", 3, a, **three),  # type: ignore[arg-type]
            Layer("second", "conv", ("a",), "b", a, b, **three),  # type: ignore[arg-type]
            Layer("head", "gemm", ("b",), None, b, 10),
        ),
        (Group("a", importance[0]), Group("b", importance[1])),
    )


@dataclass
class FakeNarrower:
    """Writes networks of the widths asked for, or ``whatever``; what is lost in accuracy nobody cares."""

    network: Network = field(default_factory=layers)
    written: list[dict[str, int]] = field(default_factory=list)
    stays: dict[str, str] = field(default_factory=lambda: {"head": "its channels are the network's answer"})
    tuned: list[int] = field(default_factory=list)
    checkpoints: list[Path] = field(default_factory=list)
    spoils: bool = False
    slower: bool = False
    more: int = 16
    whatever: tuple[int, int] | None = None

    def write(self, widths: Widths, path: Path) -> None:
        self.written.append(dict(widths))
        more = self.more if self.slower else 0
        made = network(*(self.whatever or (widths["a"] + more, widths["b"] + more)))
        if self.spoils:
            head = made.graph.initializer[2]
            head.CopyFrom(onnx.numpy_helper.from_array(-onnx.numpy_helper.to_array(head), head.name))
        onnx.save(made, path)

    def epoch_s(self) -> float:
        return 2.5

    def tune(self, widths: Widths, path: Path, *, epochs: int, checkpoint: Path, on_epoch: object) -> None:
        self.tuned.append(epochs)
        self.checkpoints.append(checkpoint)
        self.write(widths, path)


@dataclass
class Bench:
    """What a test needs to prune: a file, data and an output folder."""

    folder: Path
    fake: FakeNarrower = field(default_factory=FakeNarrower)
    told: list[str] = field(default_factory=list)

    def prune(self, wanted: Wanted, **options: object) -> Pruning:
        source = models.saved(self.folder, network(), "net.onnx")
        return prune(
            source,
            replace(wanted, rounds=3),
            data=self.data(),
            device=DEVICE,
            output=self.folder / "out",
            narrow=lambda path, inputs, labels, worth: self.fake,
            on_stairs=lambda table, network: self.told.append("stairs"),
            on_progress=lambda what, done, total: self.told.append(what),
            **options,  # type: ignore[arg-type]
        )

    def data(self) -> Path:
        rng = np.random.default_rng(0)
        x = rng.standard_normal((20, 3, 32, 32)).astype(np.float32)
        np.savez(self.folder / "data.npz", x=x, labels=rng.integers(0, 10, 20))
        return self.folder / "data.npz"


@pytest.fixture(scope="module")
def pruned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bench, Pruning]:
    bench = Bench(tmp_path_factory.mktemp("pruned"))
    space = bench.folder / "space.json"
    return bench, bench.prune(Wanted("0.6x", max_loss="100pt"), design_space=space)


def test_the_network_is_as_fast_as_asked_and_kept(pruned: tuple[Bench, Pruning]) -> None:
    bench, made = pruned
    assert made.verdict == "kept"
    assert made.after_s <= 1.02 * made.budget
    assert made.speedup > 1.5
    assert onnx.load(bench.folder / "out" / NETWORK).graph.node
    assert bench.fake.written[-1] == made.widths or made.widths in bench.fake.written


def test_the_prediction_is_near_what_is_measured(pruned: tuple[Bench, Pruning]) -> None:
    assert abs(pruned[1].error) < 0.1


def test_widths_are_edges_of_stairs(pruned: tuple[Bench, Pruning]) -> None:
    _, made = pruned
    second = next(each for each in made.layers if each.layer == "second")
    assert second.outputs[1] in second.stairs


def test_staircases_are_told_before_anything_is_cut(pruned: tuple[Bench, Pruning]) -> None:
    told = pruned[0].told
    assert told.index("stairs") < told.index("cutting and measuring")


def test_rivals_take_no_longer_and_lose_no_less(pruned: tuple[Bench, Pruning]) -> None:
    _, made = pruned
    assert len(made.rivals) == 4
    for rival in made.rivals:
        assert rival.predicted_s <= made.predicted_s * (1 + 1e-9)
        assert rival.lost >= made.bound * (1 - 1e-9)


def test_the_design_space_names_the_widths_of_each_group(pruned: tuple[Bench, Pruning]) -> None:
    bench, made = pruned
    space = files.load(bench.folder / "space.json", SPACE)
    assert [each.group for each in space.groups] == ["a", "b"]
    assert all(made.widths[each.group] in each.widths for each in space.groups)
    assert space.groups[1].layers == ("second",)


def test_the_artefact_is_read_shown_and_drawn(pruned: tuple[Bench, Pruning]) -> None:
    bench, made = pruned
    again = amble.read(bench.folder / "out" / "pruning.json")
    assert again == made
    facts, shown, _ = amble.show(again)
    assert "kept" in facts.rows[0][1]
    assert len(shown.rows) == 3
    amble.export_files(again, html=bench.folder / "page.html")
    page = (bench.folder / "page.html").read_text()
    assert page.count('class="plot"') == 3
    table = amble.read(bench.folder / "out" / "staircases.json")
    assert "Staircases" in amble.show(table)[0].title


def test_a_second_call_measures_no_staircase_again(pruned: tuple[Bench, Pruning]) -> None:
    bench, made = pruned
    assert replace(bench.prune(Wanted("0.6x", max_loss="100pt")).table, took_s=0.0) == replace(made.table, took_s=0.0)


def test_a_loss_over_the_allowance_is_refused_and_no_file_stays(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FakeNarrower(spoils=True))
    made = bench.prune(Wanted("0.6x", max_loss="1pt", epochs=0), labels=False)
    assert bench.fake.tuned == [0]
    assert made.verdict == "refused"
    assert "more epochs" in made.reason
    assert made.file == ""
    assert not list((tmp_path / "out").glob("*.onnx"))


def test_a_network_that_was_kept_before_outlives_one_that_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / NETWORK).write_bytes(b"kept before")
    Bench(tmp_path, FakeNarrower(spoils=True)).prune(Wanted("0.6x", max_loss="1pt", epochs=0), labels=False)
    assert (tmp_path / "out" / NETWORK).read_bytes() == b"kept before"


def test_a_network_that_is_kept_takes_the_place_of_all_that_was_kept_before(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    for name in (NETWORK, NETWORK_INT8, FILE):
        (tmp_path / "out" / name).write_bytes(b"kept before")
    made = Bench(tmp_path).prune(Wanted("0.6x", max_loss="100pt", epochs=0))
    assert made.verdict == "kept"
    assert {each.name for each in (tmp_path / "out").iterdir()} == {NETWORK, FILE, "staircases.json"}
    assert onnx.load(str(tmp_path / "out" / NETWORK)).graph.node


def test_an_output_that_cannot_be_written_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    bench = Bench(tmp_path)
    with pytest.raises(Refused, match="it is a file, not a folder"):
        bench.prune(Wanted("0.6x"))
    (tmp_path / "other").mkdir()
    with pytest.raises(Refused, match=r"space\.json cannot be written"):
        Bench(tmp_path / "other").prune(Wanted("0.6x"), design_space=tmp_path / "out" / "space.json")
    assert bench.told == []


def test_without_labels_it_says_that_the_network_itself_is_the_teacher(tmp_path: Path) -> None:
    made = Bench(tmp_path).prune(Wanted("0.8x", max_loss="100pt"), labels=False)
    assert made.metric == "agreement"
    assert "no labels" in made.notes[0]


def test_energy_can_be_the_budget(tmp_path: Path) -> None:
    made = Bench(tmp_path).prune(Wanted("0.6x", resource="energy", max_loss="100pt"))
    assert made.resource == "energy"
    assert made.after_s < made.before_s


def test_a_width_inside_a_stair_is_refused_with_its_neighbours(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"b with 100 channels pays nothing.* ask for \d+ or \d+"):
        Bench(tmp_path).prune(Wanted("0.8x", widths={"b": 100}))


def test_a_group_that_is_none_is_refused_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="its groups are a, b"):
        Bench(tmp_path).prune(Wanted("0.8x", widths={"c": 64}))


def test_a_budget_out_of_reach_names_the_least_there_is(tmp_path: Path) -> None:
    with pytest.raises(Infeasible, match="ask for at least that") as caught:
        Bench(tmp_path).prune(Wanted("1us"))
    assert caught.value.fastest_s > 1e-6


@pytest.mark.parametrize("name", [NETWORK, NETWORK_INT8])
def test_a_network_is_not_replaced_by_what_is_made_of_it(tmp_path: Path, name: str) -> None:
    source = models.saved(tmp_path, network(), name)
    before = source.read_bytes()
    with pytest.raises(Refused, match=f"{name} would be overwritten .* name another folder"):
        prune(source, Wanted("0.6x"), data=Bench(tmp_path).data(), device=DEVICE, output=tmp_path)
    assert source.read_bytes() == before


@pytest.mark.parametrize(("budget", "resource"), [("0x", "latency"), ("0ms", "latency"), ("0.0x", "energy")])
def test_a_budget_of_nothing_is_no_budget(budget: str, resource: Resource) -> None:
    with pytest.raises(ValueError, match=f"--{resource} {budget} leaves nothing; write a share"):
        Wanted(budget, resource=resource)


def test_devices_that_run_no_layers_are_refused(tmp_path: Path) -> None:
    source = models.saved(tmp_path, network(), "net.onnx")
    with pytest.raises(Refused, match="host or sim:CHIP"):
        prune(
            source,
            Wanted("0.7x"),
            data=Bench(tmp_path).data(),
            device="recorded:v100-ttu-kernels",
            output=tmp_path / "out",
        )


def test_few_examples_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "few.npz", x=np.zeros((3, 3, 32, 32), np.float32))
    source = models.saved(tmp_path, network(), "net.onnx")
    with pytest.raises(Refused, match="at least 10"):
        prune(source, Wanted("0.7x"), data=tmp_path / "few.npz", device=DEVICE, output=tmp_path / "out")


def test_the_command_line_wants_one_budget(tmp_path: Path) -> None:
    asked = ["prune", "net.onnx", "--data", "d.npz", "-d", "host", "-o", str(tmp_path)]
    found = CliRunner().invoke(main, asked)
    assert found.exit_code == 2
    assert "--latency 0.7x" in found.output
    assert CliRunner().invoke(main, [*asked, "--latency", "0.7x", "--energy", "0.7x"]).exit_code == 2


def test_the_command_line_prunes_an_onnx_file(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    source = models.saved(tmp_path, network(32, 32), "net.onnx")
    x = np.random.default_rng(0).standard_normal((20, 3, 32, 32)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=x)
    asked = ["prune", str(source), "--data", str(tmp_path / "data.npz"), "--latency", "0.9x", "--json"]
    options = ["--epochs", "1", "--repeats", "3", "--max-loss", "100pt", "--importance", "l1", "--labels", "none"]
    found = CliRunner().invoke(main, [*asked, *options, "-d", DEVICE, "-o", str(tmp_path / "out")])
    assert found.exit_code == 0, found.output
    document = json.loads(found.stdout)
    assert document["verdict"] == "kept"
    assert "stairs" in found.stderr
    assert (tmp_path / "out" / NETWORK).exists()


def test_an_operator_that_cannot_be_traced_is_named(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    nodes = [
        models.node("Conv", ["x", "w"], ["c"], kernel_shape=[3, 3]),
        models.node("Einsum", ["c"], ["e"], equation="nchw->nchw"),
    ]
    nodes += [models.node("GlobalAveragePool", ["e"], ["m"]), models.node("Flatten", ["m"], ["y"])]
    made = models.model(
        nodes,
        [models.value("x", ["batch", 3, 8, 8])],
        [models.value("y", ["batch", 4])],
        [models.weight("w", 4, 3, 3, 3)],
    )
    np.savez(tmp_path / "data.npz", x=np.zeros((20, 3, 8, 8), np.float32))
    source = models.saved(tmp_path, made, "net.onnx")
    with pytest.raises(Refused, match="Einsum"):
        prune(source, Wanted("0.7x"), data=tmp_path / "data.npz", device=DEVICE, output=tmp_path / "out")


def test_another_tuning_to_the_same_widths_goes_on_from_no_checkpoint_of_this_one(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    for wanted, worth in ((1, "taylor"), (1, "taylor"), (2, "taylor"), (2, "l1")):
        bench.prune(Wanted("0.6x", max_loss="100pt", epochs=wanted), importance=worth)
    same, again, longer, other = bench.fake.checkpoints
    assert same == again
    assert len({same, longer, other}) == 3


@pytest.mark.parametrize("budget", ["fast", "-3ms", "3", ""])
def test_a_budget_that_cannot_be_read_is_refused_by_its_option(budget: str) -> None:
    with pytest.raises(ValueError, match="--latency"):
        Wanted(budget)
    with pytest.raises(ValueError, match="--energy"):
        Wanted(budget, resource="energy")


@pytest.mark.parametrize(("budget", "resource"), [("1.0x", "latency"), ("1.2x", "energy"), ("20s", "latency")])
def test_a_budget_that_the_network_keeps_already_is_refused_before_anything_is_measured(
    budget: str, resource: Literal["latency", "energy"], tmp_path: Path
) -> None:
    bench = Bench(tmp_path)
    with pytest.raises(Refused, match=f"takes .* as it is, which keeps --{resource} {budget}; ask for less"):
        bench.prune(Wanted(budget, resource=resource))
    assert "stairs" not in bench.told


def test_a_target_that_was_corrected_is_told_with_its_bound(pruned: tuple[Bench, Pruning], tmp_path: Path) -> None:
    bench = Bench(tmp_path, FakeNarrower(slower=True))
    made = bench.prune(Wanted("0.7x", max_loss="100pt", epochs=0))
    (note,) = (each for each in made.notes if "staircases were taken" in each)
    assert "least importance to be lost is by these times" in note
    assert made.lost >= made.bound


def test_the_ratio_of_times_has_an_interval(pruned: tuple[Bench, Pruning]) -> None:
    ratio = pruned[1].ratio
    assert ratio is not None
    assert ratio.low is not None
    assert ratio.high is not None
    assert ratio.low <= ratio.value <= ratio.high < 1


def test_unknown_groups_are_refused_before_anything_is_measured(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    with pytest.raises(Refused, match=r"--width: .* no group 'c'; its groups are a, b"):
        bench.prune(Wanted("0.6x", widths={"c": 8}))
    assert "stairs" not in bench.told


def test_a_network_that_is_slower_when_cut_is_not_trained_and_says_what_became_slower(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FakeNarrower(slower=True, more=160))
    made = bench.prune(Wanted("0.6x", max_loss="100pt", epochs=3))
    assert bench.fake.tuned == []
    assert made.verdict == "refused"
    assert "is not faster" in made.reason
    assert "not trained; slower than before: " in made.reason
    assert "epochs" not in made.reason
    assert " before" in made.reason.partition("slower than before: ")[2]
    assert made.after == made.cut
    assert not list((tmp_path / "out").glob("*.onnx"))


def test_a_budget_missed_by_more_than_a_tenth_is_told_before_training(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FakeNarrower(whatever=(80, 112)))  # multiples of what any CPU computes at once
    made = bench.prune(Wanted("0.35x", max_loss="100pt", epochs=3))
    assert bench.fake.tuned == []
    assert made.verdict == "refused"
    assert "was asked; not trained" in made.reason


@pytest.mark.parametrize("resource", ["latency", "energy"])
def test_energy_is_measured_before_and_after_where_there_is_a_meter(
    resource: Literal["latency", "energy"], tmp_path: Path
) -> None:
    made = Bench(tmp_path).prune(Wanted("0.6x", resource=resource, max_loss="100pt", epochs=1))
    assert made.before_j is not None
    assert made.after_j is not None
    assert made.after_j < 0.8 * made.before_j
    assert any("as measured" in each and "a run needs" in each for each in made.notes)
    if resource == "energy":
        assert made.after_j <= 1.05 * made.budget


def test_layers_that_keep_their_channels_are_told_but_not_the_last_one(tmp_path: Path) -> None:
    fake = FakeNarrower(stays={"stem": "odd (LRN) is not known", "head": "its channels are the network's answer"})
    made = Bench(tmp_path, fake).prune(Wanted("0.7x", max_loss="100pt", epochs=0))
    assert [each for each in made.notes if "stays" in each] == ["stays as it is: stem: odd (LRN) is not known"]


def test_clocks_that_need_no_less_energy_are_refused_before_training(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FakeNarrower(slower=True, more=400))
    with pytest.raises(Refused, match="nothing was trained"):
        bench.prune(Wanted("0.95x", max_loss="100pt"), may_lose=0.9)
    assert bench.fake.tuned == []
