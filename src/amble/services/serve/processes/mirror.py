"""The repository as a front sees it: a copy of the parent's, which the parent changes; wishes go to the parent."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from amble.services.serve.models.model import Model
from amble.services.serve.models.repository import Repository

__all__ = ["Mirror", "Table"]


@dataclass(frozen=True, slots=True)
class Table:
    """What is served, what each model is the how-manieth of its kind, why what is not served is not, what will be."""

    served: Mapping[str, Mapping[str, Model]] = field(default_factory=dict)
    generations: Mapping[str, int] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)
    coming: frozenset[str] = frozenset()


@dataclass(slots=True)
class Mirror(Repository):
    """A repository that only looks. ``ask`` has the parent do something."""

    ask: Callable[..., Awaitable[Any]] = field(kw_only=True)

    def show(self, table: Table) -> None:
        """Take the parent's state."""
        self._served = {name: dict(versions) for name, versions in table.served.items()}
        self._reasons = dict(table.reasons)
        self._coming = set(table.coming)

    async def start(self, name: str, config: str | None = None) -> None:
        """Have a model loaded by every engine; when this returns every front serves it."""
        await asyncio.shield(self.ask("start", name, config))

    async def stop(self, name: str) -> None:
        """Have a model unloaded."""
        await asyncio.shield(self.ask("unload", name))
