"""Actuator → Actuator that owns the clocks: whatever kills this process, they are put back as they were found.

Theory of operation. Before the first change a *lease* is saved: who holds the clocks (process, its start time, this
boot) and what was found. A watchdog, a process of its own session, waits for the owner's end and then puts back what a
lease still names. A lease is removed when the owner gives the clocks back itself. So at any moment one of three is
true: the clocks are as found and there is no lease; the owner lives; or the watchdog is about to put them back.
When the watchdog was killed as well, the lease is still there: the next owner, or ``restore``, puts the clocks back.
Files of this folder are only changed under its lock. Settings do not outlive a reboot, and neither does a lease.

Run as ``python -m amble.devices.lease LEASE PID START`` this module is the watchdog.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol, runtime_checkable

from amble.core.backend import BackEnd, is_back_end
from amble.core.errors import Refused
from amble.core.files import Format, home, load, save
from amble.core.point import Clocks
from amble.core.ports import Actuator, Device, Remembering
from amble.core.registered import DEVICES, registered
from amble.devices import knobs, nvml, powermodes, quota
from amble.devices.facts import Found

__all__ = [
    "Lease",
    "LeasedActuator",
    "Ownable",
    "Owner",
    "Restored",
    "guarded",
    "leased",
    "leases",
    "put_back",
    "restore",
    "state_dir",
]

_LOG = logging.getLogger(__name__)
_STARTED_S = 20.0
_POLL_S = 0.2


@runtime_checkable
class Ownable(Actuator, Protocol):
    """An actuator of real clocks: it can say what it found. ``Clocks()`` applied to it puts that back."""

    def found(self) -> Found:
        """Return what was in force before the first change."""
        ...


class OwnableAndRemembering(Ownable, Remembering, Protocol):
    """One whose read-back is what the driver's books say."""


@dataclass(frozen=True, slots=True)
class Owner:
    """A process: its number, when it was started (clock ticks after boot), and the boot it belongs to."""

    pid: int
    start: str
    boot: str

    @property
    def alive(self) -> bool:
        """Tell whether this very process still runs."""
        return self.boot == _boot() and _started(self.pid) == self.start


@dataclass(frozen=True, slots=True)
class Lease:
    """Who holds a device's clocks since when, and what to put back."""

    device: str
    owner: Owner
    since: str
    found: Found


@dataclass(frozen=True, slots=True)
class Restored:
    """What ``restore`` did about one lease; ``note`` says it in words."""

    device: str
    put_back: bool
    note: str


LEASE = Format("lease", 1, Lease)
_PUT_BACK = {"sysfs": knobs.put_back, "nvml": nvml.put_back, "quota": quota.put_back}
_PUT_BACK |= {"nvpmodel": powermodes.put_back}


class LeasedActuator:
    """Wraps an actuator; see the module's theory of operation.

    ``owner`` says which process holds the clocks, ``watch`` starts the watchdog of a lease.
    """

    def __init__(
        self,
        actuator: Ownable,
        device: str,
        folder: Path,
        *,
        owner: Callable[[], Owner] | None = None,
        watch: Callable[[Path, Owner], Owner] | None = None,
    ) -> None:
        self._owner, self._watch = owner or _this_process, watch or _watch
        self._actuator = actuator
        self._device = device
        self._folder = folder
        self._path = folder / f"lease-{re.sub('[^A-Za-z0-9.-]+', '-', device)}.json"
        self._holds = False
        self._watchdog: Owner | None = None

    def available(self) -> tuple[Clocks, ...]:
        """Return every legal setting, slowest first."""
        return self._actuator.available()

    def current(self) -> Clocks:
        """Return the clocks that run; None for knobs that nobody holds."""
        return self._actuator.current()

    def apply(self, clocks: Clocks) -> None:
        """Ask for these clocks, after taking the lease; ``Clocks()`` puts back what was found and gives it up.

        Refused when another process holds the clocks.
        """
        if clocks == Clocks():
            self._give_up()
        elif self._holds:
            self._actuator.apply(clocks)
        else:
            self._take(clocks)

    def close(self) -> None:
        """Put back what was found and give the lease up."""
        self._give_up()

    def _take(self, clocks: Clocks) -> None:
        with _locked(self._folder):
            _clear(self._path)
            me = self._owner()
            lease = Lease(self._device, me, datetime.now(UTC).isoformat(timespec="seconds"), self._actuator.found())
            save(lease, self._path, LEASE)
        self._holds = True
        try:
            if self._watchdog is None or not self._watchdog.alive:
                self._watchdog = self._watch(self._path, me)
            self._actuator.apply(clocks)
        except BaseException:
            self._give_up()
            raise

    def _give_up(self) -> None:
        self._actuator.apply(Clocks())
        if self._holds:
            with _locked(self._folder):
                self._path.unlink(missing_ok=True)
            self._holds = False


class _Remembering(LeasedActuator):
    """The same around an actuator that says within which time work feels its clocks (`core.ports.Remembering`)."""

    _actuator: OwnableAndRemembering

    def felt_within_s(self) -> float:
        """Return within which time [s] work feels a clock that was asked for."""
        return self._actuator.felt_within_s()

    def running(self) -> Clocks:
        """Return the clocks that run, whoever set them."""
        return self._actuator.running()


def leased(actuator: Ownable, device: str, folder: Path) -> LeasedActuator:
    """Return an actuator whose clocks are owned by a lease, with all that it can tell of them."""
    kind = _Remembering if isinstance(actuator, Remembering) else LeasedActuator
    return kind(actuator, device, folder)


def guarded(device: Device, folder: Path | None = None) -> Device:
    """Return the device with its clocks owned by a lease; unchanged where it has no real clocks to put back."""
    if not isinstance(device.actuator, Ownable) or len(device.actuator.available()) < 2:
        return device
    return replace(device, actuator=leased(device.actuator, device.name, folder or state_dir()))


def restore(folder: Path | None = None) -> tuple[Restored, ...]:
    """Put back what killed processes left. Leases of living ones stay; one entry a lease, empty when there is none."""
    folder = folder or state_dir()
    if not folder.is_dir():
        return ()
    with _locked(folder):
        return tuple(_restored(path) for path in _paths(folder))


def restorable(folder: Path | None = None) -> tuple[Restored, ...]:
    """Say what ``restore`` would do, and do nothing."""
    return tuple(_judged(path)[0] for path in _paths(folder or state_dir()))


def leases(folder: Path | None = None) -> tuple[Lease, ...]:
    """Return every lease, of living owners and of dead ones."""
    return tuple(load(path, LEASE) for path in _paths(folder or state_dir()))


def state_dir() -> Path:
    """Return where leases are kept: ``$XDG_STATE_HOME/amble``, or ``~/.local/state/amble``."""
    return Path(os.environ.get("XDG_STATE_HOME") or home() / ".local/state") / "amble"


def _restored(path: Path) -> Restored:
    judged, lease = _judged(path)
    if lease is None or lease.owner.alive:
        return judged
    try:
        _settle(path, lease)
    except Refused as reason:
        return Restored(lease.device, False, str(reason))
    return Restored(lease.device, True, f"put back what process {lease.owner.pid} found at {lease.since}")


def _judged(path: Path) -> tuple[Restored, Lease | None]:
    """Say what is to be done about a lease, and return it if it can be read."""
    try:
        lease = load(path, LEASE)
    except Refused as reason:
        return Restored(path.stem.removeprefix("lease-"), False, str(reason)), None
    owner = lease.owner
    if owner.alive:
        return Restored(lease.device, False, f"held by process {owner.pid}, which is alive; left alone"), lease
    return Restored(lease.device, False, f"would put back what process {owner.pid} found at {lease.since}"), lease


def _clear(path: Path) -> None:
    """Make way for a new lease: put back what a dead owner left. Refused while the owner lives."""
    if not path.exists():
        return
    try:
        lease = load(path, LEASE)
    except Refused as reason:
        raise Refused(f"{reason}; if no other amble runs, delete it") from reason
    if lease.owner.alive:
        raise Refused(
            f"{lease.device}: its clocks are held by process {lease.owner.pid} since {lease.since}; "
            f"wait for it, or stop it (kill {lease.owner.pid})"
        )
    _LOG.warning("%s: putting back the clocks that process %d left", lease.device, lease.owner.pid)
    _settle(path, lease)


def _settle(path: Path, lease: Lease) -> None:
    """Put back what a lease names, unless a reboot did, and remove it."""
    if lease.owner.boot == _boot():
        put_back(lease.found)
    path.unlink()


def put_back(found: Found) -> None:
    """Let the kind of device put back what it found; Refused, with the values kept, where nobody knows how."""
    if found.backend in _PUT_BACK:
        _PUT_BACK[found.backend](found.values)
        return
    kind: BackEnd | None = registered(DEVICES, found.backend, {}, is_back_end)
    if kind is None or kind.put_back is None:
        raise Refused(
            f"nothing that is installed can put back what {found.backend!r} found; install the package that brought it"
        )
    kind.put_back(found.values)


def _paths(folder: Path) -> list[Path]:
    return sorted(folder.glob("lease-*.json"))


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Be the only one who changes the leases of a folder."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / "lock").open("a")
    except OSError as error:
        raise Refused(
            f"cannot keep leases in {folder}: {error.strerror}; set XDG_STATE_HOME to another place"
        ) from error
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _this_process() -> Owner:
    return Owner(os.getpid(), _started(os.getpid()), _boot())


def _boot() -> str:
    """Return the identity of this boot; empty where the system does not tell."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _started(pid: int) -> str:
    """Return when a process was started, in clock ticks after boot; empty when it does not run (any more)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
    state, *rest = stat.rpartition(")")[2].split()  # proc(5): the name before may hold anything
    return "" if state in "ZX" else rest[18]


def _watch(path: Path, owner: Owner) -> Owner:
    """Start the watchdog and return it once it waits."""
    command = [sys.executable, "-m", __name__, str(path), str(owner.pid), owner.start]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            start_new_session=True,
            timeout=_STARTED_S,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Refused(f"cannot start the watchdog that puts clocks back ({error}); nothing was changed") from error
    if done.returncode != 0 or not done.stdout.strip().isdigit():
        last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise Refused(f"the watchdog that puts clocks back does not start ({last[0]}); nothing was changed")
    pid = int(done.stdout)
    return Owner(pid, _started(pid), _boot())


def _watchdog(path: Path, owner: Owner) -> None:
    """Wait for the owner's end, then put back what its lease still names."""
    _wait(owner)
    if not path.exists():
        return
    with _locked(path.parent):
        if path.exists() and load(path, LEASE).owner == owner:
            _settle(path, load(path, LEASE))


def _wait(owner: Owner) -> None:
    """Return when the owner has ended: at once through its pidfd, or by looking where the kernel has none."""
    try:
        handle = os.pidfd_open(owner.pid)
    except ProcessLookupError:
        return
    except (OSError, AttributeError):
        while owner.alive:
            time.sleep(_POLL_S)
        return
    while owner.alive:  # another process may have got the number before the pidfd was opened: then the owner is gone
        select.select([handle], [], [])
    os.close(handle)


def _detach() -> None:
    """Go on as an orphan; the parent says who it is and ends, so that the owner need not wait for a child."""
    child = os.fork()
    if child:
        sys.stdout.write(f"{child}\n")
        sys.stdout.flush()
        os._exit(0)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)


def main(arguments: list[str]) -> None:
    """Be the watchdog of ``LEASE PID START``."""
    path, pid, start = arguments
    _detach()
    _watchdog(Path(path), Owner(int(pid), start, _boot()))


if __name__ == "__main__":
    main(sys.argv[1:])
