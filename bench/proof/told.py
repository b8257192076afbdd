"""What is told of proofs: from `proof`."""

from __future__ import annotations

from functools import partial

from bench.kit.told import Numbers, Result, percent

SOURCES = {"proof": "proof@cpu"}


def _missed(result: Result, rule: str, examples: int) -> str:
    (found,) = result.where(rule=rule, examples=examples)
    return percent(found["missed"], 1)


NUMBERS: Numbers = {
    "proof.missed_600": partial(_missed, rule="rounds, examples drawn again", examples=600),
    "proof.missed_100": partial(_missed, rule="rounds, examples drawn again", examples=100),
    "proof.missed_1000": partial(_missed, rule="rounds, examples drawn again", examples=1000),
    "proof.once_600": partial(_missed, rule="59 modules once", examples=600),
    "proof.once_100": partial(_missed, rule="59 modules once", examples=100),
}
TABLES: Numbers = {}
