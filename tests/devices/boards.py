"""Ten boards as trees of their own files: names and layouts as these boards have them, contents as they stand at rest.

Levels are those that the boards list; where a board's list was not at hand its ends and middle are given (``short``).
"""

from collections.abc import Callable
from pathlib import Path

from tests.devices.fake_sys import follow, write

Tree = Callable[[Path], None]

XAVIER_GPU: tuple[int, ...] = (
    114750000,
    216750000,
    318750000,
    420750000,
    522750000,
    624750000,
    675750000,
    828750000,
    905250000,
)
XAVIER_GPU += (1032750000, 1198500000, 1236750000, 1338750000, 1377000000)
NANO_GPU = tuple(range(76800000, 921600001, 76800000))
ORIN_GPU = (306000000, 408000000, 510000000, 612000000, 714000000, 816000000, 918000000, 1020000000)


def gpu(root: Path, node: str, levels: tuple[int, ...], *, kind: str = "", governor: str = "nvhost_podgov") -> Path:
    """A devfreq node of class, linked from where its device lives."""
    folder = root / "sys/class/devfreq" / node
    write(folder / "available_frequencies", " ".join(map(str, levels)))
    write(folder / "min_freq", levels[0])
    write(folder / "max_freq", levels[-1])
    write(folder / "governor", governor)
    follow(folder / "max_freq", folder / "cur_freq")
    if kind:
        write(folder / "device/of_node/name", kind)
        write(folder / "device/of_node/compatible", f"nvidia,{kind}\0")
        write(folder / "device/load", 0)
    return folder


def emc(root: Path, rates_khz: str, top_hz: int) -> None:
    """The memory clock in the debug files of the boot processor (Tegra 186 to 234)."""
    folder = root / "sys/kernel/debug/bpmp/debug"
    if rates_khz:
        write(folder / "emc/possible_rates", f"{rates_khz} (kHz)")
    for name, value in (("rate", top_hz), ("min_rate", 204000000), ("max_rate", top_hz), ("mrq_rate_locked", 0)):
        write(folder / "clk/emc" / name, value)


def cpus(root: Path, *clusters: tuple[int, int, tuple[int, ...]]) -> None:
    """Policies: the first CPU, how many, and the levels [kHz]."""
    for first, count, levels in clusters:
        folder = root / f"sys/devices/system/cpu/cpufreq/policy{first}"
        write(folder / "affected_cpus", " ".join(str(first + each) for each in range(count)))
        write(folder / "scaling_available_frequencies", " ".join(map(str, levels)))
        write(folder / "cpuinfo_min_freq", levels[0])
        write(folder / "cpuinfo_max_freq", levels[-1])
        write(folder / "scaling_min_freq", levels[0])
        write(folder / "scaling_max_freq", levels[-1])
        follow(folder / "scaling_max_freq", folder / "scaling_cur_freq")


def power_modes(root: Path, current: int, *names: str) -> None:
    lines = [f"< POWER_MODEL ID={number} NAME={name} >\nCPU_ONLINE CORE_0 1" for number, name in enumerate(names)]
    write(root / "etc/nvpmodel.conf", "\n".join(["# modes", *lines, "< PM_CONFIG DEFAULT=0 >"]))
    write(root / "var/lib/nvpmodel/status", f"pmode:{current:04d}")


def ina(root: Path, bus: str, rails: tuple[str, ...], *, milliwatts: bool) -> None:
    """An INA3221: kernels before 5 tell power itself, later ones voltage [mV] and current [mA]."""
    if milliwatts:
        folder = root / f"sys/bus/i2c/drivers/ina3221x/{bus}/iio:device0"
        for number, rail in enumerate(rails):
            write(folder / f"rail_name_{number}", rail)
            write(folder / f"in_power{number}_input", 1000 * (number + 1))
        return
    folder = root / f"sys/bus/i2c/drivers/ina3221/{bus}/hwmon/hwmon3"
    for number, rail in enumerate(rails, start=1):
        write(folder / f"in{number}_label", rail)
        write(folder / f"in{number}_input", 5000)
        write(folder / f"curr{number}_input", 200 * number)


def jetson_nano(root: Path) -> None:
    """JetPack 4.6."""
    gpu(root, "57000000.gpu", NANO_GPU, kind="gpu", governor="nvhost_podgov")
    write(root / "sys/kernel/debug/tegra_bwmgr/emc_min_rate", 204000000)
    write(root / "sys/kernel/debug/tegra_bwmgr/emc_max_rate", 1600000000)
    override = root / "sys/kernel/debug/clk/override.emc"
    for name, value in (("clk_rate", 1600000000), ("clk_update_rate", 1600000000), ("clk_state", 0)):
        write(override / name, value)
    cpus(root, (0, 4, (102000, 710400, 1479000)))
    power_modes(root, 0, "MAXN", "5W")
    ina(root, "6-0040", ("POM_5V_IN", "POM_5V_GPU", "POM_5V_CPU"), milliwatts=True)


def jetson_tx2(root: Path) -> None:
    """JetPack 4.6: two clusters, Denver and A57."""
    gpu(root, "17000000.gp10b", (114750000, 624750000, 1300500000), kind="gp10b")
    emc(root, "40800 68000 102000 204000 408000 665600 800000 1062400 1331200 1600000 1866000", 1866000000)
    write(root / "sys/kernel/nvpmodel_emc_cap/emc_iso_cap", 0)
    cpus(root, (0, 4, (345600, 1190400, 2035200)), (1, 2, (345600, 1190400, 2035200)))
    power_modes(root, 3, "MAXN", "MAXQ", "MAXP_CORE_ALL", "MAXP_CORE_ARM", "MAXP_CORE_DENVER")
    ina(root, "0-0041", ("VDD_IN", "VDD_SYS_GPU", "VDD_SYS_CPU"), milliwatts=True)


def jetson_xavier_nx(root: Path) -> None:
    """JetPack 4.6."""
    gpu(root, "17000000.gv11b", (114750000, 624750000, 1109250000), kind="gv11b")
    emc(root, "204000 408000 665600 800000 1065600 1331200 1600000 1866000", 1866000000)
    cpus(root, *((2 * pair, 2, (115200, 1190400, 1907200)) for pair in range(3)))
    power_modes(root, 2, "MODE_15W_2CORE", "MODE_15W_4CORE", "MODE_15W_6CORE")
    ina(root, "7-0040", ("VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC"), milliwatts=True)


def jetson_agx_xavier(root: Path) -> None:
    """JetPack 5: the same chip under a newer kernel."""
    gpu(root, "17000000.gv11b", XAVIER_GPU, kind="gv11b")
    emc(root, "204000 665600 1331200 2133000", 2133000000)
    cpus(root, *((2 * pair, 2, (115200, 1190400, 2265600)) for pair in range(4)))
    power_modes(root, 0, "MAXN", "MODE_10W", "MODE_15W", "MODE_30W_ALL")
    ina(root, "1-0040", ("GPU", "CPU", "SOC"), milliwatts=False)


def jetson_agx_orin_5(root: Path) -> None:
    """JetPack 5: the GPU's node has the chip's name."""
    gpu(root, "17000000.ga10b", (306000000, 816000000, 1300500000), kind="ga10b")
    emc(root, "204000 665600 2133000 3199000", 3199000000)
    cpus(root, *((4 * four, 4, (115200, 1113600, 2201600)) for four in range(3)))
    power_modes(root, 0, "MAXN", "MODE_15W", "MODE_30W", "MODE_50W")
    ina(root, "1-0040", ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"), milliwatts=False)


def jetson_orin_nano_6(root: Path) -> None:
    """JetPack 6, "Super": the node is called gpu, and other devices have nodes beside it."""
    gpu(root, "17000000.gpu", ORIN_GPU, kind="gpu")
    gpu(root, "15340000.vic", (115200000, 704000000))
    emc(root, "204000 665600 2133000 3199000", 3199000000)
    cpus(root, (0, 4, (115200, 729600, 1728000)), (4, 2, (115200, 729600, 1728000)))
    power_modes(root, 2, "15W", "25W", "MAXN_SUPER")
    ina(root, "1-0040", ("VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC"), milliwatts=False)


def jetson_agx_orin_7(root: Path) -> None:
    """JetPack 7.2: the same node, governor-based scaling, no list of memory rates."""
    gpu(root, "17000000.gpu", (306000000, 816000000, 1300500000), kind="gpu")
    emc(root, "", 3199000000)
    cpus(root, *((4 * four, 4, (115200, 1113600, 2201600)) for four in range(3)))
    power_modes(root, 0, "MAXN", "MODE_30W")
    ina(root, "1-0040", ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"), milliwatts=False)


def jetson_thor_7(root: Path) -> None:
    """JetPack 7: a PCI GPU, nodes by cluster, no device tree, no load file; memory is a devfreq node of its own."""
    gpu(root, "gpu-gpc-0", (315000000, 945000000, 1575000000), governor="performance")
    gpu(root, "gpu-nvd-0", (315000000, 1665000000), governor="performance")
    memory = gpu(root, "bwmgr", (665600000, 2133000000, 4266000000), governor="bpmp-bwmgr")
    write(memory / "name", "bwmgr")
    cpus(root, (0, 14, (648000, 1944000, 2601000)))
    power_modes(root, 1, "MAXN", "120W")
    ina(root, "2-0040", ("VDD_GPU", "VDD_CPU_SOC_MSS", "VIN_SYS_5V0"), milliwatts=False)


def odroid_n2(root: Path) -> None:
    """A board with a Mali GPU and two unlike clusters."""
    folder = gpu(root, "ffe40000.gpu", (124999992, 399999995, 799999987), governor="simple_ondemand")
    (folder / "device/drm").mkdir(parents=True)
    cpus(root, (0, 2, (1000000, 1896000)), (2, 4, (1000000, 2208000)))


def rock_5b(root: Path) -> None:
    """A board whose GPU is called panthor's, beside the clocks of memory and of an NPU."""
    gpu(root, "dmc", (528000000, 2112000000), governor="dmc_ondemand")
    gpu(root, "fdab0000.npu", (300000000, 1000000000), governor="userspace")
    folder = gpu(root, "fb000000.gpu-panthor", (300000000, 700000000, 1000000000), governor="simple_ondemand")
    (folder / "device/drm").mkdir(parents=True)
    cpus(root, (0, 4, (408000, 1800000)), (4, 2, (408000, 2304000)), (6, 2, (408000, 2304000)))


BOARDS: dict[str, Tree] = {
    each.__name__: each
    for each in (
        jetson_nano,
        jetson_tx2,
        jetson_xavier_nx,
        jetson_agx_xavier,
        jetson_agx_orin_5,
        jetson_orin_nano_6,
        jetson_agx_orin_7,
        jetson_thor_7,
        odroid_n2,
        rock_5b,
    )
}
