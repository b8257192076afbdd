"""Where the logs of pruning and of the networks it starts from lie, and what made them."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType


def test_the_logs_are_there_and_digests_say_what_makes_them(script: Callable[[str], ModuleType]) -> None:
    prune, base = script("bench.tail.prune"), script("bench.bases.base")
    assert {each["network"] for each in prune.logged()} == set(prune.PRUNED)
    assert base.LOG.exists()
    assert len(base.code_digest()) == len("0" * 64)
