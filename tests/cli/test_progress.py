"""Progress where no terminal is: a few lines, with the time that is left."""

from amble.cli.progress import Lines


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def told(steps: int, step_s: float, *, stage: str = "") -> list[str]:
    clock, lines = Clock(), list[str]()
    progress = Lines("measuring net", lines.append, clock)
    for done in range(steps + 1):
        progress(done, steps, stage)
        clock.now_s += step_s
    return lines


def test_there_is_a_line_for_each_tenth_with_the_time_left() -> None:
    lines = told(100, 1.0)
    assert len(lines) == 10
    assert lines[0] == "amble: measuring net, 10 of 100, about 1 min 30 s left"
    assert lines[4] == "amble: measuring net, 50 of 100, about 50 s left"


def test_short_work_says_nothing_and_fast_steps_are_not_all_told() -> None:
    assert told(100, 0.01) == []
    assert len(told(1000, 0.01)) <= 5


def test_small_steps_that_take_long_are_told_too() -> None:
    lines = told(1000, 5.0)
    assert len(lines) > 400
    assert lines[1] == "amble: measuring net, 4 of 1000, about 1 h 23 min left"


def test_work_of_unknown_length_says_how_far_it_is() -> None:
    clock, lines = Clock(), list[str]()
    progress = Lines("mapping net", lines.append, clock)
    for done in range(5):
        progress(done, 0, "rates judged")
        clock.now_s += 6.0
    assert lines == [
        "amble: mapping net: rates judged, 2 so far, 12 s gone",
        "amble: mapping net: rates judged, 4 so far, 24 s gone",
    ]


def test_the_time_left_is_that_of_the_stage() -> None:
    clock, lines = Clock(), list[str]()
    progress = Lines("pruning net", lines.append, clock)
    for done in range(4):
        progress(done, 4, "measuring")
        clock.now_s += 100.0
    for done in range(3):
        progress(done, 10, f"tuning, loss {done}")
        clock.now_s += 10.0
    assert lines[-1] == "amble: pruning net: tuning, loss 2, 2 of 10, about 1 min 20 s left"
