"""What was late at each setting and load → the slowest setting that keeps every objective, and what slowing down cost.

A setting counts as safe at a load when its own late answers there are no more than those at the fastest setting plus
``extra``; before it has answers of its own, when those of the nearest faster setting, stretched by the slowness learnt,
would be so. A search goes one or two settings beyond what was seen, further where a table is at hand, and only while
the account of late answers has credit. A setting that has cost more than it may is closed at that load and above, for a
time that doubles; so are those slower than one that had to be helped.

*Clumps.* Who may make many answers late (``extra`` above 0.2 %) gets them in clumps, which say little. Settings are
then tried one by one, each by more answers, and judged by the whole of what is allowed with the chance of a clump; what
was seen of them is kept.

A setting stands for all that is done about it: while a queue is driven away at the fastest setting, what is late and
what it takes are still those of the setting that led there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from amble.core.ports import FloatArray
from amble.services.govern.belief import Belief
from amble.services.govern.objective import Objective

__all__ = ["Account", "Judge"]

_FEW = 1.0  # answers at a setting before a slower one is judged by them
_SOME = 10.0  # the same, where many may be late
_ENOUGH = 20.0  # answers of its own before a setting is judged by them
_SPENT = 0.5  # of the extra late answers: what is inside the server now is not counted yet
_OF_ITS_OWN = 0.35  # of them are for settings in use, the rest for trying others
_BY_CHANCE = 1.5  # standard deviations above that, before a setting is believed to be too slow
_AT_ONCE = 0.5  # of the credit may be spent on trying one setting
_HELPED = 0.15  # of the time: a setting that needs more help is as slow as it should be
_BORROWED_S = 60.0
_MANY = 0.002  # of the answers: who may make so many late gets them in clumps
_CLUMPS = 2.0  # standard deviations
_FEWEST = 100.0  # answers at the fastest setting before it is said to miss an objective
_FADES_S, _LEFT = 120.0, 400.0  # answers there are forgotten over that time, but for so many
_LATE_BACK_S = 60.0  # a setting that was closed is tried again after this, and twice that the next time


@dataclass(frozen=True, slots=True)
class Account:
    """Answers, and those that slowing down made late, by objective.

    closed: (load, setting, until when [s], for how long [s]); fastest: [objective] answers at the fastest setting, and
    how many of them were late, of the last minutes.
    """

    belief: Belief
    answers: tuple[float, ...]
    overdrawn: tuple[float, ...]
    fastest: tuple[tuple[float, float], ...]
    closed: tuple[tuple[int, int, float, float], ...] = ()
    passed_s: float = 0.0

    def with_answers(self, counts: tuple[tuple[float, ...], ...], span_s: float) -> Account:
        """Count the answers of a period of ``span_s`` [s]: [objective][bucket]."""
        answers = tuple(had + sum(new) for had, new in zip(self.answers, counts, strict=True))
        keep = math.exp(-max(span_s, 0.0) / _FADES_S)
        fastest = tuple(
            (keep * total, keep * late) if keep * total >= _LEFT else (total, late) for total, late in self.fastest
        )
        return replace(self, answers=answers, fastest=fastest, passed_s=self.passed_s + span_s)

    def open_to(self, load: int, now_s: float, num_settings: int) -> int:
        """Return the first setting that is closed at a load; ``num_settings`` when none is."""
        shut = [setting for at, setting, until_s, _ in self.closed if at <= load and until_s > now_s]
        return min([num_settings, *shut])

    def shut(self, load: int, row: int, now_s: float, *, twice: bool = True) -> Account:
        """Close a setting at a load and above for a while; ``twice`` that the next time."""
        before = [each for each in self.closed if each[:2] == (load, row)]
        if before and before[0][2] > now_s:
            return self
        for_s = 2.0 * before[0][3] if before and twice else _LATE_BACK_S
        kept = tuple(each for each in self.closed if each[:2] != (load, row))
        return replace(self, closed=(*kept, (load, row, now_s + for_s, for_s)))


@dataclass(frozen=True)
class Judge:
    """See the module's docstring. slowness: [setting][objective], ``known`` where a table says so, power included;
    edges_s, judged_s: as the histograms have them."""

    objectives: tuple[Objective, ...]
    edges_s: tuple[tuple[float, ...], ...]
    judged_s: tuple[float, ...]
    slowness: tuple[tuple[float, ...], ...]
    extra: float
    known: bool = False
    _middles_s: tuple[FloatArray, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Place a latency in every bucket."""
        object.__setattr__(self, "_middles_s", tuple(_middles_s(edges) for edges in self.edges_s))

    def blank(self) -> Account:
        """Return the account of someone who has seen nothing."""
        belief = Belief.blank(len(self.slowness), [len(each) + 1 for each in self.edges_s])
        nothing = (0.0,) * len(self.objectives)
        return Account(belief, nothing, nothing, ((0.0, 0.0),) * len(self.objectives))

    def charged(self, account: Account, objective: int, where: tuple[int, int], counts: tuple[float, ...]) -> Account:
        """Charge latencies to the load and setting that answer for them."""
        load, row = where
        late, total = self.late(objective, np.asarray(counts)), sum(counts)
        overdrawn, fastest = list(account.overdrawn), list(account.fastest)
        if row > 0:
            overdrawn[objective] += max(0.0, late - self.anyway(account, objective, load) * total)
        else:
            had, were_late = fastest[objective]
            fastest[objective] = (had + total, were_late + late)
        belief = account.belief.with_latencies(objective, load, row, counts)
        return replace(account, belief=belief, overdrawn=tuple(overdrawn), fastest=tuple(fastest))

    def closing(self, account: Account, objective: int, where: tuple[int, int], now_s: float) -> Account:
        """Close a setting whose late answers are more than it may have."""
        spent = self.many and self._left(account, objective, where[0]) <= 0.0
        if self._own(account, objective, *where) is not False and not spent:
            return account
        shut = account.shut(*where, now_s, twice=not self.many)
        return shut if shut is account else replace(shut, belief=shut.belief.faded(*where))

    def slowest_safe(self, account: Account, load: int, now_s: float) -> int:
        """Return the slowest setting that keeps every objective at this load: by its own answers, or those of faster
        ones, one or two settings beyond the slowest that has any."""
        objectives = range(len(self.objectives))
        bound = self.open_to(account, load, now_s)
        proven = 0
        for setting in range(bound - 1, 0, -1):
            own = [self._own(account, index, load, setting) for index in objectives]
            stretched = (self._stretched(account, index, load, setting) for index in objectives if own[index] is None)
            if any(own) and False not in own and all(stretched):
                proven = setting
                break
        safe = proven
        for setting in range(proven + 1, min(proven + 2, bound) if self.many else bound):
            if not all(
                self._own(account, index, load, setting) is not False and self._stretched(account, index, load, setting)
                for index in objectives
            ):
                break
            safe = setting
        return safe

    def open_to(self, account: Account, load: int, now_s: float) -> int:
        """Return the first setting that is closed at a load; without credit, nothing opens again."""
        spent = not self.many and any(self.credit(account, index) <= 0.0 for index in range(len(self.objectives)))
        return account.open_to(load, -math.inf if spent else now_s, len(self.slowness))

    def missed_anyway(self, account: Account) -> tuple[float, ...]:
        """Return the share of late answers at the fastest setting of late, by objective; 0 before 100 answers."""
        return tuple(late / total if total >= _FEWEST else 0.0 for total, late in account.fastest)

    @property
    def many(self) -> bool:
        """Tell whether so many answers may be made late that a few of them say nothing."""
        return self.extra > _MANY

    def clump(self, expected: float) -> float:
        """Return how many more late answers than expected come by chance; 0 where hardly any may be made late."""
        return _CLUMPS * math.sqrt(expected) if self.many else 0.0

    def mean_s(self, account: Account, load: int, setting: int) -> float | None:
        """Return the mean latency at a setting [s], of the objective that has the shortest; None of too few."""
        pairs = enumerate(self._middles_s)
        means_s = [account.belief.mean_s(index, load, setting, middles_s) for index, middles_s in pairs]
        return min((each for each in means_s if each), default=None)

    def credit(self, account: Account, objective: int) -> float:
        """Return how many more answers slowing down may make late now, those of the next minutes borrowed upon."""
        if self.many:
            may = 1.0 + self.extra * account.answers[objective]
            return may + self.clump(may) - account.overdrawn[objective]
        soon = _BORROWED_S * account.answers[objective] / max(account.passed_s, _BORROWED_S / 4.0)
        return 1.0 + _SPENT * self.extra * (account.answers[objective] + soon) - account.overdrawn[objective]

    def _left(self, account: Account, objective: int, load: int) -> float:
        """Return the credit of a load; where many may be late, no load but 0 has what is parking's."""
        credit = self.credit(account, objective)
        if not self.many or load == 0:
            return credit
        idle = float(account.belief.idle[:, 0].sum()) / max(account.passed_s, 1e-3)
        return credit - min(1.0, idle) * (1.0 + self.extra * account.answers[objective])

    def anyway(self, account: Account, objective: int, load: int) -> float:
        """Return the share that is late at the fastest setting at this load."""
        fastest = account.belief.seen(objective, load, 0)
        total = float(fastest.sum())
        return self.late(objective, fastest) / total if total >= 100.0 else 0.0

    def late(self, objective: int, counts: FloatArray) -> float:
        """Return how many of these latencies are late: [bucket]."""
        return float(self._over(objective, counts, self.judged_s[objective]))

    def _own(self, account: Account, objective: int, load: int, setting: int) -> bool | None:
        """Tell whether a setting's own answers keep an objective; None when it has too few."""
        own = account.belief.seen(objective, load, setting)
        total = float(own.sum())
        if total < _ENOUGH:
            return None
        if self.many:
            due = (self.anyway(account, objective, load) + self.extra) * total
            spare = 1.0 + self.clump(due) if self._left(account, objective, load) > 0.0 else 0.0
            return bool(self.late(objective, own) <= due + spare)
        part = _OF_ITS_OWN if self.credit(account, objective) > 0.0 else 0.5 * _OF_ITS_OWN
        due = (self.anyway(account, objective, load) + part * self.extra) * total
        return bool(self.late(objective, own) <= due + _BY_CHANCE * (1.0 + math.sqrt(due)))

    def _stretched(self, account: Account, objective: int, load: int, setting: int) -> bool:
        """Tell whether the answers of the nearest faster setting, stretched, would keep an objective here."""
        if self._left(account, objective, load) <= 0.0:
            return False
        belief = account.belief
        allowed = self.anyway(account, objective, load) + self.extra
        nearest = None
        for faster in range(setting - 1, -1, -1):
            from_there = belief.seen(objective, load, faster)
            if float(from_there.sum()) < _FEW and nearest is None:
                from_there = belief.seen(objective, load, faster, near=False)
            if (answers := float(from_there.sum())) < (_SOME if self.many else _FEW):
                continue
            nearest = faster if nearest is None else nearest
            if belief.help_share(load, nearest) > _HELPED:
                return False
            stretch = self._stretch(belief, objective, load, setting, faster) * (1.0 + 3.0 / answers)
            over = self._over(objective, from_there, self.judged_s[objective] / stretch)
            while_tried = max(0.0, over / answers - allowed) * _ENOUGH  # late before it has answers of its own
            risk = _AT_ONCE * (1.0 if self.many else self.credit(account, objective))
            if (setting - nearest > 2 and not self.known) or while_tried > risk:
                return False
            if answers >= _ENOUGH:
                return True
        return nearest is not None

    def _stretch(self, belief: Belief, objective: int, load: int, setting: int, faster: int) -> float:
        """Return how many times as long a latency is at a setting as at a faster one.

        By the law of this objective, or, where that is more, by queueing: slowness over mean latency falls in a
        straight line as a single server slows down, and is zero where it cannot keep up.
        """
        slow = np.array([each[objective] for each in self.slowness])
        middles_s = self._middles_s[objective]
        power = min(1.5, max(1.0 if self.many else 0.5, belief.law(objective, slow, middles_s)))
        by_law = float((slow[setting] / slow[faster]) ** power)
        first_s, there_s = (belief.mean_s(objective, load, row, middles_s) for row in (0, faster))
        arm = slow[faster] - slow[0]
        if first_s is None or there_s is None or arm < max(0.1, 0.5 * (slow[setting] - slow[faster])):
            return by_law
        pace = slow[faster] / there_s
        fall = min(0.0, (pace - slow[0] / first_s) / arm)
        left = pace + 1.5 * fall * (slow[setting] - slow[faster])
        if left <= 0.2 * pace:
            return math.inf
        return max(by_law, float(slow[setting] / left / there_s))

    def _over(self, objective: int, counts: FloatArray, limit_s: float) -> float:
        """Return how many latencies are above a limit [s]; in a bucket they are spread evenly over its logarithm."""
        edges_s = self.edges_s[objective]
        index = sum(1 for edge_s in edges_s if edge_s <= limit_s * (1.0 + 1e-9))
        over = float(sum(counts[index:].tolist()))
        if index >= len(edges_s) or (index and math.isclose(edges_s[index - 1], limit_s)):
            return over
        low_s = edges_s[index - 1] if index else edges_s[0] / 2.0
        inside = math.log(max(limit_s, low_s) / low_s) / math.log(edges_s[index] / low_s)
        return over - inside * float(counts[index])


def _middles_s(edges_s: tuple[float, ...]) -> FloatArray:
    """Return a latency for each bucket [s]: its geometric middle."""
    edges = np.array(edges_s)
    inner = np.sqrt(edges[:-1] * edges[1:])
    return np.concatenate([[edges[0] / 2.0], inner, [edges[-1] * 1.5]])
