"""Examples and a network → its answers; two networks' answers → accuracy, or agreement, and what one of them loses.

With labels an answer counts where its highest score is the label's. Without, it counts where it is the reference's:
for a list of scores the same highest one, for anything else (embeddings, maps) a cosine near enough to 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from amble.core.errors import Refused
from amble.core.examples import Examples
from amble.core.graph import Graph, Port
from amble.core.ports import Tensors
from amble.core.report import Estimate, Share

__all__ = [
    "ALIKE",
    "Answers",
    "Examples",
    "answers",
    "disagreement",
    "fitting",
    "lost",
    "read_arrays",
    "read_labelled",
    "right",
    "shapes_of",
    "squared_error",
]

ALIKE = 0.99
"""The least cosine of two answers that count as the same, unless told otherwise."""

_HOW_TO_SAVE = (
    "save numbers, one array for each input with all examples of one shape, and labels as integers: "
    "np.savez('examples.npz', image=np.stack(images), labels=np.array(classes))"
)
_NO_NUMBER = 1e6
_DTYPES = {"float": "float32", "double": "float64", "string": "object"}

Array = npt.NDArray[Any]
Scores = npt.NDArray[np.float32]
Counted = npt.NDArray[np.bool_]
ShareOf = Callable[[int, int], Share]
Run = Callable[[Tensors], Tensors]
OnProgress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """What a network answered: its first output, flat [example, score], and the output's own shape.

    ``whole`` [example] tells which answers hold no NaN in any other output; None where there are no others.
    """

    scores: npt.NDArray[np.float32]
    shape: tuple[int, ...]
    whole: Counted | None = None

    @property
    def are_lists(self) -> bool:
        """Tell whether an answer is a list of scores, one for each class."""
        return len(self.shape) == 1 and self.shape[0] > 1

    @property
    def are_numbers(self) -> Counted:
        """Tell of every answer [example] whether all of it is numbers, in all outputs."""
        first = np.asarray(~np.isnan(self.scores).any(axis=1))
        return first if self.whole is None else np.asarray(first & self.whole)


def answers(run: Run, examples: Examples, *, batch: int, on_progress: OnProgress = lambda done, total: None) -> Answers:
    """Run a network on all examples, ``batch`` at a time. Refused when it answers with nothing."""
    found: list[Array] = []
    whole: list[Counted] = []
    for first in range(0, len(examples), batch):
        outputs = run(examples.batch(first, batch))
        if not outputs:
            raise Refused("the device gives no answers, only times; measure accuracy where networks really run")
        scores, *others = outputs.values()
        found.append(scores)
        whole.append(_whole(others, len(scores)))
        on_progress(min(first + batch, len(examples)), len(examples))
    joined = np.concatenate(found)[: len(examples)]
    flat = joined.reshape(len(joined), -1).astype(np.float32)
    return Answers(flat, joined.shape[1:], np.concatenate(whole)[: len(joined)])


def right(found: Answers, reference: Answers, examples: Examples, *, alike: float = ALIKE) -> Counted:
    """Tell of every example whether its answer counts [example]: is right, or without labels is the reference's.

    ``alike`` is the least cosine of answers that are no lists of scores and still count as the same. An answer that
    holds NaN never counts. Refused when there are labels and the answers are no lists of scores, or of fewer classes;
    and without labels when the reference itself answers NaN, with which nothing can agree.
    """
    numbers = found.are_numbers
    if examples.labels is not None:
        if not found.are_lists:
            raise Refused(
                f"labels need a list of scores for each example, the first output is {list(found.shape)}; "
                f"leave the labels out to measure agreement"
            )
        if int(examples.labels.max()) >= found.shape[0]:
            raise Refused(
                f"the labels go up to {int(examples.labels.max())}, the network's classes from 0 to "
                f"{found.shape[0] - 1}; give the data it was trained for, or no labels to measure agreement"
            )
        return np.asarray((found.scores.argmax(axis=1) == examples.labels) & numbers)
    _refuse_nan(reference)
    if found.are_lists:
        return np.asarray((found.scores.argmax(axis=1) == reference.scores.argmax(axis=1)) & numbers)
    return np.asarray((_cosine(*_less_infinities(found.scores, reference.scores)) >= alike) & numbers)


def lost(found: Counted, reference: Counted, share: ShareOf) -> Estimate:
    """Return the accuracy that is lost against the reference on the same examples, in points of 100.

    The interval is Newcombe's for a difference of paired shares ("Improved confidence intervals for the difference
    between binomial proportions based on paired data", 1998, method 10), from ``share``'s intervals of each.
    """
    num = len(found)
    ours, theirs = (share(int(each.sum()), num).ratio for each in (found, reference))
    both, neither = int((found & reference).sum()), int((~found & ~reference).sum())
    only_ours, only_theirs = int((found & ~reference).sum()), int((reference & ~found).sum())
    margins = (both + only_ours) * (only_theirs + neither) * (both + only_theirs) * (only_ours + neither)
    product = float(both * neither - only_ours * only_theirs)
    if product > 0:
        product = max(product - num / 2, 0.0)  # Newcombe's correction for continuity
    tie = product / sqrt(margins) if margins else 0.0
    value = theirs.value - ours.value
    low = _reach(theirs.value - (theirs.low or 0.0), (ours.high or 1.0) - ours.value, tie)
    high = _reach((theirs.high or 1.0) - theirs.value, ours.value - (ours.low or 0.0), tie)
    return Estimate(100 * value, 100 * (value - low), 100 * (value + high))


def disagreement(found: Counted, share: ShareOf) -> Estimate:
    """Return the share of answers that are not the reference's, in points of 100, with its interval."""
    agreed = share(int(found.sum()), len(found)).ratio
    low, high = 1.0 if agreed.high is None else agreed.high, agreed.low or 0.0
    return Estimate(100 * (1 - agreed.value), 100 * (1 - low), 100 * (1 - high))


def squared_error(found: Answers, reference: Answers) -> float:
    """Return the mean squared error of the scores, as a share of the reference's variance.

    Infinities that both have are no error. What is infinite or NaN in one alone counts as an error a million times as
    large as the variance, so that the error stays a number.
    """
    ours, theirs = _less_infinities(found.scores, reference.scores)
    numbers = np.isfinite(ours) & np.isfinite(theirs)
    spread = float(theirs[numbers].var()) if numbers.any() else 0.0
    errors = np.full(ours.shape, _NO_NUMBER)
    errors[numbers] = (ours[numbers] - theirs[numbers]) ** 2 / (spread or 1.0)
    return float(errors.mean())


def read_arrays(path: Path) -> Examples:
    """Read an ``.npz`` file: one array for each input [example, …], and ``labels`` [example] where there are any."""
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = dict(file)
    except OSError as error:
        raise Refused(f"cannot read {path}: {error.strerror or error}") from error
    except (EOFError, ValueError, TypeError, AttributeError, BadZipFile) as error:
        why = "an array holds Python objects" if "Object arrays" in str(error) else "it is no .npz file"
        raise Refused(f"cannot read {path}: {why}; {_HOW_TO_SAVE}") from error
    labels = arrays.pop("labels", None)
    sizes = {name: len(values) for name, values in arrays.items() if values.ndim}
    if not sizes or len(sizes) < len(arrays):
        raise Refused(
            f"{path} needs an array [example, ...] for each input; it has {', '.join(sorted(arrays)) or 'none'}"
        )
    classes = None if labels is None else _classes(labels, path)
    if classes is not None:
        sizes["labels"] = len(classes)
    if len(set(sizes.values())) > 1 or not min(sizes.values()):
        counts = ", ".join(f"{count} in {name}" for name, count in sizes.items())
        raise Refused(f"{path} needs as many examples in every array, at least one; it has {counts}")
    return Examples(arrays, classes)


def _classes(labels: Array, path: Path) -> npt.NDArray[np.int64]:
    """Return labels as the numbers of classes; Refused unless there is one whole number for each example."""
    if labels.ndim != 1:
        raise Refused(f"{path}: labels has the shape {list(labels.shape)}; give one class number for each example")
    whole = np.issubdtype(labels.dtype, np.integer) or (
        np.issubdtype(labels.dtype, np.floating) and bool((labels == np.floor(labels)).all())
    )
    if not whole or not np.isfinite(labels).all() or (labels < 0).any():
        raise Refused(f"{path}: labels holds what is no class; classes are whole numbers from 0")
    return labels.astype(np.int64)


def read_labelled(path: Path, graph: Graph) -> Examples:
    """Read an ``.npz`` file with one array for each input of the network and an array ``labels``."""
    found = fitting(read_arrays(path), graph, str(path))
    if found.labels is None:
        raise Refused(f"{path} lacks the array labels; add the class of every example")
    return found


def fitting(examples: Examples, graph: Graph, name: str) -> Examples:
    """Return the arrays that a network takes, in its types; Refused where one is missing or does not fit."""
    if not graph.inputs:
        raise Refused(f"{graph.name} takes no inputs, so that no examples can be given to it; export it with one")
    missing = {port.name for port in graph.inputs} - examples.inputs.keys()
    if missing:
        has = ", ".join(sorted(examples.inputs))
        raise Refused(f"{name} lacks the arrays {', '.join(sorted(missing))}; it has {has}")
    inputs = {port.name: _fitting(examples.inputs[port.name], port, name) for port in graph.inputs}
    return Examples(inputs, examples.labels)


def _fitting(values: Array, port: Port, name: str) -> Array:
    dtype = np.dtype(_DTYPES.get(port.dtype, port.dtype))
    if values.shape[1:] != port.shape[1:] or not np.can_cast(values.dtype, dtype, "same_kind"):
        raise Refused(
            f"{name}: an example of {port.name} is {values.dtype} {list(values.shape[1:])}, "
            f"the network takes {dtype} {list(port.shape[1:])}"
        )
    if np.issubdtype(dtype, np.floating) and np.isnan(values).any():  # infinities are masks of attention
        first = int(np.argmax(np.isnan(values.reshape(len(values), -1)).any(axis=1)))
        raise Refused(f"{name}: example {first} of {port.name} holds NaN (not a number); leave it out")
    return values.astype(dtype, copy=False)


def shapes_of(examples: Examples, batch: int) -> Mapping[str, tuple[int, ...]]:
    """Return the shape of every input at this batch size, as the examples have it."""
    return {name: (batch, *values.shape[1:]) for name, values in examples.inputs.items()}


def _refuse_nan(reference: Answers) -> None:
    """Refuse a reference that answers what is no number."""
    wrong = np.asarray(~reference.are_numbers)
    if wrong.any():
        raise Refused(
            f"the network itself answers NaN (not a number) for {int(wrong.sum())} of {len(wrong)} examples, first for "
            f"example {int(wrong.argmax())}, and nothing agrees with that; mend its weights, or leave these out"
        )


def _whole(outputs: Sequence[Array], num: int) -> Counted:
    """Tell of every row [row] whether these outputs hold no NaN; one that has no row for each is everybody's.

    Sequences and maps are not looked into.
    """
    whole = np.ones(num, bool)
    for each in outputs:
        if not isinstance(each, np.ndarray) or each.dtype.kind != "f":
            continue
        wrong = np.isnan(each)
        whole &= ~(wrong.reshape(num, -1).any(axis=1) if each.ndim and len(each) == num else wrong.any())
    return whole


def _less_infinities(ours: Scores, theirs: Scores) -> tuple[Scores, Scores]:
    """Return both with 0 where they are infinite alike."""
    alike = np.isinf(ours) & (ours == theirs)
    return np.where(alike, np.float32(0), ours), np.where(alike, np.float32(0), theirs)


def _cosine(ours: npt.NDArray[np.float32], theirs: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the cosine of each pair of rows [example]; 1 where both are zero, −1 where one holds no number."""
    numbers = np.asarray((np.isfinite(ours) & np.isfinite(theirs)).all(axis=1))
    left, right = (np.where(numbers[:, None], each, np.float32(1)) for each in (ours, theirs))
    above = np.einsum("es,es->e", left, right)
    below = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    cosine = np.where(below > 0, above / np.where(below > 0, below, 1.0), 1.0)
    return np.asarray(np.where(numbers, cosine, np.float32(-1)))


def _reach(ours: float, theirs: float, tie: float) -> float:
    """Return how far the end of the interval is from the difference."""
    return sqrt(max(0.0, ours * ours - 2 * tie * ours * theirs + theirs * theirs))
