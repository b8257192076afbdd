"""Files and sockets → a running guard; and the unit that keeps it running."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from amble.core.errors import Refused
from amble.core.files import write_text
from amble.devices import lease
from amble.devices.guarded.protocol import SOCKET
from amble.services.guard.daemon import Daemon
from amble.services.guard.guard import Guard
from amble.services.guard.owning import owned
from amble.services.guard.rules import read_rules

__all__ = ["ALLOW", "EXAMPLE", "STATE", "install", "run", "unit"]

_LOG = logging.getLogger(__name__)
ALLOW = Path("/etc/amble/guard.yaml")
STATE = Path("/var/lib/amble/guard")
_UNIT = Path("/etc/systemd/system/amble-guard.service")

EXAMPLE = """\
# Who may set which clocks through `amble guard`. A range left out is the device's own.
allow:
  - device: nvml:0
    users: [{user}]
    # core_mhz: [600, 1380]
    # memory_mhz: [877, 877]
    # power_w: [100, 250]
"""


def run(
    *,
    socket: Path = Path(SOCKET),
    allow: Path = ALLOW,
    state: Path = STATE,
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Serve until SIGTERM or SIGINT. What an earlier guard left changed is put back first."""
    rules = read_rules(allow)
    for each in lease.restore(state):
        _LOG.warning("%s: %s", each.device, each.note)
    guard = Guard(rules, lambda device: owned(device, state), time.monotonic)
    daemon = Daemon(guard, socket, ready)
    daemon.stop_on_signals()
    daemon.serve()


def unit(command: Iterable[str]) -> str:
    """Return the systemd unit that runs the guard: as root, and able to do little else than set clocks."""
    return f"""\
[Unit]
Description=Lends the clocks of this machine's devices and puts them back (amble guard)
Documentation=man:amble
After=nvidia-persistenced.service

[Service]
ExecStart={" ".join(command)}
Restart=on-failure
RuntimeDirectory=amble
StateDirectory=amble/guard
KillMode=process
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
RestrictAddressFamilies=AF_UNIX
MemoryDenyWriteExecute=no

[Install]
WantedBy=multi-user.target
"""


def install(*, place: Path = _UNIT, allow: Path = ALLOW, start: bool = True) -> tuple[Path, ...]:
    """Write the unit, and an allow-list for the user who asked if there is none; start it. Returns what was written."""
    if os.geteuid() != 0:
        raise Refused("amble guard --install writes to /etc and needs root: sudo amble guard --install")
    if start and shutil.which("systemctl") is None:
        raise Refused("this machine has no systemd; run 'amble guard' as root under what starts its services")
    written = [place]
    if not allow.exists():
        write_text(allow, EXAMPLE.format(user=os.environ.get("SUDO_USER", "root")))
        written.append(allow)
    write_text(place, unit([str(Path(sys.argv[0]).absolute()), "guard", "--allow", str(allow)]))
    if start:
        for words in (("daemon-reload",), ("enable", "--now", "amble-guard")):
            _systemctl(*words)
    return tuple(written)


def _systemctl(*words: str) -> None:
    done = subprocess.run(["systemctl", *words], capture_output=True, text=True)
    if done.returncode != 0:
        raise Refused(f"systemctl {' '.join(words)} failed: {done.stderr.strip()}; the unit is written")
