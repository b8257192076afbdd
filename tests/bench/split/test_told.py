"""Cases in which nothing is gained, or boards that were not measured, are told."""

from bench.kit.told import Record, Result
from bench.split.told import NUMBERS


def _policy(cut: int, specimen: int, late: float) -> Record:
    where = {"network": "alexnet", "rate_bit_s": 1e6 + cut, "deadline": 1.1, "policy": "amble", "what": "policy"}
    return {**where, "specimen": specimen, "cut": cut, "operators": 19, "late": late}


def test_cases_without_a_cut_are_counted() -> None:
    assert NUMBERS["split.here"](Result([_policy(19, 0, 0.0), _policy(3, 0, 0.0)], [])) == "1 of 2"


def test_late_boards_of_the_same_kind_are_counted() -> None:
    records = [_policy(19, 0, 0.0), _policy(19, 1, 0.0), _policy(19, 2, 0.1)]
    assert NUMBERS["split.other_specimens"](Result(records, [])) == "1 of 2"


def test_only_cases_in_which_the_best_was_found_count() -> None:
    records: list[Record] = [{"what": "everything tried", "off": off} for off in (0.0, 0.1)]
    assert NUMBERS["split.cases"](Result(records, [])) == "1 of 2"


def test_late_requests_over_bad_links_are_told() -> None:
    bad = {"what": "run", "trial": "30 % loss", "asked": 10, "late": 2}
    trace = {"what": "run", "trial": "5G trace, moving cut", "asked": 10, "late": 1}
    found = Result([bad, trace], [])
    assert [NUMBERS[f"links.{name}"](found) for name in ("bad", "bad_late", "loss_late", "late")] == [
        "10",
        "2",
        "2 of 10",
        "3",
    ]
