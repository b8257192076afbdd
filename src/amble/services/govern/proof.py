"""Log of a governed server → what was saved, with its interval, and whether the objectives were kept.

In random blocks of time the clocks were as found. Power there is fitted over the load (requests and tokens a second);
what the governed blocks would have drawn is read off that fit at *their* load, and compared with what they did draw
(regression adjustment for experiments: Lin 2013). Its uncertainty is that of the fit (HC3) and the scatter of blocks
about it, Student's t; blocks, not seconds, are the samples, because neighbouring seconds are alike. The first seconds
after a change of hands belong to neither side, nor do periods beside one whose page could not be trusted. With too few
blocks, or without a meter, the saving is unknown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from amble.core.errors import Refused
from amble.core.files import Format
from amble.core.log import Governed, Log, Period
from amble.core.ports import FloatArray
from amble.core.report import Estimate, Share, Verdict
from amble.services.govern.objective import Objective
from amble.stages.check.intervals import wilson

__all__ = ["FORMAT", "Kept", "Proof", "Side", "compared", "prove"]

BLOCK_S = 20.0
_LEAST_BLOCKS = 5


@dataclass(frozen=True, slots=True)
class Kept:
    """One objective: late answers under the governor and as found, and at which latency [s] late begins."""

    objective: str
    judged_s: float
    governed: Share
    as_found: Share | None
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Side:
    """What one way of running took: time [s], requests, output tokens, energy [J] (None: unknown)."""

    time_s: float
    requests: float
    output_tokens: float
    energy_j: float | None

    @property
    def request_j(self) -> float | None:
        """Return the energy of a request, idle included [J]."""
        return self.energy_j / self.requests if self.energy_j is not None and self.requests else None

    @property
    def token_j(self) -> float | None:
        """Return the energy of an output token, idle and prompts included [J]."""
        return self.energy_j / self.output_tokens if self.energy_j is not None and self.output_tokens else None


@dataclass(frozen=True, slots=True)
class Proof:
    """What a log proves. ``saving`` is a ratio of energies at the same load; None where nothing is proved."""

    server: str
    device: str
    calibration: str
    sight: str
    objectives: tuple[Kept, ...]
    governed: Side
    as_found: Side
    saving: Estimate | None
    unusable_s: float
    num_changes: int
    verdict: Verdict
    notes: tuple[str, ...] = ()


FORMAT = Format("proof", 1, Proof)


def prove(log: Log) -> Proof:
    """Judge the log of a watcher; Refused for another log."""
    about = log.governed
    if about is None:
        raise Refused("this log is not of amble govern; check a schedule, or run amble govern with -o LOG")
    usable = [each for each in log.periods if each.usable and each.span_s > 0]
    sides = compared(log)
    whole = ([each for each in usable if not each.control], [each for each in usable if each.control])
    kept = tuple(_kept(index, whole, about) for index in range(len(about.objectives)))
    blocks = [_blocks(each, log.periods[0].start_s) for each in sides] if usable else [[], []]
    saving = _saving(blocks[0], blocks[1]) if about.acts else None
    unusable_s = sum(each.span_s for each in log.periods if not each.usable)
    verdicts = {each.verdict for each in kept}
    verdict: Verdict = "FAIL" if "FAIL" in verdicts else "INCONCLUSIVE" if "INCONCLUSIVE" in verdicts else "PASS"
    notes = tuple(_notes(log, blocks, saving))
    return Proof(
        about.server, log.where.device, log.where.calibration, about.sight, kept, _side(sides[0]), _side(sides[1]),
        saving, unusable_s, log.num_changes, verdict, notes,
    )  # fmt: skip


def compared(log: Log) -> tuple[list[Period], list[Period]]:
    """Return the periods that a saving is stated about: governed, and as found by lot."""
    assert log.governed is not None, "a log of a watcher"
    return _sides(_trusted(log.periods), log.governed)


def _trusted(periods: Sequence[Period]) -> list[Period]:
    """Return the periods to be trusted: neither unusable nor beside one that is, as a page often begins to fail, and
    comes back, within a period."""
    good = [True, *(each.usable and each.span_s > 0 for each in periods), True]
    return [
        each for each, trusted in zip(periods, zip(good, good[1:], good[2:], strict=False), strict=True) if all(trusted)
    ]


def _sides(usable: Sequence[Period], about: Governed) -> tuple[list[Period], list[Period]]:
    """Divide the periods: governed, and as found by lot. Periods as found for another reason are governed time too."""
    governed: list[Period] = []
    control: list[Period] = []
    since_s, before = float("-inf"), None
    for each in usable:
        if each.control != before:
            since_s, before = each.start_s, each.control
        if each.start_s - since_s >= 2.0 * about.period_s - 1e-9:
            (control if each.control else governed).append(each)
    return governed, control


def _kept(index: int, sides: tuple[list[Period], list[Period]], about: Governed) -> Kept:
    objective = Objective.parse(about.objectives[index])
    within = sum(1 for edge_s in about.edges_s[index] if edge_s <= about.judged_s[index] * (1.0 + 1e-9))
    shares = [
        (
            round(sum(sum(each.counts[index][within:]) for each in side)),
            round(sum(sum(each.counts[index]) for each in side)),
        )
        for side in sides
    ]
    governed = wilson(*shares[0]) if shares[0][1] else Share(0, 0, Estimate(0.0))
    verdict: Verdict = "INCONCLUSIVE"
    if shares[0][1] and governed.ratio.low is not None and governed.ratio.high is not None:
        if governed.ratio.low > objective.allowed:
            verdict = "FAIL"
        elif governed.ratio.high <= objective.allowed:
            verdict = "PASS"
    return Kept(str(objective), about.judged_s[index], governed, wilson(*shares[1]) if shares[1][1] else None, verdict)


def _side(periods: Sequence[Period]) -> Side:
    energies = [each.energy_j for each in periods]
    known = [each for each in energies if each is not None]
    return Side(
        sum(each.span_s for each in periods),
        sum(each.finished for each in periods),
        sum(each.output_tokens for each in periods),
        sum(known) if known and len(known) == len(energies) else None,
    )


def _blocks(periods: Sequence[Period], start_s: float) -> list[FloatArray]:
    """Return blocks of periods as rows of seconds, power [W], requests, prompt and output tokens a second."""
    found: dict[int, FloatArray] = {}
    for each in periods:
        if each.energy_j is None:
            return []
        row = np.array([each.span_s, each.energy_j, each.finished, each.prompt_tokens, each.output_tokens])
        block = int((each.start_s + 1e-6 - start_s) / BLOCK_S)
        found[block] = found.get(block, np.zeros(5)) + row
    whole = [each for each in found.values() if each[0] >= BLOCK_S / 4.0]
    return [np.array([each[0], *(each[1:] / each[0])]) for each in whole]


def _saving(governed: Sequence[FloatArray], control: Sequence[FloatArray]) -> Estimate | None:
    if len(control) < _LEAST_BLOCKS or len(governed) < _LEAST_BLOCKS:
        return None
    mine, theirs = np.array(governed), np.array(control)
    load, mine_load = _load(theirs, mine)
    weights = mine[:, 0] / mine[:, 0].sum()
    power_w = float(weights @ mine[:, 1])
    at = np.array([1.0, *(weights @ mine_load)])
    design = np.column_stack([np.ones(len(theirs)), load])
    root = np.sqrt(theirs[:, 0] / theirs[:, 0].mean())
    inverse = np.linalg.pinv((design * root[:, None]).T @ (design * root[:, None]))
    fitted = inverse @ ((design * root[:, None]).T @ (theirs[:, 1] * root))
    residuals = (theirs[:, 1] - design @ fitted) * root
    leverage = np.clip(np.einsum("ij,jk,ik->i", design * root[:, None], inverse, design * root[:, None]), 0.0, 0.95)
    influence = (design * root[:, None]) @ inverse @ at
    freedom = len(theirs) - design.shape[1]
    scatter = float(residuals @ residuals) / freedom
    variance = float(np.sum((influence * residuals / (1.0 - leverage)) ** 2)) + scatter * float(weights @ weights)
    expected_w = float(at @ fitted)
    if expected_w <= 0.0:
        return None
    half = float(stdtrit(freedom, 0.975)) * np.sqrt(variance) * power_w / expected_w**2
    ratio = 1.0 - power_w / expected_w
    return Estimate(ratio, ratio - float(half), ratio + float(half))


def _load(control: FloatArray, governed: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the covariates, as few as the control blocks bear: [block, covariate] for both sides, scaled alike.

    Output and prompt tokens where a server counts them, else requests.
    """
    columns = [4, 3] if control[:, 4].any() else [2]
    columns = [each for each in columns if control[:, each].std() > 1e-9 * (1.0 + abs(control[:, each].mean()))]
    columns = columns[: max(0, (len(control) - 3) // 3)]
    scale = np.maximum(np.abs(control[:, columns]).mean(axis=0), 1e-12)
    return control[:, columns] / scale, governed[:, columns] / scale


def _notes(log: Log, blocks: Sequence[Sequence[FloatArray]], saving: Estimate | None) -> list[str]:
    assert log.governed is not None, "a log of a watcher"
    notes = []
    if not log.governed.acts:
        notes.append("watched only: nothing was changed, so nothing was saved")
    elif log.energy_j is None and not any(blocks):
        notes.append("energy is unknown on this device, and so is the saving")
    elif saving is None:
        notes.append(f"too few blocks of {BLOCK_S:g} s for an interval ({len(blocks[1])} as found): run longer")
    elif saving.low is not None and saving.low <= 0.0:
        notes.append("the interval contains 0: no saving is proved")
    for each in dict.fromkeys(period.note for period in log.periods if period.note):
        notes.append(each)
        if len(notes) >= 12:
            break
    return notes
