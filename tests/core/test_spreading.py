"""In this process work is done in order, and only what is asked for."""

from amble.core.spreading import OnProgress, in_order


def test_work_is_done_when_its_result_is_asked_for_and_may_tell_how_far_it_is() -> None:
    begun: list[int] = []
    told: list[str] = []

    def double(number: int, on_progress: OnProgress) -> int:
        begun.append(number)
        on_progress("doubling", number, 3)
        return 2 * number

    answers = in_order(double, [1, 2, 3], lambda what, done, total: told.append(f"{what} {done} of {total}"))
    assert not begun
    assert next(answers) == 2
    answers.close()
    assert begun == [1]
    assert told == ["doubling 1 of 3"]
