"""A command → the systemd unit that keeps the guard running, written, started, and taken away again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from amble.core.errors import Refused
from amble.core.files import write_text
from amble.services.guard.running import ALLOW, EXAMPLE

__all__ = ["changeable", "install", "uninstall", "unit"]

_UNIT = Path("/etc/systemd/system/amble-guard.service")
_NAME = "amble-guard"
_UNSAFE = frozenset("\"'\\")  # systemd takes no program with these in its name


def unit(command: Sequence[str]) -> str:
    """Return the systemd unit that runs the guard: as root, and able to do little else than set clocks.

    Homes can be read, since amble may be installed in one; ``nvpmodel`` keeps its mode in a folder of its own.
    """
    return f"""\
[Unit]
Description=Lends the clocks of this machine's devices and puts them back (amble guard)
After=nvidia-persistenced.service nvpmodel.service

[Service]
ExecStart={_line(*command)}
Restart=on-failure
RuntimeDirectory=amble
StateDirectory=amble/guard
KillMode=process
NoNewPrivileges=yes
ProtectSystem=strict
ReadWritePaths=-/var/lib/nvpmodel
ProtectHome=read-only
PrivateTmp=yes
RestrictAddressFamilies=AF_UNIX

[Install]
WantedBy=multi-user.target
"""


def install(*, place: Path = _UNIT, allow: Path = ALLOW, start: bool = True) -> tuple[Path, ...]:
    """Write the unit, and an allow-list for the user who asked if there is none; start it. Returns what was written."""
    _refuse_others("--install", start)
    command = Path(sys.argv[0]).absolute()
    if not os.access(command, os.X_OK) or set(str(command)) & _UNSAFE:
        raise Refused(f"{command} cannot be started by systemd; call the program: sudo $(which amble) guard --install")
    written = [place]
    if not allow.exists():
        write_text(allow, EXAMPLE.format(user=os.environ.get("SUDO_USER", "root")))
        written.append(allow)
    write_text(place, unit([str(command), "guard", "--allow", str(allow)]))
    if start:
        for words in (("daemon-reload",), ("enable", _NAME), ("restart", _NAME)):
            _systemctl(*words)
    return tuple(written)


def uninstall(*, place: Path = _UNIT, stop: bool = True) -> tuple[Path, ...]:
    """Stop the guard, which puts everything back, and remove its unit; the allow-list is the administrator's and stays.

    Returns what was removed. Refused where no unit is installed.
    """
    _refuse_others("--uninstall", stop)
    if not place.exists():
        raise Refused(f"there is no {place}: no guard is installed here")
    if stop:
        _systemctl("disable", "--now", _NAME)
    place.unlink()
    if stop:
        _systemctl("daemon-reload")
    return (place,)


def changeable(command: Path) -> str:
    """Return which file of a program, or folder above it, another user than root may change; empty where none is.

    Whoever may change what root runs is root.
    """
    real = command.resolve()
    for path in (real, *real.parents):
        found = path.stat()
        if found.st_uid != 0 or (found.st_mode & 0o022 and not found.st_mode & 0o1000):
            return str(path)
    return ""


def _refuse_others(option: str, systemd: bool) -> None:
    if os.geteuid() != 0:
        raise Refused(f"amble guard {option} writes to /etc and needs root: sudo amble guard {option}")
    if systemd and shutil.which("systemctl") is None:
        raise Refused("this machine has no systemd; run 'amble guard' as root under what starts its services")


def _line(program: str, *words: str) -> str:
    """Write a command as systemd reads it (systemd.service(5), "Command lines"): variables are read in words alone."""
    return " ".join([_quoted(program), *(_quoted(each.replace("$", "$$")) for each in words)])


def _quoted(word: str) -> str:
    plain = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{plain}"' if plain != word or any(each.isspace() or each == ";" for each in word) else word


def _systemctl(*words: str) -> None:
    done = subprocess.run(["systemctl", *words], capture_output=True, text=True)
    if done.returncode != 0:
        raise Refused(f"systemctl {' '.join(words)} failed: {done.stderr.strip()}; the unit is at {_UNIT}")
