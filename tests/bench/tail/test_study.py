"""What the bench of pruned networks makes of its log and its timings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.tail import study as tail
from bench.tail.study import Again, Base, FullSize, Repeated, Table, Timed, Trained

WIDTHS = {"blind": {"a": 23}, "latency mode": {"a": 16}, "accuracy mode": {"a": 32}, "planned": {"a": 48}}


def trained(variant: str, accuracy: float, *, seed: int = 1, level: str = "moderate") -> Trained:
    return Trained("vgg", seed, level, 0.4, variant, WIDTHS[variant], 1e6, 100, accuracy, accuracy, "digest")


def table(*lines: Trained, predicted: float = 1.0) -> Table:
    times_s = {"blind": 2e-3, "latency mode": 1.5e-3, "accuracy mode": 2e-3, "planned": 1e-3}
    timed = [Timed("vgg", 1, WIDTHS[name], time_s, predicted * time_s) for name, time_s in times_s.items()]
    return Table(lines, [Base("vgg", seed, 0.9) for seed in (1, 2, 3)], timed)


def targets(of: Table) -> dict[str, tuple[float | None, bool | None]]:
    return {each.target: (each.value, each.met) for each in tail.targets(of, ["vgg"], [1], None)}


def test_latency_is_compared_seed_by_seed() -> None:
    found = targets(table(trained("blind", 0.8), trained("latency mode", 0.8)))
    value, met = found["latency saved by latency mode over the blind pruner, vgg, batch 1"]
    assert value == pytest.approx(0.25)
    assert met


def test_a_seed_that_lacks_a_variant_counts_for_neither() -> None:
    lines = [trained("blind", 0.8, seed=1), trained("blind", 0.7, seed=2), trained("latency mode", 0.8, seed=2)]
    assert [one.seed for one, _ in table(*lines).pairs("vgg", "moderate", "latency mode", "blind")] == [2]


def test_accuracy_is_worse_only_beyond_the_interval_of_the_seeds() -> None:
    name = "upper end of the seeds' interval of the accuracy won by latency mode over the blind pruner, vgg"
    blind = [trained("blind", 0.8, seed=seed) for seed in (1, 2, 3)]
    scattered = [trained("latency mode", 0.79 + 0.01 * seed, seed=seed) for seed in (1, 2, 3)]
    worse = [trained("latency mode", 0.78, seed=seed) for seed in (1, 2, 3)]
    assert targets(table(*blind, *scattered))[name] == (pytest.approx(1.0 + 4.303 / 3**0.5, rel=1e-3), True)
    assert targets(table(*blind, *worse))[name] == (pytest.approx(-2.0), False)
    assert targets(table(blind[0], worse[0]))[name] == (None, None)


def test_what_the_harsh_ratio_costs_and_wins_is_told_in_points() -> None:
    harsh = [trained("blind", 0.8, level="harsh"), trained("accuracy mode", 0.83, level="harsh")]
    found = targets(table(*harsh))
    assert found["accuracy lost by the blind pruner at the harsh ratio, vgg"][0] == pytest.approx(10.0)
    assert found["accuracy won by accuracy mode in the blind pruner's time, vgg"] == (pytest.approx(3.0), True)
    assert found["time of accuracy mode over the blind pruner's, vgg, batch 1"] == (pytest.approx(1.0), True)


def test_what_was_not_trained_is_not_met() -> None:
    found = targets(table())
    assert found["accuracy won by searching edges of stairs instead of multiples of 8, vgg"] == (None, None)
    assert all(met is None for _, met in found.values())


def test_predictions_are_judged_where_widths_are_edges() -> None:
    found = targets(table(trained("planned", 0.8), predicted=1.1))
    assert found["worst error of the predicted latency of networks cut at edges, vgg, batch 1"] == (
        pytest.approx(0.1),
        False,
    )


def test_a_repeated_cell_has_to_come_out_alike() -> None:
    logged = trained("blind", 0.8)
    found = list(tail.targets(table(logged), ["vgg"], [1], Repeated(logged, Again(0.801, 0.801, 1.0))))
    assert [(each.value, each.met) for each in found[-2:]] == [(pytest.approx(0.1), True), (0.0, True)]


def test_filled_stairs_have_to_save_time_at_full_size() -> None:
    found = [FullSize("vgg16", "blind", 0.4, 1.0), FullSize("vgg16", "filled up to blocks of 16", 0.3, 1.2)]
    filled, planned = tail.full_size_targets(found)
    assert (filled.value, filled.met) == (pytest.approx(0.25), True)
    assert (planned.value, planned.met) == (None, None)


def test_a_gain_has_to_be_more_than_the_seeds_differ_by() -> None:
    name = "accuracy won by accuracy mode in the blind pruner's time, vgg"
    blind = [trained("blind", 0.8, seed=seed, level="harsh") for seed in (1, 2, 3)]
    alike = [trained("accuracy mode", 0.84, seed=seed, level="harsh") for seed in (1, 2, 3)]
    apart = [trained("accuracy mode", 0.74 + 0.05 * seed, seed=seed, level="harsh") for seed in (1, 2, 3)]
    lower = f"lower end of the seeds' interval of the {name}"
    for lines, is_sure in ((alike, True), (apart, False)):
        found = targets(table(*blind, *lines))
        assert found[name] == (pytest.approx(4.0), True)
        assert found[lower][1] is is_sure


def test_design_spaces_are_compared_where_the_search_over_every_width_loses_much() -> None:
    edges, every = tail.SPACES
    lines = [
        Trained("vgg", seed, "tight", 0.2, variant, WIDTHS[width], 1e6, 100, accuracy, accuracy, "digest")
        for seed in (1, 2)
        for variant, width, accuracy in ((edges, "latency mode", 0.86), (every, "blind", 0.83))
    ]
    found = targets(table(*lines))
    assert found["accuracy lost by the search over every width in a tight time, vgg"] == (pytest.approx(7.0), True)
    won = "accuracy won by searching edges of stairs instead of every width in a tight time, vgg"
    assert found[won] == (pytest.approx(3.0), True)
    name = "tight time of the network found among edges over the other's, vgg, batch 1"
    assert found[name] == (pytest.approx(0.75), True)


def test_records_tell_times_and_widths_of_every_line() -> None:
    (record,) = (each for each in tail.records(table(trained("blind", 0.8)), [1]) if each["variant"] == "blind")
    assert (record["widths"], record["latency_1_s"]) == ([23], 2e-3)


def test_the_log_can_be_read() -> None:
    for line in Path(tail.LOG).read_text().splitlines():
        assert json.loads(line)["widths"]
    read = tail._lines(tail.LOG, Trained)
    assert {each.network for each in read} <= set(tail.NETWORKS)
    assert len({(each.network, each.seed, each.level, each.variant) for each in read}) == len(read)
