"""Names of memories → shipped profiles of their errors, specifications of their currents, and systems around them."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import msgspec

from amble.core.errors import Refused
from amble.core.files import load
from amble.levers.memory.energy import ArrayShares, DataDependence, DramChip, Module, System
from amble.levers.memory.profiles import FORMAT, MemoryProfile

__all__ = ["data_dependence", "module", "names", "profile"]

_FOLDER = Path(__file__).parent / "memories"


def names() -> dict[str, tuple[str, ...]]:
    """Return what is shipped: ``modules`` (error profiles), ``chips`` (currents) and ``systems``."""
    return {
        "modules": tuple(sorted(path.stem for path in _FOLDER.glob("*.json"))),
        "chips": tuple(_toml("specs")["chips"]),
        "systems": tuple(_toml("systems")),
    }


def profile(name: str) -> MemoryProfile:
    """Return a shipped profile by its name (``vendorB`` for ``ddr3-vendorB``), or the one in a JSON file."""
    if name.endswith(".json"):
        return load(Path(name), FORMAT)
    for path in (_FOLDER / f"{name}.json", _FOLDER / f"ddr3-{name}.json"):
        if path.is_file():
            return load(path, FORMAT)
    raise Refused(f"no memory module {name!r}; there are {', '.join(names()['modules'])}, or name a JSON file")


def module(chip: str, system: str) -> Module:
    """Return memory of these chips in a system, by their names; Refused for others."""
    specs, systems = _toml("specs"), _toml("systems")
    for kind, name, known in (("DRAM", chip, specs["chips"]), ("system", system, systems)):
        if name not in known:
            raise Refused(f"no {kind} {name!r}; there are {', '.join(known)}")
    return Module(
        msgspec.convert(specs["chips"][chip], DramChip),
        msgspec.convert(specs["array"], ArrayShares),
        msgspec.convert({"name": system, **systems[system]}, System),
    )


def data_dependence(vendor: str, *, writing: bool) -> DataDependence:
    """Return how the current of a vendor's DDR3L depends on the data; Refused for a vendor that was not measured."""
    measured = _toml("specs")["data_dependent"]
    if f"vendor{vendor}" not in measured:
        raise Refused(f"no currents of vendor {vendor!r}; there are {', '.join(measured)}")
    return msgspec.convert(measured[f"vendor{vendor}"]["write" if writing else "read"], DataDependence)


def _toml(name: str) -> dict[str, Any]:
    return tomllib.loads((_FOLDER / f"{name}.toml").read_text(encoding="utf-8"))
