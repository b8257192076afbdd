"""DATA → examples for a purpose: the one place that knows which examples calibrate, find, judge, verify and train.

DATA is an ``.npz`` file or ``bundled``. The bundled network has seen the first half of the bundled images: networks are
judged by others.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np

from amble import bundled
from amble.core.errors import Refused
from amble.core.examples import Examples, Part, dealt
from amble.stages.measure import accuracy

__all__ = ["BUNDLED", "images", "to_calibrate", "to_find", "to_learn", "to_relearn"]

BUNDLED = "bundled"

_MOST_CALIBRATION = 128
_JUDGED_SHARE, _MOST_JUDGED = 0.2, 2000
_BUNDLED_LEARNING = 8500  # of 10,000; the bundled network was not trained on the others
_VERIFYING = 3  # examples that verify, for each that finds rates: few say little of others
_LEAST_HALF = 50

Read = Callable[[], Examples]


def images(split: Literal["train", "seen", "held_out", "test"], name: str = "image") -> Examples:
    """Return bundled images for an input of this name; ``seen`` are those of ``train`` that are not held out."""
    pictures, labels = bundled.fashion_mnist("train" if split == "seen" else split)
    if split == "seen":
        num = len(pictures) - len(bundled.fashion_mnist("held_out")[0])
        pictures, labels = pictures[:num], labels[:num]
    return Examples({name: bundled.model_input(pictures)}, labels.astype(np.int64))


def to_calibrate(data: str, num_judged: int) -> tuple[Examples, Examples, Examples | None]:
    """Return examples to calibrate with, at most so many to judge by, and others for the final figure if there are."""
    if data == BUNDLED:  # images in no order
        found, num = images("held_out"), _MOST_CALIBRATION
        return found.rows(0, num), found.rows(num, num + num_judged), images("test")
    parts = (Part("calibrate", 0.25, _MOST_CALIBRATION), Part("judge by", 1.0, num_judged))
    calibration, judged = dealt(accuracy.read_arrays(Path(data)), parts, data).values()
    return calibration, judged, None


def to_learn(data: str | Path, *, labels: bool) -> tuple[Examples, Examples]:
    """Return examples to rank channels and tune with, and others to judge by; without labels if none are wanted."""
    if data == BUNDLED:
        found = images("train")
        learning, final = found.rows(0, _BUNDLED_LEARNING), found.rows(_BUNDLED_LEARNING, len(found))
    else:
        parts = (Part("judge by", _JUDGED_SHARE, _MOST_JUDGED, least=2), Part("tune with", 1.0))
        final, learning = dealt(accuracy.read_arrays(Path(data)), parts, str(data)).values()
    if labels:
        return learning, final
    return Examples(learning.inputs), Examples(final.inputs)


def to_find(data: str | Path, name: str, count: int, read: Read) -> tuple[Examples, Examples]:
    """Return at most ``count`` examples to find rates with, and three times as many others to verify on."""
    if str(data) == BUNDLED:
        return images("held_out", name).rows(0, count), read().rows(0, _VERIFYING * count)
    every = read()
    if every.labels is None:
        raise Refused(f"{data} has no labels, without which no accuracy can be kept; add the array labels")
    return _halves(every, str(data), count)


def _halves(every: Examples, name: str, count: int) -> tuple[Examples, Examples]:
    parts = (Part("find rates", 0.5, least=_LEAST_HALF), Part("verify", 0.5, least=_LEAST_HALF))
    first, second = dealt(every, parts, name).values()
    return first.rows(0, count), second.rows(0, _VERIFYING * count)


def to_relearn(data: str | Path, name: str, used: int, read: Read) -> Examples:
    """Return what is left to learn from: of a file the first half but for the ``used`` examples that find rates."""
    if str(data) == BUNDLED:
        return images("seen", name)
    whole = read().shuffled()  # as the halves are
    return whole.rows(used, len(whole) // 2)
