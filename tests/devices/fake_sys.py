"""A tree of clock and energy files like Linux's, under a folder; and who wrote what in which order."""

import ctypes
import os
import struct
from pathlib import Path

CPU_LEVELS_KHZ = (800_000, 1_200_000, 1_600_000, 2_000_000)
GPU_LEVELS_HZ = (114_750_000, 624_750_000, 1_300_500_000)
EMC_LEVELS_KHZ = (204_000, 665_600, 2_133_000)


def write(path: Path, text: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")
    return path


def cpufreq(
    root: Path, policies: int = 2, levels_khz: tuple[int, ...] = CPU_LEVELS_KHZ, *, first: int = 0
) -> list[Path]:
    """Policies that wander between their lowest and highest level."""
    folders = [root / f"sys/devices/system/cpu/cpufreq/policy{first + number}" for number in range(policies)]
    for folder in folders:
        write(folder / "scaling_available_frequencies", " ".join(str(level) for level in reversed(levels_khz)))
        write(folder / "cpuinfo_min_freq", levels_khz[0])
        write(folder / "cpuinfo_max_freq", levels_khz[-1])
        write(folder / "scaling_min_freq", levels_khz[0])
        write(folder / "scaling_max_freq", levels_khz[-1])
        follow(folder / "scaling_max_freq", folder / "scaling_cur_freq")
    return folders


def devfreq(root: Path, name: str, levels_hz: tuple[int, ...] = GPU_LEVELS_HZ) -> Path:
    folder = root / "sys/class/devfreq" / name
    write(folder / "available_frequencies", " ".join(str(level) for level in levels_hz))
    write(folder / "min_freq", levels_hz[0])
    write(folder / "max_freq", levels_hz[-1])
    write(folder / "governor", "simple_ondemand")
    follow(folder / "max_freq", folder / "cur_freq")
    return folder


def emc(root: Path) -> Path:
    """The memory clock of a Jetson board."""
    folder = root / "sys/kernel/debug/bpmp/debug"
    write(folder / "emc/possible_rates", "0 " + " ".join(str(level) for level in EMC_LEVELS_KHZ) + " (kHz)")
    write(folder / "clk/emc/rate", EMC_LEVELS_KHZ[-1] * 1000)
    write(folder / "clk/emc/mrq_rate_locked", 0)
    return folder / "clk/emc"


def rapl(root: Path, zone: str, name: str, energy_uj: int, range_uj: int = 262_143_328_850) -> Path:
    folder = root / "sys/class/powercap" / zone
    write(folder / "name", name)
    write(folder / "max_energy_range_uj", range_uj)
    return write(folder / "energy_uj", energy_uj)


def rapl_limit(root: Path, zone: str, name: str, watts: int, *, most: int | None = None, number: int = 0) -> Path:
    """A package whose long-term limit can be set; returns the file of the limit."""
    folder = root / "sys/class/powercap" / zone
    write(folder / "name", name)
    write(folder / "enabled", 1)
    write(folder / f"constraint_{number}_name", "long_term")
    write(folder / f"constraint_{number}_max_power_uw", (watts if most is None else most) * 1_000_000)
    write(folder / f"constraint_{1 - number}_name", "short_term")
    write(folder / f"constraint_{1 - number}_power_limit_uw", 2 * watts * 1_000_000)
    return write(folder / f"constraint_{number}_power_limit_uw", watts * 1_000_000)


def follow(bound: Path, now: Path) -> None:
    """Let the clock that runs be the upper bound, as with a busy machine."""
    now.symlink_to(bound.name)


def bounds(folder: Path) -> tuple[str, str]:
    """Return the lower and upper bound of a policy or devfreq node."""
    low, high = ("scaling_min_freq", "scaling_max_freq") if "policy" in folder.name else ("min_freq", "max_freq")
    return (folder / low).read_text().strip(), (folder / high).read_text().strip()


class Writes:
    """Watches files through inotify; ``names`` gives the files written so far, in order."""

    _MODIFY = 0x2

    def __init__(self, *paths: Path) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._handle = self._libc.inotify_init1(os.O_NONBLOCK)
        self._names = {
            self._libc.inotify_add_watch(self._handle, os.fsencode(path), self._MODIFY): path.name for path in paths
        }

    def names(self) -> list[str]:
        """Return each file written since the last call, in order; neighbouring writes to one file count once."""
        found: list[str] = []
        try:
            data = os.read(self._handle, 65536)
        except BlockingIOError:
            return found
        while data:
            watch, _, _, length = struct.unpack_from("iIII", data)
            data = data[16 + length :]
            if found[-1:] != [self._names[watch]]:
                found.append(self._names[watch])
        return found

    def close(self) -> None:
        os.close(self._handle)


def cgroup(root: Path, name: str = "server", *, version: int = 1) -> Path:
    """Make a control group below the CPU controller, without a quota."""
    folder = root / ("sys/fs/cgroup/cpu" if version == 1 else "sys/fs/cgroup") / name
    folder.mkdir(parents=True)
    if version == 1:
        (folder / "cpu.cfs_quota_us").write_text("-1\n")
        (folder / "cpu.cfs_period_us").write_text("100000\n")
    else:
        (folder / "cpu.max").write_text("max 100000\n")
    return folder
