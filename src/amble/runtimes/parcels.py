"""A network's file, with the files of its weights → bytes that can travel, and a file again elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx

from amble.runtimes.external import tensors

__all__ = ["Parcel"]


@dataclass(frozen=True, slots=True)
class Parcel:
    """The content of a network's file and of those that its weights are in, by name."""

    name: str
    files: Mapping[str, bytes]

    @classmethod
    def of(cls, path: Path) -> Parcel:
        """Read a network that any ONNX library reads, so that its weights are in files beside it (`reading.plain`)."""
        model = onnx.load_model(str(path), load_external_data=False)
        beside = {entry.value for each in tensors(model) for entry in each.external_data if entry.key == "location"}
        return cls(path.name, {name: (path.parent / name).read_bytes() for name in (path.name, *sorted(beside))})

    def unpacked(self, folder: Path) -> Path:
        """Write the files into a folder → the network's own."""
        for name, content in self.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        return folder / self.name
