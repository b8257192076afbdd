"""Stairs are found to the channel where they are, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from math import ceil

import numpy as np
import pytest

from amble.core.errors import Refused
from amble.core.layers import Shape
from amble.core.ports import Timing
from amble.core.subject import Where
from amble.levers.widths.measuring import Effort, empty, staircases
from amble.levers.widths.staircase import StaircaseTable, worth

CONV = Shape("conv", 64, 128, kernel=(3, 3), padding=(1, 1), size=(14, 14))
DENSE = Shape("gemm", 64, 10, vary_outputs=False)


@dataclass
class FakeProbe:
    """Times layers by a law, with noise of so many per cent."""

    law: Callable[[int, int], float]
    noise: float = 0.0
    tick_s: float = 0.0
    device: str = "fake"
    library: str = "law 1"
    asked: list[tuple[int, int]] = field(default_factory=list)
    runs: list[int] = field(default_factory=list)
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(1))

    def time(self, shape: Shape, inputs: int, outputs: int, runs: int) -> Timing:
        self.asked.append((inputs, outputs))
        self.runs.append(runs)
        latency_s = self.law(inputs, outputs) * (1.0 + self.noise * float(self.rng.standard_normal()))
        if self.tick_s:
            latency_s = self.tick_s * round(latency_s / self.tick_s)
        return Timing(latency_s, self.tick_s, 2.0 * latency_s)


def blocks(of_inputs: int, of_outputs: int) -> Callable[[int, int], float]:
    return lambda inputs, outputs: 1e-5 + 1e-5 * ceil(inputs / of_inputs) * ceil(outputs / of_outputs)


def measured(
    law: Callable[[int, int], float], shape: Shape = CONV, noise: float = 0.0, **effort: int
) -> StaircaseTable:
    probe = FakeProbe(law, noise)
    return staircases([shape], probe, empty(probe, Where(probe.device, "made up")), effort=Effort(**effort))


@pytest.mark.parametrize(("of_inputs", "of_outputs"), [(16, 16), (8, 32), (32, 64), (16, 24)])
def test_equal_stairs_are_found_to_the_channel(of_inputs: int, of_outputs: int) -> None:
    found = measured(blocks(of_inputs, of_outputs)).staircases[0]
    assert found.outputs.block == of_outputs
    assert found.inputs.block == of_inputs
    assert found.outputs.edges == tuple(sorted({*range(of_outputs, 128, of_outputs), 128}))


def test_times_between_the_points_follow_the_law() -> None:
    law = blocks(16, 16)
    found = measured(law).staircases[0]
    errors = [found.latency_s(i, o) / law(i, o) - 1 for i in range(1, 65, 5) for o in range(1, 129, 9)]
    assert max(map(abs, errors)) < 0.02
    assert found.energy_j(33, 17) == pytest.approx(2 * law(33, 17), rel=0.02)


def test_unequal_stairs_are_kept_one_by_one() -> None:
    edges = (24, 56, 64, 112)
    found = measured(lambda i, o: 1e-5 * (1 + sum(o > edge for edge in edges)), noise=0.0).staircases[0]
    assert found.outputs.edges == (*edges, 128)
    assert found.inputs.edges == (64,)


def test_a_smooth_curve_has_no_stairs() -> None:
    found = measured(lambda i, o: 1e-5 + 1e-9 * i * o).staircases[0]
    assert found.outputs.block == 1
    assert found.latency_s(32, 100) == pytest.approx(1e-5 + 1e-9 * 32 * 100, rel=0.02)


def test_widths_that_a_kernel_dislikes_hide_no_edge_and_are_none() -> None:
    def law(inputs: int, outputs: int) -> float:
        return blocks(16, 16)(inputs, outputs) * (1.0 if inputs % 4 == 0 else 1.4)

    found = measured(law).staircases[0]
    assert found.inputs.block == 16
    assert set(found.inputs.edges) == {16, 32, 48, 64}


def test_edges_of_a_curve_that_is_not_monotone_are_its_lowest_points() -> None:
    def law(inputs: int, outputs: int) -> float:
        """INT8 on a CPU: stairs of 16, and what is no multiple of 4 takes a third longer than what is."""
        odd = 1.0 + 0.3 * (outputs % 4 != 0) + 0.2 * (inputs % 4 != 0)
        return blocks(16, 16)(inputs, outputs) * odd

    found = measured(law, noise=0.003).staircases[0]
    assert found.outputs.block == 16
    widths = [width for width, _ in found.line("outputs")]
    kept = worth(widths, [point.latency_s for _, point in found.line("outputs")], found.tolerance)
    assert kept == tuple(range(16, 129, 16))
    assert found.latency_s(64, 100) == pytest.approx(law(64, 112), rel=0.03)


def test_a_block_that_predicts_an_edge_which_is_not_there_is_no_block() -> None:
    def law(inputs: int, outputs: int) -> float:
        return 1e-5 * (1 + (outputs > 32) + (outputs > 96))  # multiples of 32, as far as it goes: 64 is none

    found = measured(law).staircases[0]
    assert found.outputs.edges == (32, 96, 128)
    assert (found.outputs.block, found.outputs.held) == (1, 0)
    assert found.outputs.checked > 0
    assert found.latency_s(64, 50) == pytest.approx(law(64, 50), rel=0.01)


@pytest.mark.parametrize("outputs", [127, 129])
def test_the_last_edge_is_the_width_itself_whether_a_block_ends_just_before_or_after(outputs: int) -> None:
    found = measured(blocks(64, 16), replace(CONV, outputs=outputs)).staircases[0]
    assert found.outputs.block == 16
    assert found.outputs.edges == tuple(sorted({*range(16, outputs, 16), outputs}))


def test_a_block_is_believed_when_most_of_what_it_predicts_is_there_and_says_how_much() -> None:
    whole = measured(blocks(64, 16)).staircases[0].outputs
    assert (whole.block, whole.checked, whole.held) == (16, 3, 3)
    for checks, block in ((3, 16), (2, 1)):  # two thirds will do, a half will not
        found = []
        for missing in range(16, 128, 16):
            edges = [edge for edge in range(16, 128, 16) if edge != missing]
            law = partial(lambda edges, i, o: 1e-5 * (2 + sum(o > e for e in edges)), edges)
            stairs = measured(law, checks=checks).staircases[0].outputs
            found.append((stairs.block, stairs.checked, stairs.held))
        assert (block, checks, checks - 1) in found


def test_a_block_that_leaves_the_dearest_edge_unexplained_is_none() -> None:
    def law(inputs: int, outputs: int) -> float:
        return 1e-5 * (1 + sum(rise * (outputs > edge) for edge, rise in ((32, 1), (40, 5), (64, 1), (96, 1))))

    found = measured(law).staircases[0]
    assert found.outputs.edges == (32, 40, 64, 96, 128)
    assert found.outputs.block == 1


def test_an_edge_is_where_every_wider_layer_is_slower_and_not_where_the_next_width_alone_is() -> None:
    def law(inputs: int, outputs: int) -> float:
        return 1e-5 * (1 + (outputs > 48)) * (3.0 if outputs % 32 else 1.0)  # a kernel for multiples of 32

    found = measured(law).staircases[0]
    assert found.outputs.edges == (32, 128), "64 does what 33 to 48 do, at less; 64 to 96 cost the same"


def test_noise_makes_no_edges() -> None:
    found = measured(lambda i, o: 1e-5, noise=0.01).staircases[0]
    assert found.outputs.edges == (128,)
    assert found.inputs.edges == (64,)


@pytest.mark.parametrize("noise", [0.03, 0.04])
def test_noise_of_a_few_per_cent_makes_no_edges_either(noise: float) -> None:
    for seed in range(6):
        probe = FakeProbe(lambda i, o: 1e-5, noise, rng=np.random.default_rng(seed))
        (found,) = staircases([CONV], probe, empty(probe, Where(probe.device, "made up"))).staircases
        assert (found.outputs.edges, found.inputs.edges) == ((128,), (64,))


def test_stairs_are_found_in_little_noise() -> None:
    found = measured(blocks(16, 16), noise=0.004).staircases[0]
    assert found.outputs.block == 16
    assert 0.0 < found.noise < 0.01


def test_a_coarse_clock_reads_no_noise_of_zero() -> None:
    probe = FakeProbe(blocks(16, 16), noise=0.002, tick_s=1e-6)
    found = staircases([CONV], probe, empty(probe, Where(probe.device, "made up"))).staircases[0]
    assert all(point.mad_s > 0 for point in found.points)
    assert 0.0 < found.noise < 0.02


def test_short_layers_are_run_more_often_in_a_round() -> None:
    runs = {}
    for name, law in (("short", 1e-5), ("long", 1e-2)):
        probe = FakeProbe(lambda i, o, law=law: law)  # type: ignore[misc]
        staircases([CONV], probe, empty(probe, Where(probe.device, "made up")), effort=Effort(runs=8, most_runs=64))
        runs[name] = set(probe.runs)
    assert runs == {"short": {8, 64}, "long": {8}}


def test_the_whole_layer_has_the_deviation_of_all_its_repeats() -> None:
    found = measured(blocks(16, 16), noise=0.01).staircases[0]
    whole = next(each for each in found.points if (each.inputs, each.outputs) == (64, 128))
    assert whole.mad_s / whole.latency_s == pytest.approx(0.6745 * 0.01, rel=0.5)


def test_noise_that_hides_the_stairs_is_refused_with_its_size() -> None:
    with pytest.raises(Refused, match=r"vary by \d+% .* more than 5 rounds"):
        measured(blocks(16, 16), noise=0.3)


def test_more_rounds_see_through_more_noise_as_the_refusal_says() -> None:
    with pytest.raises(Refused, match="more than 5 rounds"):
        measured(blocks(16, 32), noise=0.1)
    found = measured(blocks(16, 32), noise=0.1, rounds=45).staircases[0]
    assert found.outputs.block == 32


def test_what_was_too_noisy_is_measured_again() -> None:
    probe = FakeProbe(blocks(16, 16), noise=0.3)
    kept: list[StaircaseTable] = []
    with pytest.raises(Refused):
        staircases([CONV], probe, empty(probe, Where(probe.device, "made up")), on_found=kept.append)
    assert [len(each.staircases) for each in kept] == [1, 0]


def test_a_layer_with_fixed_outputs_is_narrowed_in_its_inputs_only() -> None:
    found = measured(lambda i, o: 1e-6 * i, DENSE).staircases[0]
    assert {point.outputs for point in found.points} == {10}
    assert found.latency_s(32, 10) == pytest.approx(32e-6, rel=0.02)


def test_a_depthwise_layer_that_multiplies_goes_by_what_an_input_becomes() -> None:
    shape = Shape("depthwise", 32, 64, kernel=(3, 3), padding=(1, 1), size=(14, 14))
    (found,) = measured(blocks(8, 1000), shape).staircases
    assert all(each.outputs == 2 * each.inputs for each in found.points)
    assert max(each.outputs for each in found.points) == 64
    assert found.outputs.edges == (16, 32, 48, 64)
    assert found.latency_s(16, 32) == pytest.approx(3e-5)


def test_a_depthwise_layer_has_one_width() -> None:
    shape = Shape("depthwise", 96, 96, kernel=(3, 3), padding=(1, 1), size=(14, 14))
    found = measured(lambda i, o: 1e-5 * ceil(o / 16), shape).staircases[0]
    assert all(point.inputs == point.outputs for point in found.points)
    assert found.outputs.block == 16


def test_grouped_layers_change_by_whole_groups() -> None:
    shape = Shape("conv", 64, 64, kernel=(3, 3), padding=(1, 1), groups=8, size=(7, 7))
    found = measured(blocks(16, 16), shape).staircases[0]
    assert all(point.inputs % 8 == 0 and point.outputs % 8 == 0 for point in found.points)


def test_known_shapes_are_not_measured_again() -> None:
    probe = FakeProbe(blocks(16, 16))
    kept: list[StaircaseTable] = []
    table = staircases([CONV, DENSE, CONV], probe, empty(probe, Where(probe.device, "made up")), on_found=kept.append)
    assert [len(each.staircases) for each in kept] == [1, 2]
    before = len(probe.asked)
    assert staircases([DENSE, CONV], probe, table) == table
    assert len(probe.asked) == before


def test_what_slows_all_down_moves_no_point() -> None:
    slow = iter(range(10_000))

    def law(inputs: int, outputs: int) -> float:
        return blocks(16, 16)(inputs, outputs) * (1.0 if next(slow) < 30 else 1.5)

    found = measured(law).staircases[0]
    assert found.latency_s(64, 128) == pytest.approx(blocks(16, 16)(64, 128))
    assert found.latency_s(32, 64) == pytest.approx(blocks(16, 16)(32, 64), rel=0.05)


def test_tables_of_other_conditions_do_not_fit() -> None:
    probe = FakeProbe(blocks(16, 16))
    table = empty(probe, Where(probe.device, "made up"))
    assert table.fits(replace(table, took_s=3.0))
    assert not table.fits(replace(table, batch=8))


def test_a_deviation_needs_rounds() -> None:
    with pytest.raises(ValueError, match="three rounds"):
        Effort(rounds=2)
