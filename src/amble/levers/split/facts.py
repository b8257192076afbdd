"""What steering knows and says, as frozen data: options, rules, beliefs, what was seen, and decisions."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["LOCAL", "Belief", "Decision", "Look", "Option", "Rules", "Seen"]

LOCAL = 0
"""Index of the option that runs the whole network on the device."""

_FIRST_SPREAD = 0.25  # of a first value: what its standard deviation is believed to be


class Option(NamedTuple):
    """A pair of halves, as steering sees it. ``paces``: latency [s] and energy [J], quickest first.

    ``server_s`` is what the server was planned to take, None where nothing is sent.
    """

    name: str
    server_s: float | None
    sent_bit: float
    received_bit: float
    paces: tuple[tuple[float, float], ...]


class Rules(NamedTuple):
    """How cautious steering is.

    ``z``: standard deviations to the quantile; ``gain``: share of the energy that a move must save; ``agree``: requests
    in a row that must want it; ``most_moves`` to the server in ``window_s`` [s]; ``forget``: weight of what is new;
    ``proofs``: probes in a row after a failure; from ``probe_s`` [s] on they are twice as rare after each failure, up
    to ``most_away_s``, and after each that tells nothing new, up to ``most_probe_s``; ``again_s`` [s]: how old a proof
    may be of a half in use.
    """

    z: float = 2.33
    gain: float = 0.02
    agree: int = 3
    most_moves: int = 20
    window_s: float = 60.0
    forget: float = 0.2
    proofs: int = 2
    probe_s: float = 0.5
    most_probe_s: float = 8.0
    most_away_s: float = 2.0
    again_s: float = 5.0


class Belief(NamedTuple):
    """A mean and a variance; ``told_of`` counts values, 0: as planned.

    The spread is at most the mean: that a link was slow once says little of one that is quick by now.
    """

    mean: float
    variance: float = 0.0
    told_of: int = 0

    def told(self, value: float, forget: float, weight: float = 1.0) -> Belief:
        """Return what is believed after a value that says ``weight`` of the whole truth."""
        share = weight * max(forget, 1 / (self.told_of + 1))
        away = value - self.mean
        mean = self.mean + share * away
        spread = (1 - share) * (self.variance + share * away**2)
        return Belief(mean, min(spread, mean**2) if self.told_of else (_FIRST_SPREAD * mean) ** 2, self.told_of + 1)


class Seen(NamedTuple):
    """One thing that happened: ``what`` is

    ``exchange``: an option was answered, ``up_s`` [s] until the answer began to come (without ``server_s``, where the
    server told it), ``down_s`` until all of it was there; ``round_trip``: a question without a body took ``up_s``;
    ``ran``: the device's half took ``up_s`` where ``down_s`` was planned;
    ``late``: an option had no answer within ``up_s`` (0: of what was sent nothing is known); ``failure``: it had none;
    ``proved``, ``absent`` and ``refuted``: what a server holds under its name.
    """

    now_s: float
    what: str
    option: int = LOCAL
    up_s: float = 0.0
    down_s: float = 0.0
    server_s: float | None = None
    sent_bit: float = 0.0


class Decision(NamedTuple):
    """Which option answers, at which of its paces, and when [s] to wait no longer for the server.

    ``link_s`` is what link and server were expected to take, at their quantile.
    """

    option: int
    pace: int
    give_up_s: float
    link_s: float


class Look(NamedTuple):
    """A question to the server for its own sake: by which option. ``in_use``: only whether it holds that half still."""

    option: int
    in_use: bool
