"""A process and its children as the kernel shows them: what each is, whether it lives, and where it listens."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path


def children(parent: int) -> dict[int, str]:
    """Return the children of a process that live: what each is, by its number."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                state, ppid = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if int(ppid) == parent and state != "Z" and b"amble.services.serve.processes.child" in words:
                found[int(entry.name)] = words[-2].decode()
    return found


def ticks(pid: int) -> int:
    """Return the processor time of a process."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(words[11]) + int(words[12])


def alive(pid: int) -> bool:
    try:
        return re.search(r"\) [^Z]", Path(f"/proc/{pid}/stat").read_text()) is not None
    except OSError:
        return False


def sockets_of(pid: int) -> set[str]:
    """Return the sockets that a process has open, as the kernel names them."""
    found = set()
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):  # it may have been closed just now
            found.add(os.readlink(each))
    return found


def places_of(engine: int) -> list[Path]:
    """Return where the sockets of an engine lie: that of its door, and one for each front that it hears."""
    own = sockets_of(engine)
    known = (line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:])
    return [Path(words[7]) for words in known if len(words) > 7 and f"socket:[{words[6]}]" in own]


def lines(engine: int) -> int:
    """Count the fronts that an engine hears."""
    return len(places_of(engine)) - 1


def listens(front: int) -> bool:
    """Tell whether a front has opened its doors."""
    own = sockets_of(front)
    known = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    return any(words[3] == "0A" and f"socket:[{words[9]}]" in own for words in known)
