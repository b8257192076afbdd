"""Staircases here: how long a table takes, how well it predicts narrower networks, where the wave model finds edges.

The bundled network on this machine; pairs of layers and whole networks are timed by the thread's own time. The wave
model is fitted to some layers and judged on others, and on matrix products that others measured on an A100.
"""

from __future__ import annotations

import csv
import gzip
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench.kit import document

document.on_one_core()

import numpy as np  # noqa: E402

from amble import inputs  # noqa: E402
from amble.bundled import fashion_mnist, model_input  # noqa: E402
from amble.core.layers import Shape  # noqa: E402
from amble.core.subject import Where  # noqa: E402
from amble.levers.widths.choosing import Pricing, candidates, choose, knapsack  # noqa: E402
from amble.levers.widths.network import Group, Layer, Network  # noqa: E402
from amble.levers.widths.staircase import Point, Staircase, StaircaseTable, Stairs, shape_of  # noqa: E402
from amble.levers.widths.staircases import Given, Work, opened, priced, table_of  # noqa: E402
from amble.levers.widths.waves import Products, fit, matched  # noqa: E402
from amble.runtimes.onnx.layers import Precision  # noqa: E402

_A100_UNITS = 108
_FP16_BYTES = 2
_HELD_OUT = ("meta-llama/Llama-2-7b-hf", "internlm/internlm-20b")
_BUDGETS = (0.8, 0.65, 0.5, 0.35)
_BLOCKS = [(1, 4), (1, 8), (1, 16), (1, 32), (1, 64)]  # of channels, that a core may work in

Record = dict[str, Any]


def bundled(folder: Path, precision: Precision = "fp32") -> Work:
    """Open the bundled network, with a few examples to rank its channels by."""
    images, classes = fashion_mnist("train")
    data, output = folder / "data.npz", folder / precision
    output.mkdir()
    np.savez(data, image=model_input(images[:400]), labels=classes[:400].astype(np.int64))
    return opened(Given(inputs.BUNDLED, data, "host", output, importance="l1", precision=precision))


def table(work: Work, rounds: int) -> tuple[StaircaseTable, Record]:
    """Measure all staircases of a network."""
    begin_s = time.perf_counter()
    made = table_of(work, rounds)
    found = [each for each in made.staircases if each.outputs.edges or each.inputs.edges]
    return made, {
        "what": "staircase table",
        "precision": made.dtype,
        "network": work.graph.name,
        "shapes": len(made.staircases),
        "points": sum(len(each.points) for each in made.staircases),
        "with_stairs": len(found),
        "noise": float(np.median([each.noise for each in made.staircases])),
        "took_s": time.perf_counter() - begin_s,
    }


def predictions(work: Work, made: StaircaseTable, folder: Path, budgets: Sequence[float]) -> Iterator[Record]:
    """Cut the network to several budgets, predict each from the table, and measure it beside the whole network."""
    pricing = priced(work, made)
    asked = knapsack(pricing, candidates(pricing))
    for share in budgets:
        chosen = choose(asked, share * pricing.total({}))
        path = folder / f"cut-{share}.onnx"
        work.narrower.write(chosen.widths, path)
        times_s = work.times_s([work.graph, work.load(path)])
        before_s, after_s = np.median(times_s, axis=0).tolist()
        yield {
            "what": "prediction",
            "network": work.graph.name,
            "budget": share,
            "predicted_s": chosen.cost,
            "measured_s": after_s,
            "before_s": before_s,
            "before_when_priced_s": pricing.total({}),
            "error": chosen.cost / after_s - 1.0,
            "error_of_ratio": (chosen.cost / pricing.total({})) / (after_s / before_s) - 1.0,
            "gap": chosen.gap,
        }


def host_edges(made: StaircaseTable) -> Iterator[Record]:
    """Fit the wave model to every second layer with stairs, and look for the edges of the others."""
    conv = [each for each in made.staircases if each.shape.kind == "conv" and len(each.outputs.edges) > 1]
    model = fit(_products(conv[::2]), units=1, tiles=_BLOCKS)
    for each in conv[1::2]:
        line = _products([each])
        errors = np.abs(model.time_s(line) / line.latency_s - 1.0)
        yield {
            "what": "edges on host",
            "layer": str(each.shape),
            "tile": model.tile_columns,
            "found": len(each.outputs.edges),
            "predicted": matched(each.outputs.edges, model.edges(1, each.shape.outputs)),
            "median_error": float(np.median(errors)),
        }


def _products(staircases: list[Staircase]) -> Products:
    """Return the points along the outputs as products; rows are one, as a core has them all in turn."""
    rows = []
    for each in staircases:
        height, width = (-(-side // step) for side, step in zip(each.shape.size, each.shape.stride, strict=True))
        depth = each.shape.inputs * each.shape.kernel[0] * each.shape.kernel[1] * height * width
        rows += [(1.0, float(w), float(depth), 1.0, point.latency_s) for w, point in each.line("outputs")]
    return Products(*np.array(rows).T)


def gpu_products(data: Path) -> dict[str, Products]:
    """Read the up-projections of language models on an A100 over tokens: one product a row, by model."""
    found: dict[str, list[tuple[float, ...]]] = {}
    with gzip.open(data / "vidur_llm_gemm_staircase" / "mlp_ops_a100.csv.gz", "rt") as file:
        for row in csv.DictReader(file):
            tokens, depth = float(row["num_tokens"]), float(row["n_embd"])
            gated = 2.0 if row["use_gated_mlp"] == "True" else 1.0
            columns = gated * float(row["n_expanded_embd"]) / float(row["num_tensor_parallel_workers"])
            moved = _FP16_BYTES * (tokens * depth + depth * columns + tokens * columns)
            if row["mlp_up_proj_ms"]:
                time_s = 1e-3 * float(row["mlp_up_proj_ms"])
                found.setdefault(row["model"], []).append((columns, tokens, depth, moved, time_s))
    return {name: Products(*np.array(rows).T) for name, rows in found.items()}


def gpu_waves(data: Path) -> Iterator[Record]:
    """Fit the wave model to some language models' products, and judge it on two that it has not seen."""
    every = gpu_products(data)
    seen = [each for name, each in every.items() if name not in _HELD_OUT]
    together = Products(*(np.concatenate([getattr(each, f) for each in seen]) for f in Products.__dataclass_fields__))
    model = fit(together, units=_A100_UNITS)
    for name in _HELD_OUT:
        errors = np.abs(model.time_s(every[name]) / every[name].latency_s - 1.0)
        plain = np.abs(_smooth(together, every[name]) / every[name].latency_s - 1.0)
        yield {
            "what": "waves on A100",
            "model": name,
            "tile_rows": model.tile_rows,
            "tile_columns": model.tile_columns,
            "products": len(errors),
            "median_error": float(np.median(errors)),
            "p95_error": float(np.quantile(errors, 0.95)),
            "median_error_without_waves": float(np.median(plain)),
            "p95_error_without_waves": float(np.quantile(plain, 0.95)),
        }


def _smooth(seen: Products, other: Products) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Predict by operations and bytes alone (a roofline with a launch), fitted to the same products."""

    def design(of: Products) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
        return np.stack([np.ones_like(of.rows), of.rows * of.columns * of.depth, of.moved_bytes], axis=1)

    weights = np.linalg.lstsq(design(seen) / seen.latency_s[:, None], np.ones(len(seen.rows)), rcond=None)[0]
    return np.asarray(design(other) @ weights)


def search(depth: int = 60, width: int = 512) -> Record:
    """Choose the widths of a chain of layers with stairs of 16, all at once."""
    names = [f"g{at}" for at in range(depth - 1)]
    ends = zip([None, *names], [*names, None], strict=True)
    layers = tuple(
        Layer(f"l{n}", "conv", (a,) if a else (), b, width if a else 3, width if b else 10, size=(14, 14))
        for n, (a, b) in enumerate(ends)
    )
    rng = np.random.default_rng(0)
    groups = tuple(Group(name, tuple(np.sort(rng.gamma(2.0, size=width)).tolist())) for name in names)
    network = Network(f"chain-{depth}", layers, groups)
    shapes = tuple(dict.fromkeys(shape_of(each, network) for each in layers))
    made = StaircaseTable(Where("made up", "made up"), "law", "fp32", 1, 0, tuple(map(_made_up, shapes)))
    pricing = Pricing(network, made)
    begin_s = time.process_time()
    found = choose(knapsack(pricing, candidates(pricing)), 0.6 * pricing.total({}))
    took_s = time.process_time() - begin_s
    return {"what": "width search", "layers": depth, "edges": width // 16, "took_s": took_s, "gap": found.gap}


def _made_up(shape: Shape) -> Staircase:
    inputs = tuple(range(16, shape.inputs + 1, 16)) if shape.vary_inputs else (shape.inputs,)
    outputs = tuple(range(16, shape.outputs + 1, 16)) if shape.vary_outputs else (shape.outputs,)
    points = tuple(
        Point(i, o, 1e-6 * (1 + (-(-i // 16)) * (-(-o // 16))), 0.0, None, 40) for i in inputs for o in outputs
    )
    return Staircase(shape, points, Stairs(outputs, 16), Stairs(inputs, 16))


def main() -> None:
    options = document.options("stairs", __doc__)
    with tempfile.TemporaryDirectory(prefix="amble-") as name:
        folder = Path(name)
        work, rounds = bundled(folder), 3 if options.quick else 5
        made, taken = table(work, rounds)
        cut = list(predictions(work, made, folder, _BUDGETS[1::2] if options.quick else _BUDGETS))
        edges = list(host_edges(made))
        in_int8 = bundled(folder, "int8")
        made8, taken8 = table(in_int8, rounds)
        cut += predictions(in_int8, made8, in_int8.output, _BUDGETS[1::2])
    waves = list(gpu_waves(options.data))
    searched = search()
    targets = [
        document.target("staircase table of one network", want="< 300", value=taken["took_s"], unit="s"),
        document.target("staircase table of one network in INT8", want="< 300", value=taken8["took_s"], unit="s"),
        document.target("widths of 60 layers", want="< 1", value=searched["took_s"], unit="s"),
        *(
            document.target(
                f"prediction of {each['network']} at {each['budget']}",
                want="<= 0.05",
                value=abs(each["error"]),
                unit="1",
            )
            for each in cut
        ),
        *(
            document.target(f"edges of {each['layer']}", want=">= 0.9", value=each["predicted"], unit="1")
            for each in edges
        ),
        document.target("edges on an NVIDIA GPU, ten layer shapes", want=">= 0.9", value=None, unit="1"),
    ]
    document.finish(options, [taken, taken8, *cut, *edges, *waves, searched], targets)
