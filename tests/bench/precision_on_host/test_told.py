"""Steps that were not held are told of, too."""

from bench.kit.told import Record, Result
from bench.precision_on_host.told import NUMBERS


def _steps(governor: str, held: list[bool], int8: list[float]) -> list[Record]:
    return [
        {
            "clock": "wall",
            "governor": governor,
            "rate_hz": 100.0 * (k + 1),
            "held": each,
            "int8_share": share,
            "speedup": 2,
        }
        for k, (each, share) in enumerate(zip(held, int8, strict=True))
    ]


def test_the_share_of_int8_is_that_of_every_step() -> None:
    assert NUMBERS["precision.int8"](Result(_steps("amble", [True, False], [1.0, 0.4]), [])) == "40 to 100 %"


def test_steps_held_above_the_first_that_was_not_are_told() -> None:
    alone = _steps("max", [True, False, True], [0.0, 0.0, 0.0])
    found = Result([*alone, *_steps("amble", [True] * 3, [1.0] * 3)], [])
    assert NUMBERS["precision.alone_later"](found) == "1"
    assert NUMBERS["precision.wall_highest"](found) == "0.5"
