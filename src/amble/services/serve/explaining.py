"""Models → which of them would be batched, and why others not; nothing is measured or served."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module

from amble.inputs import open_for_serving
from amble.services.serve.loading import ModelLoader
from amble.services.serve.model import Found
from amble.services.serve.repository import find
from amble.services.serve.serving import Serve, named

__all__ = ["Explained", "explain"]


@dataclass(frozen=True, slots=True)
class Explained:
    """Whether a model's requests may share a batch, and why (not)."""

    model: str
    version: str
    batched: bool
    reason: str


def explain(asked: Serve) -> tuple[Explained, ...]:
    """Say of every model whether its requests may share a batch, and why (not), without serving anything."""
    opened, runner, by_size = open_for_serving(asked.places[0].uri, threads=asked.options.threads)
    loader = ModelLoader(opened, runner, asked.options, None, by_size)
    found = [Found(name, "1", path) for name, path in map(named, asked.models)]
    if asked.repository is not None:
        read_text = import_module("amble.services.serve.grpc").read_text
        folders = sorted(each for each in asked.repository.iterdir() if each.is_dir())
        found += [version for each in folders for version in find(each, read_text=read_text)]
    verdicts = [loader.explain(each) for each in found]
    return tuple(
        Explained(each.name, each.version, verdict.proved, verdict.reason)
        for each, verdict in zip(found, verdicts, strict=True)
    )
