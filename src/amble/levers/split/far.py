"""The server's half of a pair, behind any server of the Open Inference Protocol → proof that it is that half; answers.

A server that tells the SHA-256 of what it serves (amble's, in the parameters of a model's configuration) must tell the
plan's. Others are believed by two things together: the model's name, which carries the hash, and the answer to an
example whose answer is known here. The example is asked of all of them, plain and packed. Later it is asked again,
plain, and of those that tell a hash, the hash.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

import numpy as np

from amble.core.ports import Tensors
from amble.levers.split.packing import packed
from amble.levers.split.pairs import Pair
from amble.levers.split.wire import Heard, Wire
from amble.runtimes.remote.client import Body, Input, Reply, body_of, dtype_of
from amble.runtimes.remote.datatypes import DATATYPES, NO_JSON, from_bytes
from amble.runtimes.remote.fault import Fault
from amble.runtimes.remote.numbers import from_json

__all__ = ["ROUNDING", "Example", "Half", "Known", "Proof", "finite", "outputs_of", "prove", "server_s", "taken"]

ROUNDING = 1e-4
"""By how much of their largest answers in FP32 may differ from what is computed here: another runtime, another CPU."""

_EXAMPLE = "example"  # identity of the request of a proof
_MOST_S = 86400.0  # that a server may say an answer took it


@dataclass(frozen=True, slots=True)
class Example:
    """What the server's half takes, and what it must answer."""

    tensors: Tensors
    answers: Tensors


@dataclass(frozen=True, slots=True)
class Half:
    """A half as its server describes it: where it is, what it takes, whether as bytes, and packed.

    ``echoes``: its answers tell the identity of their request; ``told``: the server tells the hash of what it serves.
    """

    path: str
    inputs: tuple[Input, ...]
    binary: bool
    packs: bool = False
    echoes: bool = False
    told: bool = False

    def body(self, tensors: Tensors, timeout_s: float, identity: str = "") -> Body:
        """Write a request."""
        given = {each.name: np.asarray(tensors[each.name]).astype(dtype_of(each), copy=False) for each in self.inputs}
        return body_of(given, self.inputs, binary=self.binary, timeout_s=timeout_s, identity=identity)


@dataclass(frozen=True, slots=True)
class Proof:
    """Whether a server has a half, ``verdict``: ``proved``, ``refuted``, ``absent`` (of no use) or ``silent``, and why.

    ``heard`` is the plain example's exchange, where it was asked, ``server_s`` [s] what the server counts for it;
    ``ping_s`` [s] a question without a body. ``deviation`` is how far the answer was from that
    known here, as a share of its largest. ``num_bytes`` were sent in bodies, in ``took_s`` [s] for all of it.
    """

    verdict: str
    why: str = ""
    half: Half | None = None
    heard: Heard | None = None
    server_s: float | None = None
    ping_s: float | None = None
    deviation: float = 0.0
    num_bytes: int = 0
    took_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Known:
    """A half that was proved before, on a server that answered all since, or came late. ``in_use``: by requests.

    One in use is asked for its hash only, where the server tells it: requests measure the link themselves.
    """

    half: Half
    in_use: bool = False


def prove(wire: Wire, root: str, pair: Pair, example: Example, *, within_s: float, known: Known | None = None) -> Proof:
    """Ask a server for its half of a pair, with the example; ``root`` is the path of the server."""
    begun_s = time.perf_counter()
    if known is None:
        found = _proved(wire, root, pair, example, within_s)
    else:
        found = _again(wire, pair, example, within_s, known)
    ping_s = None
    if found.verdict != "silent":
        ping = wire.ask("GET", f"{root}/v2/health/ready", None, time.perf_counter() + within_s)
        ping_s = ping.whole_s - ping.asked_s if ping.reply.status else None
    return replace(found, ping_s=ping_s, took_s=time.perf_counter() - begun_s)


def _again(wire: Wire, pair: Pair, example: Example, within_s: float, known: Known) -> Proof:
    """Ask whether what was proved is served still."""
    half = known.half
    if half.told:
        heard, sha256 = _hash(wire, half.path, within_s)
        if not heard.answered:
            return _unheard(heard)
        if differs := _differs(pair, sha256):
            return differs
        if known.in_use and sha256:  # one that told its hash and tells none any more may be another server
            return Proof("proved", half=half)
    return _tried(wire, half, example, within_s)


def _unheard(heard: Heard) -> Proof:
    silent = heard.reply.status == 0
    return Proof("silent" if silent else "absent", heard.reply.reason)


def _differs(pair: Pair, sha256: str) -> Proof | None:
    """Return what refutes a half whose server tells this hash; None where nothing does."""
    assert pair.server is not None
    if not sha256 or sha256 == pair.server.sha256:
        return None
    return Proof("refuted", f"it serves {sha256[:12]}… there, the plan's half is {pair.server.sha256[:12]}…")


def _proved(wire: Wire, root: str, pair: Pair, example: Example, within_s: float) -> Proof:
    """Find the half, compare its hash and what it takes, and ask it the example packed, which also wakes it."""
    path = f"{root}/v2/models/{quote(pair.name, safe='')}"
    described = wire.ask("GET", path, None, time.perf_counter() + within_s)
    if not described.answered:
        return _unheard(described)
    _, sha256 = _hash(wire, path, within_s)
    if differs := _differs(pair, sha256):
        return differs
    try:
        inputs = _inputs(described.reply, pair.sent, example.tensors)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        return Proof("refuted", f"what it describes there takes other tensors: {error}")
    binary = _is_binary(wire, root, within_s)
    if not binary and (names := [each.name for each in inputs if each.datatype in NO_JSON]):
        return Proof("absent", f"it takes no binary tensors, and {names[0]} has no other form; cross in fp32 or int8")
    half = Half(path, inputs, binary, told=bool(sha256))
    body = packed(half.body(example.tensors, within_s))
    small = wire.ask("POST", f"{path}/infer", body, time.perf_counter() + within_s)
    packs = small.answered and deviation(example.answers, taken(small.reply, example.answers) or {}) <= ROUNDING
    found = _tried(wire, replace(half, packs=packs), example, within_s)
    return replace(found, num_bytes=found.num_bytes + len(body.content))


def outputs_of(reply: Reply) -> dict[str, Any] | None:
    """Return the outputs of an answer by name; None where they cannot be read."""
    found, start = {}, 0
    try:
        for each in reply.answer["outputs"]:
            name, kind, shape = each["name"], each["datatype"], tuple(each["shape"])
            size = each.get("parameters", {}).get("binary_data_size")
            if size is None:
                found[name] = from_json(name, kind, shape, json.dumps(each["data"]).encode())
            else:
                found[name] = from_bytes(name, kind, shape, reply.tail[start : start + size])
                start += size
    except (Fault, KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return None
    return found


def taken(reply: Reply, like: Tensors, identity: str = "") -> Tensors | None:
    """Return those outputs of an answer that a half has; None unless each is there, of its type and shape.

    Where an ``identity`` is given, it must be the answer's: what was meant for another request is none to this one.
    """
    found = outputs_of(reply)
    if found is None or (identity and reply.answer.get("id") != identity):
        return None
    for name, known in like.items():
        ours = found.get(name)
        if ours is None or ours.shape != known.shape or ours.dtype != known.dtype:
            return None
    return {name: found[name] for name in like}


def finite(tensors: Tensors) -> bool:
    """Tell whether every value is a number."""
    return all(bool(np.isfinite(each).all()) for each in tensors.values() if each.dtype.kind == "f")


def server_s(reply: Reply) -> float | None:
    """Return what a server says that an answer took it [s], without waiting there; None where it does not say.

    The wait is left out since servers count it from the first byte of a request, so that the link is in it.
    """
    parameters = reply.answer.get("parameters")
    told = parameters.get("service_s") if isinstance(parameters, Mapping) else None
    if not isinstance(told, int | float) or isinstance(told, bool) or not 0 <= told <= _MOST_S:
        return None
    return float(told)


def deviation(expected: Tensors, found: Tensors) -> float:
    """Return the largest distance over the largest answer, of all outputs; infinite where one is missing or differs."""
    worst = 0.0
    for name, theirs in expected.items():
        ours = found.get(name)
        if ours is None or ours.shape != theirs.shape:
            return np.inf
        if np.array_equal(theirs, ours):
            continue
        if theirs.dtype.kind not in "fiub":
            return np.inf
        distance = float(np.abs(theirs.astype(np.float64) - ours.astype(np.float64)).max(initial=0.0))
        most = float(np.abs(theirs.astype(np.float64)).max(initial=0.0))
        worst = max(worst, distance / most if most and np.isfinite(distance) else np.inf)
    return worst


def _tried(wire: Wire, half: Half, example: Example, within_s: float) -> Proof:
    """Ask the example, plain, which is what is measured."""
    body, before = half.body(example.tensors, within_s, _EXAMPLE), _counted(wire, half.path, within_s)
    heard = wire.ask("POST", f"{half.path}/infer", body, time.perf_counter() + within_s)
    size = len(body.content)
    if not heard.answered:
        silent = heard.reply.status == 0 or heard.reply.status >= 500
        why = f"an example is not answered: {heard.reply.reason}"
        return Proof("silent" if silent else "refuted", why, num_bytes=size)
    away = deviation(example.answers, taken(heard.reply, example.answers) or {})
    if away > ROUNDING:
        why = f"its answer to an example is not that of the plan's half (off by {away:.2g})"
        return Proof("refuted", why, num_bytes=size)
    told_s = server_s(heard.reply) or _between(before, _counted(wire, half.path, within_s))
    half = replace(half, echoes=heard.reply.answer.get("id") == _EXAMPLE)
    return Proof("proved", half=half, heard=heard, server_s=told_s, deviation=away, num_bytes=size)


def _counted(wire: Wire, path: str, within_s: float) -> tuple[int, int]:
    """Return how many answers a server counts, and their time [ns], by the statistics extension; zeros without it."""
    reply = wire.ask("GET", f"{path}/stats", None, time.perf_counter() + within_s).reply
    try:
        found = reply.answer["model_stats"][0]["inference_stats"]["success"]
        return int(found["count"]), int(found["ns"])
    except (KeyError, IndexError, TypeError, ValueError, OverflowError):
        return 0, 0


def _between(before: tuple[int, int], after: tuple[int, int]) -> float | None:
    count, spent_ns = after[0] - before[0], after[1] - before[1]
    return spent_ns * 1e-9 / count if count > 0 and 0 <= spent_ns <= _MOST_S * 1e9 else None


def _hash(wire: Wire, path: str, within_s: float) -> tuple[Heard, str]:
    """Return the SHA-256 that a server tells of a model; empty where it tells none."""
    heard = wire.ask("GET", f"{path}/config", None, time.perf_counter() + within_s)
    try:
        return heard, str(heard.reply.answer["parameters"]["sha256"]["string_value"])
    except (KeyError, TypeError):
        return heard, ""


def _is_binary(wire: Wire, root: str, within_s: float) -> bool:
    reply = wire.ask("GET", f"{root}/v2", None, time.perf_counter() + within_s).reply
    extensions = reply.answer.get("extensions")
    return isinstance(extensions, list) and any("binary_tensor_data" in str(each) for each in extensions)


def _inputs(reply: Reply, names: Sequence[str], like: Tensors) -> tuple[Input, ...]:
    """Read what a model takes; ValueError unless it is what the plan sends, in types of its kind."""
    listed = reply.answer["inputs"]
    found = {each["name"]: Input(each["name"], each["datatype"], tuple(map(int, each["shape"]))) for each in listed}
    if set(found) != set(names):
        raise ValueError(f"{', '.join(sorted(found))}, not {', '.join(sorted(names))}")
    for each in found.values():
        known = DATATYPES.get(each.datatype)
        if known is None or known.kind != like[each.name].dtype.kind:
            raise ValueError(f"{each.name} as {each.datatype}, not as {like[each.name].dtype}")
    return tuple(found[name] for name in names)
