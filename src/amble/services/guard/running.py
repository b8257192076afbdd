"""Files and a socket → a running guard."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

from amble.devices import lease
from amble.devices.guarded.protocol import SOCKET
from amble.services.guard.daemon import Daemon
from amble.services.guard.guard import Guard
from amble.services.guard.owning import owned
from amble.services.guard.rules import read_rules

__all__ = ["ALLOW", "EXAMPLE", "STATE", "run"]

_LOG = logging.getLogger(__name__)
ALLOW = Path("/etc/amble/guard.yaml")
STATE = Path("/var/lib/amble/guard")

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
