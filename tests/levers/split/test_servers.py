"""What a user states of a server's speed is read whole or refused."""

from pathlib import Path

import pytest

from amble.core.errors import Refused
from amble.levers.split.servers import read_times, times_faster


def test_a_factor_is_read() -> None:
    assert times_faster("2.5x") == 2.5
    assert times_faster("sim:v100") is None
    with pytest.raises(Refused, match="some speed"):
        times_faster("0x")


def test_times_are_given_in_the_order_of_the_operators(tmp_path: Path) -> None:
    path = tmp_path / "times.csv"
    path.write_text("operator,latency_s\nb,0.002\na,0.001\n")
    assert read_times(path, ["a", "b"]) == (0.001, 0.002)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("operator,latency_s\na,0.001\n", "no time for 'b'"),
        ("operator,latency_s\na,0.001\nb,fast\n", "line 3: latency_s is 'fast'"),
        ("operator,latency_s\na,-1\nb,1\n", "line 2: latency_s is '-1'"),
        ("name,seconds\na,1\n", "line 2: the columns operator and latency_s"),
    ],
)
def test_a_table_that_lacks_something_is_refused(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "times.csv"
    path.write_text(content)
    with pytest.raises(Refused, match=said):
        read_times(path, ["a", "b"])
