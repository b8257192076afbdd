"""A model's file → the networks that may answer its requests: one of each precision, and the accuracy each keeps."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from amble.core import files
from amble.core.graph import Graph
from amble.core.variants import FORMAT as VARIANTS
from amble.core.variants import Variants
from amble.runtimes import onnx, processors
from amble.runtimes.onnx import Execution
from amble.services.serve.models.options import Options

__all__ = ["VARIANTS_FILE", "Candidates", "candidates"]

VARIANTS_FILE = "variants.json"
_LOG = logging.getLogger(__name__)


class Candidates:
    """A model's variants: their networks at each batch size, and the share of the accuracy that each keeps."""

    def __init__(
        self, paths: Mapping[str, Path], accuracies: Mapping[str, float], options: Options, reference: float = 1.0
    ) -> None:
        self.accuracies = accuracies
        self.may_lose = options.max_loss.share(reference)
        self.path = next(iter(paths.values()))
        self.files = tuple(paths.values())
        self.shapes = dict(options.shapes)
        self.paths = paths
        self.kept: object = None  # keeps what runs them
        self.execution: Execution | None = None  # by which networks of one batch size are run
        self._known: dict[tuple[str, int], Graph] = {}

    def graph(self, variant: str, rows: int, *, by_size: bool) -> Graph:
        """Return the network of a variant at a batch size."""
        key = (variant, rows)
        if key not in self._known:
            if by_size or rows == 1:
                shapes = {
                    name: (rows if shape[0] == 1 else shape[0], *shape[1:]) for name, shape in self.shapes.items()
                }
                self._known[key] = onnx.load(self.paths[variant], batch=rows, shapes=shapes, execution=self.execution)
            else:
                self._known[key] = replace(self.graph(variant, 1, by_size=False), batch=rows)
        return self._known[key]


def candidates(path: Path, options: Options) -> Candidates:
    """Read which variants there are: a variants file's, or a network and those in the file beside it."""
    if path.suffix == ".json":
        return _kept(path, files.load(path, VARIANTS), options)
    beside = path.with_name(VARIANTS_FILE)
    if beside.is_file():
        variants = files.load(beside, VARIANTS)
        if (
            onnx.load(path, batch=variants.subject.batch, shapes=variants.subject.shapes).digest
            == variants.subject.digest
        ):
            return _kept(beside, variants, options)
        _LOG.warning("%s is of another network and is not used: quantize %s anew", beside, path)
    precision = onnx.load(path, batch=1, shapes=options.shapes).precision
    return Candidates({precision: path}, {precision: 1.0}, options)


def _kept(path: Path, variants: Variants, options: Options) -> Candidates:
    """Return the fastest of each precision that was kept, the reference first."""
    first = variants.reference.precision
    chosen = {
        name: variants.fastest(name) for name in dict.fromkeys([first, *(each.precision for each in variants.kept)])
    }
    processors.check(variants, chosen.values(), path)
    shapes = {name: shape for name, shape in variants.subject.shapes.items() if name not in options.shapes}
    paths = {name: path.parent / each.file for name, each in chosen.items()}
    accuracies = {name: variants.relative(each) for name, each in chosen.items()}
    quality = variants.reference.quality
    bound = replace(options, shapes={**shapes, **options.shapes})
    return Candidates(paths, accuracies, bound, 1.0 if quality is None else quality.ratio.value)
