"""Two design spaces searched within one measured time: `python -m bench.tail.spaces vgg 1`.

Every width there is against the edges of stairs alone, after F. Yu et al. (arXiv 2011.03897, 2020), where the widths
that a search of architectures tries are replaced by those without a tail. Both searches get the same number of
evaluations, and every network is timed as a whole in ONNX Runtime beside the unpruned one before it is scored: what
takes more than SHARES of that is none. The shares are such that the search over every width loses at least five points.
Two lines a network and seed go to `bench/tail/prune.jsonl`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import onnx
import onnxruntime

from amble.levers.widths.network import Network, Widths
from bench.bases.base import held_out, prepare
from bench.tail import search
from bench.tail.measure import EXAMPLE, resized, session, skeleton, timed
from bench.tail.prune import NUM_JUDGING, Cell, asked, done, first, keep, measured, provenance

LEVEL = "tight"
SHARES = {"vgg": 0.2, "resnet": 0.2, "mobilenet": 0.35}  # of the time of the whole network
_ROUNDS, _RUNS = 4, 6


@dataclass(slots=True)
class Clock:
    """Times networks of other widths beside the whole one; what was timed once is known."""

    name: str
    network: Network = field(init=False)
    _model: onnx.ModelProto = field(init=False)
    _session: onnxruntime.InferenceSession = field(init=False)
    _known: dict[tuple[int, ...], float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Load the whole network."""
        self._model, self.network = skeleton(self.name)
        self._session = session(resized(self._model, self.network, self.network.today))

    def share(self, widths: Widths) -> float:
        """Return the time of a network of these widths over the whole one's."""
        key = tuple(widths.values())
        if key not in self._known:
            other = session(resized(self._model, self.network, widths))
            whole_s, other_s = timed([self._session, other], (1, *EXAMPLE), _ROUNDS, _RUNS)
            self._known[key] = other_s / whole_s
        return self._known[key]


def spaces(of: Cell) -> dict[str, Mapping[str, Sequence[int]]]:
    """Return the widths that each search may try."""
    every = {group.name: group.allowed for group in of.coupled.network.groups}
    return {"search over every width, time as measured": every, "search over edges, time as measured": of.edges}


def searched(of: Cell, space: Mapping[str, Sequence[int]], clock: Clock, share: float) -> Widths:
    score = search.inherited(of.module, of.coupled, first(held_out(), NUM_JUDGING), prepare=prepare)
    effort = search.Effort(seed=of.seed)
    return search.evolve(space, score, lambda widths: clock.share(widths) <= share, effort).widths


def run(of: Cell) -> None:
    """Append the lines that are not in the log yet."""
    clock, share = Clock(of.name), SHARES[of.name]
    for variant, space in spaces(of).items():
        if (of.name, of.seed, LEVEL, variant) in done():
            continue
        record = measured(of, partial(searched, of, space, clock, share))
        keep(of, record | {"level": LEVEL, "ratio": share, "variant": variant} | provenance())


def main() -> None:
    run(asked(__doc__))


if __name__ == "__main__":
    main()
