"""The harsh cells of `prune.py` once more, in the blind pruner's measured time: `-m bench.tail.equal_time vgg 1`.

Summed over layers, widths that break the blocks of the kernels look slower than they are in a network of such layers,
where nothing has to be converted back. So the budget is corrected by how long the blind and the whole network take,
measured side by side. Two more lines a network and seed go to `prune.jsonl`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from amble.levers.widths.network import Widths
from bench.tail import choices
from bench.tail.measure import EXAMPLE, resized, session, skeleton, timed
from bench.tail.prune import RATIOS, Cell, asked, done, keep, measured, provenance

LEVEL = "harsh"
WAYS: dict[str, Callable[[Cell, Widths, float], Widths]] = {
    "accuracy mode, time as measured": lambda of, blind, most_s: choices.moved(pricing(of), blind, of.edges, most_s),
    "planned, time as measured": lambda of, blind, most_s: choices.planned(pricing(of), of.edges, most_s),
}
_ROUNDS, _RUNS = 30, 10


def pricing(of: Cell) -> choices.Timed:
    return choices.Timed.of(of.coupled.network, of.time_s)


def budget_s(of: Cell, blind: Widths) -> float:
    """Return the sum over layers that is as far below the whole network's as the blind one was measured to be."""
    model, network = skeleton(of.name)
    sessions = [session(resized(model, network, each)) for each in (network.today, blind)]
    whole_s, blind_s = timed(sessions, (1, *EXAMPLE), _ROUNDS, _RUNS)
    return of.latency_s(network.today) - (whole_s - blind_s)


def run(of: Cell) -> None:
    """Append the lines that are not in the log yet."""
    missing = [each for each in WAYS if (of.name, of.seed, LEVEL, each) not in done()]
    if not missing:
        return
    ratio = RATIOS[LEVEL][of.name]
    blind = choices.blind(of.coupled.network, ratio)
    allowed_s = budget_s(of, blind)
    for variant in missing:
        record = measured(of, partial(WAYS[variant], of, blind, allowed_s))
        keep(of, record | {"level": LEVEL, "ratio": ratio, "variant": variant} | provenance())


def main() -> None:
    run(asked(__doc__))


if __name__ == "__main__":
    main()
