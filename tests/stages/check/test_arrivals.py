from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amble.core.errors import Refused
from amble.core.ports import FloatArray
from amble.stages.check.arrivals import parse_load


def times(spec: str, seed: int = 0) -> FloatArray:
    return parse_load(spec).times_s(seed)


def test_periodic_requests_are_multiples_of_the_period() -> None:
    assert times("periodic:30ms:4").tolist() == pytest.approx([0, 0.03, 0.06, 0.09])


def test_a_periodic_load_ends_before_its_time() -> None:
    assert times("periodic:20ms:100ms").tolist() == pytest.approx([0, 0.02, 0.04, 0.06, 0.08])


def test_a_rate_may_stand_for_a_period() -> None:
    assert np.array_equal(times("periodic:50/s:2s"), times("periodic:20ms:100"))


def test_a_poisson_load_has_the_rate_and_the_spread_of_one() -> None:
    gaps_s = np.diff(times("poisson:40/s:20000"))
    assert gaps_s.mean() == pytest.approx(1 / 40, rel=0.03)
    assert gaps_s.std() == pytest.approx(gaps_s.mean(), rel=0.03)


def test_a_rate_can_be_by_the_minute() -> None:
    assert times("poisson:600/min:1000s").size == pytest.approx(10_000, rel=0.05)


def test_a_load_by_number_has_exactly_that_many_requests() -> None:
    assert all(times("poisson:35/s:17", seed).size == 17 for seed in range(20))


def test_the_same_seed_gives_the_same_arrivals_and_another_one_others() -> None:
    assert np.array_equal(times("poisson:35/s:10s", 3), times("poisson:35/s:10s", 3))
    assert not np.array_equal(times("poisson:35/s:100", 3), times("poisson:35/s:100", 4))


def test_bursts_come_at_once_and_keep_the_mean_rate() -> None:
    times_s = times("burst:40/s:8:1000s")
    moments, sizes = np.unique(times_s, return_counts=True)
    assert set(sizes.tolist()) == {8}
    assert times_s.size / 1000 == pytest.approx(40, rel=0.05)
    assert np.diff(moments).mean() == pytest.approx(8 / 40, rel=0.05)


def test_a_ramp_goes_from_one_rate_to_the_other() -> None:
    counts, _ = np.histogram(times("ramp:10/s:110/s:1000s"), bins=10, range=(0, 1000))
    wanted = 100 * (15 + 10 * np.arange(10))  # the rate in the middle of each tenth, for 100 s
    assert counts == pytest.approx(wanted, rel=0.06)


def test_a_level_ramp_is_a_poisson_load() -> None:
    times_s = times("ramp:20/s:20/s:1000s")
    assert times_s.size == pytest.approx(20_000, rel=0.03)
    assert np.diff(times_s).std() == pytest.approx(1 / 20, rel=0.05)


def test_nothing_arrives_while_an_onoff_load_is_off() -> None:
    times_s = times("onoff:50/s:2s:8s:100s")
    assert ((times_s % 10) < 2).all()
    assert times_s.size == pytest.approx(50 * 20, rel=0.1)
    assert set((times_s // 10).astype(int).tolist()) == set(range(10))


@settings(max_examples=40, deadline=None)
@given(
    spec=st.sampled_from(
        ["periodic:7ms:1s", "poisson:35/s:3s", "burst:90/s:4:3s", "ramp:1/s:90/s:3s", "onoff:80/s:200ms:100ms:3s"]
    ),
    seed=st.integers(0, 10_000),
)
def test_arrivals_never_go_back_and_stay_within_the_load(spec: str, seed: int) -> None:
    times_s = times(spec, seed)
    assert (np.diff(times_s) >= 0).all()
    assert times_s[0] >= 0
    assert times_s[-1] < 3


def test_recorded_times_start_at_zero_and_are_sorted(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("arrived_at,tokens\n12.5,3\n10,4\n11,5\n")
    assert times(f"file:{tmp_path}/a.csv").tolist() == [0, 1, 2.5]


def test_a_headless_file_of_growing_numbers_holds_times(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("# seconds\n0\n1\n1\n4\n")
    assert times(f"file:{tmp_path}/a.txt").tolist() == [0, 1, 1, 4]


def test_counts_fill_their_seconds(tmp_path: Path) -> None:
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"3\n0\n5\n"))
    times_s = times(f"file:{tmp_path}/a.txt.gz")
    assert np.floor(times_s).tolist() == [0, 0, 0, 2, 2, 2, 2, 2]


def test_a_header_tells_counts_that_never_fall(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("requests\n1\n2\n")
    assert np.floor(times(f"file:{tmp_path}/a.csv")).tolist() == [0, 1, 1]


def test_a_recorded_load_can_be_thinned_and_cut(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n".join(["90", "110"] * 100))
    times_s = times(f"file:{tmp_path}/a.txt@25/s:100s")
    assert times_s.size == pytest.approx(2500, rel=0.1)
    assert times_s[-1] < 100
    assert times(f"file:{tmp_path}/a.txt:12").size == 12


def test_a_recorded_load_cannot_be_made_denser(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("0\n1\n2\n")
    with pytest.raises(Refused, match="can only keep fewer"):
        times(f"file:{tmp_path}/a.txt@50/s")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "finite numbers"),
        ("a\nb\n", "must be numbers"),
        ("1\nnan\n", "finite numbers"),
        ("count\n3\n-1\n", "0 or more"),
    ],
)
def test_a_file_that_holds_no_arrivals_is_refused_in_one_line(tmp_path: Path, content: str, why: str) -> None:
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(Refused, match=why) as error:
        times(f"file:{tmp_path}/a.csv")
    assert "\n" not in str(error.value)


def test_a_missing_or_damaged_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="cannot read arrivals"):
        times(f"file:{tmp_path}/none.csv")
    (tmp_path / "a.txt.gz").write_text("no gzip")
    with pytest.raises(Refused, match="cannot read arrivals"):
        times(f"file:{tmp_path}/a.txt.gz")


def test_a_load_in_which_nothing_arrives_is_refused() -> None:
    with pytest.raises(Refused, match="no request"):
        times("poisson:1/h:1ms")


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ("", "no known kind"),
        ("fibonacci:1/s:2s", "no known kind"),
        ("poisson:35:60s", "has no unit"),
        ("poisson:0/s:60s", "positive"),
        ("poisson:x/s:60s", "not a rate"),
        ("poisson:35/parsec:60s", "unit"),
        ("poisson:35/s", "2 fields"),
        ("poisson:35/s:1s:2s", "2 fields"),
        ("periodic::3", "2 fields"),
        ("periodic:0ms:3", "positive"),
        ("periodic:1ns:1h", "more than"),
        ("burst:35/s:0:60s", "burst size"),
        ("burst:35/s:1.5:60s", "burst size"),
        ("ramp:1/s:2/s:60", "no unit"),
        ("onoff:1/s:2s:60s", "4 fields"),
        ("file:", "1 fields"),
    ],
)
def test_a_wrong_load_is_answered_with_the_grammar_in_one_line(spec: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as error:
        parse_load(spec)
    assert "poisson:35/s:60s" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_load_remembers_how_it_was_written() -> None:
    assert parse_load(" poisson:35/s:60s ").spec == "poisson:35/s:60s"
