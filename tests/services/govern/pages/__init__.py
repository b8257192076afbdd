"""Pages as servers publish them, by server and version: names from their lists of metrics, numbers made up."""

from pathlib import Path

PAGES = {path.stem: path.read_text() for path in sorted(Path(__file__).parent.glob("*.txt"))}
