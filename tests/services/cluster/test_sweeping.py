"""Work that is spread over a cluster gives what it gives here, whoever dies meanwhile."""

import json
import os
import signal
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

import amble
from amble.cli import main
from amble.core.errors import Refused
from amble.core.spreading import OnProgress, Spread, in_order
from amble.jobs.costing import Measure
from amble.levers.widths.budgets import places_of, prune_each
from amble.levers.widths.pruning import Wanted
from amble.levers.widths.staircases import Given
from amble.services.cluster.sweeping import Tasks, facts_here, on_ray, refuse_real
from tests.runtimes import models
from tests.services.cluster.clusters import two_nodes

pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"
)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with two_nodes() as found, on_ray():
        yield found


def silent(what: str, done: int, total: int) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class Slow:
    """Squares a number, the first ones slowest; notes in a folder which process did it, each time."""

    folder: Path

    def __call__(self, number: int, told: OnProgress) -> int:
        (self.folder / f"{number}-{os.getpid()}-{time.monotonic_ns()}").touch()
        time.sleep(0.6 if number < 2 else 0.02)
        return number * number

    def done(self, number: int) -> list[int]:
        """Return the processes that began a number."""
        return [int(each.name.split("-")[1]) for each in self.folder.glob(f"{number}-*")]


@dataclass(frozen=True)
class Mortal(Slow):
    """Dies in the middle, the first time."""

    def __call__(self, number: int, told: OnProgress) -> int:
        if number == 5 and not (self.folder / "killed").exists():
            (self.folder / "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return Slow(self.folder)(number, told)


def broken(number: int, told: OnProgress) -> int:
    if number == 3:
        raise Refused(f"{number} cannot be done")
    return number


def test_results_come_in_order_and_progress_is_told_once(cluster: Any, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    with on_ray() as spread:
        found = list(spread(Slow(tmp_path), range(8), lambda what, done, total: told.append((done, total))))
    assert found == [each * each for each in range(8)]
    assert told == [(each + 1, 8) for each in range(8)]
    assert len({pid for each in range(8) for pid in Slow(tmp_path).done(each)}) > 1


def test_an_error_of_the_work_is_raised_as_it_is_and_only_once(cluster: Any) -> None:
    with on_ray() as spread, pytest.raises(Refused, match=r"^3 cannot be done$"):
        list(spread(broken, range(8), silent))


def test_what_nobody_asks_for_any_more_is_given_up(cluster: Any, tmp_path: Path) -> None:
    with on_ray() as spread:
        answers = spread(Slow(tmp_path), range(40), silent)
        assert next(answers) == 0
        answers.close()
    assert not Slow(tmp_path).done(39)


def test_a_killed_worker_loses_nothing(cluster: Any, tmp_path: Path) -> None:
    with on_ray() as spread:
        assert list(spread(Mortal(tmp_path), range(8), silent)) == [each * each for each in range(8)]
    assert len(Slow(tmp_path).done(5)) == 1
    assert (tmp_path / "killed").exists()


def test_a_result_that_other_packages_or_another_cpu_made_is_refused(cluster: Any) -> None:
    import ray

    with on_ray():
        others = tuple((name, "1.0" if name == "numpy" else value) for name, value in facts_here())
        with pytest.raises(Refused, match=r"would find other results.*numpy .* \(here 1\.0\)"):
            list(Tasks(ray, others)(broken, [1], silent))


def test_real_devices_are_not_spread() -> None:
    with pytest.raises(Refused, match=r"nvml:0 is one device, in one place.*leave --ray out"):
        refuse_real("nvml:0")
    refuse_real("host")
    refuse_real("sim:v100")


@pytest.mark.skipif(find_spec("ray") is not None, reason="Ray is installed")
@pytest.mark.parametrize(
    "words", [["measure", "synthetic:3"], ["prune", "net.onnx", "--data", "d.npz", "--latency", "0.7x"]]
)
def test_without_ray_the_command_says_what_to_install(tmp_path: Path, words: list[str]) -> None:
    done = CliRunner().invoke(main, [*words, "-d", "sim:v100", "-o", str(tmp_path / "p.json"), "--ray"])
    assert done.exit_code == 2
    assert "Ray is not installed" in done.output
    assert "[ray]" in done.output


def test_the_command_spreads_no_real_device(tmp_path: Path) -> None:
    arguments = ["quantize", "fashion-resnet", "--data", "bundled", "-d", "nvml:0", "-o", str(tmp_path), "--ray"]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2
    assert "leave --ray out" in done.output


def test_what_is_not_asked_for_is_not_done_here_either(tmp_path: Path) -> None:
    answers = in_order(Slow(tmp_path), range(40), silent)
    assert next(answers) == 0
    answers.close()
    assert not Slow(tmp_path).done(1)


def network(folder: Path) -> Path:
    """A convolution and a product: enough to quantise."""
    nodes = [
        models.node("Conv", ["x", "w1"], ["c"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        models.node("Relu", ["c"], ["r"]),
        models.node("GlobalAveragePool", ["r"], ["mean"]),
        models.node("Flatten", ["mean"], ["flat"]),
        models.node("Gemm", ["flat", "w2"], ["y"], transB=1),
    ]
    weights = [models.weight("w1", 16, 4, 3, 3), models.weight("w2", 6, 16)]
    made = models.model(nodes, [models.value("x", ["batch", 4, 8, 8])], [models.value("y", ["batch", 6])], weights)
    x = np.random.default_rng(0).standard_normal((80, 4, 8, 8)).astype(np.float32)
    np.savez(folder / "data.npz", x=x)
    return models.saved(folder, made, "net.onnx")


def artefacts(folder: Path) -> dict[str, object]:
    """Everything in a folder, byte by byte, but for when it was made and how long that took."""
    found: dict[str, object] = {}
    for each in sorted(folder.iterdir()):
        found[each.name] = told(each) if each.suffix == ".json" else each.read_bytes()
    return found


def told(path: Path) -> dict[str, object]:
    """What a file of amble says, but for when and where it was written, and how long measuring took."""

    def kept(each: dict[str, object]) -> dict[str, object]:
        return {name: value for name, value in each.items() if name not in ("provenance", "took_s")}

    return cast("dict[str, object]", json.loads(path.read_text(), object_hook=kept))


def test_variants_are_those_of_this_machine_also_when_a_node_dies(cluster: Any, tmp_path: Path) -> None:
    quantize = partial(
        amble.quantize,
        network(tmp_path),
        data=tmp_path / "data.npz",
        device="sim:v100",
        max_loss="50pt",
        mixed=True,
        rounds=6,
    )
    added = cluster.add_node(num_cpus=2, include_dashboard=False, object_store_memory=80 << 20)

    def lose(what: str, done: int, total: int) -> None:
        if what.startswith("spread") and done == 1 and added in cluster.worker_nodes:
            cluster.remove_node(added, allow_graceful=False)

    with on_ray() as spread:
        quantize(output=tmp_path / "spread", on_progress=lose, spread=spread)
    assert added not in cluster.worker_nodes
    quantize(output=tmp_path / "here")
    found = artefacts(tmp_path / "spread")
    assert found == artefacts(tmp_path / "here")
    assert any(name.endswith(".onnx") for name in found), "nothing was kept, so nothing was compared"


def test_profiles_of_many_devices_are_those_of_this_machine(cluster: Any, tmp_path: Path) -> None:
    few, devices = Measure(points=4, repeats=3), ("sim:v100", "sim:a100", "sim:h200")
    with on_ray() as spread:
        there = amble.survey("synthetic:5", devices, output=tmp_path / "there.json", asked=few, spread=spread)
    assert there == amble.survey("synthetic:5", devices, output=tmp_path / "here.json", asked=few)


def test_a_mapping_to_memory_is_that_of_this_machine_also_when_a_worker_dies(cluster: Any, tmp_path: Path) -> None:
    path, given = centres(tmp_path)
    dram = partial(amble.dram, path, data=given, dram="ddr4-2400", module="vendorB", max_loss="5pt", system="eyeriss")
    with on_ray() as spread:

        def dying(function: Any, items: Any, told: OnProgress) -> Generator[Any, None, None]:
            return spread(Dies(function, tmp_path / "killed"), items, told)

        there = dram(keep=tmp_path / "there", spread=cast("Spread", dying))
    assert (tmp_path / "killed").exists()
    assert there == dram(keep=tmp_path / "here")
    assert told(tmp_path / "there") == told(tmp_path / "here")


def test_prunings_are_those_of_this_machine(cluster: Any, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    network(tmp_path)
    wanted = [Wanted(each, max_loss="100pt", epochs=1, rounds=3) for each in ("0.9x", "0.6x")]
    given = Given(tmp_path / "net.onnx", tmp_path / "data.npz", "sim:jetson-tx2", tmp_path / "there", labels=False)
    with on_ray() as spread:
        there = prune_each(given, wanted, spread=spread)
    here = prune_each(replace(given, output=tmp_path / "here"), wanted)
    assert [(each.why, each.content) for each in there.values()] == [(each.why, each.content) for each in here.values()]
    made = [place for budget, place in places_of(wanted, Path()).items() if here[budget].pruning]
    for place in made:
        found, same = (artefacts(tmp_path / name / place) for name in ("there", "here"))
        assert found.pop("asked.json")
        assert same.pop("asked.json"), "it names the table of widths, and how long that one took"
        assert found == same
    assert made


def test_a_fleet_is_simulated_as_on_this_machine(cluster: Any) -> None:
    forecast = partial(amble.fleet, ["20xsim:v100", "10xsim:a100"], load="poisson:100000/s:2s", budget_w=2000.0)
    with on_ray() as spread:
        assert forecast(spread=spread) == forecast()


@dataclass(frozen=True)
class Dies:
    """Work whose worker is killed, the first time in a proof."""

    work: Any
    marker: Path

    def __call__(self, item: Any, told: OnProgress) -> Any:
        if not self.marker.exists() and not isinstance(item[0], dict):
            self.marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return self.work(item, told)


def centres(folder: Path) -> tuple[Path, Path]:
    """The nearest of four centres, as one matrix product, and examples around them."""
    random = np.random.default_rng(1)
    centre = random.normal(0, 1, (4, 600)).astype(np.float32)
    labels = random.integers(0, 4, 400)
    x = (centre[labels] + random.normal(0, 1, (400, 600))).astype(np.float32)
    np.savez(folder / "centres.npz", x=x, labels=labels)
    weight = onnx.numpy_helper.from_array(np.ascontiguousarray(centre.T), "w")
    nodes = [models.node("MatMul", ["x", "w"], ["scores"], "centres")]
    made = models.model(nodes, [models.value("x", ["n", 600])], [models.value("scores", ["n", 4])], [weight])
    return models.saved(folder, made, "centres.onnx"), folder / "centres.npz"
