"""Only what is faster and accurate enough beyond doubt is kept; everything else says its numbers."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from amble.core.errors import Refused
from amble.core.graph import Graph
from amble.core.ports import FloatArray
from amble.core.report import Estimate, Share
from amble.core.variants import Metric, Quality, Variant
from amble.levers.precision.choose import Candidate, Tried, measured, tried
from amble.stages.check.intervals import quantile

REFERENCE = Graph("net", (), 1, "0", source="net.onnx")


@dataclass
class FakeBench:
    """Every network takes and loses what its name says: ``int8 4ms 0.5pt``, give or take a tenth of a point."""

    noise: float = 0.01
    half_width: float = 0.1
    metric: Metric = "accuracy"
    timed: list[str] = field(default_factory=list)

    def load(self, path: Path) -> Graph:
        if "broken" in path.name:
            raise Refused("no kernel for it")
        return Graph(path.stem, (), 1, path.stem)

    def quality(self, graph: Graph) -> Quality:
        loss = float(graph.name.split()[2].removesuffix("pt"))
        share = Share(900 - round(10 * loss), 1000, Estimate(0.9 - loss / 100))
        return Quality(share, Estimate(loss, loss - self.half_width, loss + self.half_width), 1e-3 * loss)

    def times_s(self, graphs: Sequence[Graph]) -> FloatArray:
        self.timed = [graph.name for graph in graphs]
        means = [0.010, *(1e-3 * float(graph.name.split()[1].removesuffix("ms")) for graph in graphs[1:])]
        noise = np.random.default_rng(0).standard_normal((15, len(graphs)))
        return np.array(means) * (1.0 + self.noise * noise)

    def median(self, ratios: FloatArray) -> Estimate:
        return quantile(ratios, 0.5)


def candidate(name: str) -> Candidate:
    def write(path: Path) -> None:
        path.write_text("weights")

    return Candidate(name, "int8", "made up", write)


def verdict(name: str, folder: Path, bench: FakeBench | None = None) -> Variant:
    bench = bench or FakeBench()
    attempt = tried(candidate(name), folder, bench)
    if isinstance(attempt, Variant):
        return attempt
    return measured(REFERENCE, [attempt], bench, 1.0)[1]


def test_what_is_faster_and_accurate_is_kept_with_its_file(tmp_path: Path) -> None:
    found = verdict("int8 4ms 0.5pt", tmp_path)
    assert found.verdict == "kept"
    assert (tmp_path / found.file).read_text() == "weights"
    assert found.speedup is not None
    assert found.speedup.value == pytest.approx(2.5, rel=0.02)
    assert found.latency_s == pytest.approx(0.004, rel=0.02)
    assert found.loss == Estimate(0.5, 0.4, 0.6)


def test_what_is_slower_is_refused_with_its_numbers_and_no_file(tmp_path: Path) -> None:
    found = verdict("s8s8 20ms 0pt", tmp_path)
    assert found.verdict == "refused"
    assert found.reason.startswith("is not faster: 0.50 (0.")
    assert found.file == ""
    assert list(tmp_path.iterdir()) == []


def test_what_is_faster_by_chance_is_refused(tmp_path: Path) -> None:
    found = verdict("fp16 9.98ms 0pt", tmp_path, FakeBench(noise=0.05))
    assert found.verdict == "refused"
    assert "is not faster" in found.reason


def test_what_loses_too_much_is_refused_with_its_numbers(tmp_path: Path) -> None:
    found = verdict("int8 4ms 3pt", tmp_path)
    assert found.verdict == "refused"
    assert found.reason == "loses 3.00 (2.90 to 3.10) points of accuracy, 1 allowed"


def test_both_reasons_are_given(tmp_path: Path) -> None:
    reason = verdict("int8 40ms 3pt", tmp_path).reason
    assert "is not faster" in reason
    assert "loses 3.00" in reason


def test_too_few_examples_for_a_proof_are_no_proof(tmp_path: Path) -> None:
    found = verdict("int8 4ms 0.5pt", tmp_path, FakeBench(half_width=0.8))
    assert found.verdict == "refused"
    assert "1000 examples do not show that it is within 1; give more" in found.reason


def test_what_gains_accuracy_is_kept(tmp_path: Path) -> None:
    found = verdict("int8 4ms -0.4pt", tmp_path)
    assert found.verdict == "kept"
    assert "loses −0.40" in found.reason


def test_what_cannot_run_is_refused_with_the_reason(tmp_path: Path) -> None:
    found = verdict("broken 4ms 0pt", tmp_path)
    assert found.verdict == "refused"
    assert found.reason == "does not run here: no kernel for it"
    assert found.speedup is None
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_made_is_refused(tmp_path: Path) -> None:
    def make(path: Path) -> None:
        raise Refused("no calibration")

    found = tried(Candidate("int8", "int8", "", make), tmp_path, FakeBench())
    assert isinstance(found, Variant)
    assert "no calibration" in found.reason


def test_all_are_timed_side_by_side_and_the_reference_comes_first(tmp_path: Path) -> None:
    bench = FakeBench()
    names = ["a 4ms 0pt", "b 5ms 0pt"]
    attempts = [tried(candidate(name), tmp_path, bench) for name in names]
    running = [each for each in attempts if isinstance(each, Tried)]
    reference, *others = measured(REFERENCE, running, bench, 1.0)
    assert bench.timed == ["net", *names]
    assert (reference.verdict, reference.file, reference.precision) == ("reference", "net.onnx", "fp32")
    assert reference.latency_s == pytest.approx(0.010, rel=0.02)
    assert [each.name for each in others] == names


@pytest.mark.parametrize("noise", [0.0, 0.001])
def test_a_quiet_machine_shows_small_differences(tmp_path: Path, noise: float) -> None:
    bench = partial(FakeBench, noise=noise)
    assert verdict("a 9.9ms 0pt", tmp_path, bench()).verdict == "kept"
    assert verdict("b 10.1ms 0pt", tmp_path, bench()).verdict == "refused"
