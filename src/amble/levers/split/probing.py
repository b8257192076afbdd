"""Proofs of halves by a thread of its own, so that a slow link holds up no request."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Sequence

from amble.levers.split.far import Example, Known, Proof, prove
from amble.levers.split.pairs import Pair
from amble.levers.split.wire import Wire
from amble.runtimes.remote.client import Remote

__all__ = ["Prober"]


class Prober:
    """Asks for one proof at a time; what it heard waits to be taken."""

    def __init__(self, remote: Remote, pairs: Sequence[Pair], examples: Sequence[Example], within_s: float) -> None:
        self._pairs, self._examples, self._within_s = pairs, examples, within_s
        self._root, self._wire = remote.path, Wire(remote)
        self._asked: queue.SimpleQueue[tuple[int, Known | None] | None] = queue.SimpleQueue()
        self._heard: deque[tuple[int, Proof]] = deque()
        self._idle = threading.Event()
        self._idle.set()
        self._thread = threading.Thread(target=self._work, name="probes of the server", daemon=True)
        self._thread.start()

    @property
    def idle(self) -> bool:
        """Tell whether it could ask now."""
        return self._idle.is_set()

    def ask(self, option: int, known: Known | None) -> None:
        """Ask for the proof of an option's half, soon; of one that is ``known`` with few questions."""
        self._idle.clear()
        self._asked.put((option, known))

    def now(self, option: int, known: Known | None = None) -> Proof:
        """Ask for a proof and wait for it."""
        pair, example = self._pairs[option], self._examples[option]
        return prove(self._wire, self._root, pair, example, within_s=self._within_s, known=known)

    def heard(self) -> list[tuple[int, Proof]]:
        """Take what was heard since."""
        found = []
        while self._heard:
            found.append(self._heard.popleft())
        return found

    def close(self) -> None:
        """End it, whatever is under way."""
        self._asked.put(None)
        self._wire.stop()
        self._thread.join()

    def _work(self) -> None:
        while (asked := self._asked.get()) is not None:
            self._heard.append((asked[0], self.now(*asked)))
            self._idle.set()
        self._wire.close()
