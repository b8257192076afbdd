"""A server's URL, a load and a deadline → a verdict with its evidence: the contract, checked from outside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from amble import bundled
from amble.core.errors import Refused
from amble.core.log import Log, Served
from amble.core.ports import FloatArray
from amble.core.quantity import format_energy, format_time
from amble.core.schedule import Deadline
from amble.core.subject import Subject, Where
from amble.jobs.costing import OnProgress
from amble.runtimes.remote import client
from amble.runtimes.remote.client import Input, Remote, Reply, Sent
from amble.stages.check.arrivals import Load, parse_load
from amble.stages.check.evidence import Evidence
from amble.stages.check.logs import MISSED
from amble.stages.check.report import assess
from amble.stages.measure.accuracy import Examples, read_arrays

__all__ = ["check_server", "is_url"]

_SEED = 0  # of the arrivals and of made-up inputs
_PATIENCE_S = 30.0  # at least, before this client gives up on an answer
_LAG = 0.1  # of the deadline, by which the client itself may be late and say nothing
_REASONS = 3  # that are told


def is_url(text: object) -> bool:
    """Tell whether something names a server rather than a file."""
    return isinstance(text, str) and text.startswith(("http://", "https://"))


def check_server(
    url: str,
    *,
    deadline: Deadline | str | None,
    arrivals: str | None,
    data: Examples | str | None = None,
    on_progress: OnProgress = lambda done, total: None,
) -> Evidence:
    """Send a load to any server of the Open Inference Protocol, and judge its answers as they came in here.

    Inputs are made up from what the server says of its model, or are ``data``: an ``.npz`` file with an array for each
    input, and ``labels`` if there are any; or ``bundled``. A request that is refused, or fails, is late. Joules are
    those that the server reports, where it does.
    """
    if deadline is None or arrivals is None:
        raise ValueError(f"to check {url} give the arrivals of a load, and a deadline for its answers")
    load, limit = parse_load(arrivals), Deadline.parse(deadline) if isinstance(deadline, str) else deadline
    remote = Remote.at(url, timeout_s=max(_PATIENCE_S, MISSED * limit.latency_s))
    inputs = remote.inputs()
    examples = _made_up(inputs, url) if data is None else _fitting(*_read(data), inputs)
    binary = remote.is_binary()

    def body(index: int, timeout_s: float = limit.latency_s) -> client.Body:
        tensors = {name: each[0] for name, each in examples.request(index).items()}
        return client.body_of(tensors, inputs, binary=binary, timeout_s=timeout_s)

    _try(remote, body(0, remote.timeout_s))
    asked = client.under_load(remote, body, load.times_s(_SEED), on_progress)
    sent = [replace(each, reply=_whole(each.reply)) for each in asked]
    log = _log(remote, load, sent, limit, examples)
    report = assess([log], limit)
    return Evidence(replace(report, notes=(*report.notes, *_notes(sent, limit))), logs=(log,))


def _read(data: Examples | str) -> tuple[Examples, str]:
    """Return examples with a name for them."""
    if isinstance(data, Examples):
        return data, "the data"
    if data != "bundled":
        return read_arrays(Path(data)), data
    images, labels = bundled.fashion_mnist("test")
    return Examples({"image": bundled.model_input(images)}, labels.astype(np.int64)), data


def _made_up(inputs: tuple[Input, ...], url: str) -> Examples:
    """Make up one example. A first axis that takes any size is the batch; what others take nobody here knows."""
    if unknown := [f"{each.name} {list(each.shape)}" for each in inputs if -1 in each.shape[1:]]:
        raise Refused(f"{url} leaves the shape of {', '.join(unknown)} open; give examples with --data FILE.npz")
    random = np.random.default_rng(_SEED)
    return Examples({each.name: _values(each, random)[None] for each in inputs})


def _values(each: Input, random: np.random.Generator) -> np.ndarray[Any, np.dtype[Any]]:
    """Return numbers from 0 to 1, or zeros, which every table of indices has."""
    dtype, shape = client.dtype_of(each), _one(each)
    if dtype.kind == "O":
        return np.full(shape, "", dtype=object)
    return random.random(shape).astype(dtype) if dtype.kind not in "iub" else np.zeros(shape, dtype)


def _one(each: Input) -> tuple[int, ...]:
    return tuple(1 if size == -1 else size for size in each.shape)


def _fitting(found: Examples, name: str, inputs: tuple[Input, ...]) -> Examples:
    """Return examples in the shapes that the server takes; Refused with all that does not fit."""
    arrays, wrong = {}, []
    for each in inputs:
        values = found.inputs.get(each.name)
        if values is None:
            wrong.append(f"lacks the array {each.name}; it has {', '.join(sorted(found.inputs))}")
            continue
        shape, dtype = _shape_of(each, values.shape[1:]), client.dtype_of(each)
        if shape is None or not (np.can_cast(values.dtype, dtype, "same_kind") or dtype.kind == "O"):
            wrong.append(
                f"has examples of {each.name} that are {values.dtype} {list(values.shape[1:])}, where the server takes "
                f"{each.datatype} {list(each.shape)}"
            )
            continue
        arrays[each.name] = values.astype(dtype, copy=False).reshape(len(values), *shape)
    if wrong:
        raise Refused(f"{name} {'; '.join(wrong)}")
    return Examples(arrays, found.labels)


def _shape_of(each: Input, given: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the shape in which one example goes out: as it is, or as a batch of one; None where neither fits."""
    for shape in ((1, *given), given):
        if len(shape) == len(each.shape) and all(
            want in (-1, have) for want, have in zip(each.shape, shape, strict=True)
        ):
            return shape
    return None


def _try(remote: Remote, body: client.Body) -> None:
    """Ask once before the load: what is refused in peace is a wrong call, not a missed deadline."""
    reply = _whole(remote.call("POST", f"{remote.path}/infer", body))
    if reply.status != 200:
        raise Refused(f"{remote.url} does not answer an example: {reply.reason}")


def _whole(reply: Reply) -> Reply:
    """Return a reply as no answer where it holds none, whatever its status says."""
    if reply.status != 200 or isinstance(reply.answer.get("outputs"), list):
        return reply
    return Reply(0, reason="HTTP 200 without outputs, which is no answer of the Open Inference Protocol")


def _log(remote: Remote, load: Load, sent: list[Sent], deadline: Deadline, examples: Examples) -> Log:
    """Tell of the load as of any other run, with this client's clock."""
    period_s = (sent[-1].due_s - sent[0].due_s) / max(1, len(sent) - 1)
    served = tuple(_served(each, index, deadline, examples) for index, each in enumerate(sent))
    if not all(each.reply.status == 200 for each in sent):
        served = tuple(replace(each, energy_j=None) for each in served)
    return Log(
        Subject(remote.path.rpartition("/v2/models/")[2]),
        Where(remote.url),
        policy="server",
        load=load.spec,
        served=served,
        start_s=sent[0].due_s,
        finish_s=sent[-1].due_s + period_s,
        energy_j=None,
    )


def _served(each: Sent, index: int, deadline: Deadline, examples: Examples) -> Served:
    limit_s = each.due_s + deadline.latency_s
    if each.reply.status != 200:
        finish_s = max(each.finish_s, each.due_s + MISSED * deadline.latency_s)
        return Served(each.due_s, each.sent_s, finish_s, limit_s)
    first = None if examples.labels is None else client.first_output(each.reply)
    right = None if first is None else examples.judge(index, {"": first})
    return Served(each.due_s, each.sent_s, each.finish_s, limit_s, _joules(each), right)


def _joules(each: Sent) -> float | None:
    parameters = each.reply.answer.get("parameters")
    found = parameters.get("energy_j") if isinstance(parameters, dict) else None
    return float(found) if isinstance(found, int | float) and not isinstance(found, bool) else None


def _notes(sent: list[Sent], deadline: Deadline) -> Iterator[str]:
    """Say what a reader of the verdict must know."""
    yield "times are those of this client, network and its own delays included, from the moment a request was due"
    missed = Counter(each.reply.reason for each in sent if each.reply.status != 200)
    if missed:
        reasons = "; ".join(f"{reason} ({count})" for reason, count in missed.most_common(_REASONS))
        yield (
            f"{missed.total()} of {len(sent)} requests were refused or failed and count as late; in percentiles and "
            f"means each counts as {format_time(MISSED * deadline.latency_s)}: {reasons}"
        )
    joules = [found for each in sent if (found := _joules(each)) is not None]
    if joules:
        mean_j = format_energy(float(np.mean(joules)))
        yield f"the server reports {mean_j} for an answer, on the mean over the {len(joules)} that say so"
    lag_s: FloatArray = np.array([each.sent_s - each.due_s for each in sent])
    if lag_s.max() > _LAG * deadline.latency_s:
        yield f"this client itself sent up to {format_time(float(lag_s.max()))} late, which counts; give it a free core"
