"""Paces go from the quickest clocks to the most frugal ones; names of halves carry their hashes."""

import re
from itertools import pairwise

import pytest

from amble.levers.split.link import Link, Radio
from amble.levers.split.pairs import model_name, paces, wanted
from amble.levers.split.planning import Question, best, regimes
from tests.levers.split.test_planning import question as asked

LINK = Link(2e7, 0.002, Radio("test", 0.2))


@pytest.fixture(scope="module")
def question() -> Question:
    return asked(3)


def test_each_pace_takes_longer_than_the_one_before_and_less_energy(question: Question) -> None:
    for index in range(len(question.cuts)):
        found = paces(question, LINK, index)
        assert found
        for quick, frugal in pairwise(found):
            assert quick.latency_s < frugal.latency_s
            assert quick.energy_j > frugal.energy_j


def test_the_best_choice_is_among_the_paces_or_bracketed_by_them(question: Question) -> None:
    chosen = best(question, LINK)
    assert chosen.energy_j is not None
    found = paces(question, LINK, chosen.index)
    assert found[-1].energy_j <= (chosen.energy_j - chosen.radio_j) * (1 + 1e-9)


def test_all_local_comes_first_and_each_pair_once(question: Question) -> None:
    chosen, by_rate = best(question, LINK), regimes(question, LINK)
    fixed = wanted(question, chosen, by_rate, moving=False)
    moving = wanted(question, chosen, by_rate, moving=True)
    assert question.whole(fixed[0][0])
    assert len(fixed) <= 2
    assert moving[: len(fixed)] == fixed
    assert len(set(moving)) == len(moving)
    named = {index for index, _ in moving}
    assert {each.index for each in by_rate if each.index is not None} <= named
    assert any(not question.cuts[index].local for index in named)


def test_names_are_what_every_server_takes() -> None:
    name = model_name("a b/c:d", 12, "int8", "f" * 64)
    assert re.fullmatch(r"[A-Za-z0-9_-]+", name)
    assert name.endswith("-12-int8-" + "f" * 12)
    assert model_name("", 0, "fp32", "0" * 64).startswith("network-0-fp32-")
