"""A network, several devices, one link and one server → cut, clocks and share of the link of each device."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache, partial

from amble.core.errors import Refused
from amble.jobs.splitting import OnProgress, Wanted, listed, opened, question_of
from amble.levers.split.cuts import Cut, Cuts, cuts
from amble.levers.split.halves import tried
from amble.levers.split.planning import Admissible, Question, best
from amble.levers.split.results import Listed, Sharer, Together
from amble.levers.split.servers import times_faster
from amble.levers.split.sharing import Option, equal, options, share
from amble.runtimes.onnx.network import Network
from amble.runtimes.onnx.refusals import door

__all__ = ["counted", "together"]

_COUNTED = re.compile(r"(\d+)x(\D.*)")
_MOST_DEVICES = 64
_LEAST_UNITS = 32  # into which a link is cut


def counted(devices: Iterable[str]) -> tuple[str, ...]:
    """Name every device: ``4xsim:jetson-tx2`` is four of a kind. Refused for none, and for more than are planned.

    >>> counted(["2xsim:v100", "sim:a100"])
    ('sim:v100', 'sim:v100', 'sim:a100')
    """
    found: list[tuple[int, str]] = []
    for text in devices:
        match = _COUNTED.fullmatch(text)
        count, device = (int(match[1]), match[2]) if match else (1, text)
        if count == 0:
            raise Refused(f"--device {text} is no device at all; write {device}, or 4x{device} for four")
        found.append((count, device))
    if (total := sum(count for count, _ in found)) > _MOST_DEVICES:
        raise Refused(f"{total} devices are more than can share one link here; give {_MOST_DEVICES} at most")
    return tuple(device for count, device in found for _ in range(count))


@door
def together(
    wanted: Wanted, devices: Sequence[str], on_progress: OnProgress = lambda what, done, total: None
) -> Together:
    """Choose cuts, clocks and shares of the link for several devices that share it and the server.

    ``wanted.device`` is not asked. Infeasible where link or server is too slow for all of them; it says which.
    """
    network = opened(wanted)
    found = cuts(network.model.graph, network.tensors, network.graph.outputs)
    questions = _questions(wanted, list(dict.fromkeys(devices)), network, found, on_progress)
    answers = cache(partial(tried, network))

    def admissible(cut: Cut, precision: str) -> bool:
        return answers(cut, precision).deviation <= wanted.max_error

    def named(option: Option) -> Listed:
        assert option.choice is not None
        return listed(network, found.cuts[option.choice.index], option.choice)

    units = len(devices) * max(2, math.ceil(_LEAST_UNITS / len(devices)))
    priced = {}
    for done, (kind, question) in enumerate(questions.items()):
        on_progress("shares of the link", done, len(questions))
        priced[kind] = _options(question, wanted, units, admissible)
    every = [priced[device] for device in devices]
    shared, alike = share(every, units), equal(every, units)
    others = [None] * len(devices) if alike is None else [named(each) for each in alike]
    asked = questions[devices[0]]
    return Together(
        network.graph.name,
        asked.server.name,
        wanted.link,
        wanted.deadline,
        asked.period_s,
        len(network.graph.operators),
        units,
        tuple(
            Sharer(device, of.units / units, wanted.link.rate_bit_s * of.units / units, of.busy, named(of), other)
            for device, of, other in zip(devices, shared.chosen, others, strict=True)
        ),
        shared.energy_j,
        shared.bound_j - sum(questions[device].gap_j for device in devices),
        None if alike is None else sum(each.energy_j for each in alike),
        () if found.complete else ("The network has too many cuts to try all: those in its order of execution were.",),
    )


def _questions(
    wanted: Wanted, kinds: Sequence[str], network: Network, found: Cuts, on_progress: OnProgress
) -> dict[str, Question]:
    """Return what is to be answered for each kind of device; all have the same server."""
    if len(kinds) > 1 and times_faster(wanted.server) is not None:
        raise Refused(
            f"--server {wanted.server}: so many times as fast as {kinds[0]} or as {kinds[1]}? Name the server's device "
            f"(sim:v100), or give a table of its times"
        )
    questions: dict[str, Question] = {}
    for kind in kinds:
        server = questions[kinds[0]].server if questions else None
        questions[kind] = question_of(replace(wanted, device=kind), network, found, on_progress, server)
    return questions


def _options(question: Question, wanted: Wanted, units: int, admissible: Admissible) -> tuple[Option, ...]:
    found = options(question, wanted.link, units, admissible)
    if not found:
        best(question, wanted.link, admissible)  # Infeasible, with the fastest there is
    return found
