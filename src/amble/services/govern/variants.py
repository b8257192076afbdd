"""A governor's choices → which of two variants of a model the server's router prefers: a second knob, by a program.

Contract. Only who set the router up knows how to turn it, so amble calls a program (``--variants``) with a word:

- ``faster``: let new requests go to the faster variant. Said when an objective is in danger although the fastest clocks
  were asked for, at most once in a while.
- ``found``: let them go to the one that was preferred before. Said after ``hold_s`` [s] without danger, whenever the
  governor lets go, and at the end. It is said after every ``faster``, whatever became of that one.

It has ten seconds, and ends with 0 once new requests go there. Whatever else it ends with, or when it takes longer, is
told as a note. It must take the same word twice. Calls come one after the other, in a thread of their own, so that a
slow router does not delay clocks. What amble does not know is whether both variants are accurate enough: whoever gives
the program has decided that.
"""

from __future__ import annotations

import queue
import shlex
import subprocess
import threading
from collections.abc import Callable

from amble.core.errors import Refused
from amble.core.point import Clocks
from amble.services.govern.head import AS_FOUND
from amble.services.govern.watching import Told

__all__ = ["FASTER", "FOUND", "Call", "Variants", "by_program"]

FOUND, FASTER = "found", "faster"
_PATIENCE_S = 10.0

Call = Callable[[str], str]
"""Says a word to the router; returns what went wrong, empty when nothing did."""


class Variants:
    """Follows one server's choices, among settings of which ``fastest`` is the first.

    ``asked`` is the word that the router was told last, ``note`` what went wrong with it.
    """

    def __init__(self, call: Call, fastest: Clocks, *, hold_s: float = 30.0) -> None:
        self._call, self._fastest, self._hold_s = call, fastest, hold_s
        self._words: queue.Queue[str | None] = queue.Queue()
        self._calm_since_s: float | None = None
        self.asked = FOUND
        self.note = ""
        self._thread = threading.Thread(target=self._speak, name="amble variants", daemon=True)
        self._thread.start()

    def told(self, told: Told) -> None:
        """Take a period: ask for the faster variant in danger at the fastest clocks, and for the found one after it."""
        now_s, choice = told.period.finish_s, told.choice
        if choice.setting == AS_FOUND and not choice.control:
            self._ask(FOUND)
        elif choice.setting == 0 and not choice.calm:
            self._calm_since_s = None
            if told.period.asked in (self._fastest, Clocks()):  # those clocks ran already, and were not enough
                self._ask(FASTER)
        elif self.asked == FASTER:
            self._calm_since_s = now_s if self._calm_since_s is None else self._calm_since_s
            if now_s - self._calm_since_s >= self._hold_s:
                self._ask(FOUND)

    def stop(self) -> None:
        """Ask for the found variant, and wait until the router took it."""
        self._ask(FOUND)
        self._words.put(None)
        self._thread.join(3.0 * _PATIENCE_S)

    def _ask(self, word: str) -> None:
        if word == self.asked:
            return
        self.asked, self._calm_since_s = word, None
        self._words.put(word)

    def _speak(self) -> None:
        while (word := self._words.get()) is not None:
            note = self._call(word)
            self.note = f"variant {word}: {note}" if note else ""


def by_program(command: str) -> Call:
    """Return a call of a program, with its words; Refused where there is none, or it does not take ``found``."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise Refused(f"--variants {command}: {error}") from error
    if not words:
        raise Refused("--variants: name a program, with its words")

    def call(word: str) -> str:
        try:
            done = subprocess.run([*words, word], capture_output=True, text=True, timeout=_PATIENCE_S, check=False)
        except OSError as error:
            return f"{words[0]}: {error.strerror}"
        except subprocess.TimeoutExpired:
            return f"{words[0]} takes longer than {_PATIENCE_S:g} s"
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        return "" if done.returncode == 0 else f"{words[0]} ended with {done.returncode}: {' '.join(said)}"

    if note := call(FOUND):
        raise Refused(f"--variants: {note}; it must take the word '{FOUND}' before anything else")
    return call
