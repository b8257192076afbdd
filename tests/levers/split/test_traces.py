"""Recorded links are read by the unit that their column names, and refused where it may be another."""

from pathlib import Path

import pytest

from amble.core.errors import Refused
from amble.levers.split.traces import is_trace, read_trace


def written(folder: Path, text: str) -> Path:
    path = folder / "trace.csv"
    path.write_text(text)
    return path


def test_rates_count_for_as_long_as_they_last(tmp_path: Path) -> None:
    trace = read_trace(written(tmp_path, "time_s,rate_Mbit_s\n0,8\n1,2\n4,0\n5,4\n"))
    assert trace.rate_bit_s.tolist() == [8e6, 2e6, 0.0, 4e6]
    assert trace.lasts_s.tolist() == [1, 3, 1, 1]
    assert [trace.exceeded(share) for share in (0.1, 0.3, 0.5, 0.99)] == [8e6, 4e6, 2e6, 0.0]
    assert trace.typical_bit_s == 2e6
    assert trace.share(0, 1) == pytest.approx(1 / 6)
    assert trace.share(2e6, 5e6) == pytest.approx(4 / 6)


@pytest.mark.parametrize(
    ("column", "text", "rate_bit_s"),
    [("rate_bit_s", "2e6", 2e6), ("dl_kbit_s", "900", 9e5), ("Mbps", "20", 2e7), ("uplink_bps", "1e6", 1e6)],
)
def test_the_unit_is_in_the_name(tmp_path: Path, column: str, text: str, rate_bit_s: float) -> None:
    trace = read_trace(written(tmp_path, f"{column}\n{text}\n{text}\n"))
    assert trace.rate_bit_s.tolist() == [rate_bit_s] * 2
    assert trace.lasts_s.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("time_ms,rate_kbit_s\n0,5\n100,2\n", "time_ms may be in any unit; tell it in seconds, and name it time_s"),
        ("rate_MB_s\n1\n", "looks like bytes; .* multiply by 8, name it rate_Mbit_s"),
        ("Bps\n1000000\n", "looks like bytes"),
        ("rate_kbytes_s\n1\n", "looks like bytes; .* name it rate_kbit_s"),
        ("DL_bitrate\n20\n", "DL_bitrate has no unit, and bits and bytes"),
        ("rate_mbit_s\n20\n", "has the prefix 'm'; name it rate_Mbit_s"),
        ("rate_bit_s\n20\n40\n", "would be 30 bit/s"),
        ("rate_Mbit_s\n20000000\n", "which no link is; is it rather in bit/s"),
        ("rate_kbit_s\n0\n0\n", "every rate is 0"),
        ("rate_kbit_s\n900\n-1\n", "line 3: a rate below 0"),
        ("rate_kbit_s\n900\nunknown\n", "line 3: rate_kbit_s is 'unknown', not a number"),
        ("time_s,rate_kbit_s\n0,900\n0,900\n", "line 3: time_s does not rise"),
        ("ul_kbit_s,dl_kbit_s\n1,1\n", "several rates, ul_kbit_s and dl_kbit_s"),
        ("a,b\n1,2\n", "no column of rates"),
        ("rate_kbit_s\n", "holds no rates"),
    ],
)
def test_what_may_be_meant_otherwise_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(Refused, match=said):
        read_trace(written(tmp_path, text))


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="cannot read"):
        read_trace(tmp_path / "none.csv")
    assert is_trace("a.csv.gz")
    assert not is_trace("20Mbit/s")
