"""Arrivals at the servers of the bench of ``amble govern``: made ones by a seed, recorded ones by a stretch.

A language model's requests take their tokens, in order, from the recorded conversations, whatever the arrivals are.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from amble.core.ports import FloatArray
from amble.services.govern.rehearsal import Requests
from amble.stages.check.arrivals import parse_load

__all__ = ["AZURE", "BUSIEST", "MADE", "TWITTER", "Stretch", "azure", "conversations", "made", "poisson"]

AZURE, BUSIEST, TWITTER = "azure", "azure at its busiest", "twitter"
MADE = ("poisson", "bursts", "on-off", TWITTER)  # of any rate
_MEANT_S = 120.0  # of recorded conversations: what their rate is a mean of
_TWEETS = Path("arrivals_twitter_2021_08") / "per_second_days_1_2.txt.gz"
_CONVERSATIONS = Path("arrivals_azure_llm_2023") / "conv.csv.gz"


@dataclass(frozen=True)
class Stretch:
    """Where recordings lie and which stretches are meant: their begin [s], of the conversations, of these at their
    busiest, of the tweets; and the seed of what is made."""

    data: Path
    seed: int
    recorded_s: float
    busiest_s: float | None
    tweets_s: int


def made(trace: str, rate_hz: float, duration_s: float, stretch: Stretch) -> FloatArray:
    """Return arrivals [s] at a mean rate. bursts: 1.6 times the rate for 30 s, a fifth of that for 25 s more, and so
    on; on-off: twice the rate for a tenth of the time, none for the next; twitter: the tweets of as many recorded
    seconds, as many for each as chance gives, spread over their second."""
    if trace == "poisson":
        return poisson(rate_hz, duration_s, stretch.seed)
    if trace == "on-off":
        part_s = duration_s / 10.0
        return parse_load(f"onoff:{2.0 * rate_hz}/s:{part_s}s:{part_s}s:{duration_s}s").times_s(stretch.seed)
    random = np.random.default_rng(stretch.seed + 1)
    if trace == TWITTER:
        counts = _tweets(stretch.data)[stretch.tweets_s : stretch.tweets_s + int(duration_s)]
        seconds = np.repeat(np.arange(len(counts)), random.poisson(rate_hz / counts.mean() * counts))
        return np.sort(seconds + random.random(seconds.size))
    times_s = poisson(1.6 * rate_hz, duration_s, stretch.seed)
    within = times_s % 55.0 < 30.0
    return times_s[within | (random.random(times_s.size) < 0.2)]


def poisson(rate_hz: float, duration_s: float, seed: int) -> FloatArray:
    """Return arrivals of independent users [s]."""
    random = np.random.default_rng(seed)
    return np.cumsum(random.exponential(1.0 / rate_hz, int(1.2 * rate_hz * duration_s) + 50))


def azure(data: Path, rate: float, duration_s: float, begin_s: float) -> Requests:
    """Return the recorded conversation requests from ``begin_s`` [s] of the recording on, ``rate`` times as fast."""
    table = _conversations(data)
    times_s = (table[:, 0] - begin_s) / rate
    keep = (times_s >= 0.0) & (times_s < duration_s)
    return Requests(times_s[keep], table[keep, 1], table[keep, 2])


def conversations(trace: str, rate: float, duration_s: float, stretch: Stretch) -> Requests:
    """Return made arrivals at ``rate`` times the pace of the recorded conversations, with the tokens of these."""
    table = _conversations(stretch.data)
    first = int(np.searchsorted(table[:, 0], stretch.recorded_s))
    pace_hz = np.searchsorted(table[:, 0], stretch.recorded_s + _MEANT_S) - first
    times_s = made(trace, rate * float(pace_hz) / _MEANT_S, duration_s, stretch)
    times_s = times_s[times_s < duration_s]
    rows = (first + np.arange(len(times_s))) % len(table)
    return Requests(times_s, table[rows, 1], table[rows, 2])


@lru_cache
def _conversations(data: Path) -> FloatArray:
    return np.loadtxt(data / _CONVERSATIONS, delimiter=",", skiprows=1)


@lru_cache
def _tweets(data: Path) -> FloatArray:
    return np.loadtxt(data / _TWEETS)
