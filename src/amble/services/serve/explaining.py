"""Models → which of them would be batched, and why others not; nothing is measured or served."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module

from amble.inputs import open_for_serving
from amble.services.serve.models.loading import ModelLoader
from amble.services.serve.models.model import Found
from amble.services.serve.models.repository import find
from amble.services.serve.serving import Serve, wishes

__all__ = ["Explained", "explain"]


@dataclass(frozen=True, slots=True)
class Explained:
    """Whether a model's requests may share a batch, and why (not); ``lengths``: which of those of unlike length do."""

    model: str
    version: str
    batched: bool
    reason: str
    lengths: str = ""


def explain(asked: Serve) -> tuple[Explained, ...]:
    """Say of every model whether its requests may share a batch, and why (not), without serving anything."""
    opened, runner, by_size = open_for_serving(asked.places[0].uri, threads=asked.options.threads)
    _, paths, said = wishes(asked)
    loader = ModelLoader(opened, runner, asked.options, None, by_size, said=said)
    found = [Found(name, "1", path) for name, path in paths.items()]
    if asked.repository is not None:
        read_text = import_module("amble.services.serve.doors.grpc").read_text
        folders = sorted(each for each in asked.repository.iterdir() if each.is_dir())
        found += [version for each in folders for version in find(each, read_text=read_text)]
    verdicts = [loader.explain(each) for each in found]
    return tuple(
        Explained(each.name, each.version, verdict.proved, verdict.reason, "" if lengths is None else lengths.reason)
        for each, (verdict, lengths) in zip(found, verdicts, strict=True)
    )
