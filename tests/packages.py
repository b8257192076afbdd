"""A package of somebody else's, installed for one test: a module and its entry points in a folder."""

from pathlib import Path

__all__ = ["installed"]


def installed(folder: Path, name: str, source: str, **groups: dict[str, str]) -> Path:
    """Write a distribution into a folder for ``sys.path``; ``groups``: ``devices={"toy": "toy:BACK_END"}``."""
    about = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    sections = [
        "\n".join([f"[amble.{group}]", *(f"{key} = {value}" for key, value in entries.items())])
        for group, entries in groups.items()
    ]
    (about / "entry_points.txt").write_text("\n\n".join(sections) + "\n")
    (folder / f"{name.replace('-', '_')}.py").write_text(source)
    return folder
