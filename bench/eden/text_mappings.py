"""A text classifier and what it bears -> its mappings to approximate memory, shown and tried: for the study.

MiniLM with a classifier of Reuters R8, as `text.py` makes it in `build/text` and logs it in `text.jsonl`,
FP32 and INT8. One point of accuracy may be lost. Mappings are proven on 200 texts and tried again on 200 others, and
yet others found their rates. (How many was raised after mappings proven on 50 and on 100 texts had kept the point in
as few as 62 and 85 % of trials: single texts at the border decided.) What lies in reliable memory is said in every
row: the table of embeddings is no layer with weights, of which one inference reads a row for each token; and of a
product of two activations only the first is read from memory here. The weights are those published, of one training:
there is one seed.

`python -m bench.eden.text_mappings` fills what is missing and prints all rows; what is done is kept in `build/eden`.
"""

from __future__ import annotations

from bench.kit import document
from bench.kit.places import BENCH, BUILD

document.on_one_core()

import hashlib  # noqa: E402  after the threads are set
import json  # noqa: E402
import math  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
from collections.abc import Iterator  # noqa: E402
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402
from onnx import numpy_helper  # noqa: E402

from amble import inputs  # noqa: E402
from amble.levers.memory.approximating import Faulty  # noqa: E402
from amble.runtimes.onnx.faulty import FaultyOnnx  # noqa: E402
from amble.stages.measure.accuracy import Examples  # noqa: E402
from bench.eden import mappings as eden_mappings  # noqa: E402
from bench.eden.mappings import KEPT, MAX_LOSS, Judge, Record, Shelf, keep, mapped  # noqa: E402

TEXT = BUILD / "text"
LOG = BENCH / "eden" / "text.jsonl"
PRECISIONS = ("fp32", "int8")
NUM_WATCHED = 100  # texts that show the range of clean values
PROVING, TRYING = (1_000, 200), (1_850, 200)  # the first text and how many: that prove a mapping, that try it again


def path(precision: str) -> Path:
    return TEXT / f"minilm-{precision}.onnx"


def replayed(log: Path = LOG) -> dict[str, Record]:
    """What the log says by precision; the last line counts."""
    rows = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    return {row["precision"]: row for row in rows}


def kept(precision: str, row: Record, *, deadline_s: float) -> list[Record]:
    """Return the mappings of a precision, made before or now; none without its file, or where the time is up."""
    if not path(precision).exists():
        return []
    chosen = json.dumps([row["tolerable_ber"], row["tokens_sha256"], MAX_LOSS, NUM_WATCHED, PROVING, TRYING])
    made_by = path(precision).read_bytes() + eden_mappings.own_digest() + chosen.encode()
    digest = hashlib.sha256(made_by).hexdigest()[:16]
    file = KEPT / f"minilm-1-{precision}-none-{digest}.json"
    if not file.exists():
        if time.monotonic() > deadline_s:
            return []
        keep(file, list(mapped_network(precision, row, Shelf(file.with_suffix(".shown")))))
    found: list[Record] = json.loads(file.read_text())
    return found


def mapped_network(precision: str, row: Record, shelf: Shelf) -> Iterator[Record]:
    head: Record = {"network": "minilm", "precision": precision, "seed": 1, "recipe": "none"}
    rate = float(row["tolerable_ber"])
    if rate == 0.0:
        yield {**head, "system": None, "note": "no rate is borne: nothing to map"}
        return
    judge = judged(precision, rate, shelf)
    more = {"tolerable_ber": rate, "reliable_share": reliable_share(judge.faulty.network)}
    yield from mapped(judge, {**head, "vendor": "B", "limits": "one", **more}, "B")


def judged(precision: str, rate: float, shelf: Shelf) -> Judge:
    graph = inputs.load(path(precision))
    faulty = Faulty.of(FaultyOnnx(path(precision)), texts("held_out", 0, NUM_WATCHED))
    proving, trying = (faulty.on(texts("test", *part)) for part in (PROVING, TRYING))
    flops = sum(each.flops for each in graph.operators)
    return Judge(shelf, faulty, proving, trying, dict.fromkeys(faulty.types, rate), MAX_LOSS, flops)


def texts(part: str, first: int, count: int) -> Examples:
    with np.load(TEXT / "r8.npz") as stored:
        names = ("input_ids", "attention_mask")
        inputs = {name: stored[f"{part}_{name}"][first : first + count] for name in names}
        return Examples(inputs, stored[f"{part}_labels"][first : first + count])


def reliable_share(network: FaultyOnnx) -> float:
    """Share of the bytes of all constants that no layer reads as weights, and that no error reaches."""
    every = sum(numpy_helper.to_array(tensor).nbytes for tensor in network.model.graph.initializer)
    weights = sum(each.nbytes for each in network.weights.values())
    return 1.0 - float(weights / every)


def main() -> None:
    log = replayed()
    for precision in sys.argv[1:] or PRECISIONS:
        rows = kept(precision, log[precision], deadline_s=math.inf) if precision in log else []
        for row in rows:
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
